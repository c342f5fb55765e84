//! A Xen domain over rust-vmm's vm-memory, as another hypervisor has it: the guest adds a frame in
//! a window beside its RAM, and gives a frame of its RAM back.
//!
//! `cargo run -p pvh-examples --bin domain-vm-memory`

use std::{error::Error, num::NonZeroU64};

use pvh_abi::{DomId, Gpa};
use pvh_domain::{Config, Domain, MemoryConfig, Now, Origin};
use pvh_hypercall::{Call, Outcome, Width, XenVersion};
use pvh_memory::{Frames, GuestMemory, LinearMemory, Pages, PagingPolicy, PagingState, VmMemory};
use pvh_vcpu::CpuPolicy;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// 1 MiB of RAM, a window of 1 MiB in the hole below 4 GiB, and the special pages, which the domain
/// adds itself.
const RAM_FRAMES: u64 = 0x100;
const RAM: std::ops::Range<u64> = 0..RAM_FRAMES;
const WINDOW_FRAME: u64 = 0xF_0000;
const SPECIAL_FRAME: u64 = 0xF_EFF8;

const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 39,
    is_amd: false,
    has_gib_pages: true,
    has_pse36: true,
};

fn config() -> Result<Config, Box<dyn Error>> {
    Ok(Config {
        domid: DomId(1),
        uuid: *b"a domain's  uuid",
        name: "example".into(),
        vcpus: 1,
        xen: XenVersion::V4_17,
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
    })
}

/// Makes a memory_op as 64-bit code does, to its end; its argument is at 0x1000.
fn memory_op<M: Frames>(domain: &mut Domain, memory: &M, op: u64) -> i64 {
    let io = LinearMemory::new(memory, &PagingState::UNPAGED, &POLICY);
    let origin = Origin {
        vcpu: 0,
        io: &io,
        takes_interrupts: false,
        now: Now::default(),
    };
    let mut call = Call::new(Width::Native, 12, [op, 0x1000, 0, 0, 0]);
    loop {
        match domain
            .hypercall(memory, &origin, call, &mut Vec::new())
            .outcome
        {
            Outcome::Return(result) => return result,
            Outcome::Again(rest) => call = rest,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // The hypervisor gives both to the guest, once: no memory slot changes afterwards.
    let ranges = [
        (0, 1 << 20),
        (WINDOW_FRAME << 12, 1 << 20),
        (SPECIAL_FRAME << 12, 8 << 12),
    ];
    let ranges = ranges.map(|(at, len)| (GuestAddress(at), len));
    let ram = GuestMemoryMmap::<()>::from_ranges(&ranges)?;
    let windows = [
        WINDOW_FRAME..WINDOW_FRAME + 0x100,
        SPECIAL_FRAME..SPECIAL_FRAME + 8,
    ];
    let frames = std::array::from_ref(&RAM);
    let memory = Pages::new(VmMemory::new(ram.iter()), frames, &windows)?;
    let mut domain = Domain::new(config()?, &memory, Now::default())?;
    domain.entered(&memory, 0, Now::default(), &mut Vec::new());

    // struct xen_add_to_physmap: DOMID_SELF, size, the space of the shared info, index, frame
    let mut argument = [0_u8; 24];
    argument[..2].copy_from_slice(&0x7ff0_u16.to_le_bytes());
    argument[16..].copy_from_slice(&WINDOW_FRAME.to_le_bytes());
    memory.write(Gpa(0x1000), &argument)?;
    let added = memory_op(&mut domain, &memory, 7);
    let at = Gpa(WINDOW_FRAME << 12);
    println!(
        "add_to_physmap answers {added}; RAM there: {}",
        memory.is_ram(at, 4096)
    );

    // struct xen_memory_reservation: a list at 0x2000 with frame 0x80, one extent of order 0
    memory.write(Gpa(0x2000), &0x80_u64.to_le_bytes())?;
    let mut argument = [0_u8; 32];
    argument[..8].copy_from_slice(&0x2000_u64.to_le_bytes());
    argument[8] = 1;
    argument[24..26].copy_from_slice(&0x7ff0_u16.to_le_bytes());
    memory.write(Gpa(0x1000), &argument)?;
    let given = memory_op(&mut domain, &memory, 1);
    let at = Gpa(0x80 << 12);
    println!(
        "decrease_reservation answers {given}; RAM there: {}",
        memory.is_ram(at, 4096)
    );
    Ok(())
}
