//! The two-level ABI loses no event to a guest that keeps the rules, however its accesses fall.

use core::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;
use pvh_abi::{Gpa, event_channel::Port};
use pvh_domain::parts::event::{HostPort, Signal};
use pvh_memory::{GuestMemory, VecMemory, WordOp};

use crate::{
    machine::{Machine, SHARED_INFO, ram, upcall_at},
    scripted::Scripted,
};

const VCPUS: usize = 2;
const SERVICES: usize = 4;
/// Words 0 and 1 of 64 ports hold the services: ports 1, 2, 65 and 66.
const WORDS: u64 = 2;

#[derive(Clone, Copy, Debug)]
enum At {
    Idle,
    FlagCleared,
    Scan { selected: u64 },
}

/// One vCPU of the guest, as Linux consumes its words.
#[derive(Debug)]
struct Consumer {
    vcpu: u32,
    is_injected: bool,
    at: At,
}

fn pending_at(word: u64) -> Gpa {
    Gpa(SHARED_INFO + 2048 + word * 8)
}

fn mask_at(word: u64) -> Gpa {
    Gpa(SHARED_INFO + 2560 + word * 8)
}

impl Consumer {
    fn step(&mut self, ram: &VecMemory) {
        let atomic = |at, op| ram.atomic_u64(at, op).unwrap();
        let info = upcall_at(self.vcpu);
        self.at = match self.at {
            At::Idle if !self.is_injected => At::Idle,
            At::Idle => {
                self.is_injected = false;
                ram.atomic_u32(Gpa(info), WordOp::And(!0xff)).unwrap();
                At::FlagCleared
            }
            At::FlagCleared => At::Scan {
                selected: atomic(Gpa(info + 8), WordOp::Swap(0)),
            },
            At::Scan { selected: 0 } => At::Idle,
            At::Scan { selected } => {
                let word = u64::from(selected.trailing_zeros());
                let pending = atomic(pending_at(word), WordOp::Load);
                let active = pending & !atomic(mask_at(word), WordOp::Load);
                let bit = active & active.wrapping_neg();
                atomic(pending_at(word), WordOp::And(!bit));
                let rest = if active == bit {
                    selected & (selected - 1)
                } else {
                    selected
                };
                At::Scan { selected: rest }
            }
        };
    }
}

#[derive(Clone, Copy, Debug)]
enum Aside {
    Nothing,
    Step(usize),
    Mask(usize),
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Raise(usize),
    Unmask(usize),
    BindVcpu(usize, u32),
    Steps(usize, usize),
}

struct World {
    machine: Machine<Scripted>,
    consumers: Rc<RefCell<Vec<Consumer>>>,
    services: Vec<(Port, HostPort)>,
}

impl World {
    fn new() -> Self {
        let mut machine = Machine::new(Scripted::new(ram()), 2, 1023);
        let mut services = Vec::new();
        for port in 1..67 {
            if matches!(port, 1 | 2 | 65 | 66) {
                services.push(machine.run(|events, d| events.open_service(d)).unwrap());
            } else {
                machine.ipi(0);
            }
        }
        let consumer = |vcpu| Consumer {
            vcpu,
            is_injected: false,
            at: At::Idle,
        };
        Self {
            machine,
            consumers: Rc::new(RefCell::new(vec![consumer(0), consumer(1)])),
            services,
        }
    }

    fn interleave(&self, asides: Vec<Aside>) {
        let consumers = self.consumers.clone();
        let mut asides = asides.into_iter().cycle();
        let ports: Vec<Port> = self.services.iter().map(|service| service.0).collect();
        self.machine
            .memory
            .on_access(move |ram, _, _| match asides.next() {
                None | Some(Aside::Nothing) => {}
                Some(Aside::Step(vcpu)) => consumers.borrow_mut()[vcpu].step(ram),
                Some(Aside::Mask(service)) => {
                    let port = ports[service].0;
                    let word = mask_at(u64::from(port / 64));
                    ram.atomic_u64(word, WordOp::Or(1 << (port % 64))).unwrap();
                }
            });
    }

    fn act(&mut self, action: Action) {
        let signals = match action {
            Action::Raise(service) => {
                let far = self.services[service].1;
                self.machine
                    .call(|events, d| events.send_from_host(d, far))
                    .1
            }
            Action::Unmask(service) => self.machine.unmask(self.services[service].0).1,
            Action::BindVcpu(service, vcpu) => {
                let port = self.services[service].0;
                self.machine.events.bind_vcpu(port, vcpu).unwrap();
                vec![]
            }
            Action::Steps(vcpu, steps) => {
                for _ in 0..steps {
                    self.consumers.borrow_mut()[vcpu].step(&self.machine.memory.ram);
                }
                vec![]
            }
        };
        for signal in signals {
            if let Signal::Upcall(vcpu) = signal {
                self.consumers.borrow_mut()[vcpu as usize].is_injected = true;
            }
        }
    }

    /// Unmasks everything and lets the guest run until it has nothing left to do.
    fn drain(&mut self) {
        self.machine.memory.quiet();
        for service in 0..SERVICES {
            self.act(Action::Unmask(service));
        }
        for vcpu in 0..VCPUS {
            self.act(Action::Steps(vcpu, 200));
        }
    }
}

fn aside() -> impl Strategy<Value = Aside> {
    prop_oneof![
        2 => Just(Aside::Nothing),
        5 => (0..VCPUS).prop_map(Aside::Step),
        1 => (0..SERVICES).prop_map(Aside::Mask),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..SERVICES).prop_map(Action::Raise),
        2 => (0..SERVICES).prop_map(Action::Unmask),
        2 => (0..SERVICES, 0_u32..2).prop_map(|(port, vcpu)| Action::BindVcpu(port, vcpu)),
        4 => (0..VCPUS, 0_usize..6).prop_map(|(vcpu, steps)| Action::Steps(vcpu, steps)),
    ]
}

proptest! {
    #[test]
    fn no_event_is_lost_to_a_guest_that_keeps_the_rules(
        actions in prop::collection::vec(action(), 1..60),
        asides in prop::collection::vec(aside(), 1..40),
    ) {
        let mut world = World::new();
        for action in actions {
            world.interleave(asides.clone());
            world.act(action);
        }
        world.drain();
        for word in 0..WORDS {
            let pending = world.machine.memory.ram.atomic_u64(pending_at(word), WordOp::Load);
            prop_assert_eq!(pending, Ok(0), "word {}", word);
        }
    }
}
