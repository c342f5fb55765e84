//! The floor: the least that any VMM must do between its start and the first byte of a guest. One
//! thread makes the system calls that the devices of a machine need, maps its memory, and does
//! nothing else.
// UNSAFETY: memory is mapped and handed to KVM as C would do it; this is the limit others are
// compared with.
#![allow(
    unsafe_code,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "a bench may stop, and this one shows raw system calls in its own process"
)]

use std::{fs::File, os::fd::AsRawFd, path::Path, ptr};

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, Msrs, kvm_enable_cap, kvm_fpu, kvm_msr_entry,
    kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{
    Kvm, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuExit, VcpuFd, VmFd,
};
use pvh_abi::Gpa;
use pvh_entry::EntryState;

use crate::guest::{FILE_OFFSET, PLACE};

/// The machine to build.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Plan<'a> {
    /// `none`, `pc` (interrupt controllers and timer), `apic` (local APICs only) or `xen` (local
    /// APICs, memory for ACPI tables and special pages, and the hypercall MSR).
    pub devices: &'a str,
    /// The size of the guest's memory.
    pub len: usize,
    /// The number of vCPUs; only the first runs.
    pub cpus: u64,
    /// An image of [`crate::guest`], whose address is known.
    pub image: &'a Path,
    /// The file that is mapped as a module.
    pub initrd: Option<&'a Path>,
}

/// A machine at its entry.
#[derive(Debug)]
pub struct Floor {
    vcpus: Vec<VcpuFd>,
    _vm: VmFd,
    _pages: Vec<Mapping>,
}

impl Floor {
    /// Builds the machine, with its first vCPU at the image's entry.
    #[must_use]
    pub fn start(plan: &Plan<'_>) -> Self {
        let ram = Mapping::new(plan.len);
        let image = File::open(plan.image).expect("the image opens");
        ram.map_file(PLACE, &image, FILE_OFFSET);
        if let Some(initrd) = plan.initrd {
            let initrd = File::open(initrd).expect("the initrd opens");
            ram.map_file(INITRD_PLACE, &initrd, 0);
        }
        let kvm = Kvm::new().expect("/dev/kvm opens");
        let vm = kvm.create_vm().expect("a machine");
        vm.set_identity_map_address(0xFFFB_C000)
            .expect("an identity map");
        vm.set_tss_address(0xFFFB_D000)
            .expect("a task state segment");
        let mut pages = Vec::new();
        for (slot, (at, len)) in ram_layout(plan.len).into_iter().enumerate() {
            let offset = if at == 0 { 0 } else { LOWMEM };
            add_slot(&vm, slot, at, ram.at.wrapping_add(offset), len);
        }
        if plan.devices == "xen" {
            for (slot, at, len) in [(2, 0xFC00_0000, 0x3000), (3, 0xFEFF_8000, 0x8000)] {
                let mapping = Mapping::new(len);
                add_slot(&vm, slot, at, mapping.at, len);
                pages.push(mapping);
            }
        }
        pages.push(ram);
        make_devices(&vm, plan.devices);
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let cpuid = cpuid.expect("supported leaves");
        let vcpus = (0..plan.cpus).map(|id| {
            let vcpu = vm.create_vcpu(id).expect("a vCPU");
            vcpu.set_cpuid2(&cpuid).expect("leaves");
            vcpu
        });
        let vcpus: Vec<VcpuFd> = vcpus.collect();
        if plan.devices == "xen" {
            filter_msrs(&vm);
        }
        enter(vcpus.first().expect("a first vCPU"));
        Self {
            vcpus,
            _vm: vm,
            _pages: pages,
        }
    }

    /// Runs the first vCPU to its next exit.
    pub fn run(&mut self) -> VcpuExit<'_> {
        let vcpu = self.vcpus.first_mut().expect("a first vCPU");
        vcpu.run().expect("the guest runs")
    }
}

fn enter(vcpu: &VcpuFd) {
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
}

/// Memory continues at 4 GiB after the hole.
fn ram_layout(len: usize) -> Vec<(u64, usize)> {
    match len.checked_sub(LOWMEM) {
        Some(rest @ 1..) => vec![(0, LOWMEM), (1 << 32, rest)],
        _ => vec![(0, len)],
    }
}

/// Gives memory to the guest.
fn add_slot(vm: &VmFd, slot: usize, guest_phys_addr: u64, at: *mut u8, len: usize) {
    let region = kvm_userspace_memory_region {
        slot: u32::try_from(slot).expect("few slots"),
        flags: 0,
        guest_phys_addr,
        memory_size: len as u64,
        userspace_addr: at.addr() as u64,
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
    }
}

/// Makes the MSR of the hypercall page an exit. Right after a memory slot it would wait for a slow
/// grace period.
fn filter_msrs(vm: &VmFd) {
    let hypercall_page = MsrFilterRange {
        flags: MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
        base: 0x4000_0000,
        msr_count: 1,
        bitmap: &[0],
    };
    let filter = vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &[hypercall_page]);
    filter.expect("a filter of MSRs");
}

/// Memory of this process that nothing has touched, unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    at: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let at = map(ptr::null_mut(), len, None);
        Self { at, len }
    }

    /// Reads the first bytes of a file into all of the memory, as `pread` does.
    pub fn read(&self, file: &File) {
        let mut done = 0;
        while let Some(left) = self.len.checked_sub(done).filter(|&left| left > 0) {
            let to = self.at.wrapping_add(done).cast();
            let offset = libc::off_t::try_from(done).expect("a small offset");
            let got = unsafe { libc::pread(file.as_raw_fd(), to, left, offset) };
            let got = usize::try_from(got).expect("the file is read");
            assert_ne!(got, 0, "the file is as long as the memory");
            done = done.saturating_add(got);
        }
    }

    /// Maps a file over a part of the memory.
    fn map_file(&self, place: usize, file: &File, offset: u64) {
        let len = file.metadata().expect("a length").len();
        let len = usize::try_from(len.saturating_sub(offset)).expect("64 bits");
        let end = place.checked_add(len).expect("64 bits");
        assert!(end <= self.len, "the file fits");
        map(self.at.wrapping_add(place), len, Some((file, offset)));
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
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

/// The highest end of low memory.
const LOWMEM: usize = 0xFC00_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_leaves_the_hole_below_4_gib_out() {
        assert_eq!(ram_layout(512 << 20), [(0, 512 << 20)]);
        assert_eq!(
            ram_layout(8 << 30),
            [(0, 0xFC00_0000), (0x1_0000_0000, 0x1_0400_0000)]
        );
    }
}
