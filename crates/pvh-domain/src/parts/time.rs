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
        u64::try_from(self.product(ticks) >> 32).unwrap_or(u64::MAX)
    }

    /// Returns the nanoseconds of `ticks`, times 2^32.
    fn product(self, ticks: u64) -> u128 {
        let by = u32::from(self.shift.unsigned_abs());
        let shifted = if self.shift < 0 {
            ticks.checked_shr(by).unwrap_or(0)
        } else {
            ticks.checked_shl(by).unwrap_or(0)
        };
        u128::from(shifted).saturating_mul(u128::from(self.multiplier))
    }

    /// Returns how much of a nanosecond `ticks` lack to a whole one, times 2^32.
    fn lack(self, ticks: u64) -> u32 {
        let [a, b, c, d, ..] = self.product(ticks).to_le_bytes();
        u32::from_le_bytes([a, b, c, d]).wrapping_neg()
    }

    /// Returns how many ticks the shift to the right makes one of.
    const fn ticks_per_unit(self) -> u64 {
        if self.shift < 0 {
            1_u64.wrapping_shl(self.shift.unsigned_abs() as u32)
        } else {
            1
        }
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

    /// Returns the same time with a stamp of `tsc`, or of a moment shortly before it.
    ///
    /// For every TSC from the new stamp on, the new stamp gives no earlier time than this one. A
    /// guest's nanoseconds since a stamp are rounded down, so the new stamp is at a whole unit of
    /// the shift and rounded up; it is at that unit, among the last thousandth of the time since
    /// this stamp and no more than 4096, where least is added by that: less than 1 ns, and
    /// at common rates less than 0.1 ns on average. A `tsc` before this stamp changes nothing.
    #[must_use]
    pub fn stamped_at(&self, tsc: u64) -> Self {
        let since = tsc.wrapping_sub(self.tsc_timestamp);
        if since > u64::MAX / 2 {
            return *self;
        }
        let unit = self.scale.ticks_per_unit();
        let units = since.checked_div(unit).unwrap_or(0);
        let back = (units / 1024).min(UNITS_BACK);
        let places = (0..=back).map(|back| units.saturating_sub(back).saturating_mul(unit));
        // The first of equals: the latest.
        let best = places.min_by_key(|&ticks| self.scale.lack(ticks));
        let ticks = best.unwrap_or(0);
        let whole = self.scale.product(ticks).saturating_add(u32::MAX.into()) >> 32;
        Self {
            tsc_timestamp: self.tsc_timestamp.wrapping_add(ticks),
            system_time_ns: self
                .system_time_ns
                .wrapping_add(u64::try_from(whole).unwrap_or(u64::MAX)),
            ..*self
        }
    }

    /// Writes it into a `vcpu_info`: its version odd, then the fields, then its version even.
    ///
    /// Each word is written by a sequentially consistent operation, so a guest that reads an even
    /// version twice the same has read the fields in between. The version goes on from what is
    /// found there; the new one is returned, or `None` if the guest's memory there is gone.
    pub fn write(&self, memory: &dyn GuestMemory, vcpu_info: Spot<'_>) -> Option<u32> {
        let during = Self::begin_write(memory, vcpu_info)?;
        Some(self.end_write(memory, vcpu_info, during))
    }

    /// The first half of [`write`](Self::write): returns the odd version.
    pub(crate) fn begin_write(memory: &dyn GuestMemory, vcpu_info: Spot<'_>) -> Option<u32> {
        let version = vcpu_info.offset(TIME_INFO_OFFSET);
        let before = version.word(memory, WordOp::Load)?;
        let during = version_during(before);
        version.word(memory, WordOp::Swap(during));
        Some(during)
    }

    /// The second half, after the first has returned `during`: returns the even version.
    pub(crate) fn end_write(
        &self,
        memory: &dyn GuestMemory,
        vcpu_info: Spot<'_>,
        during: u32,
    ) -> u32 {
        let version = vcpu_info.offset(TIME_INFO_OFFSET);
        version.offset(4).put_words(memory, &self.words());
        version.word(memory, WordOp::Swap(version_after(during)));
        version_after(during)
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
/// How many units of the scale before the present a new stamp may be: 4 us at most.
const UNITS_BACK: u64 = 4096;
