//! Faults of a walk: why a linear address leads nowhere.

use pvh_abi::Gpa;

use super::LinearAddress;

/// Why a linear address leads nowhere. The guest reads EFAULT for every variant.
///
/// Levels are counted as Xen counts them: 1 maps 4 KiB pages, 2 points to level 1, and so on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinearFault {
    /// The entry has its present bit clear.
    #[error("{at}: no entry at level {level}")]
    NotPresent {
        /// The linear address.
        at: LinearAddress,
        /// The level of the entry.
        level: u8,
    },
    /// The entry has bits set that must be clear.
    #[error("{at}: the entry at level {level} has the reserved bits {bits:#x} set")]
    ReservedBits {
        /// The linear address.
        at: LinearAddress,
        /// The level of the entry.
        level: u8,
        /// Which of its reserved bits are set.
        bits: u64,
    },
    /// The entry would lie outside RAM, or its address is wider than the guest's physical addresses
    /// are.
    #[error("{at}: the entry of level {level} would be at {entry}, which is not RAM")]
    TableNotRam {
        /// The linear address.
        at: LinearAddress,
        /// The level of the entry.
        level: u8,
        /// Where it would be.
        entry: Gpa,
    },
    /// A user page, while SMAP is on and AC clear.
    #[error("{at}: SMAP forbids access to this user page")]
    UserPage {
        /// The linear address.
        at: LinearAddress,
    },
    /// A user page to which PKRU denies access by its protection key.
    #[error("{at}: protection key {key} forbids the access")]
    ProtectionKey {
        /// The linear address.
        at: LinearAddress,
        /// The page's key.
        key: u8,
    },
    /// A write to a read-only page, while write protection is on.
    #[error("{at}: the page is read-only")]
    ReadOnly {
        /// The linear address.
        at: LinearAddress,
    },
    /// The address leads to guest-physical memory that is not RAM.
    #[error("{at}: maps to {target}, which is not RAM")]
    NotRam {
        /// The linear address.
        at: LinearAddress,
        /// Where it leads.
        target: Gpa,
    },
    /// The paging mode has no such address (PAE at or above 4 GiB), or the buffer goes on past
    /// 2^64.
    #[error("{at}: past the end of the linear address space")]
    PastTheEnd {
        /// The linear address; of a buffer that goes on past 2^64, the start of its last piece.
        at: LinearAddress,
    },
}

impl LinearFault {
    /// Returns the linear address that failed: the first byte of the access in its page.
    #[must_use]
    pub const fn at(&self) -> LinearAddress {
        match *self {
            Self::NotPresent { at, .. }
            | Self::ReservedBits { at, .. }
            | Self::TableNotRam { at, .. }
            | Self::UserPage { at }
            | Self::ProtectionKey { at, .. }
            | Self::ReadOnly { at }
            | Self::NotRam { at, .. }
            | Self::PastTheEnd { at } => at,
        }
    }
}
