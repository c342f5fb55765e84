//! A domain whose calls are recorded.

use core::ops::Deref;

use pvh_abi::sched::ShutdownReason;
use pvh_hypercall::{Call, Width};
use pvh_memory::Frames;
use pvh_vcpu::Orders;

use super::{
    recorder::Recorder,
    tap::{Accesses, IoTap, MemoryTap},
    wire::{Input, Output, Record, WireConfig, WireEffect},
};
use crate::{
    Shutdown,
    domain::{Answer, Config, Domain, DomainError, Effect, Now, Origin},
    runstate,
};

/// A [`Domain`] with the same methods, of which a [`Recorder`] notes each call, if there is one.
///
/// What only asks is not recorded, and found by [`Deref`].
#[derive(Debug)]
pub struct TracedDomain {
    domain: Domain,
    recorder: Option<Recorder>,
}

impl Deref for TracedDomain {
    type Target = Domain;

    fn deref(&self) -> &Domain {
        &self.domain
    }
}

#[expect(clippy::missing_errors_doc, reason = "the methods are Domain's")]
impl TracedDomain {
    /// [`Domain::new`]
    pub fn new(
        config: Config,
        memory: &dyn Frames,
        now: Now,
        recorder: Option<Recorder>,
    ) -> Result<Self, DomainError> {
        let Some(recorder) = recorder else {
            let domain = Domain::new(config, memory, now)?;
            return Ok(Self {
                domain,
                recorder: None,
            });
        };
        let input = Input::New {
            config: WireConfig::from(&config),
            now: now.into(),
        };
        let accesses = Accesses::default();
        let tap = MemoryTap {
            memory,
            accesses: &accesses,
        };
        let domain = Domain::new(config, &tap, now)?;
        recorder.write(&Record {
            input,
            accesses: accesses.into_inner(),
            output: Output::Nothing,
            effects: Vec::new(),
        });
        Ok(Self {
            domain,
            recorder: Some(recorder),
        })
    }

    /// [`Domain::hypercall`]
    pub fn hypercall(
        &mut self,
        memory: &dyn Frames,
        origin: &Origin<'_>,
        call: Call,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let Some(recorder) = self.recorder() else {
            return self.domain.hypercall(memory, origin, call, effects);
        };
        let accesses = Accesses::default();
        let tap = MemoryTap {
            memory,
            accesses: &accesses,
        };
        let io = IoTap {
            io: origin.io,
            accesses: &accesses,
        };
        let tapped = Origin { io: &io, ..*origin };
        let before = effects.len();
        let answer = self.domain.hypercall(&tap, &tapped, call, effects);
        let input = Input::Hypercall {
            vcpu: origin.vcpu,
            takes_interrupts: origin.takes_interrupts,
            now: origin.now.into(),
            call: call.into(),
        };
        recorder.write(&Record {
            input,
            accesses: accesses.into_inner(),
            output: answer.into(),
            effects: new_effects(effects, before),
        });
        answer
    }

