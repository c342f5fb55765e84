//! A guest that keeps the rules loses no event, however its accesses fall between the hypervisor's.

use core::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;
use pvh_abi::{DomId, Gpa, event_channel::Port};
use pvh_domain::parts::event::{HostPort, Signal};
use pvh_memory::{GuestMemory, VecMemory, WordOp};

use crate::{
    machine::{BUSY, LINKED, MASKED, Machine, PENDING, control_at, event_at, ram, upcall_at},
    scripted::Scripted,
};

const VCPUS: u32 = 2;
const SERVICES: usize = 4;
const LINK: u32 = 0x1_ffff;

/// Where a vCPU's handler is.
#[derive(Clone, Copy, Debug)]
enum At {
    Idle,
    FlagCleared,
    Scan {
        ready: u32,
    },
    Popped {
        ready: u32,
        queue: u32,
        port: u32,
        link: u32,
    },
}

/// One vCPU of the guest, as Linux consumes its queues; a step is one access or two that no order
/// matters between.
struct Consumer {
    vcpu: u32,
    is_injected: bool,
    at: At,
    heads: [u32; 16],
}

impl Consumer {
    fn step(&mut self, ram: &VecMemory) {
        let atomic = |at, op| ram.atomic_u32(Gpa(at), op).unwrap();
        let control = control_at(self.vcpu);
        self.at = match self.at {
            At::Idle if !self.is_injected => At::Idle,
            At::Idle => {
                self.is_injected = false;
                atomic(upcall_at(self.vcpu), WordOp::And(!0xff));
                At::FlagCleared
            }
            At::FlagCleared => At::Scan {
                ready: atomic(control, WordOp::Swap(0)),
            },
            At::Scan { ready: 0 } => At::Idle,
            At::Scan { ready } => {
                let queue = ready.trailing_zeros();
                let own = self.heads[queue as usize];
                let head = control + 8 + u64::from(queue) * 4;
                let port = if own == 0 {
                    atomic(head, WordOp::Load)
                } else {
                    own
                };
                let word = event_at(Port(port));
                let before = atomic(word, WordOp::And(!(LINKED | LINK)));
                assert!(port != 0 && before & LINKED != 0, "port {port} was queued");
                let link = before & LINK;
                At::Popped {
                    ready,
                    queue,
                    port,
                    link,
                }
            }
            At::Popped {
                ready,
                queue,
                port,
                link,
            } => {
                self.heads[queue as usize] = link;
                let rest = if link == 0 {
                    ready & !(1 << queue)
                } else {
                    ready
                };
                let word = event_at(Port(port));
                let now = atomic(word, WordOp::Load);
                if now & PENDING != 0 && now & MASKED == 0 {
                    atomic(word, WordOp::And(!PENDING));
                }
                At::Scan {
                    ready: rest | atomic(control, WordOp::Swap(0)),
                }
            }
        };
    }

    fn is_done(&self) -> bool {
        matches!(self.at, At::Idle) && !self.is_injected
    }
}

/// Clears a mask as Linux does: itself if nothing is pending, else by the call. Tells whether the
/// call is needed; `None` while the word is busy.
fn try_unmask(ram: &VecMemory, port: Port) -> Option<bool> {
    let at = Gpa(event_at(port));
    let word = ram.atomic_u32(at, WordOp::Load).unwrap();
    match word {
        word if word & MASKED == 0 => Some(false),
        word if word & PENDING != 0 => Some(true),
        word if word & BUSY != 0 => None,
        expected => {
            let new = expected & !MASKED;
            let op = WordOp::CompareExchange { expected, new };
            let found = ram.atomic_u32(at, op).unwrap();
            (found == expected).then_some(false)
        }
    }
}

/// What the guest does between two accesses of the hypervisor.
#[derive(Clone, Copy, Debug)]
enum Aside {
    Nothing,
    Step(usize),
    Mask(usize),
    Unmask(usize),
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Raise(usize),
    Unmask(usize),
    BindVcpu(usize, u32),
    SetPriority(usize, u32),
    Reopen(usize),
    Steps(usize, usize),
}

struct World {
    machine: Machine<Scripted>,
    consumers: Rc<RefCell<Vec<Consumer>>>,
    services: Vec<(Port, HostPort)>,
}

