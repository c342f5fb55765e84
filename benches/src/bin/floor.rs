//! The least that any VMM does between its start and the first byte of a guest: one thread, the system calls that
//! the devices of a machine need, its memory mapped, and nothing else.
//!
//! `floor DEVICES MEMORY_MIB IMAGE [INITRD]`, where DEVICES is `none`, `pc` (interrupt controllers and timer), `apic` (local APICs
//! alone) or `xen` (those, memory for ACPI tables and special pages, and the hypercall MSR), and IMAGE is one of [`pvh_bench::guest`]'s, whose place is known.
// UNSAFETY: memory is mapped and handed to KVM as C would do it; this program is the limit others are compared with.
#![allow(
    unsafe_code,
    clippy::expect_used,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "a bench may stop, and this one shows raw system calls in its own process"
)]

use std::{env, fs::File, io::Write, os::fd::AsRawFd, ptr};

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, Msrs, kvm_enable_cap, kvm_fpu, kvm_msr_entry,
    kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{
    Kvm, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuExit, VmFd,
};
use pvh_abi::Gpa;
use pvh_bench::guest::{FILE_OFFSET, PLACE};
use pvh_entry::EntryState;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let [_, devices, mib, image, initrd @ ..] = &arguments[..] else {
        unreachable!("floor DEVICES MEMORY_MIB IMAGE [INITRD]")
    };
    let len = mib
        .parse::<usize>()
        .expect("a size in MiB")
        .saturating_mul(1 << 20);
    let ram = map(ptr::null_mut(), len, None);
    let image = File::open(image).expect("the image opens");
    map_file(ram, PLACE, &image, FILE_OFFSET);
    if let [initrd] = initrd {
        let initrd = File::open(initrd).expect("the initrd opens");
        map_file(ram, INITRD_PLACE, &initrd, 0);
    }
    let kvm = Kvm::new().expect("/dev/kvm opens");
    let vm = kvm.create_vm().expect("a machine");
    vm.set_identity_map_address(0xFFFB_C000)
        .expect("an identity map");
    vm.set_tss_address(0xFFFB_D000)
        .expect("a task state segment");
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: len as u64,
        userspace_addr: ram.addr() as u64,
    };
    unsafe { vm.set_user_memory_region(region) }.expect("a memory slot");
    if devices == "xen" {
        add_pages(&vm, 1, 0xFC00_0000, 0x3000);
        add_pages(&vm, 2, 0xFEFF_8000, 0x8000);
    }
    make_devices(&vm, devices);
    let mut vcpu = vm.create_vcpu(0).expect("a vCPU");
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
    vcpu.set_cpuid2(&cpuid.expect("supported leaves"))
        .expect("leaves");
    let mtrr = kvm_msr_entry {
        index: 0x2FF,
        data: 0x806,
        ..Default::default()
    };
    let mtrr = Msrs::from_entries(&[mtrr]).expect("one register fits");
    vcpu.set_msrs(&mtrr).expect("an MSR");
    vcpu.set_fpu(&kvm_fpu::default()).expect("an FPU");
    let place = u32::try_from(PLACE).expect("the image is placed low");
    let entry = EntryState::pvh(place, Gpa(0x1000)).expect("an entry");
    let sregs = vcpu.get_sregs().expect("registers");
    vcpu.set_sregs(&entry.to_kvm_sregs(&sregs))
        .expect("segments");
    vcpu.set_regs(&entry.to_kvm_regs()).expect("registers");
    loop {
        match vcpu.run().expect("the guest runs") {
            VcpuExit::IoOut(0x3F8, byte) => std::io::stdout().write_all(byte).expect("a reader"),
            VcpuExit::IoOut(0x605, _) => std::process::exit(0),
            _ => {}
        }
    }
}

/// Gives the guest more memory.
fn add_pages(vm: &VmFd, slot: u32, at: u64, len: usize) {
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: at,
        memory_size: len as u64,
        userspace_addr: map(ptr::null_mut(), len, None).addr() as u64,
    };
    unsafe { vm.set_user_memory_region(region) }.expect("a memory slot");
}

fn make_devices(vm: &VmFd, devices: &str) {
    if devices == "pc" {
        vm.create_irq_chip().expect("interrupt controllers");
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        vm.create_pit2(pit).expect("a timer");
    }
    if devices == "xen" || devices == "apic" {
        let mut split = kvm_enable_cap {
            cap: kvm_bindings::KVM_CAP_SPLIT_IRQCHIP,
            ..Default::default()
        };
        split.args = [24, 0, 0, 0];
        vm.enable_cap(&split).expect("local APICs");
    }
    if devices == "xen" {
        let mut exits = kvm_enable_cap {
            cap: kvm_bindings::KVM_CAP_X86_USER_SPACE_MSR,
            ..Default::default()
        };
        exits.args = [kvm_bindings::KVM_MSR_EXIT_REASON_FILTER.into(), 0, 0, 0];
        vm.enable_cap(&exits).expect("exits of MSRs");
        let hypercall_page = MsrFilterRange {
            flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
            base: 0x4000_0000,
            msr_count: 1,
            bitmap: &[0],
        };
        let filter = vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[hypercall_page]);
        filter.expect("a filter of MSRs");
    }
}

fn map_file(ram: *mut u8, place: usize, file: &File, offset: u64) {
    let len = file
        .metadata()
        .expect("a length")
        .len()
        .saturating_sub(offset);
    let len = usize::try_from(len).expect("64 bits");
    map(ram.wrapping_add(place), len, Some((file, offset)));
}

/// Maps anonymous memory, or a file over it.
fn map(at: *mut u8, len: usize, file: Option<(&File, u64)>) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    let (flags, fd, offset) = match file {
        Some((file, offset)) => (flags | libc::MAP_FIXED, file.as_raw_fd(), offset),
        None => (flags | libc::MAP_ANONYMOUS, -1, 0),
    };
    let offset = libc::off_t::try_from(offset).expect("a small offset");
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let mapped = unsafe { libc::mmap(at.cast(), len, access, flags, fd, offset) };
    assert_ne!(mapped, libc::MAP_FAILED, "memory is mapped");
    mapped.cast()
}

const INITRD_PLACE: usize = 64 << 20;
