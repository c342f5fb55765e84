//! Sets a vCPU's registers, CPUID leaves, MSRs and FPU, and reads its registers.

use std::io;

use kvm_bindings::{CpuId, Msrs, kvm_fpu, kvm_msr_entry};
use pvh_entry::{EntryState, MTRR_DEF_TYPE, MTRR_DEF_TYPE_MSR};

use super::{cpu::Vcpu, error::VcpuError, events::Activity, registers::Registers};
use crate::{CpuidLeaf, vm::limits::ram_end_above};

impl Vcpu {
    /// Sets the registers to `state` and makes the vCPU ready to run.
    ///
    /// Everything outside the state keeps its value: FPU, MTRRs, and the local APIC, which is
    /// enabled at 0xFEE0_0000 after creation. A hypercall that is still unanswered gets no result.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses a register.
    pub fn set_entry(&mut self, state: &EntryState) -> Result<(), VcpuError> {
        self.prepare()?;
        self.pending = self.pending.after_new_registers();
        let base = self.fd.get_sregs();
        let base = base.map_err(self.host("KVM_GET_SREGS"))?;
        let sregs = self.fd.set_sregs(&state.to_kvm_sregs(&base));
        sregs.map_err(self.host("KVM_SET_SREGS"))?;
        let regs = self.fd.set_regs(&state.to_kvm_regs());
        regs.map_err(self.host("KVM_SET_REGS"))?;
        let debug = self.fd.set_debug_regs(&state.to_kvm_debugregs());
        debug.map_err(self.host("KVM_SET_DEBUGREGS"))?;
        self.set_activity(Activity::Running)
    }

    /// Returns the registers, for a crash report.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM cannot report them.
    pub fn registers(&self) -> Result<Registers, VcpuError> {
        let regs = self.fd.get_regs();
        let regs = regs.map_err(self.host("KVM_GET_REGS"))?;
        let sregs = self.fd.get_sregs();
        let sregs = sregs.map_err(self.host("KVM_GET_SREGS"))?;
        let debug = self.fd.get_debug_regs();
        let debug = debug.map_err(self.host("KVM_GET_DEBUGREGS"))?;
        Ok(Registers::new(&regs, &sregs, &debug))
    }

    /// Sets CPUID, MSRs and FPU, once.
    ///
    /// This is done at the entry state or the first run and not at creation, so that the caller can
    /// set other leaves before, and so that vCPUs which the guest starts do it on their own
    /// threads.
    pub(super) fn prepare(&mut self) -> Result<(), VcpuError> {
        if self.is_prepared {
            return Ok(());
        }
        self.set_cpuid()?;
        self.set_msrs()?;
        let fpu = self.fd.set_fpu(&reset_fpu());
        fpu.map_err(self.host("KVM_SET_FPU"))?;
        self.is_prepared = true;
        Ok(())
    }

