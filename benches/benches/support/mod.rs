//! Guests for benches: a domain and [`back_ends`] without KVM, [`trips`] on KVM, and memory that a
//! file fills ([`fill`]).
#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod back_ends;
pub(crate) mod fill;
pub(crate) mod trips;

use std::num::NonZeroU64;

use pvh_abi::{DomId, Gpa, memory::E820Entry};
use pvh_domain::{Config, Domain, MemoryConfig, Now, Origin};
use pvh_hypercall::{Call, Caller, Outcome, Registers};
use pvh_memory::{GuestMemory, LinearMemory, PagingPolicy, PagingState, VecMemory};
use pvh_vcpu::CpuPolicy;
use zerocopy::little_endian::{U32, U64};

pub(crate) const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 39,
    is_amd: false,
    has_gib_pages: true,
    has_pse36: true,
};

fn domain(memory: &VecMemory, now: Now) -> Domain {
    let config = Config {
        domid: DomId(5),
        uuid: [7; 16],
        name: "bench".into(),
        vcpus: 1,
        cpu: CPU,
        tsc_hz: NonZeroU64::new(1_000_000_000).expect("not 0"),
        is_tsc_stable: true,
        memory_kib: 1024,
        memory: MemoryConfig {
            pages: 264,
            max_pages: 512,
            max_gfn: 0xF_EFFF,
            host_pages: 0x10_0000,
            memory_map: vec![E820Entry {
                addr: U64::new(0),
                size: U64::new(1 << 20),
                kind: U32::new(1),
            }],
        },
        may_log: false,
        xen: pvh_hypercall::XenVersion::V4_17,
    };
    let mut domain = Domain::new(config, memory, now).expect("a domain");
    domain.entered(memory, 0, now, &mut Vec::new());
    domain
}

pub(crate) const CPU: CpuPolicy = CpuPolicy {
    cr4_bits: 0x3F_F7FF,
    efer_bits: 0xD01,
    physical_address_bits: 39,
};

pub(crate) const LONG_MODE: Caller = Caller {
    cr0: 0x8000_0011,
    efer: 0x500,
    rflags: 2,
    cs_long: true,
    cs_big: false,
    cpl: 0,
};

pub(crate) const ARGUMENT: u64 = 0x8000;

/// A 64-bit guest with a domain around it.
pub(crate) struct Guest {
    pub(crate) memory: VecMemory,
    domain: Domain,
    effects: Vec<pvh_domain::Effect>,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), 1 << 20)]).expect("memory");
        let memory = memory.with_spare_frames(64);
        let domain = domain(&memory, NOW);
        let mut guest = Self {
            memory,
            domain,
            effects: Vec::new(),
        };
        // add_to_physmap: shared info at frame 1
        guest.put(&[0x7FF0_u64, 0, 1]);
        assert_eq!(guest.call(12, [7, ARGUMENT]), 0);
        guest
    }

    pub(crate) fn put(&self, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.write(Gpa(ARGUMENT), &bytes).expect("RAM");
    }

    /// From registers to the result, as a VMM does it.
    pub(crate) fn call(&mut self, number: u64, [a, b]: [u64; 2]) -> i64 {
        let registers = Registers {
            rax: number,
            rdi: a,
            rsi: b,
            ..Registers::default()
        };
        let call = Call::decode(&registers, &LONG_MODE).expect("a call");
        let io = LinearMemory::new(&self.memory, &PagingState::UNPAGED, &POLICY);
        let origin = Origin {
            vcpu: 0,
            io: &io,
            takes_interrupts: false,
            now: NOW,
        };
        let answer = self
            .domain
            .hypercall(&self.memory, &origin, call, &mut self.effects);
        self.effects.clear();
        match answer.outcome {
            Outcome::Return(result) => result,
            Outcome::Again(_) => unreachable!("none of these calls is so long"),
        }
    }
}

pub(crate) const NOW: Now = Now {
    system_ns: 5_000_000_000,
    tsc: 5_000_000_000,
    wall_ns: 1_700_000_000_000_000_000,
};
