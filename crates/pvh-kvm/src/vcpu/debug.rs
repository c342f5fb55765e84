//! Debugging of a guest: breakpoints, steps, and registers that a debugger sets.

use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_SINGLESTEP,
    KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, kvm_guest_debug, kvm_guest_debug_arch,
};
use pvh_entry::EntryState;

use super::{cpu::Vcpu, error::VcpuError};

/// What KVM watches for while a vCPU runs. Each hit is a [`VmExit::Debug`](crate::VmExit::Debug).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "what KVM can watch for")]
pub struct GuestDebug {
    /// The linear addresses of the four debug registers; those that `dr7` does not enable are not
    /// used.
    pub addresses: [u64; 4],
    /// DR7: which of the four are enabled, and for which accesses. 0 leaves the debug registers to
    /// the guest.
    pub dr7: u64,
    /// INT3 exits, instead of being delivered to the guest.
    pub takes_int3: bool,
    /// Each run stops after one instruction.
    pub is_step: bool,
    /// Interrupts are held back during a step, where KVM can (Linux 5.16).
    pub holds_interrupts: bool,
    /// The next run delivers a breakpoint exception to the guest: an INT3 of its own was taken.
    pub injects_int3: bool,
}

impl GuestDebug {
    /// Returns KVM's flags, without those that an old KVM does not know.
    const fn control(&self) -> u32 {
        let mut control = 0;
        if self.dr7 != 0 {
            control |= KVM_GUESTDBG_USE_HW_BP;
        }
        if self.takes_int3 {
            control |= KVM_GUESTDBG_USE_SW_BP;
        }
        if self.is_step {
            control |= KVM_GUESTDBG_SINGLESTEP;
        }
        if self.injects_int3 {
            control |= KVM_GUESTDBG_INJECT_BP;
        }
        if control == 0 {
            return 0;
        }
        control | KVM_GUESTDBG_ENABLE
    }

    const fn to_kvm(self, control: u32) -> kvm_guest_debug {
        let [a, b, c, d] = self.addresses;
        kvm_guest_debug {
            control,
            pad: 0,
            arch: kvm_guest_debug_arch {
                debugreg: [a, b, c, d, 0, 0, 0, self.dr7],
            },
        }
    }
}

impl Vcpu {
    /// Sets what KVM watches for from the next run on. The default watches for nothing, and gives
    /// the guest its debug registers back.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses.
    pub fn set_debug(&mut self, debug: &GuestDebug) -> Result<(), VcpuError> {
        let control = debug.control();
        if debug.is_step && debug.holds_interrupts {
            let quiet = debug.to_kvm(control | KVM_GUESTDBG_BLOCKIRQ);
            match self.fd.set_guest_debug(&quiet) {
                // KVM before Linux 5.16 does not know the flag.
                Err(error) if error.errno() == libc::EINVAL => {}
                other => return other.map_err(self.host(SET_GUEST_DEBUG)),
            }
        }
        let set = self.fd.set_guest_debug(&debug.to_kvm(control));
        set.map_err(self.host(SET_GUEST_DEBUG))
    }

    /// Sets the registers of a vCPU that is between two runs, and leaves alone what it does: a vCPU
    /// that waits for its start-up IPI goes on waiting.
    ///
    /// The debug registers are not set. A hypercall that is still unanswered gets no result.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses a register; those before it have been set.
    pub fn set_registers(&mut self, state: &EntryState) -> Result<(), VcpuError> {
        self.prepare()?;
        let now = self.registers()?.state;
        self.pending = self.pending.after_new_registers();
        if !has_same_system_registers(&now, state) {
            let base = self.fd.get_sregs();
            let base = base.map_err(self.host("KVM_GET_SREGS"))?;
            let sregs = self.fd.set_sregs(&state.to_kvm_sregs(&base));
            sregs.map_err(self.host("KVM_SET_SREGS"))?;
        }
        let regs = self.fd.set_regs(&state.to_kvm_regs());
        regs.map_err(self.host("KVM_SET_REGS"))
    }
}

/// Compares all that KVM_SET_SREGS would set.
fn has_same_system_registers(a: &EntryState, b: &EntryState) -> bool {
    let system = |s: &EntryState| {
        let control = [s.cr0, s.cr2, s.cr3, s.cr4, s.efer];
        let segments = [s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.tr, s.ldtr];
        (control, segments, s.gdtr, s.idtr)
    };
    system(a) == system(b)
}

const SET_GUEST_DEBUG: &str = "KVM_SET_GUEST_DEBUG";

#[cfg(test)]
mod tests {
    use super::*;

    /// linux/kvm.h: ENABLE 1, SINGLESTEP 2; asm/kvm.h: USE_SW_BP 0x10000, USE_HW_BP 0x20000,
    /// INJECT_BP 0x80000.
    #[test]
    fn the_flags_are_those_of_the_kernel_header() {
        let debug = GuestDebug::default();
        assert_eq!(debug.control(), 0, "the guest keeps its debug registers");
        let cases = [
            (GuestDebug { dr7: 2, ..debug }, 0x2_0001),
            (
                GuestDebug {
                    takes_int3: true,
                    ..debug
                },
                0x1_0001,
            ),
            (
                GuestDebug {
                    is_step: true,
                    ..debug
                },
                0x3,
            ),
            (
                GuestDebug {
                    injects_int3: true,
                    ..debug
                },
                0x8_0001,
            ),
        ];
        for (debug, want) in cases {
            assert_eq!(debug.control(), want, "{debug:?}");
        }
        let debug = GuestDebug {
            addresses: [1, 2, 3, 4],
            dr7: 0x400,
            ..debug
        };
        let kvm = debug.to_kvm(5);
        assert_eq!(kvm.control, 5);
        assert_eq!(kvm.arch.debugreg, [1, 2, 3, 4, 0, 0, 0, 0x400]);
    }
}