    /// Refuses RAM that this vCPU cannot address: KVM may allow fewer address bits than the
    /// processor.
    pub(super) fn check_address_bits(&self) -> Result<(), VcpuError> {
        let leaves = self.vm.host.cpuid();
        let leaves = leaves.map_err(self.host("KVM_GET_SUPPORTED_CPUID"))?;
        let sizes = leaves.iter().find(|leaf| leaf.function == ADDRESS_SIZES);
        let address_bits = sizes.map_or(36, |leaf| leaf.eax.to_le_bytes()[0]);
        let ranges = self.vm.vm.ram().ram_ranges();
        match ram_end_above(&ranges, address_bits) {
            Some(end) => Err(VcpuError::RamTooHigh {
                index: self.index,
                end,
                address_bits,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn set_cpuid(&self) -> Result<(), VcpuError> {
        let entries: Vec<_> = self.cpuid().into_iter().map(CpuidLeaf::to_kvm).collect();
        let cpuid = CpuId::from_entries(&entries);
        let cpuid = cpuid.map_err(|_| LIST_TOO_LONG);
        let cpuid = cpuid.map_err(self.host("listing CPUID leaves"))?;
        let set = self.fd.set_cpuid2(&cpuid);
        set.map_err(self.host("KVM_SET_CPUID2"))
    }

    /// Sets the MTRRs as the ABI demands, and enables fast strings, as firmware does.
    fn set_msrs(&self) -> Result<(), VcpuError> {
        self.set_msr(MTRR_DEF_TYPE_MSR, MTRR_DEF_TYPE)?;
        match self.msr(MISC_ENABLE)? {
            Some(value) => self.set_msr(MISC_ENABLE, value | FAST_STRINGS),
            None => Ok(()),
        }
    }

    /// Returns the value of an MSR; `None` if KVM does not know it.
    pub(super) fn msr(&self, index: u32) -> Result<Option<u64>, VcpuError> {
        let mut msrs = self.msr_list(index, 0)?;
        let read = self.fd.get_msrs(&mut msrs);
        let read = read.map_err(self.host("KVM_GET_MSRS"))?;
        Ok(msrs.as_slice().iter().take(read).map(|msr| msr.data).next())
    }

    fn set_msr(&self, msr: u32, value: u64) -> Result<(), VcpuError> {
        let written = self.fd.set_msrs(&self.msr_list(msr, value)?);
        match written.map_err(self.host("KVM_SET_MSRS"))? {
            1 => Ok(()),
            _ => Err(VcpuError::Msr {
                index: self.index,
                msr,
                value,
            }),
        }
    }

    fn msr_list(&self, index: u32, data: u64) -> Result<Msrs, VcpuError> {
        let entry = kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        };
        let msrs = Msrs::from_entries(&[entry]).map_err(|_| LIST_TOO_LONG);
        msrs.map_err(self.host("listing MSRs"))
    }
}

/// Returns the FPU after reset (not after FNINIT): control word 0x40, all tags valid.
///
/// KVM creates a vCPU with MXCSR 0x1F80, and KVM_SET_FPU does not set it.
fn reset_fpu() -> kvm_fpu {
    kvm_fpu {
        fcw: 0x40,
        ftwx: 0xFF,
        ..kvm_fpu::default()
    }
}

const LIST_TOO_LONG: io::ErrorKind = io::ErrorKind::InvalidInput;

/// The CPUID leaf with the widths of addresses.
const ADDRESS_SIZES: u32 = 0x8000_0008;

const MISC_ENABLE: u32 = 0x1A0;

/// Bit 0 of IA32_MISC_ENABLE: without it, Linux does not use fast string instructions.
const FAST_STRINGS: u64 = 1;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pvh_abi::Gpa;
    use pvh_entry::EntryState;

    use crate::{GuestRam, Kvm, Vm, VmConfig};

    /// SDM volume 3, state after reset: control word 0x40, tags 0x5555 (nothing empty), MXCSR
    /// 0x1F80.
    ///
    /// The test reads KVM's state and not the guest's: a KVM that emulates FPU instructions may run
    /// them on another FPU.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn every_vcpu_has_the_fpu_state_of_a_reset() {
        let kvm = Kvm::open().unwrap();
        let ram = Arc::new(GuestRam::new(0x10_0000).unwrap());
        let vm = Vm::new(&kvm, &VmConfig::new(2), ram).unwrap();
        let mut vcpus = [0, 1].map(|index| vm.create_vcpu(index).unwrap());
        let state = EntryState::pvh(0x1000, Gpa(0x2000)).unwrap();
        vcpus[0].set_entry(&state).unwrap();
        // The first run does this too, but it would wait for a start-up interrupt.
        vcpus[1].prepare().unwrap();
        for vcpu in vcpus {
            let fpu = vcpu.fd.get_fpu().unwrap();
            assert_eq!((fpu.fcw, fpu.ftwx), (0x40, 0xFF));
            let mxcsr = vcpu.fd.get_xsave().unwrap().region[6];
            assert_eq!(mxcsr, 0x1F80);
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn every_vcpu_has_the_msrs_of_the_policy() {
        let kvm = Kvm::open().unwrap();
        let ram = Arc::new(GuestRam::new(0x10_0000).unwrap());
        let vm = Vm::new(&kvm, &VmConfig::new(2), ram).unwrap();
        for index in [0, 1] {
            let mut vcpu = vm.create_vcpu(index).unwrap();
            vcpu.prepare().unwrap();
            assert_eq!(vcpu.msr(0x2FF).unwrap(), Some(0x806), "MTRR default type");
            let misc = vcpu.msr(0x1A0).unwrap().map(|value| value & 1);
            assert_eq!(misc, Some(1), "fast strings");
            assert_eq!(vcpu.msr(0x1234_5678).unwrap(), None, "an unknown MSR");
        }
    }
}
