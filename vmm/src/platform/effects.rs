//! Carrying out what the domain wants done, and what is due.

use std::time::Instant;

use pvh_abi::sched::ShutdownReason;
use pvh_domain::domain::Effect;

use super::{
    XenPlatform,
    desk::{Desk, Due},
};
use crate::{devices::Request, machine::End};

/// Whether the thread that carries out effects is to wait until the console has room again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backpressure {
    /// It is.
    Wait,
    /// It must not be held up.
    Ignore,
}

impl XenPlatform {
    /// Does what the domain wants done, in order; its lock is not held.
    pub(super) fn carry_out(&self, effects: &mut Vec<Effect>, backpressure: Backpressure) {
        let mut has_printed = false;
        for effect in effects.drain(..) {
            has_printed |= matches!(effect, Effect::Output(_));
            self.carry_out_one(effect);
        }
        if has_printed && backpressure == Backpressure::Wait {
            self.board.output().wait_for_room();
        }
    }

    fn carry_out_one(&self, effect: Effect) {
        let note = |vcpu, change: fn(&mut super::desk::Notes)| {
            if let Some(desk) = self.desk(vcpu) {
                desk.leave_note(change);
            }
        };
        match effect {
            Effect::GlobalVector { vcpu, vector } => {
                if let Some(desk) = self.desk(vcpu) {
                    desk.leave_note(|notes| notes.inject = Some(vector));
                }
            }
            Effect::VcpuVector { vcpu, vector } => self.send(vcpu, vector),
            Effect::Wake(vcpu) => note(vcpu, |notes| notes.wake = true),
            Effect::Start(vcpu) | Effect::Resume(vcpu) | Effect::Stop(vcpu) => {
                note(vcpu, |notes| notes.orders = true);
            }
            Effect::Nmi(vcpu) => note(vcpu, |notes| notes.nmi = true),
            Effect::FlushTlbs => self.flush_tlbs(),
            Effect::InputWanted => self.board.want_input(),
            Effect::Shutdown(reason) => self.board.end(end_of(reason)),
            // What the guest says has been passed on already.
            _ => {}
        }
    }

    /// Sends a vCPU its own vector; one that its local APIC does not take is tried again later.
    pub(super) fn send(&self, vcpu: u32, vector: u8) {
        let Some(desk) = self.desk(vcpu) else {
            return;
        };
        if self.vm.send_interrupt(vcpu, vector).unwrap_or(false) {
            desk.forget_edge();
        } else {
            self.timer.retry_at(desk.watch_edge(vector));
        }
    }

    /// Has every vCPU flush its TLB before it runs on.
    fn flush_tlbs(&self) {
        for desk in &self.desks {
            desk.leave_note(|notes| notes.flush = true);
        }
        self.desks.iter().for_each(Desk::ask);
    }

    /// The life of the thread that keeps the time.
    pub(crate) fn keep_time(&self) {
        while let Some(due) = self.timer.wait() {
            if due.domain {
                self.with_domain(Backpressure::Wait, |domain, memory, now, effects| {
                    domain.tick(memory, now, effects);
                });
            }
            if due.retry {
                self.retry_upcalls();
            }
            if due.pulse {
                self.desks.iter().for_each(Desk::nudge_if_silent);
            }
        }
    }

    /// Looks at the upcalls that are due once more.
    fn retry_upcalls(&self) {
        let now = Instant::now();
        for (vcpu, desk) in (0..).zip(&self.desks) {
            let (due, next) = desk.due(now);
            if let Some(next) = next {
                self.timer.retry_at(next);
            }
            if due.is_empty() {
                continue;
            }
            // Taken off the desk first: an upcall that comes now leaves a note of its own.
            let is_pending = self.domain().is_upcall_pending(&*self.ram, vcpu);
            for due in due {
                match due {
                    Due::Level(vector) if is_pending => {
                        desk.leave_note(|notes| notes.inject = Some(vector));
                    }
                    Due::Edge(vector) if is_pending => self.send(vcpu, vector),
                    Due::Level(_) => {}
                    Due::Edge(_) => desk.forget_due_edge(),
                }
            }
        }
    }
}

/// What a shutdown of the domain means for the machine.
fn end_of(reason: ShutdownReason) -> End {
    match reason {
        ShutdownReason::POWEROFF => End::Request(Request::PowerOff),
        ShutdownReason::REBOOT => End::Request(Request::Reboot),
        reason => End::Shutdown(reason),
    }
}
