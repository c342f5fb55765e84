//! What a domain is made with, and what each call brings along.

use core::num::NonZeroU64;

use pvh_abi::DomId;
use pvh_hypercall::{GuestIo, XenVersion};
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
    /// The domain's id; not 0, which is the embedder's.
    pub domid: DomId,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its name, for the store.
    pub name: String,
    /// How many vCPUs it has, 1 to 128.
    pub vcpus: u32,
    /// The registers that `VCPUOP_initialise` may set.
    pub cpu: CpuPolicy,
    /// Frequency of the guest's TSC in Hz.
    pub tsc_hz: NonZeroU64,
    /// Whether the TSCs of all vCPUs agree for the life of the domain, so that the guest may
    /// compare them.
    pub is_tsc_stable: bool,
    /// RAM at the start in KiB, for the store.
    pub memory_kib: u64,
    /// The memory, as the guest is told about it.
    pub memory: MemoryConfig,
    /// Whether `console_io` writes to the log; if not, it answers EPERM, as in a release build of
    /// Xen.
    pub may_log: bool,
    /// The Xen whose answers the guest gets.
    pub xen: XenVersion,
}

/// A moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the three clocks a guest sees")]
pub struct Now {
    /// System time in ns: what [`TimeInfo`] makes of `tsc`. The embedder never lets it go back.
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
    /// Guest memory as the calling vCPU maps it.
    pub io: &'a dyn GuestIo,
    /// Whether the vCPU takes interrupts: RFLAGS.IF.
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
