use pvh_abi::Errno;
use pvh_hypercall::{
    Call, Guest, GuestIo, Handler, Outcome, Width, dispatch,
    group::{Assist, Console, EventChannels, GrantTable, Hvm, Sched, Timer, Vcpus, Version},
};

use super::{Answer, Domain, Origin, Scene, Sleep};
use crate::parts::runstate::RunState;

/// One hypercall of one vCPU: the domain behind the traits of the groups.
pub(super) struct Session<'a> {
    pub(super) domain: &'a mut Domain,
    pub(super) scene: Scene<'a>,
    pub(super) io: &'a dyn GuestIo,
    pub(super) vcpu: u32,
    pub(super) takes_interrupts: bool,
    pub(super) width: Width,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        domain: &'a mut Domain,
        scene: Scene<'a>,
        origin: &Origin<'a>,
        width: Width,
    ) -> Self {
        Self {
            domain,
            scene,
            io: origin.io,
            vcpu: origin.vcpu,
            takes_interrupts: origin.takes_interrupts,
            width,
        }
    }

    /// Runs the call, or a part of it.
    pub(super) fn run(mut self, call: Call) -> Answer {
        self.begin();
        let io = self.io;
        let outcome = dispatch(&mut self, io, call);
        Answer {
            outcome,
            sleep: self.end(matches!(outcome, Outcome::Again(_))),
        }
    }

    fn begin(&mut self) {
        let Some(data) = self.domain.vcpus.get_mut(self.vcpu as usize) else {
            return;
        };
        // A vCPU that makes a new call is awake, whether or not the embedder has said so.
        if !data.is_in_call {
            self.domain.stop_sleep(self.vcpu);
            self.change_runstate(RunState::Running);
        }
        self.domain
            .find_areas(self.scene.memory, self.io, self.vcpu);
    }

    /// A sleep begins once the whole call is over.
    fn end(&mut self, is_in_call: bool) -> Option<Sleep> {
        let data = self.domain.vcpus.get_mut(self.vcpu as usize)?;
        data.is_in_call = is_in_call;
        let sleep = data.asleep.filter(|_| !is_in_call)?;
        self.change_runstate(RunState::Blocked);
        Some(sleep)
    }

    pub(super) fn change_runstate(&mut self, state: RunState) {
        let (memory, now_ns) = (self.scene.memory, self.scene.now.system_ns);
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
