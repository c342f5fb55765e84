//! Injects interrupts and NMIs, flushes the TLB, and reads and sets whether a vCPU runs or is
//! halted.

use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, kvm_mp_state,
    kvm_vcpu_events,
};

use super::{cpu::Vcpu, error::VcpuError};

/// What a vCPU does when it is run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Activity {
    /// It executes instructions.
    Running,
    /// It waits in the kernel, as after HLT, for an NMI or for an interrupt that RFLAGS.IF allows.
    Halted,
    /// It was never started, or got an INIT, and waits in the kernel for a start-up IPI.
    WaitingForSipi,
}

impl Activity {
    const fn from_kvm(state: u32) -> Self {
        match state {
            KVM_MP_STATE_RUNNABLE => Self::Running,
            KVM_MP_STATE_HALTED => Self::Halted,
            // KVM handles a pending INIT and SIPI before it reports the state, so this vCPU waits.
            _ => Self::WaitingForSipi,
        }
    }

    const fn to_kvm(self) -> u32 {
        match self {
            Self::Running => KVM_MP_STATE_RUNNABLE,
            Self::Halted => KVM_MP_STATE_HALTED,
            Self::WaitingForSipi => KVM_MP_STATE_UNINITIALIZED,
        }
    }
}

impl Vcpu {
    /// Injects an interrupt without the local APIC: no bit in IRR or ISR, no priority, no EOI. It
    /// wakes a halted vCPU.
    ///
    /// Call it after a run that returned [`VmExit::Interrupted`](crate::VmExit::Interrupted): after
    /// any other exit, KVM still has to finish an instruction. Returns whether the guest will take
    /// the interrupt when it is run next. It returns `false` and changes nothing while the guest
    /// cannot take it: RFLAGS.IF is clear, the instruction after STI or a write to ss has not run,
    /// an exception or another interrupt is pending, KVM has an instruction to finish, or the vCPU
    /// waits for a start-up IPI.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses.
    pub fn inject(&mut self, vector: u8) -> Result<bool, VcpuError> {
        if !self.is_settled {
            return Ok(false);
        }
        let activity = self.activity()?;
        if activity == Activity::WaitingForSipi {
            return Ok(false);
        }
        let registers = self.fd.get_regs();
        let registers = registers.map_err(self.host("KVM_GET_REGS"))?;
        let events = self.fd.get_vcpu_events();
        let events = events.map_err(self.host("KVM_GET_VCPU_EVENTS"))?;
        let Some(events) = with_interrupt(registers.rflags, &events, vector) else {
            return Ok(false);
        };
        let set = self.fd.set_vcpu_events(&events);
        set.map_err(self.host("KVM_SET_VCPU_EVENTS"))?;
        if activity == Activity::Halted {
            self.set_activity(Activity::Running)?;
        }
        Ok(true)
    }

    /// Sends a non-maskable interrupt.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses.
    pub fn nmi(&self) -> Result<(), VcpuError> {
        self.fd.nmi().map_err(self.host("KVM_NMI"))
    }

    /// Flushes the TLB of the vCPU before it runs again.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses.
    pub fn flush_tlb(&mut self) -> Result<(), VcpuError> {
        let before = self.fd.get_sregs();
        let before = before.map_err(self.host("KVM_GET_SREGS"))?;
        // KVM has no ioctl for this, but it flushes the TLB when CR4.PGE changes.
        let mut changed = before;
        changed.cr4 ^= CR4_PGE;
        for sregs in [changed, before] {
            let set = self.fd.set_sregs(&sregs);
            set.map_err(self.host("KVM_SET_SREGS"))?;
        }
        Ok(())
    }

    /// Returns what the vCPU does when it is run. KVM handles a pending INIT and start-up IPI
    /// first.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM cannot report it.
    pub fn activity(&self) -> Result<Activity, VcpuError> {
        let state = self.fd.get_mp_state();
        let state = state.map_err(self.host("KVM_GET_MP_STATE"))?;
        Ok(Activity::from_kvm(state.mp_state))
    }

