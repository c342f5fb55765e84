//! The lifecycle of a vCPU: started, down, up again, reset; by hypercall, and by INIT and start-up
//! IPIs, which KVM handles without telling us.

use std::{sync::Arc, time::Duration};

use pvh_domain::Observe;
use pvh_kvm::{Activity, Vcpu, VcpuError};
use pvh_vcpu::{Orders, State};

use crate::{
    effects::Backpressure,
    requests::{VcpuRequests, query_states},
    vcpu::{Idle, Lifecycle, RFLAGS_IF, XenVcpu},
};

impl XenVcpu {
    /// Updates the domain with what KVM reports of the vCPU: INIT, start-up IPIs and interrupts
    /// change it without an exit.
    pub(crate) fn observe(&mut self, activity: Activity) {
        match (self.lifecycle, activity) {
            (Lifecycle::Unstarted, Activity::WaitingForSipi) => {}
            (Lifecycle::Unstarted, _) => self.found_running(),
            (Lifecycle::Started, Activity::WaitingForSipi) => self.found_reset(),
            (Lifecycle::Started, Activity::Running) if self.idle == Idle::Asleep => self.wake_up(),
            (Lifecycle::Started, _) => {}
        }
    }

    /// Whether the vCPU executed HLT with interrupts off: only an NMI or INIT would wake it.
    pub(crate) fn is_halted_for_good(&self, vcpu: &mut Vcpu) -> bool {
        let takes_interrupts = vcpu
            .caller()
            .is_none_or(|caller| caller.rflags & RFLAGS_IF != 0);
        self.lifecycle == Lifecycle::Started && self.idle == Idle::Awake && !takes_interrupts
    }

    /// Takes a vCPU down that has halted for good. Brought up again, it continues after its HLT.
    pub(crate) fn go_down(
        &mut self,
        vcpu: &mut Vcpu,
        requests: &VcpuRequests,
    ) -> Result<(), VcpuError> {
        vcpu.set_activity(Activity::Running)?;
        let platform = Arc::clone(&self.platform);
        platform.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.halted(memory, self.index, now, effects);
        });
        self.apply_orders(vcpu, requests)
    }

    /// Whether the vCPU is initialised by hypercall and not yet up.
    fn has_registers(&self) -> bool {
        self.platform.domain().lifecycle(self.index) == Some(State::Down)
    }

    /// Applies the domain's orders for this vCPU: start it, resume it, or park its thread. Returns
    /// when the vCPU may be entered.
    pub(crate) fn apply_orders(
        &mut self,
        vcpu: &mut Vcpu,
        requests: &VcpuRequests,
    ) -> Result<(), VcpuError> {
        let mut parked = None;
        loop {
            let orders = self.platform.domain().orders(self.index);
            match orders {
                Orders::Run(Some(state)) => {
                    vcpu.set_entry(&state)?;
                    self.lifecycle = Lifecycle::Started;
                    self.wake_up();
                    return Ok(());
                }
                Orders::Run(None) => {
                    if let Some(activity) = parked {
                        vcpu.set_activity(activity)?;
                    }
                    if self.idle == Idle::Awake {
                        self.entered();
                    }
                    return Ok(());
                }
                // It waits in KVM for its start-up IPI.
                Orders::Park if self.lifecycle == Lifecycle::Unstarted && !self.has_registers() => {
                    return Ok(());
                }
                Orders::Park => {
                    if parked.is_none() {
                        parked = Some(vcpu.activity()?);
                        vcpu.set_activity(Activity::Halted)?;
                    }
                    if self.park(vcpu, requests)? {
                        return Ok(());
                    }
                }
                Orders::End => return Ok(()),
            }
        }
    }

    /// Keeps the thread out of the guest until there are new orders (`false`), or until INIT
    /// arrives or the machine stops (`true`). Only KVM notices INIT, so its state is polled.
    fn park(&mut self, vcpu: &mut Vcpu, requests: &VcpuRequests) -> Result<bool, VcpuError> {
        let mut phase = PollPhase::default();
        loop {
            phase.waited(requests.wait(phase.delay()));
            if self.platform.host.is_stopping() {
                return Ok(true);
            }
            let queries = requests.queries();
            let activity = vcpu.activity()?;
            if activity != Activity::Halted {
                self.found_reset();
                self.observe(activity);
                return Ok(true);
            }
            requests.acknowledge(queries);
            if requests.take_orders() {
                return Ok(false);
            }
        }
    }

    /// Has the threads of other vCPUs report their state to the domain, for a hypercall that
    /// depends on it: KVM starts and resets vCPUs by INIT and SIPI without an exit.
    pub(crate) fn observe_others(&self, whom: Observe) {
        match whom {
            Observe::Vcpu(vcpu) => {
                if let Some(requests) = self.platform.requests_of(vcpu) {
                    requests.query_state();
                }
            }
            Observe::Others => {
                let vcpu_requests = (0..).zip(&self.platform.vcpu_requests);
                let others = vcpu_requests.filter(|(index, _)| *index != self.index);
                query_states(others.map(|(_, requests)| requests));
            }
        }
    }

    /// KVM has started the vCPU. Its local APIC was reset, so an upcall vector sent before is lost:
    /// it is sent again.
    pub(crate) fn found_running(&mut self) {
        self.lifecycle = Lifecycle::Started;
        self.idle = Idle::Awake;
        let index = self.index;
        let platform = &self.platform;
        let vector = platform.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.found_running(memory, index, now);
            domain.entered(memory, index, now, effects);
            domain.vcpu_vector(index)
        });
        if let (Some(vector), Some(requests)) = (vector, platform.requests_of(index)) {
            platform
                .timer
                .retry_at(requests.schedule_edge_retry(vector));
        }
    }

    /// INIT has reset the vCPU.
    fn found_reset(&mut self) {
        self.lifecycle = Lifecycle::Unstarted;
        self.idle = Idle::Awake;
        let index = self.index;
        let platform = &self.platform;
        platform.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.init(memory, index, now, effects);
        });
    }
}

/// How often a parked thread polls KVM for INIT. After a while without a reset of the interval it
/// polls less often, so that an idle machine costs its host little.
#[derive(Clone, Copy, Debug, Default)]
struct PollPhase {
    idle_polls: u32,
}

impl PollPhase {
    /// The time until the next poll.
    const fn delay(self) -> Duration {
        if self.idle_polls < FAST_POLLS {
            FAST_POLL_INTERVAL
        } else {
            SLOW_POLL_INTERVAL
        }
    }

    const fn waited(&mut self, was_idle: bool) {
        self.idle_polls = if was_idle {
            self.idle_polls.saturating_add(1)
        } else {
            0
        };
    }
}

/// Poll every 10 ms for this many iterations (2 s), then every 200 ms.
const FAST_POLLS: u32 = 200;
const FAST_POLL_INTERVAL: Duration = Duration::from_millis(10);
const SLOW_POLL_INTERVAL: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_vcpu_is_polled_five_times_a_second_after_two_seconds() {
        let mut phase = PollPhase::default();
        let mut quiet = Duration::ZERO;
        while phase.delay() == Duration::from_millis(10) {
            quiet += phase.delay();
            phase.waited(true);
        }
        assert_eq!(quiet, Duration::from_secs(2));
        phase.waited(true);
        assert_eq!(phase.delay(), Duration::from_millis(200));
        phase.waited(false);
        assert_eq!(phase.delay(), Duration::from_millis(10));
    }
}