impl World {
    fn new() -> Self {
        let mut machine = Machine::new(Scripted::new(ram()), VCPUS, 63);
        machine.turn_fifo_on(VCPUS);
        let services = (0..SERVICES).map(|_| machine.run(|events, d| events.open_service(d)));
        let services = services.map(Result::unwrap).collect();
        let consumers = (0..VCPUS).map(|vcpu| Consumer {
            vcpu,
            is_injected: false,
            at: At::Idle,
            heads: [0; 16],
        });
        Self {
            machine,
            consumers: Rc::new(RefCell::new(consumers.collect())),
            services,
        }
    }

    /// Lets the asides happen between the hypervisor's accesses from now on.
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
                    let word = Gpa(event_at(ports[service]));
                    ram.atomic_u32(word, WordOp::Or(MASKED)).unwrap();
                }
                Some(Aside::Unmask(service)) => {
                    try_unmask(ram, ports[service]);
                }
            });
    }

    fn inject(&self, signals: Vec<Signal>) {
        for signal in signals {
            if let Signal::Upcall(vcpu) = signal {
                self.consumers.borrow_mut()[vcpu as usize].is_injected = true;
            }
        }
    }

    fn unmask(&mut self, port: Port) {
        let needs_call = try_unmask(&self.machine.memory.ram, port);
        if needs_call.expect("BUSY does not outlive a call") {
            let signals = self.machine.unmask(port).1;
            self.inject(signals);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Raise(service) => {
                let far = self.services[service].1;
                let raised = self.machine.call(|events, d| events.send_from_host(d, far));
                self.inject(raised.1);
            }
            Action::Unmask(service) => self.unmask(self.services[service].0),
            Action::BindVcpu(service, vcpu) => {
                let port = self.services[service].0;
                self.machine.events.bind_vcpu(port, vcpu).unwrap();
            }
            Action::SetPriority(service, priority) => {
                let port = self.services[service].0;
                self.machine.events.set_priority(port, priority).unwrap();
            }
            Action::Reopen(service) => {
                let (port, far) = self.services[service];
                self.machine.close(port).unwrap();
                let remote = Port(far.0);
                let join = |machine: &mut Machine<Scripted>| {
                    machine.call(|events, d| events.bind_interdomain(d, DomId(0), remote))
                };
                let (port, signals) = join(&mut self.machine);
                self.services[service].0 = port.unwrap();
                self.inject(signals);
            }
            Action::Steps(vcpu, steps) => {
                for _ in 0..steps {
                    self.consumers.borrow_mut()[vcpu].step(&self.machine.memory.ram);
                }
            }
        }
    }

    /// Unmasks everything and lets the guest run until it has nothing left to do.
    fn drain(&mut self) {
        self.machine.memory.quiet();
        for service in 0..SERVICES {
            self.unmask(self.services[service].0);
        }
        let mut consumers = self.consumers.borrow_mut();
        for consumer in consumers.iter_mut() {
            let left = (0..1000).find(|_| {
                consumer.step(&self.machine.memory.ram);
                consumer.is_done()
            });
            assert!(left.is_some(), "vCPU {} never ends", consumer.vcpu);
        }
    }
}

fn aside() -> impl Strategy<Value = Aside> {
    prop_oneof![
        3 => Just(Aside::Nothing),
        6 => (0..VCPUS as usize).prop_map(Aside::Step),
        1 => (0..SERVICES).prop_map(Aside::Mask),
        1 => (0..SERVICES).prop_map(Aside::Unmask),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let service = || 0..SERVICES;
    prop_oneof![
        8 => service().prop_map(Action::Raise),
        2 => service().prop_map(Action::Unmask),
        2 => (service(), 0..VCPUS).prop_map(|(port, vcpu)| Action::BindVcpu(port, vcpu)),
        2 => (service(), 6_u32..9).prop_map(|(port, queue)| Action::SetPriority(port, queue)),
        1 => service().prop_map(Action::Reopen),
        4 => (0..VCPUS as usize, 0_usize..8).prop_map(|(vcpu, steps)| Action::Steps(vcpu, steps)),
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
        for port in (0..64).map(Port) {
            let word = world.machine.event(port);
            prop_assert_eq!(word & (PENDING | LINKED | BUSY), 0, "{:?}: {:#x}", port, word);
        }
    }
}