    /// Tells whether the vCPU executes nothing more by itself: it executed HLT with interrupts off,
    /// or waits for a start-up IPI. Only an NMI or INIT could wake it.
    ///
    /// It costs one ioctl, and a second one for a halted vCPU. Call it after a run that returned
    /// [`VmExit::Interrupted`](crate::VmExit::Interrupted).
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM cannot report it.
    pub fn is_halted_for_good(&self) -> Result<bool, VcpuError> {
        match self.activity()? {
            Activity::Running => Ok(false),
            Activity::WaitingForSipi => Ok(true),
            Activity::Halted => {
                let registers = self.fd.get_regs();
                let registers = registers.map_err(self.host("KVM_GET_REGS"))?;
                Ok(registers.rflags & RFLAGS_IF == 0)
            }
        }
    }

    /// Sets what the vCPU does when it is run, for example wait as if it had executed HLT.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses, as it does without in-kernel local APICs.
    pub fn set_activity(&mut self, activity: Activity) -> Result<(), VcpuError> {
        let state = kvm_mp_state {
            mp_state: activity.to_kvm(),
        };
        let set = self.fd.set_mp_state(state);
        set.map_err(self.host("KVM_SET_MP_STATE"))
    }
}

/// Adds an interrupt to the pending events; `None` while the guest cannot take it.
fn with_interrupt(rflags: u64, now: &kvm_vcpu_events, vector: u8) -> Option<kvm_vcpu_events> {
    let is_busy = now.exception.injected != 0
        || now.exception.pending != 0
        || now.nmi.injected != 0
        || now.interrupt.injected != 0;
    if rflags & RFLAGS_IF == 0 || now.interrupt.shadow != 0 || is_busy {
        return None;
    }
    let mut events = *now;
    events.interrupt.injected = 1;
    events.interrupt.nr = vector;
    events.interrupt.soft = 0;
    // Other threads may have added an NMI or an INIT since the events were read. KVM replaces those
    // only if a flag says so; without flags it keeps them.
    events.flags = 0;
    Some(events)
}

const RFLAGS_IF: u64 = 1 << 9;
const CR4_PGE: u64 = 1 << 7;

#[cfg(test)]
mod tests {
    use super::*;

    const IF: u64 = 0x200;

    #[test]
    fn an_interrupt_is_added_and_no_other_event_is_set() {
        let now = kvm_vcpu_events {
            flags: 0xF,
            sipi_vector: 7,
            ..kvm_vcpu_events::default()
        };
        let events = with_interrupt(IF, &now, 0xF3).unwrap();
        let interrupt = events.interrupt;
        assert_eq!(
            (interrupt.injected, interrupt.nr, interrupt.soft),
            (1, 0xF3, 0)
        );
        assert_eq!(
            events.flags, 0,
            "KVM keeps an NMI or INIT that came meanwhile"
        );
    }

    #[test]
    fn an_interrupt_waits_for_rflags_if_the_shadow_and_pending_events() {
        assert!(with_interrupt(0x2, &kvm_vcpu_events::default(), 0xF3).is_none());
        let busy: [fn(&mut kvm_vcpu_events); 5] = [
            |now| now.interrupt.shadow = 1,
            |now| now.interrupt.injected = 1,
            |now| now.exception.injected = 1,
            |now| now.exception.pending = 1,
            |now| now.nmi.injected = 1,
        ];
        for set in busy {
            let mut now = kvm_vcpu_events::default();
            set(&mut now);
            assert!(with_interrupt(IF, &now, 0xF3).is_none(), "{now:?}");
        }
    }

    #[test]
    fn each_state_of_kvm_is_one_activity() {
        // KVM_MP_STATE_*: 0 runnable, 1 uninitialised, 2 INIT received, 3 halted, 4 SIPI received.
        let told = [0, 1, 2, 3, 4].map(Activity::from_kvm);
        let waiting = Activity::WaitingForSipi;
        let want = [
            Activity::Running,
            waiting,
            waiting,
            Activity::Halted,
            waiting,
        ];
        assert_eq!(told, want);
        let set = [Activity::Running, waiting, Activity::Halted].map(Activity::to_kvm);
        assert_eq!(set, [0, 1, 3]);
    }
}
