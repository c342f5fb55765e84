//! A guest with one MiB of RAM that is not paged, and a domain around it.

use core::num::NonZeroU64;

use pvh_abi::{DomId, Errno, Gpa, memory::E820Entry};
use pvh_domain::{Answer, Config, Effect, MemoryConfig, Now, Origin, Sleep};
use pvh_hypercall::{Call, Caller, Outcome, Registers};
use pvh_memory::{GuestMemory, LinearMemory, PagingPolicy, PagingState, VecMemory};
use pvh_vcpu::CpuPolicy;
use zerocopy::little_endian::{U32, U64};

use crate::recorded;

/// No RAM from here on, but for the special pages.
pub(crate) const RAM_BYTES: u64 = 0x10_0000;
/// Where calls have their arguments.
pub(crate) const ARG: u64 = 0x8000;
/// An address that leads nowhere.
pub(crate) const NOWHERE: u64 = 0x2000_0000;
/// Where the guest maps shared info, unless a test says otherwise.
pub(crate) const SHARED_INFO: u64 = 0x1000;
/// The vector of its upcalls.
pub(crate) const VECTOR: u8 = 0xf3;
/// The system time at which a domain is made.
pub(crate) const START_NS: u64 = 5_000_000_000;

pub(crate) const SELF: u64 = 0x7ff0;

/// Hypercalls by their numbers.
pub(crate) const MEMORY_OP: u64 = 12;
pub(crate) const MULTICALL: u64 = 13;
pub(crate) const SET_TIMER_OP: u64 = 15;
pub(crate) const XEN_VERSION: u64 = 17;
pub(crate) const CONSOLE_IO: u64 = 18;
pub(crate) const GRANT_TABLE_OP: u64 = 20;
pub(crate) const VM_ASSIST: u64 = 21;
pub(crate) const VCPU_OP: u64 = 24;
pub(crate) const SCHED_OP: u64 = 29;
pub(crate) const EVENT_CHANNEL_OP: u64 = 32;
pub(crate) const HVM_OP: u64 = 34;

pub(crate) const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 39,
    is_amd: false,
    has_gib_pages: true,
    has_pse36: true,
};
const LONG: Caller = Caller {
    cr0: 0x8000_0011,
    efer: 0x500,
    rflags: 2,
    cs_long: true,
    cs_big: false,
    cpl: 0,
};
const PROTECTED: Caller = Caller {
    cr0: 0x11,
    efer: 0,
    rflags: 2,
    cs_long: false,
    cs_big: true,
    cpl: 0,
};

pub(crate) struct Machine {
    pub(crate) memory: VecMemory,
    pub(crate) domain: recorded::Domain,
    pub(crate) effects: Vec<Effect>,
    pub(crate) now: Now,
    /// What the last call's answer said.
    pub(crate) sleep: Option<Sleep>,
    pub(crate) is_64_bit: bool,
    pub(crate) takes_interrupts: bool,
    /// How linear addresses are translated: not at all, at first.
    pub(crate) paging: PagingState,
}

pub(crate) fn config(vcpus: u32) -> Config {
    Config {
        domid: DomId(5),
        uuid: *b"\x01\x23\x45\x67\x89\xab\xcd\xef\0\0\0\0\0\0\0\x2a",
        name: "guest".into(),
        vcpus,
        cpu: CpuPolicy {
            cr4_bits: 0x3f_f7ff,
            efer_bits: 0xd01,
            physical_address_bits: 39,
        },
        tsc_hz: NonZeroU64::new(1_000_000_000).unwrap(),
        is_tsc_stable: true,
        memory_kib: 1024,
        memory: MemoryConfig {
            pages: 264,
            max_pages: 512,
            max_gfn: 0xf_efff,
            host_pages: 0x10_0000,
            memory_map: vec![E820Entry {
                addr: U64::new(0),
                size: U64::new(RAM_BYTES),
                kind: U32::new(1),
            }],
        },
        may_log: false,
        xen: pvh_hypercall::XenVersion::V4_17,
    }
}

pub(crate) fn memory() -> VecMemory {
    let memory = VecMemory::zeroed(&[(Gpa(0), RAM_BYTES)]).unwrap();
    memory.with_spare_frames(64)
}

