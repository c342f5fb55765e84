//! Reads a guest's time-stamp counter without a call to KVM.

use super::{cpu::Vcpu, error::VcpuError};
use crate::host_cpu;

/// Reads a guest's time-stamp counter on any thread, without a call to the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuestClock {
    /// The guest's counter minus the host's.
    offset: u64,
}

impl GuestClock {
    /// Returns the value that the guest would read now.
    #[must_use]
    pub fn now(&self) -> u64 {
        host_cpu::time_stamp().wrapping_add(self.offset)
    }
}

impl Vcpu {
    /// Measures the offset of the vCPU's time-stamp counter from the host's.
    ///
    /// The result stays valid until the guest writes its counter, on hosts whose CPUs have
    /// synchronised counters of one rate. On such hosts the vCPUs of a machine share one clock, if
    /// they were created together.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM cannot report the counter.
    pub fn clock(&self) -> Result<GuestClock, VcpuError> {
        let mut best: Option<(u64, u64)> = None;
        for _ in 0..MEASUREMENTS {
            let before = host_cpu::time_stamp();
            let guest = self.msr(TSC_MSR)?.unwrap_or(before);
            let took = host_cpu::time_stamp().wrapping_sub(before);
            let middle = before.wrapping_add(took / 2);
            let offset = guest.wrapping_sub(middle);
            if best.is_none_or(|(shortest, _)| took < shortest) {
                best = Some((took, offset));
            }
        }
        let offset = best.map_or(0, |(_, offset)| offset);
        Ok(GuestClock { offset })
    }

    /// Returns the frequency of the vCPU's time-stamp counter in kHz; `None` if KVM does not know
    /// it.
    #[must_use]
    pub fn tsc_khz(&self) -> Option<u32> {
        self.fd.get_tsc_khz().ok().filter(|&khz| khz != 0)
    }
}

const TSC_MSR: u32 = 0x10;

/// The shortest measurement is used: an interruption makes a measurement longer.
const MEASUREMENTS: usize = 8;
