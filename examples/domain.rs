//! A Xen domain without a hypervisor: hypercalls of a guest that does not exist, and what comes of
//! them.
//!
//! `cargo run -p pvh-examples --bin domain`

use std::{error::Error, num::NonZeroU64};

use pvh_abi::{DomId, Gpa, sched::ShutdownReason};
use pvh_domain::{Config, Domain, Effect, MemoryConfig, Now, Origin};
use pvh_hypercall::{Call, Outcome, Width};
use pvh_memory::{GuestMemory, LinearMemory, PagingPolicy, PagingState, VecMemory};
use pvh_vcpu::CpuPolicy;

const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 39,
    is_amd: false,
    has_gib_pages: true,
    has_pse36: true,
};

/// The guest's only vCPU, and everything around it.
struct Machine {
    memory: VecMemory,
    domain: Domain,
    effects: Vec<Effect>,
}

impl Machine {
    fn new() -> Result<Self, Box<dyn Error>> {
        let memory = VecMemory::zeroed(&[(Gpa(0), 1 << 20)])?.with_spare_frames(16);
        let config = Config {
            domid: DomId(1),
            uuid: *b"a domain's  uuid",
            name: "example".into(),
            vcpus: 1,
            cpu: CpuPolicy {
                cr4_bits: 0x6f8,
                efer_bits: 0xd01,
                physical_address_bits: 39,
            },
            tsc_hz: NonZeroU64::new(1_000_000_000).ok_or("not 0")?,
            is_tsc_stable: true,
            memory_kib: 1024,
            memory: MemoryConfig {
                pages: 264,
                max_pages: 512,
                ..MemoryConfig::default()
            },
            may_log: true,
            xen: pvh_hypercall::XenVersion::V4_17,
        };
        let mut domain = Domain::new(config, &memory, Now::default())?;
        let mut effects = Vec::new();
        domain.entered(&memory, 0, Now::default(), &mut effects);
        Ok(Self {
            memory,
            domain,
            effects,
        })
    }

    /// Makes a hypercall as 64-bit code does, to its end.
    fn call(&mut self, number: u64, args: [u64; 5]) -> i64 {
        let io = LinearMemory::new(&self.memory, &PagingState::UNPAGED, &POLICY);
        let origin = Origin {
            vcpu: 0,
            io: &io,
            takes_interrupts: false,
            now: Now::default(),
        };
        let mut call = Call::new(Width::Native, number, args);
        loop {
            let answer = self
                .domain
                .hypercall(&self.memory, &origin, call, &mut self.effects);
            match answer.outcome {
                Outcome::Return(result) => return result,
                Outcome::Again(rest) => call = rest,
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut machine = Machine::new()?;
    let version = machine.call(17, [0; 5]); // xen_version
    println!("version {}.{}", version >> 16, version & 0xffff);

    machine.memory.write(Gpa(0x1000), b"hello from nowhere\n")?;
    machine.call(18, [0, 19, 0x1000, 0, 0]); // console_io(write)

    machine
        .memory
        .write(Gpa(0x2000), &ShutdownReason::POWEROFF.0.to_le_bytes())?;
    machine.memory.write(Gpa(0x2001), &[0; 3])?;
    println!(
        "shutdown answers {}",
        machine.call(29, [2, 0x2000, 0, 0, 0])
    ); // sched_op
    for effect in &machine.effects {
        match effect {
            Effect::Log(line) => println!("log: {}", String::from_utf8_lossy(line)),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