/// The moment at a system time: the TSC ticks once in a nanosecond, from 0 at the start.
pub(crate) fn at(system_ns: u64) -> Now {
    Now {
        system_ns,
        tsc: system_ns.saturating_sub(START_NS),
        wall_ns: 1_700_000_000_000_000_000 + system_ns,
    }
}

impl Machine {
    /// A domain of a 64-bit guest, vCPU 0 running.
    pub(crate) fn new(vcpus: u32) -> Self {
        Self::with(config(vcpus))
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::on(memory(), config)
    }

    pub(crate) fn on(memory: VecMemory, config: Config) -> Self {
        let now = at(START_NS);
        let domain = recorded::domain(config, &memory, now);
        let mut machine = Self {
            memory,
            domain,
            effects: Vec::new(),
            now,
            sleep: None,
            is_64_bit: true,
            takes_interrupts: false,
            paging: PagingState::UNPAGED,
        };
        machine.enter(0);
        machine
    }

    /// The same with shared info mapped and the global vector chosen.
    pub(crate) fn ready(vcpus: u32) -> Self {
        let mut machine = Self::new(vcpus);
        machine.map_shared_info(SHARED_INFO);
        assert_eq!(machine.set_param(0, 2 << 56 | u64::from(VECTOR)), 0);
        machine
    }

    /// Makes a call of a vCPU with dirty registers, and runs it to its end.
    pub(crate) fn call(&mut self, vcpu: u32, number: u64, args: &[u64]) -> i64 {
        let mut all = [0xdead_0000; 5];
        all[..args.len()].copy_from_slice(args);
        let [a, b, c, d, e] = all;
        let (registers, caller) = if self.is_64_bit {
            let registers = Registers {
                rax: number,
                rdi: a,
                rsi: b,
                rdx: c,
                r10: d,
                r8: e,
                ..Registers::default()
            };
            (registers, LONG)
        } else {
            let dirty = 0xdead_beef_0000_0000;
            let registers = Registers {
                rax: number | dirty,
                rbx: a | dirty,
                rcx: b | dirty,
                rdx: c | dirty,
                rsi: d | dirty,
                rdi: e | dirty,
                ..Registers::default()
            };
            (registers, PROTECTED)
        };
        let call = Call::decode(&registers, &caller);
        let result = call.map_or_else(Errno::as_result, |call| self.run(vcpu, call));
        let rax = caller.mode().width().result(result);
        if self.is_64_bit {
            return rax.cast_signed();
        }
        i64::from(u32::try_from(rax).unwrap().cast_signed())
    }

    fn run(&mut self, vcpu: u32, mut call: Call) -> i64 {
        // A MiB of text is written 256 bytes at a time.
        for _ in 0..40_000 {
            let answer = self.step(vcpu, call);
            self.sleep = answer.sleep;
            match answer.outcome {
                Outcome::Return(result) => return result,
                Outcome::Again(rest) => {
                    assert_eq!(answer.sleep, None, "nobody sleeps amid a call");
                    call = rest;
                }
            }
        }
        panic!("hypercall {} does not end", call.number.0);
    }

    /// Hands a call in once.
    pub(crate) fn step(&mut self, vcpu: u32, call: Call) -> Answer {
        let io = LinearMemory::new(&self.memory, &self.paging, &POLICY);
        let origin = Origin {
            vcpu,
            io: &io,
            takes_interrupts: self.takes_interrupts,
            now: self.now,
        };
        let domain = &mut self.domain;
        domain.hypercall(&self.memory, &origin, call, &mut self.effects)
    }

    pub(crate) fn enter(&mut self, vcpu: u32) {
        let domain = &mut self.domain;
        domain.entered(&self.memory, vcpu, self.now, &mut self.effects);
    }

    /// Lets time pass, and does what is due then.
    pub(crate) fn tick_at(&mut self, system_ns: u64) {
        self.now = at(system_ns);
        self.domain.tick(&self.memory, self.now, &mut self.effects);
    }

    /// The next deadline, if it is not that of the time, a second after the start.
    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        let next = self.domain.next_deadline_ns();
        next.filter(|&next_ns| next_ns != START_NS + 1_000_000_000)
    }

    /// The effects since they were last taken.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.effects)
    }
}

