//! The life of a vCPU: started, down, up again, reset; by hypercalls, and by INIT and start-up interrupts inside KVM.

use std::{sync::Arc, time::Duration};

use pvh_abi::vcpu::VcpuOp;
use pvh_hypercall::Call;
use pvh_kvm::{Activity, Vcpu, VcpuError};
use pvh_vcpu::{Orders, State};

use crate::{
    calls::{VcpuCall, goes_before_a_start},
    desk::Desk,
    effects::Backpressure,
    vcpu::{Life, RFLAGS_IF, Rest, XenVcpu},
};

impl XenVcpu {
    /// Takes in what INIT, start-up interrupts and other interrupts have done to the vCPU inside KVM.
    pub(crate) fn observe(&mut self, activity: Activity) {
        match (self.life, activity) {
            (Life::Unstarted, Activity::WaitingForSipi) => {}
            (Life::Unstarted, _) => self.found_running(),
            (Life::Started, Activity::WaitingForSipi) => self.found_reset(),
            (Life::Started, Activity::Running) if self.rest == Rest::Asleep => self.wake_up(),
            (Life::Started, _) => {}
        }
    }

    /// Whether the vCPU has halted by itself and with interrupts off: nothing but an NMI or INIT would wake it.
    pub(crate) fn is_halted_for_good(&self, vcpu: &mut Vcpu) -> bool {
        let takes_interrupts = vcpu
            .caller()
            .is_none_or(|caller| caller.rflags & RFLAGS_IF != 0);
        self.life == Life::Started && self.rest == Rest::Awake && !takes_interrupts
    }

