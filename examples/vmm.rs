//! A VMM on kvm-ioctls and vm-memory alone, with three small crates for the ABI: pvh-elfnote reads
//! the kernel, pvh-start-info builds what the guest reads, pvh-entry says how it is entered.
//!
//! `cargo run -p pvh-examples --bin vmm [KERNEL [COMMAND LINE]]`; without a kernel, the demo guest.
//!
//! UNSAFETY: KVM_SET_USER_MEMORY_REGION hands host memory to KVM, which kvm-ioctls leaves unsafe.
#![expect(unsafe_code, reason = "KVM is given host memory")]

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit};
use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_elfnote::{Header, scan};
use pvh_entry::EntryState;
use pvh_start_info::{Builder, Generation, MemmapRange};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const RAM_BYTES: u64 = 64 << 20;
/// Below 640 KiB, where no kernel lies.
const START_INFO: Gpa = Gpa(0x6000);
const COM1: u16 = 0x3f8;
/// The line status register: always ready to send.
const COM1_STATUS: u16 = 0x3fd;

/// Copies the kernel and the start info into guest memory; returns the registers at entry.
fn load(
    kernel: &[u8],
    cmdline: &[u8],
    ram: &GuestMemoryMmap,
) -> Result<EntryState, Box<dyn Error>> {
    let entry = scan(kernel)?.require_entry()?;
    let mut has_entry = false;
    for load in Header::read(kernel)?.loads(kernel, RAM_BYTES) {
        let load = load?;
        has_entry |= load.contains(entry);
        let bytes = kernel
            .get(usize::try_from(load.offset)?..)
            .unwrap_or_default();
        let bytes = bytes
            .get(..usize::try_from(load.file_bytes)?)
            .unwrap_or_default();
        ram.write_slice(bytes, GuestAddress(load.gpa.0))?; // the rest is zero already
    }
    if !has_entry {
        return Err("the entry point lies in no segment".into());
    }
    let map = [MemmapRange {
        start: Gpa(0),
        len_bytes: RAM_BYTES,
        kind: MemmapKind::RAM,
    }];
    let mut block = [0; 4096];
    let len = Builder::new(Generation::V1)
        .cmdline(cmdline)
        .memmap(&map)
        .write(START_INFO, &mut block)?;
    ram.write_slice(
        block.get(..len).unwrap_or_default(),
        GuestAddress(START_INFO.0),
    )?;
    Ok(EntryState::pvh(entry, START_INFO)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let kernel = match env::args_os().nth(1) {
        Some(path) => fs::read(path)?,
        None => pvh_conformance::demo_image().to_vec(),
    };
    let cmdline = env::args().nth(2).unwrap_or_default();
    let ram =
        GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), usize::try_from(RAM_BYTES)?)])?;
    let entry = load(&kernel, cmdline.as_bytes(), &ram)?;

    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    vm.set_tss_address(0xfffb_d000)?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: RAM_BYTES,
        userspace_addr: ram.get_host_address(GuestAddress(0))? as u64,
    };
    // SAFETY: the region is all of `ram`'s mapping, which outlives the VM and its vCPU, and no
    // reference into it exists while the guest runs.
    unsafe { vm.set_user_memory_region(region)? };
    let mut vcpu = vm.create_vcpu(0)?;
    vcpu.set_cpuid2(&kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?)?;
    vcpu.set_msrs(&Msrs::from_entries(&entry.to_kvm_msrs()).map_err(|_| "one MSR is too many")?)?;
    vcpu.set_sregs(&entry.to_kvm_sregs(&vcpu.get_sregs()?))?;
    vcpu.set_regs(&entry.to_kvm_regs())?;

    let mut output = io::stdout().lock();
    loop {
        match vcpu.run()? {
            VcpuExit::IoOut(COM1, bytes) => output.write_all(bytes)?,
            VcpuExit::IoIn(COM1_STATUS, bytes) => bytes.fill(0x60),
            VcpuExit::IoIn(_, bytes) => bytes.fill(0xff),
            VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..) => {}
            VcpuExit::MmioRead(_, bytes) => bytes.fill(0xff),
            exit => {
                let how = format!("{exit:?}");
                writeln!(output, "the guest ended: {how}")?;
                return Ok(());
            }
        }
    }
}