/// Guest memory.
impl Machine {
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write(Gpa(at), bytes).unwrap();
    }

    pub(crate) fn put_u32(&self, at: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(at, &bytes);
    }

    pub(crate) fn put_u64(&self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(at, &bytes);
    }

    pub(crate) fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn u32(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u64(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }
}

/// Calls that many tests make.
impl Machine {
    /// `XENMEM_add_to_physmap`, space 0.
    pub(crate) fn map_shared_info(&mut self, at: u64) {
        self.put_u64(ARG, &[SELF, 0, at >> 12]);
        assert_eq!(self.call(0, MEMORY_OP, &[7, ARG]), 0);
    }

    pub(crate) fn set_param(&mut self, index: u32, value: u64) -> i64 {
        self.put_u64(ARG, &[SELF | u64::from(index) << 32, value]);
        self.call(0, HVM_OP, &[0, ARG])
    }

    pub(crate) fn param(&mut self, index: u32) -> Result<u64, i64> {
        self.put_u64(ARG, &[SELF | u64::from(index) << 32, 0x5555]);
        match self.call(0, HVM_OP, &[1, ARG]) {
            0 => Ok(self.u64(ARG + 8)),
            error => Err(error),
        }
    }

    /// `EVTCHNOP_bind_virq`; answers the port.
    pub(crate) fn bind_virq(&mut self, virq: u32, vcpu: u32) -> Result<u32, i64> {
        self.put_u32(ARG, &[virq, vcpu, 0x5555]);
        match self.call(0, EVENT_CHANNEL_OP, &[1, ARG]) {
            0 => Ok(self.u32(ARG + 8)),
            error => Err(error),
        }
    }

    /// `EVTCHNOP_bind_ipi`; answers the port.
    pub(crate) fn bind_ipi(&mut self, vcpu: u32) -> u32 {
        self.put_u32(ARG, &[vcpu, 0]);
        assert_eq!(self.call(0, EVENT_CHANNEL_OP, &[7, ARG]), 0);
        self.u32(ARG + 4)
    }

    /// `EVTCHNOP_send` by a vCPU.
    pub(crate) fn send(&mut self, vcpu: u32, port: u32) -> i64 {
        self.put_u32(ARG, &[port]);
        self.call(vcpu, EVENT_CHANNEL_OP, &[4, ARG])
    }

    /// Whether a port is pending in shared info.
    pub(crate) fn is_pending(&self, port: u32) -> bool {
        let word = self.u64(SHARED_INFO + 2048 + u64::from(port / 64 * 8));
        word >> (port % 64) & 1 == 1
    }

    /// What an upcall routine does first: clears the flag and takes the selector and every pending
    /// bit.
    pub(crate) fn acknowledge(&self, vcpu: u32) {
        let info = SHARED_INFO + 64 * u64::from(vcpu);
        self.put(info, &[0]);
        self.put_u64(info + 8, &[0]);
        self.put(SHARED_INFO + 2048, &[0; 512]);
    }

    /// A context of mode 32B that passes, for `VCPUOP_initialise`.
    pub(crate) fn put_context(&self, at: u64, eip: u32) {
        self.put(at, &[0; 128]);
        // eip, eflags, cr0, cr3, cr4; then the limits of cs ds ss es tr.
        self.put_u32(at + 40, &[eip, 0, 1, 0, 0]);
        self.put_u32(at + 92, &[u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0x67]);
        for (index, attributes) in [0xc9b_u16, 0xc93, 0xc93, 0xc93, 0x8b]
            .into_iter()
            .enumerate()
        {
            let at = at + 112 + 2 * u64::try_from(index).unwrap();
            self.put(at, &attributes.to_le_bytes());
        }
    }

    /// Initialises a vCPU, brings it up, and lets it run.
    pub(crate) fn start(&mut self, vcpu: u32) {
        self.put_context(ARG, 0x1_0000);
        assert_eq!(self.call(0, VCPU_OP, &[0, vcpu.into(), ARG]), 0);
        assert_eq!(self.call(0, VCPU_OP, &[1, vcpu.into(), 0]), 0);
        self.enter(vcpu);
        self.take();
    }
}
