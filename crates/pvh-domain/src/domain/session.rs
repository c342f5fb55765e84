//! One hypercall of one vCPU.

use pvh_abi::{Errno, vcpu::VcpuOp};
use pvh_hypercall::{
    Budget, Call, Guest, GuestIo, Handler, Outcome, Width, dispatch_within,
    group::{Assist, Console, EventChannels, GrantTable, Hvm, Sched, Timer, Vcpus, Version},
};
use pvh_vcpu::State;

use super::{Answer, Domain, Effect, Env, Observe, Origin, Sleep};
use crate::parts::runstate::RunState;

/// One hypercall of one vCPU: the domain behind the traits of the groups.
pub(super) struct Session<'a> {
    pub(super) domain: &'a mut Domain,
    pub(super) env: Env<'a>,
    pub(super) io: &'a dyn GuestIo,
    pub(super) vcpu: u32,
    pub(super) takes_interrupts: bool,
    pub(super) width: Width,
    /// What is left of the cost of this go.
    pub(super) budget: &'a Budget,
    /// The vCPUs that the next call about vCPUs depends on have been observed for it.
    is_next_observed: bool,
    /// Whom the embedder has to observe before the rest of the call.
    observe: Option<Observe>,
    /// vCPUs that this call may have left down.
    pub(super) parked: Vec<u32>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        domain: &'a mut Domain,
        env: Env<'a>,
        origin: &Origin<'a>,
        width: Width,
        budget: &'a Budget,
    ) -> Self {
        Self {
            domain,
            env,
            io: origin.io,
            vcpu: origin.vcpu,
            takes_interrupts: origin.takes_interrupts,
            width,
            budget,
            is_next_observed: false,
            observe: None,
            parked: Vec::new(),
        }
    }

    /// Runs the call, or a part of it.
    pub(super) fn run(mut self, call: Call) -> Answer {
        self.begin();
        let (io, budget) = (self.io, self.budget);
        let outcome = dispatch_within(&mut self, io, call, budget);
        self.park();
        Answer {
            outcome,
            sleep: self.end(matches!(outcome, Outcome::Again(_))),
            observe: self.observe,
        }
    }

    fn begin(&mut self) {
        let Some(data) = self.domain.vcpus.get_mut(self.vcpu as usize) else {
            return;
        };
        let was_observing = core::mem::take(&mut data.is_observing);
        self.is_next_observed = was_observing && data.is_in_call;
        // A vCPU that makes a new call is awake, even if the embedder has not called `entered`.
        if !data.is_in_call {
            data.begun_extent = None;
            self.domain.stop_sleep(self.vcpu);
            self.change_runstate(RunState::Running);
        }
        self.domain
            .translate_areas(self.env.memory, self.io, self.vcpu);
    }

    /// A sleep begins once the whole call is over.
    fn end(&mut self, is_in_call: bool) -> Option<Sleep> {
        let data = self.domain.vcpus.get_mut(self.vcpu as usize)?;
        data.is_in_call = is_in_call;
        let sleep = data.asleep.filter(|_| !is_in_call)?;
        self.change_runstate(RunState::Blocked);
        Some(sleep)
    }

    /// Tells whether the vCPUs that `op` depends on have been observed; if not, has them observed.
    /// Each observation serves one call, and the next one at that, whatever the guest has made of
    /// its list meanwhile: so no call is held up twice.
    pub(super) fn has_observed(&mut self, op: VcpuOp, vcpu: u32) -> bool {
        let whom = match op {
            VcpuOp::DOWN => (self.domain.config.vcpus > 1).then_some(Observe::Others),
            _ => (vcpu != self.vcpu).then_some(Observe::Vcpu(vcpu)),
        };
        let Some(whom) = whom.filter(|_| self.domain.observes) else {
            return true;
        };
        if core::mem::take(&mut self.is_next_observed) {
            return true;
        }
        let Some(data) = self.domain.vcpus.get_mut(self.vcpu as usize) else {
            return true;
        };
        data.is_observing = true;
        self.observe = Some(whom);
        false
    }

    /// Tells of a vCPU that the guest is about to start.
    pub(super) fn expect_start(&mut self, vcpu: u32) {
        let is_up = self.domain.set.is_up(vcpu).unwrap_or(true);
        if vcpu != self.vcpu && !is_up && self.domain.observes {
            self.env.effects.push(Effect::StartExpected(vcpu));
        }
    }

    /// Has the vCPUs wait for INIT that this call has left down.
    fn park(&mut self) {
        for vcpu in core::mem::take(&mut self.parked) {
            if self.domain.lifecycle(vcpu) == Some(State::Down) && self.domain.observes {
                self.env.effects.push(Effect::Park(vcpu));
            }
        }
    }

    pub(super) fn change_runstate(&mut self, state: RunState) {
        let (memory, now_ns) = (self.env.memory, self.env.now.system_ns);
        self.domain
            .change_runstate(memory, self.vcpu, state, now_ns);
    }
}

impl Handler for Session<'_> {
    fn version(&mut self) -> Option<&mut dyn Version> {
        Some(self)
    }

    fn memory_op(&mut self, guest: Guest<'_>, call: Call) -> Result<Outcome, Errno> {
        self.serve_memory_op(guest, call)
    }

    fn timer(&mut self) -> Option<&mut dyn Timer> {
        Some(self)
    }

    fn console(&mut self) -> Option<&mut dyn Console> {
        if self.domain.config.may_log {
            return Some(self);
        }
        None
    }

    fn grants(&mut self) -> Option<&mut dyn GrantTable> {
        Some(self)
    }

    fn assist(&mut self) -> Option<&mut dyn Assist> {
        Some(self)
    }

    fn vcpus(&mut self) -> Option<&mut dyn Vcpus> {
        Some(self)
    }

    fn sched(&mut self) -> Option<&mut dyn Sched> {
        Some(self)
    }

    fn events(&mut self) -> Option<&mut dyn EventChannels> {
        Some(self)
    }

    fn hvm(&mut self) -> Option<&mut dyn Hvm> {
        Some(self)
    }
}
