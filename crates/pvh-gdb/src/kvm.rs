//! The vCPUs of pvh-kvm behind the gate.

use pvh_entry::EntryState;
use pvh_kvm::{Activity, GuestDebug, Vcpu, VcpuError, VmExit};

use crate::{
    gate::{Cpu, Gate, Trap},
    machine::Traps,
};

impl Cpu for Vcpu {
    type Error = VcpuError;

    fn registers(&mut self) -> Result<EntryState, VcpuError> {
        Self::registers(self).map(|registers| registers.state)
    }

    fn set_registers(&mut self, state: &EntryState) -> Result<(), VcpuError> {
        Self::set_registers(self, state)
    }

    fn set_debug(&mut self, traps: &Traps, is_step: bool) -> Result<(), VcpuError> {
        let debug = GuestDebug {
            is_step,
            holds_interrupts: true,
            ..debug(traps)
        };
        Self::set_debug(self, &debug)
    }

    fn inject_breakpoint(&mut self, traps: &Traps) -> Result<(), VcpuError> {
        let debug = GuestDebug {
            injects_int3: true,
            ..debug(traps)
        };
        Self::set_debug(self, &debug)
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

impl Gate {
    /// Handles an exit of a vCPU, on its thread, if it is the debugger's; `None` if it is not.
    ///
    /// A KVM that emulates the guest's instructions cannot emulate INT3, and reports an error: that
    /// is a breakpoint too, if the debugger has set one there.
    ///
    /// # Errors
    ///
    /// Those of [`pass`](Self::pass).
    pub fn handle(&self, vcpu: &mut Vcpu, exit: &VmExit) -> Option<Result<(), VcpuError>> {
        let trap = match exit {
            VmExit::Debug { vector: 3, pc, .. } => Trap::Breakpoint(*pc),
            VmExit::Debug { dr6, .. } => Trap::Debug(*dr6),
            VmExit::InternalError(error) if error.instruction.first() == Some(&INT3) => {
                let state = Vcpu::registers(vcpu).ok()?.state;
                let trap = Trap::Breakpoint(state.rip.wrapping_add(state.cs.base));
                Some(trap).filter(|trap| self.is_own(*trap))?
            }
            _ => return None,
        };
        Some(self.trapped(vcpu.index(), vcpu, trap))
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
