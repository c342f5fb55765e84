//! Time as a guest reads it: `vcpu_time_info`, known as pvclock, and the wallclock
//! (xen/include/public/xen.h).

use core::num::NonZeroU64;

use pvh_memory::{GuestMemory, WordOp};

use crate::parts::spot::Spot;

/// Flag of [`TimeInfo`]: TSCs of all vCPUs agree, so that no check between vCPUs is needed.
#[doc(alias = "XEN_PVCLOCK_TSC_STABLE_BIT")]
pub const TSC_STABLE: u8 = 1;

/// Flag of [`TimeInfo`]: the guest was stopped.
#[doc(alias = "XEN_PVCLOCK_GUEST_STOPPED")]
pub const GUEST_STOPPED: u8 = 2;

/// The place of `vcpu_time_info` in `vcpu_info`, in both layouts.
pub const TIME_INFO_OFFSET: u64 = 32;

/// How TSC ticks become nanoseconds: shifted first, then multiplied by a fraction of 2^32.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TscScale {
    /// `tsc_to_system_mul`: 2^31 or more, so never 0, which guests divide by.
    pub multiplier: u32,
    /// `tsc_shift`: to the left, or to the right if negative.
    pub shift: i8,
}

impl TscScale {
    /// Computes the scale of a TSC that ticks `ticks_per_second` times a second.
    ///
    /// The rate is shifted until it lies above 10^9 and not above 2 * 10^9; the multiplier is then
    /// 10^9 * 2^32 divided by it, rounded down, and always fits.
    #[must_use]
    pub fn of(ticks_per_second: NonZeroU64) -> Self {
        let mut rate = ticks_per_second.get();
        let mut shift = 0_i8;
        while rate > NS_PER_SECOND.saturating_mul(2) {
            rate >>= 1;
            shift = shift.saturating_sub(1);
        }
        while rate <= NS_PER_SECOND {
            rate = rate.saturating_mul(2);
            shift = shift.saturating_add(1);
        }
        let quotient = (NS_PER_SECOND << 32).checked_div(rate).unwrap_or(u64::MAX);
        Self {
            multiplier: u32::try_from(quotient).unwrap_or(u32::MAX),
            shift,
        }
    }

    /// Converts ticks to nanoseconds, as a guest does it.
    #[must_use]
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        let by = u32::from(self.shift.unsigned_abs());
        let shifted = if self.shift < 0 {
            ticks.checked_shr(by).unwrap_or(0)
        } else {
            ticks.checked_shl(by).unwrap_or(0)
        };
        let product = u128::from(shifted).saturating_mul(u128::from(self.multiplier));
        u64::try_from(product >> 32).unwrap_or(u64::MAX)
    }
}

/// What `vcpu_time_info` says: system time at one value of the guest's TSC, and how to go on from
/// there.
#[doc(alias = "vcpu_time_info")]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeInfo {
    /// The guest's TSC.
    pub tsc_timestamp: u64,
    /// The system time then, in nanoseconds.
    pub system_time_ns: u64,
    /// The scale from ticks to nanoseconds.
    pub scale: TscScale,
    /// [`TSC_STABLE`], [`GUEST_STOPPED`].
    pub flags: u8,
}

impl TimeInfo {
    /// Returns the system time at a value of the guest's TSC, as a guest computes it.
    #[must_use]
    pub fn system_time_at(&self, tsc: u64) -> u64 {
        let ticks = tsc.wrapping_sub(self.tsc_timestamp);
        self.system_time_ns
            .wrapping_add(self.scale.nanoseconds(ticks))
    }

    /// Writes it into a `vcpu_info`: its version odd, then the fields, then its version even.
    ///
    /// Each word is written by a sequentially consistent operation, so a guest that reads an even
    /// version twice the same has read the fields in between. The version goes on from what is
    /// found there; the new one is returned, or `None` if the guest's memory there is gone.
    pub fn write(&self, memory: &dyn GuestMemory, vcpu_info: Spot<'_>) -> Option<u32> {
        let version = vcpu_info.offset(TIME_INFO_OFFSET);
        let before = version.word(memory, WordOp::Load)?;
        let during = version_during(before);
        version.word(memory, WordOp::Swap(during));
        version.offset(4).put_words(memory, &self.words());
        version.word(memory, WordOp::Swap(version_after(during)));
        Some(version_after(during))
    }

    /// Writes it into an area that is registered by linear address
    /// (`VCPUOP_register_vcpu_time_memory_area`), through `put(offset, bytes)`: three writes, in
    /// this order, whose failures are the caller's to ignore.
    ///
    /// `version` is the even one that the `vcpu_info` of the same vCPU has after
    /// [`write`](Self::write).
    pub fn write_area(&self, version: u32, mut put: impl FnMut(u64, &[u8])) {
        let mut bytes = [0; TIME_INFO_BYTES];
        let words = core::iter::once(version.wrapping_sub(1)).chain(self.words());
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        put(0, &version.wrapping_sub(1).to_le_bytes());
        put(0, &bytes);
        put(0, &version.to_le_bytes());
    }

    /// The words from offset 4 on.
    fn words(&self) -> [u32; 7] {
        let [tsc_low, tsc_high] = halves(self.tsc_timestamp);
        let [ns_low, ns_high] = halves(self.system_time_ns);
        let last = [self.scale.shift.cast_unsigned(), self.flags, 0, 0];
        [
            0,
            tsc_low,
            tsc_high,
            ns_low,
            ns_high,
            self.scale.multiplier,
            u32::from_le_bytes(last),
        ]
    }
}

/// The wall time at system time 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wallclock {
    /// Seconds since 1970, UTC.
    pub seconds: u64,
    /// And nanoseconds, below 10^9.
    pub nanoseconds: u32,
}

impl Wallclock {
    /// Computes it from a wall time, as nanoseconds since 1970, and the system time at the same
    /// moment.
    #[must_use]
    pub fn at_system_time_0(wall_ns: u64, system_time_ns: u64) -> Self {
        let ns = wall_ns.saturating_sub(system_time_ns);
        Self {
            seconds: ns / NS_PER_SECOND,
            nanoseconds: u32::try_from(ns % NS_PER_SECOND).unwrap_or(0),
        }
    }

    /// `wc_sec` and `wc_sec_hi`.
    pub(crate) fn second_words(self) -> [u32; 2] {
        halves(self.seconds)
    }
}

/// The version while the fields are written: odd, and another one than before.
pub(crate) const fn version_during(before: u32) -> u32 {
    before.wrapping_add(1) | 1
}

/// The version when they have been: even.
pub(crate) const fn version_after(during: u32) -> u32 {
    during.wrapping_add(1)
}

/// The low and the high half.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

const NS_PER_SECOND: u64 = 1_000_000_000;
const TIME_INFO_BYTES: usize = 32;
