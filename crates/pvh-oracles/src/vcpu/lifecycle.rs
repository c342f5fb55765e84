//! The lifecycle of vCPUs with several threads, and effects that arrive late and in any order.

use pvh_abi::vcpu::VcpuHvmContext;
use pvh_entry::EntryState;
use pvh_vcpu::{CpuPolicy, Effect, Orders, SharedVcpuSet, VcpuError, decode_context, sipi_state};
use zerocopy::FromBytes;

use super::context::template;
use crate::{bytes::is_printable, tape::Tape};

const COUNT: u32 = 4;

const POLICY: CpuPolicy = CpuPolicy {
    cr4_bits: 0x7ff,
    efer_bits: 0x901,
    physical_address_bits: 39,
};

/// The expected state: two flags and the registers with which a vCPU starts.
#[derive(Clone, Copy, Debug, Default)]
struct Vcpu {
    is_initialised: bool,
    is_up: bool,
    /// Not yet taken by its thread.
    start: Option<EntryState>,
}

/// A vCPU's thread, and the state that it knows of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Thread {
    Parked,
    Running,
    Ended,
}

struct World {
    set: SharedVcpuSet,
    vcpus: [Vcpu; COUNT as usize],
    threads: [Thread; COUNT as usize],
    /// Notices that are not delivered yet; their order is free.
    notices: Vec<u32>,
    is_off: bool,
    power_offs: u32,
}

/// Runs a sequence of calls, and of threads that get the notices late.
///
/// # Panics
///
/// If an answer is not the model's, if registers are lost, given twice or given to the wrong start,
/// if the end of the domain is reported twice or never, or if a thread is in a wrong state after
/// all notices have arrived.
pub fn vcpu_lifecycle(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut world = World {
        set: SharedVcpuSet::new(COUNT as usize),
        vcpus: [Vcpu::default(); COUNT as usize],
        threads: [Thread::Parked; COUNT as usize],
        notices: Vec::new(),
        is_off: false,
        power_offs: 0,
    };
    world.vcpus[0].is_initialised = true;
    world.vcpus[0].is_up = true;
    world.threads[0] = Thread::Running;
    while !tape.is_empty() {
        let (what, vcpu) = (tape.below(11), u32::from(tape.below(5)));
        match what {
            0 | 1 => world.initialise(vcpu, tape.byte()),
            2 => world.up(vcpu),
            3 => world.down(vcpu, false),
            4 => world.down(vcpu, true),
            5 => world.sipi(vcpu, tape.byte()),
            6 => world.deliver(usize::from(tape.byte())),
            7 => world.ask(vcpu),
            8 => world.is_up(vcpu),
            9 => world.wait(vcpu),
            _ => world.end(tape.byte()),
        }
    }
    while !world.notices.is_empty() {
        world.deliver(0);
    }
    world.check_rest();
}

impl World {
    fn model(&mut self, vcpu: u32) -> Option<&mut Vcpu> {
        self.vcpus.get_mut(usize::try_from(vcpu).ok()?)
    }

    fn initialise(&mut self, vcpu: u32, which: u8) {
        let mut context = template(which & 7);
        context[8] = which; // eax tells which start it was
        let context = VcpuHvmContext::read_from_bytes(&context).expect("128 bytes");
        let answer = self.set.initialise(vcpu, &context, &POLICY);
        let decoded = decode_context(&context, &POLICY);
        let wanted = match (self.model(vcpu), decoded) {
            (None, _) => Err(VcpuError::NoSuchVcpu { vcpu }),
            (Some(model), _) if model.is_initialised => Err(VcpuError::AlreadyInitialised),
            (Some(_), Err(error)) => Err(VcpuError::Context(error)),
            (Some(model), Ok(state)) => {
                model.is_initialised = true;
                model.start = Some(state);
                Ok(())
            }
        };
        assert_eq!(answer, wanted);
    }

    fn up(&mut self, vcpu: u32) {
        let answer = self.set.up(vcpu);
        let wanted = match self.model(vcpu) {
            None => Err(VcpuError::NoSuchVcpu { vcpu }),
            Some(model) if !model.is_initialised => Err(VcpuError::NotInitialised),
            Some(model) => {
                let was_up = std::mem::replace(&mut model.is_up, true);
                let effect = match model.start {
                    Some(_) => Effect::Start(vcpu),
                    None => Effect::Resume(vcpu),
                };
                Ok((!was_up).then_some(effect))
            }
        };
        self.take(answer, wanted);
    }

