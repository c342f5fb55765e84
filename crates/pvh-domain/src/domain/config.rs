//! What a domain is made with, and what each call of it brings along.

use core::num::NonZeroU64;

use pvh_abi::DomId;
use pvh_hypercall::GuestIo;
use pvh_vcpu::CpuPolicy;

use crate::parts::memory::MemoryConfig;
#[cfg(doc)]
use crate::parts::time::TimeInfo;

/// What a domain is made with.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data that the embedder fills in"
)]
pub struct Config {
    /// Its id; not 0, which is the embedder's.
    pub domid: DomId,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its name, for the store.
    pub name: String,
    /// How many vCPUs it has, 1 to 128.
    pub vcpus: u32,
    /// What its CPU may be told by `VCPUOP_initialise`.
    pub cpu: CpuPolicy,
    /// How often its TSC ticks in a second.
    pub tsc_hz: NonZeroU64,
    /// Whether the TSCs of all vCPUs agree for as long as it lives, so that the guest may compare them.
    pub is_tsc_stable: bool,
    /// How much RAM it begins with, in KiB, for the store.
    pub memory_kib: u64,
    /// Its memory, as it is told to it.
    pub memory: MemoryConfig,
    /// Whether `console_io` writes to the log; else it is EPERM, as in a release build of Xen.
    pub may_log: bool,
}

/// A moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the three clocks a guest sees")]
pub struct Now {
    /// System time in ns: what [`TimeInfo`] makes of `tsc`. It never goes back.
    pub system_ns: u64,
    /// The guest's TSC at that moment.
    pub tsc: u64,
    /// Wall time, in ns since 1970, UTC.
    pub wall_ns: u64,
}

/// Who makes a hypercall, and when.
#[derive(Clone, Copy)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data that the embedder fills in"
)]
pub struct Origin<'a> {
    /// The calling vCPU.
    pub vcpu: u32,
    /// Guest memory as it maps it.
    pub io: &'a dyn GuestIo,
    /// Whether it takes interrupts: RFLAGS.IF.
    pub takes_interrupts: bool,
    /// The moment of the call.
    pub now: Now,
}

impl core::fmt::Debug for Origin<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Origin")
            .field("vcpu", &self.vcpu)
            .field("takes_interrupts", &self.takes_interrupts)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}