    /// Takes the vCPU down that has halted for good; brought up again, it goes on behind its HLT.
    pub(crate) fn go_down(&mut self, vcpu: &mut Vcpu, desk: &Desk) -> Result<(), VcpuError> {
        vcpu.set_activity(Activity::Running)?;
        let platform = Arc::clone(&self.platform);
        platform.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.halted(memory, self.index, now, effects);
        });
        self.obey(vcpu, desk)
    }

    /// Whether the guest has given the vCPU its registers, to be brought up later.
    fn has_registers(&self) -> bool {
        self.platform.domain().lifecycle(self.index) == Some(State::Down)
    }

    /// Does what the domain has for the vCPU to do; returns when it may be entered.
    pub(crate) fn obey(&mut self, vcpu: &mut Vcpu, desk: &Desk) -> Result<(), VcpuError> {
        let mut parked = None;
        loop {
            let orders = self.platform.domain().orders(self.index);
            match orders {
                Orders::Run(Some(state)) => {
                    vcpu.set_entry(&state)?;
                    self.life = Life::Started;
                    self.wake_up();
                    return Ok(());
                }
                Orders::Run(None) => {
                    if let Some(activity) = parked {
                        vcpu.set_activity(activity)?;
                    }
                    if self.rest == Rest::Awake {
                        self.entered();
                    }
                    return Ok(());
                }
                // It waits in KVM, which knows when it is started.
                Orders::Park if self.life == Life::Unstarted && !self.has_registers() => {
                    return Ok(());
                }
                Orders::Park => {
                    if parked.is_none() {
                        parked = Some(vcpu.activity()?);
                        vcpu.set_activity(Activity::Halted)?;
                    }
                    if self.park(vcpu, desk)? {
                        return Ok(());
                    }
                }
                Orders::End => return Ok(()),
            }
        }
    }

    /// Stays out of the guest until there are new orders, and tells whether it is to go back for another reason: INIT
    /// came, which only KVM notices, or the machine stops.
    fn park(&mut self, vcpu: &mut Vcpu, desk: &Desk) -> Result<bool, VcpuError> {
        let mut looks = Looks::default();
        loop {
            looks.waited(desk.wait(looks.delay()));
            if self.platform.host.is_stopping() {
                return Ok(true);
            }
            let questions = desk.questions();
            let activity = vcpu.activity()?;
            if activity != Activity::Halted {
                self.found_reset();
                self.observe(activity);
                return Ok(true);
            }
            desk.answer(questions);
            if desk.take_orders() {
                return Ok(false);
            }
        }
    }

    /// Before a call that concerns the life of other vCPUs, has those look what has become of them: KVM starts and resets
    /// vCPUs by INIT and SIPI without a word.
    pub(crate) fn await_lifecycle(&self, call: VcpuCall) {
        let is_other = |index: u32| index != self.index;
        match call.op {
            VcpuOp::INITIALISE | VcpuOp::UP | VcpuOp::IS_UP => {
                let target = Some(call.target).filter(|target| is_other(*target));
                if let Some(desk) = target.and_then(|target| self.platform.desk(target)) {
                    desk.ask();
                }
            }
            // The last one that goes down switches the domain off.
            VcpuOp::DOWN => {
                let desks = (0..).zip(&self.platform.desks);
                let others = desks.filter(|(index, _)| is_other(*index));
                others.for_each(|(_, desk)| desk.ask());
            }
            _ => {}
        }
    }

    /// Has vCPUs that are down look for INIT more often where a call may go before one: guests bind events to a vCPU, and
    /// register what is its own, before they start it by its local APIC.
    pub(crate) fn stir_others(&self, call: &Call) {
        if goes_before_a_start(call) {
            self.platform.desks.iter().for_each(Desk::stir);
        }
    }

    /// After a call that has left another vCPU down, has that wait where INIT shows, before the caller goes on and may send
    /// one: in KVM, an INIT before the first start leaves no trace.
    pub(crate) fn settle_lifecycle(&self, call: VcpuCall) {
        let is_meant = matches!(call.op, VcpuOp::INITIALISE | VcpuOp::DOWN);
        let is_down = || self.platform.domain().lifecycle(call.target) == Some(State::Down);
        if is_meant
            && call.target != self.index
            && is_down()
            && let Some(desk) = self.platform.desk(call.target)
        {
            desk.leave_note(|notes| notes.orders = true);
            desk.ask();
        }
    }

    /// KVM has started the vCPU: its local APIC, new as it is, has lost what was sent to it.
    pub(crate) fn found_running(&mut self) {
        self.life = Life::Started;
        self.rest = Rest::Awake;
        let index = self.index;
        let platform = &self.platform;
        let vector = platform.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            // A start-up interrupt starts nothing that has not got an INIT: one that was down has been reset since.
            if domain.lifecycle(index) == Some(State::Down) {
                domain.init(memory, index, now, effects);
            }
            domain.found_running(memory, index, now);
            domain.entered(memory, index, now, effects);
            domain.vcpu_vector(index)
        });
        if let (Some(vector), Some(desk)) = (vector, platform.desk(index)) {
            platform.timer.retry_at(desk.watch_edge(vector));
        }
    }

    /// INIT has come.
    fn found_reset(&mut self) {
        self.life = Life::Unstarted;
        self.rest = Rest::Awake;
        let index = self.index;
        let platform = &self.platform;
        platform.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.init(memory, index, now, effects);
        });
    }
}

/// How often INIT is looked for: a vCPU that is down is not in KVM, which alone hears it. What has been down for a while
/// without a stir is looked at less often, for an idle machine costs its host little then.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    in_vain: u32,
}

impl Looks {
    /// How long to wait for the next one.
    const fn delay(self) -> Duration {
        if self.in_vain < OFTEN {
            OFTEN_DELAY
        } else {
            SELDOM_DELAY
        }
    }

    const fn waited(&mut self, was_in_vain: bool) {
        self.in_vain = if was_in_vain {
            self.in_vain.saturating_add(1)
        } else {
            0
        };
    }
}

/// So many times, two seconds, it is looked for often.
const OFTEN: u32 = 200;
const OFTEN_DELAY: Duration = Duration::from_millis(10);
const SELDOM_DELAY: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_that_stays_down_is_looked_at_five_times_a_second() {
        let mut looks = Looks::default();
        let mut quiet = Duration::ZERO;
        while looks.delay() == Duration::from_millis(10) {
            quiet += looks.delay();
            looks.waited(true);
        }
        assert_eq!(quiet, Duration::from_secs(2));
        looks.waited(true);
        assert_eq!(looks.delay(), Duration::from_millis(200));
        looks.waited(false);
        assert_eq!(looks.delay(), Duration::from_millis(10));
    }
}