    fn down(&mut self, vcpu: u32, is_init: bool) {
        let answer = match is_init {
            true => self.set.init(vcpu),
            false => self.set.down(vcpu),
        };
        let is_off = self.is_off;
        let wanted = match self.model(vcpu) {
            None => Err(VcpuError::NoSuchVcpu { vcpu }),
            Some(model) => {
                let was_up = std::mem::replace(&mut model.is_up, false);
                if is_init {
                    *model = Vcpu::default();
                }
                let is_last = !self.vcpus.iter().any(|model| model.is_up);
                Ok(match (was_up && !is_off, is_last) {
                    (false, _) => None,
                    (true, false) => Some(Effect::Stop(vcpu)),
                    (true, true) => Some(Effect::PowerOff),
                })
            }
        };
        self.take(answer, wanted);
    }

    fn sipi(&mut self, vcpu: u32, vector: u8) {
        let answer = self.set.sipi(vcpu, vector);
        let wanted = match self.model(vcpu) {
            None => Err(VcpuError::NoSuchVcpu { vcpu }),
            Some(model) if model.is_initialised => Ok(None),
            Some(model) => {
                *model = Vcpu {
                    is_initialised: true,
                    is_up: true,
                    start: Some(sipi_state(vector)),
                };
                Ok(Some(Effect::Start(vcpu)))
            }
        };
        self.take(answer, wanted);
    }

    fn take(
        &mut self,
        answer: Result<Option<Effect>, VcpuError>,
        wanted: Result<Option<Effect>, VcpuError>,
    ) {
        assert_eq!(answer, wanted);
        if let Err(error) = &answer {
            is_printable(error);
            assert!([2, 17, 22].contains(&error.errno().0));
        }
        match answer {
            Ok(Some(Effect::Start(vcpu) | Effect::Resume(vcpu) | Effect::Stop(vcpu))) => {
                self.notices.push(vcpu);
            }
            Ok(Some(Effect::PowerOff)) => {
                self.is_off = true;
                self.power_offs += 1;
                self.notices.extend(0..COUNT);
            }
            _ => {}
        }
    }

    /// Delivers a notice to its thread, which asks for the current state.
    fn deliver(&mut self, which: usize) {
        if self.notices.is_empty() {
            return;
        }
        let vcpu = self.notices.remove(which % self.notices.len());
        self.ask(vcpu);
    }

    fn ask(&mut self, vcpu: u32) {
        let orders = self.set.orders(vcpu);
        let is_off = self.is_off;
        let wanted = match self.model(vcpu) {
            None => Err(VcpuError::NoSuchVcpu { vcpu }),
            Some(_) if is_off => Ok(Orders::End),
            Some(model) if model.is_up => Ok(Orders::Run(model.start.take())),
            Some(_) => Ok(Orders::Park),
        };
        assert_eq!(orders, wanted, "vCPU {vcpu}");
        let thread = usize::try_from(vcpu).unwrap_or(usize::MAX);
        if let (Some(thread), Ok(orders)) = (self.threads.get_mut(thread), orders) {
            *thread = match orders {
                Orders::Run(_) => Thread::Running,
                Orders::Park => Thread::Parked,
                Orders::End => Thread::Ended,
            };
        }
    }

    /// A thread that need not wait asks in a way that may wait.
    fn wait(&mut self, vcpu: u32) {
        let is_off = self.is_off;
        match self.model(vcpu) {
            Some(model) if !is_off && !model.is_up => {}
            Some(model) => {
                let start = if is_off { None } else { model.start.take() };
                let orders = match is_off {
                    true => Orders::End,
                    false => Orders::Run(start),
                };
                assert_eq!(self.set.wait(vcpu), Ok(orders));
            }
            None => assert!(self.set.wait(vcpu).is_err()),
        }
    }

    /// Ends the domain for another reason; rarely, because the sequence ends with it.
    fn end(&mut self, how: u8) {
        if how == 0xff && !self.is_off {
            self.set.end();
            self.is_off = true;
            self.power_offs += 1;
            self.notices.extend(0..COUNT);
        }
    }

    fn is_up(&mut self, vcpu: u32) {
        let answer = self.set.is_up(vcpu);
        let wanted = self.model(vcpu).map(|model| model.is_up);
        assert_eq!(answer.ok(), wanted);
    }

    /// Checks the threads after all notices have arrived.
    fn check_rest(&mut self) {
        assert_eq!(self.power_offs, u32::from(self.is_off));
        for (thread, model) in self.threads.iter().zip(&self.vcpus) {
            let wanted = match (self.is_off, model.is_up) {
                (true, _) => Thread::Ended,
                (false, true) => Thread::Running,
                (false, false) => Thread::Parked,
            };
            assert_eq!(*thread, wanted, "{model:?}");
            let is_lost = model.is_up && model.start.is_some() && !self.is_off;
            assert!(!is_lost, "a start never reached its thread");
        }
    }
}
