//! Machines for guests of a few bytes.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{sync::Arc, thread, time::Duration};

use pvh_abi::{Gpa, GuestRange};
use pvh_entry::EntryState;
use pvh_kvm::{GuestRam, Kvm, Vcpu, Vm, VmConfig, VmEntry, VmExit};
use pvh_memory::GuestMemory;

/// The entry point of the guests.
pub(crate) const CODE: u32 = 0x10_0000;

/// The value of ebx at entry.
pub(crate) const START_INFO: Gpa = Gpa(0x9000);

/// Returns a machine of one vCPU with `code` at its entry point.
pub(crate) fn guest(code: &[u8]) -> (Vm, Vcpu) {
    machine(&VmConfig::new(1), 16 << 20, code)
}

/// Returns the machine that `config` describes with `code` at its entry point, and its vCPU 0,
/// ready to run.
pub(crate) fn machine(config: &VmConfig, ram_bytes: u64, code: &[u8]) -> (Vm, Vcpu) {
    let kvm = Kvm::open().unwrap();
    let ram = Arc::new(ram(ram_bytes));
    ram.write(Gpa(CODE.into()), code).unwrap();
    let vm = Vm::new(&kvm, config, ram).unwrap();
    let mut vcpu = vm.create_vcpu(0).unwrap();
    vcpu.set_entry(&EntryState::pvh(CODE, START_INFO).unwrap())
        .unwrap();
    kick_after_a_minute(&vcpu);
    (vm, vcpu)
}

/// Returns RAM with the hole below 4 GiB that a PVH domain has.
pub(crate) fn ram(size_bytes: u64) -> GuestRam {
    let low_bytes = size_bytes.min(0xFC00_0000);
    let high_bytes = size_bytes.saturating_sub(low_bytes);
    let ranges = [(0, low_bytes), (0x1_0000_0000, high_bytes)];
    let ranges = ranges.map(|(start, len_bytes)| GuestRange::new(Gpa(start), len_bytes));
    let ranges: Vec<_> = ranges
        .into_iter()
        .filter(|range| range.len_bytes > 0)
        .collect();
    GuestRam::with_ranges(&ranges, &[], 46).unwrap()
}

/// Resumes the vCPU. If the guest hangs, the test fails with `Interrupted`.
pub(crate) fn resume(vcpu: &mut Vcpu) -> VmExit {
    vcpu.run(VmEntry::Resume).unwrap()
}

/// Answers a read.
pub(crate) fn answer(vcpu: &mut Vcpu, bytes: &[u8]) -> VmExit {
    vcpu.run(VmEntry::Read(bytes)).unwrap()
}

/// Returns the exit of `out imm8, al`: one byte at a port.
pub(crate) fn out(port: u16, byte: u8) -> VmExit {
    VmExit::PortOut {
        port,
        size_bytes: 1,
        data: [byte][..].into(),
    }
}

pub(crate) fn u32_at(vm: &Vm, at: u64) -> u32 {
    let mut word = [0; 4];
    vm.ram().read(Gpa(at), &mut word).unwrap();
    u32::from_le_bytes(word)
}

/// Kicks the vCPU after a minute, so that a guest that hangs does not block its test.
pub(crate) fn kick_after_a_minute(vcpu: &Vcpu) {
    let kicker = vcpu.kicker();
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(60));
        let _ = kicker.kick();
    });
}
