//! One hypercall of one vCPU.

use pvh_abi::{Errno, vcpu::VcpuOp};
use pvh_hypercall::{
    Budget, Call, Guest, Handler, Outcome, Width, XenVersion, dispatch_within,
    group::{Assist, Console, EventChannels, GrantTable, Hvm, Sched, Timer, Vcpus, Version},
};
use pvh_vcpu::State;

use super::{Answer, Domain, Effect, Env, Observe, Origin, vcpu::Stage};
use crate::parts::runstate::RunState;

/// One hypercall of one vCPU: the domain behind the traits of the groups.
///
/// Every hypercall makes one, so it refers to what its caller has, and what few calls need stands in
/// the domain: [`Stage`], and the vCPUs to park.
pub(super) struct Session<'a> {
    pub(super) domain: &'a mut Domain,
    pub(super) env: Env<'a>,
    pub(super) origin: &'a Origin<'a>,
    pub(super) vcpu: u32,
    pub(super) width: Width,
    /// The vCPUs that the next call about vCPUs depends on have been observed for it.
    is_next_observed: bool,
    /// What is left of the cost of this go.
    pub(super) budget: &'a Budget,
}

impl<'a> Session<'a> {
    pub(super) const fn new(
        domain: &'a mut Domain,
        env: Env<'a>,
        origin: &'a Origin<'a>,
        width: Width,
        budget: &'a Budget,
    ) -> Self {
        Self {
            domain,
            env,
            origin,
            vcpu: origin.vcpu,
            width,
            is_next_observed: false,
            budget,
        }
    }

    /// Runs the call, or a part of it.
    ///
    /// The usual call is of a vCPU that is awake and runs, changes no vCPU's lifecycle and is over
    /// at once: this function tests for it and leaves everything else to functions that are not
    /// inlined, so that the usual call does not save registers for them.
    #[inline(always)]
    pub(super) fn run(mut self, call: Call) -> Answer {
        self.begin();
        let (io, budget) = (self.origin.io, self.budget);
        match dispatch_within(&mut self, io, call, budget) {
            Outcome::Return(result) => self.end(result),
            Outcome::Again(rest) => self.interrupt(rest),
        }
    }

    fn begin(&mut self) {
        let Some(data) = self.domain.vcpus.get_mut(self.vcpu as usize) else {
            return;
        };
        let has_lost_area = data.has_lost_area;
        if matches!(data.stage, Stage::Between) {
            data.begun_extent = None;
            let is_running = data.runstate.state() == RunState::Running;
            if data.asleep.is_some() || !is_running || self.domain.is_over {
                self.awake();
            } else {
                let is_up = self.domain.set.is_up(self.vcpu);
                debug_assert_eq!(is_up, Ok(true), "a vCPU that goes down is offline");
            }
        } else {
            let stage = core::mem::replace(&mut data.stage, Stage::InCall);
            self.is_next_observed = matches!(stage, Stage::Observing(_));
        }
        if has_lost_area {
            self.domain
                .translate_areas(self.env.memory, self.origin.io, self.vcpu);
        }
    }

    /// A vCPU that makes a new call is awake, even if the embedder has not called `entered`.
    #[cold]
    fn awake(&mut self) {
        self.domain.stop_sleep(self.vcpu);
        self.change_runstate(RunState::Running);
    }

    /// The whole call is over: a sleep begins now.
    fn end(&mut self, result: i64) -> Answer {
        if !self.domain.parked.is_empty() {
            self.park();
        }
        let data = self.domain.vcpus.get_mut(self.vcpu as usize);
        let sleep = data.and_then(|data| {
            data.stage = Stage::Between;
            data.asleep
        });
        if sleep.is_some() {
            self.change_runstate(RunState::Blocked);
        }
        Answer {
            outcome: Outcome::Return(result),
            sleep,
            observe: None,
        }
    }

    /// The rest of the call comes next, perhaps after an observation.
    #[inline(never)]
    fn interrupt(&mut self, rest: Call) -> Answer {
        self.park();
        let data = self.domain.vcpus.get_mut(self.vcpu as usize);
        let observe = data.and_then(|data| match data.stage {
            Stage::Observing(whom) => Some(whom),
            Stage::Between | Stage::InCall => {
                data.stage = Stage::InCall;
                None
            }
        });
        Answer {
            outcome: Outcome::Again(rest),
            sleep: None,
            observe,
        }
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
        data.stage = Stage::Observing(whom);
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
    #[cold]
    #[inline(never)]
    fn park(&mut self) {
        for vcpu in core::mem::take(&mut self.domain.parked) {
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
    fn xen(&self) -> XenVersion {
        self.domain.config.xen
    }

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
