//! The vCPUs of pvh-kvm behind the gate.

use std::error::Error;

use pvh_entry::EntryState;
use pvh_kvm::{Activity, GuestDebug, Vcpu, VcpuError, VmExit};

use crate::{
    gate::{Cpu, CpuError, Trap},
    machine::Traps,
};

impl Cpu for Vcpu {
    fn registers(&mut self) -> Result<EntryState, CpuError> {
        let registers = Self::registers(self).map_err(text)?;
        Ok(registers.state)
    }

    fn set_registers(&mut self, state: &EntryState) -> Result<(), CpuError> {
        Self::set_registers(self, state).map_err(text)
    }

    fn set_debug(&mut self, traps: &Traps, is_step: bool) -> Result<(), CpuError> {
        let debug = GuestDebug {
            is_step,
            ..debug(traps)
        };
        Self::set_debug(self, &debug).map_err(text)
    }

    fn inject_breakpoint(&mut self, traps: &Traps) -> Result<(), CpuError> {
        let debug = GuestDebug {
            injects_int3: true,
            ..debug(traps)
        };
        Self::set_debug(self, &debug).map_err(text)
    }

    fn activity(&mut self) -> &'static str {
        match Self::activity(self) {
            Ok(Activity::Running) => "running",
            Ok(Activity::Halted) => "halted",
            Ok(Activity::WaitingForSipi) => "waiting for its start",
            _ => "unknown",
        }
    }
}

impl Trap {
    /// Returns the trap of an exit, if it is one.
    ///
    /// A KVM that emulates the guest's instructions cannot emulate INT3, and reports that as an
    /// error: this is the debugger's INT3 too.
    #[must_use]
    pub fn of(exit: &VmExit, vcpu: &Vcpu) -> Option<Self> {
        match exit {
            VmExit::Debug { vector: 3, pc, .. } => Some(Self::Breakpoint(*pc)),
            VmExit::Debug { dr6, .. } => Some(Self::Debug(*dr6)),
            VmExit::InternalError(error) if error.instruction.first() == Some(&INT3) => {
                let registers = vcpu.registers().ok()?;
                let base = registers.state.cs.base;
                Some(Self::Breakpoint(registers.state.rip.wrapping_add(base)))
            }
            _ => None,
        }
    }
}

fn debug(traps: &Traps) -> GuestDebug {
    let mut debug = GuestDebug {
        takes_int3: !traps.software.is_empty(),
        ..GuestDebug::default()
    };
    let slots = debug.addresses.iter_mut().zip(&traps.hardware);
    for (number, (address, trap)) in slots.enumerate() {
        if let Some(trap) = trap {
            *address = trap.at;
            debug.dr7 |= trap.dr7_bits(number) | DR7_FIXED;
        }
    }
    debug
}

/// An error and its causes, in one line.
fn text(error: VcpuError) -> CpuError {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    CpuError(line)
}

const INT3: u8 = 0xCC;
/// Bit 10 of DR7 reads as 1.
const DR7_FIXED: u64 = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HardwareTrap, TrapAccess};

    #[test]
    fn traps_become_debug_registers() {
        let mut traps = Traps::default();
        assert_eq!(debug(&traps), GuestDebug::default());
        traps.software.push(0x1000);
        traps.hardware[1] = Some(HardwareTrap {
            at: 0x2000,
            len_bytes: 4,
            access: TrapAccess::Write,
        });
        let debug = debug(&traps);
        assert!(debug.takes_int3 && !debug.is_step);
        assert_eq!(debug.addresses, [0, 0x2000, 0, 0]);
        assert_eq!(debug.dr7, 0xD0_0408);
    }
}
