//! The console ring: what the guest prints and what is typed to it
//! (xen/include/public/io/console.h).
//!
//! One page: 1024 bytes to the guest, 2048 bytes from it, four free-running 32-bit indices. The
//! guest finds it by the HVM params `CONSOLE_PFN` and `CONSOLE_EVTCHN`. Guests wait for their
//! output to be drained while they yield, so [`ConsoleRing::take_output`] MUST be called whenever
//! the port is notified, and again until it takes nothing: a guest need not notify for bytes added
//! to a ring that was not empty.

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;

use super::ring::{Ring, RingError};

/// How many bytes may wait on their way to the guest.
pub const INPUT_BYTES: usize = 1024;

/// How many bytes may wait on their way from the guest.
pub const OUTPUT_BYTES: usize = 2048;

/// Offset of `in`, then of `out`, then of the four indices.
const INPUT: Ring = Ring {
    data: 0,
    size_bytes: 1024,
    cons: 3072,
    prod: 3076,
};
const OUTPUT: Ring = Ring {
    data: 1024,
    size_bytes: 2048,
    cons: 3080,
    prod: 3084,
};

/// The back end of one console ring.
///
/// It keeps only the address: all state is in the page. Inconsistent indices are refused at each
/// call, with nothing moved, until the guest corrects them. No call does more than one ring's worth
/// of work, whatever the guest writes meanwhile.
#[doc(alias = "xencons_interface")]
#[derive(Clone, Copy, Debug)]
pub struct ConsoleRing {
    page: Gpa,
}

/// How far bytes got through a console ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Moved {
    /// How many bytes were moved.
    pub len_bytes: usize,
    /// Whether the guest's console port has to be notified: it does after each change.
    pub notify: bool,
}

impl ConsoleRing {
    /// Serves the ring in the page at `page`.
    #[must_use]
    pub const fn new(page: Gpa) -> Self {
        Self { page }
    }

    /// Takes what the guest printed into `buf`, at most [`OUTPUT_BYTES`].
    ///
    /// Order of accesses: `out_cons` and `out_prod` once each, the bytes, then `out_cons`.
    ///
    /// # Errors
    ///
    /// [`RingError::Inconsistent`] if the guest's indices are more than 2048 apart,
    /// [`RingError::Memory`] if the page is not RAM. Nothing is taken then.
    pub fn take_output(
        &self,
        memory: &dyn GuestMemory,
        buf: &mut [u8],
    ) -> Result<Moved, RingError> {
        OUTPUT.take(memory, self.page, buf).map(Moved::new)
    }

    /// Gives `bytes` to the guest, as many as fit; the caller keeps the rest for when the port is
    /// notified.
    ///
    /// Order of accesses: `in_prod` and `in_cons` once each, the bytes, then `in_prod`.
    ///
    /// # Errors
    ///
    /// [`RingError::Inconsistent`] if the guest's indices are more than 1024 apart,
    /// [`RingError::Memory`] if the page is not RAM. Nothing is given then.
    pub fn push_input(&self, memory: &dyn GuestMemory, bytes: &[u8]) -> Result<Moved, RingError> {
        INPUT.put(memory, self.page, bytes).map(Moved::new)
    }
}

impl Moved {
    fn new(len_bytes: usize) -> Self {
        Self {
            len_bytes,
            notify: len_bytes > 0,
        }
    }
}
