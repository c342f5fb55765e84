//! The time-stamp counter as a guest reads it, without asking KVM.

use super::{cpu::Vcpu, error::VcpuError};
use crate::host_cpu;

/// Reads a guest's time-stamp counter on any thread, without a call to the host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GuestClock {
    /// What the guest's counter is ahead of the host's.
    offset: u64,
}

impl GuestClock {
    /// Returns what the guest would read now.
    #[must_use]
    pub fn now(&self) -> u64 {
        host_cpu::time_stamp().wrapping_add(self.offset)
    }
}

impl Vcpu {
    /// Measures the vCPU's time-stamp counter against the host's. It holds for as long as the guest does not write
    /// its counter, on hosts whose counters agree and run at one rate; the vCPUs of a machine that was made in one go share
    /// one clock there.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM does not tell the counter.
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

    /// Returns the rate of the vCPU's time-stamp counter in kHz; `None` if KVM does not know it.
    #[must_use]
    pub fn tsc_khz(&self) -> Option<u32> {
        self.fd.get_tsc_khz().ok().filter(|&khz| khz != 0)
    }
}

const TSC_MSR: u32 = 0x10;

/// The one that took the shortest time is the one that nothing came between.
const MEASUREMENTS: usize = 8;
