//! The loader over rust-vmm's vm-memory: `GuestMemoryMmap` as Cloud Hypervisor and Firecracker use
//! it.
//!
//! `cargo run -p pvh-examples --bin loader-vm-memory [KERNEL]`; without a kernel, the demo guest.

use std::error::Error;

use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_loader::{Boot, Image, Method};
use pvh_memory::VmMemory;
use pvh_start_info::MemmapRange;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const LEN_BYTES: u64 = 512 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let image = match std::env::args_os().nth(1) {
        Some(path) => Image::open(path)?,
        None => Image::from_bytes(pvh_conformance::demo_image().to_vec())?,
    };
    let guest =
        GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), usize::try_from(LEN_BYTES)?)])?;
    let boot = Boot {
        memmap: vec![MemmapRange {
            start: Gpa(0),
            len_bytes: LEN_BYTES,
            kind: MemmapKind::RAM,
        }],
        ..Boot::default()
    };
    let loaded = image
        .plan(&boot)?
        .commit(Method::Copy, &VmMemory::new(guest.iter()))?;
    let magic: u32 = guest.read_obj(GuestAddress(loaded.entry.rbx))?;
    println!("entry {:#x}", loaded.entry.rip);
    println!("start info begins with {magic:#x}");
    Ok(())
}