    /// [`Domain::tick`]
    pub fn tick(&mut self, memory: &dyn Frames, now: Now, effects: &mut Vec<Effect>) {
        let input = || Input::Tick(now.into());
        self.run(memory, effects, input, |domain, memory, effects| {
            domain.tick(memory, now, effects);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::entered`]
    pub fn entered(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        let input = || Input::Entered {
            vcpu,
            now: now.into(),
        };
        self.run(memory, effects, input, |domain, memory, effects| {
            domain.entered(memory, vcpu, now, effects);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::state_changed`]
    pub fn state_changed(
        &mut self,
        memory: &dyn Frames,
        vcpu: u32,
        state: runstate::State,
        now: Now,
    ) {
        let input = || Input::StateChanged {
            vcpu,
            state: state.number(),
            now: now.into(),
        };
        self.run(memory, &mut Vec::new(), input, |domain, memory, _| {
            domain.state_changed(memory, vcpu, state, now);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::update_time`]
    pub fn update_time(&mut self, memory: &dyn Frames, vcpu: u32) {
        let input = || Input::UpdateTime { vcpu };
        self.run(memory, &mut Vec::new(), input, |domain, memory, _| {
            domain.update_time(memory, vcpu);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::console_input`]
    pub fn console_input(
        &mut self,
        memory: &dyn Frames,
        now: Now,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) -> usize {
        let input = || Input::Typed {
            now: now.into(),
            bytes: bytes.to_vec(),
        };
        self.run(memory, effects, input, |domain, memory, effects| {
            let taken = domain.console_input(memory, now, bytes, effects);
            (taken, Output::Count(taken as u64))
        })
    }

    /// [`Domain::request_shutdown`]
    pub fn request_shutdown(
        &mut self,
        memory: &dyn Frames,
        now: Now,
        kind: Shutdown,
        effects: &mut Vec<Effect>,
    ) {
        let input = || Input::RequestShutdown {
            now: now.into(),
            kind: kind.into(),
        };
        self.run(memory, effects, input, |domain, memory, effects| {
            domain.request_shutdown(memory, now, kind, effects);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::hypercall_page_written`]
    pub fn hypercall_page_written(&mut self, memory: &dyn Frames, width: Width, now: Now) {
        let input = || Input::HypercallPageWritten {
            is_native: width == Width::Native,
            now: now.into(),
        };
        self.run(memory, &mut Vec::new(), input, |domain, memory, _| {
            domain.hypercall_page_written(memory, width, now);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::init`]
    pub fn init(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        let input = || Input::Init {
            vcpu,
            now: now.into(),
        };
        self.run(memory, effects, input, |domain, memory, effects| {
            domain.init(memory, vcpu, now, effects);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::sipi`]
    pub fn sipi(
        &mut self,
        memory: &dyn Frames,
        vcpu: u32,
        vector: u8,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let input = || Input::Sipi {
            vcpu,
            vector,
            now: now.into(),
        };
        self.run(memory, effects, input, |domain, memory, effects| {
            domain.sipi(memory, vcpu, vector, now, effects);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::halted`]
    pub fn halted(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        let input = || Input::Halted {
            vcpu,
            now: now.into(),
        };
        self.run(memory, effects, input, |domain, memory, effects| {
            domain.halted(memory, vcpu, now, effects);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::found_running`]
    pub fn found_running(&mut self, memory: &dyn Frames, vcpu: u32, now: Now) {
        let input = || Input::FoundRunning {
            vcpu,
            now: now.into(),
        };
        self.run(memory, &mut Vec::new(), input, |domain, memory, _| {
            domain.found_running(memory, vcpu, now);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::end`]
    pub fn end(
        &mut self,
        memory: &dyn Frames,
        reason: ShutdownReason,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let input = || Input::End {
            reason: reason.0,
            now: now.into(),
        };
        self.run(memory, effects, input, |domain, memory, effects| {
            domain.end(memory, reason, now, effects);
            ((), Output::Nothing)
        });
    }

    /// [`Domain::debug_port`]
    pub fn debug_port(&mut self, byte: u8, effects: &mut Vec<Effect>) {
        let before = effects.len();
        self.domain.debug_port(byte, effects);
        self.note(Input::DebugPort { byte }, Output::Nothing, || {
            new_effects(effects, before)
        });
    }

    /// [`Domain::orders`]
    pub fn orders(&mut self, vcpu: u32) -> Orders {
        let orders = self.domain.orders(vcpu);
        let output = Output::from(&orders);
        self.note(Input::Orders { vcpu }, output, Vec::new);
        orders
    }

    /// Where to note calls, while they are noted.
    fn recorder(&self) -> Option<Recorder> {
        self.recorder
            .clone()
            .filter(|recorder| !recorder.is_ended())
    }

    /// Makes a call of the domain, and a record of it if there is a recorder.
    fn run<T>(
        &mut self,
        memory: &dyn Frames,
        effects: &mut Vec<Effect>,
        input: impl FnOnce() -> Input,
        call: impl FnOnce(&mut Domain, &dyn Frames, &mut Vec<Effect>) -> (T, Output),
    ) -> T {
        let Some(recorder) = self.recorder() else {
            return call(&mut self.domain, &memory, effects).0;
        };
        let accesses = Accesses::default();
        let tap = MemoryTap {
            memory,
            accesses: &accesses,
        };
        let before = effects.len();
        let (result, output) = call(&mut self.domain, &tap, effects);
        recorder.write(&Record {
            input: input(),
            accesses: accesses.into_inner(),
            output,
            effects: new_effects(effects, before),
        });
        result
    }

    /// Makes a record of a call that sees no guest memory.
    fn note(&self, input: Input, output: Output, effects: impl FnOnce() -> Vec<WireEffect>) {
        if let Some(recorder) = self.recorder() {
            recorder.write(&Record {
                input,
                accesses: Vec::new(),
                output,
                effects: effects(),
            });
        }
    }
}

/// What a call added.
fn new_effects(effects: &[Effect], before: usize) -> Vec<WireEffect> {
    effects.iter().skip(before).map(WireEffect::from).collect()
}
