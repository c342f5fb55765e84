//! A domain with its memory, as the tests use it.

use pvh_abi::{DomId, Errno, Gpa, event_channel::Port};
use pvh_domain::parts::{
    event::{Config, Delivery, EventChannels, Signal},
    shared_info::SharedInfo,
    vcpu_info::VcpuInfos,
};
use pvh_hypercall::group::ControlBlock;
use pvh_memory::{GuestMemory, VecMemory, WordOp};

/// Where `shared_info` is mapped.
pub(crate) const SHARED_INFO: u64 = 0x1000;
/// The frame of vCPU 0's control block; each vCPU has the next.
pub(crate) const CONTROL_GFN: u64 = 0x10;
/// The frame of the first page of event words.
pub(crate) const ARRAY_GFN: u64 = 0x20;
/// No RAM from here on.
pub(crate) const END_GFN: u64 = 0x40;

pub(crate) const PENDING: u32 = 1 << 31;
pub(crate) const MASKED: u32 = 1 << 30;
pub(crate) const LINKED: u32 = 1 << 29;
pub(crate) const BUSY: u32 = 1 << 28;

pub(crate) const ME: DomId = DomId(5);

pub(crate) struct Machine<M = VecMemory> {
    pub(crate) memory: M,
    pub(crate) shared_info: SharedInfo,
    pub(crate) vcpu_infos: VcpuInfos,
    pub(crate) events: EventChannels,
}

pub(crate) fn ram() -> VecMemory {
    VecMemory::zeroed(&[(Gpa(0), END_GFN * 0x1000)]).unwrap()
}

/// A domain with the two-level ABI, a highest port of 1023, and `shared_info` mapped.
pub(crate) fn two_level(vcpus: u32) -> Machine {
    Machine::new(ram(), vcpus, 1023)
}

/// A domain with the FIFO ABI, a control block for each vCPU, and words for ports 0 to 1023.
pub(crate) fn fifo(vcpus: u32) -> Machine {
    let mut machine = two_level(vcpus);
    machine.turn_fifo_on(vcpus);
    machine
}

impl<M: GuestMemory> Machine<M> {
    pub(crate) fn new(memory: M, vcpus: u32, max_port: u32) -> Self {
        let mut shared_info = SharedInfo::new();
        shared_info.map(&memory, SHARED_INFO / 0x1000).unwrap();
        let config = Config {
            domain: ME,
            vcpus,
            max_port,
            pirqs: 16,
        };
        Self {
            memory,
            shared_info,
            vcpu_infos: VcpuInfos::new(vcpus),
            events: EventChannels::new(&config),
        }
    }

    pub(crate) fn turn_fifo_on(&mut self, vcpus: u32) {
        for vcpu in 0..vcpus {
            let block = block(vcpu);
            let bits = self.run(|events, delivery| events.init_control(delivery, &block));
            assert_eq!(bits, Ok(17));
        }
        let added = self.run(|events, delivery| events.expand_array(delivery, ARRAY_GFN));
        assert_eq!(added, Ok(()));
    }

    /// Makes a call and returns its answer and its signals.
    pub(crate) fn call<T>(
        &mut self,
        call: impl FnOnce(&mut EventChannels, &mut Delivery<'_>) -> T,
    ) -> (T, Vec<Signal>) {
        let mut delivery = Delivery::new(&self.memory, &self.shared_info, &self.vcpu_infos);
        let answer = call(&mut self.events, &mut delivery);
        (answer, delivery.signals)
    }

    /// Makes a call for its answer.
    pub(crate) fn run<T>(
        &mut self,
        call: impl FnOnce(&mut EventChannels, &mut Delivery<'_>) -> T,
    ) -> T {
        self.call(call).0
    }

    pub(crate) fn ipi(&mut self, vcpu: u32) -> Port {
        self.run(|events, delivery| events.bind_ipi(delivery, vcpu))
            .unwrap()
    }

    pub(crate) fn unbound(&mut self, remote: DomId) -> Result<Port, Errno> {
        self.run(|events, delivery| events.alloc_unbound(delivery, DomId::SELF, remote))
    }

    pub(crate) fn send(&mut self, port: Port) -> (Result<(), Errno>, Vec<Signal>) {
        self.call(|events, delivery| events.send(delivery, port))
    }

    pub(crate) fn close(&mut self, port: Port) -> Result<(), Errno> {
        self.run(|events, delivery| events.close(delivery, port))
    }

    pub(crate) fn unmask(&mut self, port: Port) -> (Result<(), Errno>, Vec<Signal>) {
        self.call(|events, delivery| events.unmask(delivery, port))
    }

    /// A port whose receiver is the hypervisor.
    pub(crate) fn xens(&mut self) -> Port {
        self.run(|events, delivery| events.alloc_xen_port(delivery, 0, DomId(0)))
            .unwrap()
    }

    /// The 32-bit word at an address.
    pub(crate) fn word(&self, at: u64) -> u32 {
        self.memory.atomic_u32(Gpa(at), WordOp::Load).unwrap()
    }

    pub(crate) fn set_word(&self, at: u64, value: u32) {
        self.memory
            .atomic_u32(Gpa(at), WordOp::Swap(value))
            .unwrap();
    }

    /// The event word of a port.
    pub(crate) fn event(&self, port: Port) -> u32 {
        self.word(event_at(port))
    }

    pub(crate) fn set_event(&self, port: Port, value: u32) {
        self.set_word(event_at(port), value);
    }

    pub(crate) fn ready(&self, vcpu: u32) -> u32 {
        self.word(control_at(vcpu))
    }

    pub(crate) fn head(&self, vcpu: u32, priority: u64) -> u32 {
        self.word(control_at(vcpu) + 8 + priority * 4)
    }

    /// Lets the guest pop a port: LINKED and the link cleared in one write, PENDING too.
    pub(crate) fn pop(&self, port: Port) {
        self.set_event(port, self.event(port) & MASKED);
    }

    /// Lets a vCPU take its upcall and its ready word.
    pub(crate) fn take_ready(&self, vcpu: u32) -> u32 {
        self.set_word(upcall_at(vcpu), 0);
        let op = WordOp::Swap(0);
        self.memory.atomic_u32(Gpa(control_at(vcpu)), op).unwrap()
    }
}

pub(crate) fn block(vcpu: u32) -> ControlBlock {
    ControlBlock {
        vcpu,
        gfn: CONTROL_GFN + u64::from(vcpu),
        offset: 0,
    }
}

pub(crate) fn event_at(port: Port) -> u64 {
    ARRAY_GFN * 0x1000 + u64::from(port.0) * 4
}

pub(crate) fn control_at(vcpu: u32) -> u64 {
    (CONTROL_GFN + u64::from(vcpu)) * 0x1000
}

/// The place of `evtchn_upcall_pending`.
pub(crate) fn upcall_at(vcpu: u32) -> u64 {
    SHARED_INFO + u64::from(vcpu) * 64
}
