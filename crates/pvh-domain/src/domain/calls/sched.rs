//! `sched_op`.

use pvh_abi::{DomId, Errno, sched::ShutdownReason};
use pvh_hypercall::group::{Ports, Sched};

use super::super::{Sleep, session::Session, timers::is_past};
use crate::parts::{
    event::{Delivery, PollAnswer},
    target::Target,
};

impl Session<'_> {
    /// Tells whether the vCPU would get an upcall at once.
    fn has_upcall(&self) -> bool {
        let pending = self.domain.is_upcall_pending(self.env.memory, self.vcpu);
        self.origin.takes_interrupts && pending && self.domain.global_vector().is_some()
    }

    fn sleep(&mut self, sleep: Sleep, until_ns: Option<u64>) {
        if let Some(data) = self.domain.vcpus.get_mut(self.vcpu as usize) {
            data.asleep = Some(sleep);
            data.poll_until_ns = until_ns;
        }
    }
}

impl Sched for Session<'_> {
    fn block(&mut self) {
        let (infos, shared_info) = (&self.domain.vcpu_infos, &self.domain.shared_info);
        infos.clear_upcall_mask(self.env.memory, shared_info, self.vcpu);
        if !self.has_upcall() {
            self.sleep(Sleep::Block, None);
        }
    }

    fn shutdown(&mut self, reason: ShutdownReason) {
        self.domain.shut_down(&mut self.env, reason);
    }

    fn shutdown_code(&mut self, reason: ShutdownReason) {
        self.domain.reason.get_or_insert(reason);
    }

    fn poll(&mut self, ports: &Ports<'_>, timeout_ns: u64) -> Result<(), Errno> {
        if self.has_upcall() {
            return Ok(());
        }
        let (domain, memory) = (&mut *self.domain, self.env.memory);
        let delivery = Delivery::new(memory, &domain.shared_info, &domain.vcpu_infos);
        let list = (0..ports.count()).map(|index| ports.get(index));
        if domain.events.poll(&delivery, self.vcpu, list)? == PollAnswer::Ready {
            return Ok(());
        }
        if timeout_ns != 0 && is_past(timeout_ns, self.env.now.system_ns) {
            domain.events.stop_poll(self.vcpu);
            return Ok(());
        }
        self.sleep(Sleep::Poll, (timeout_ns != 0).then_some(timeout_ns));
        Ok(())
    }

    /// Always refused: `EPERM` for domain 0 and for itself, `ESRCH` otherwise.
    fn remote_shutdown(&mut self, domain: DomId, _: u32) -> Result<(), Errno> {
        let target = Target::of_number(self.domain.config.domid, domain);
        Err(target.map_or(Errno::ESRCH, |_| Errno::EPERM))
    }

    fn watchdog(&mut self, id: u32, timeout_s: u32) -> Result<u32, Errno> {
        let now_ns = self.env.now.system_ns;
        self.domain.watchdogs.set(id, timeout_s, now_ns)
    }
}
