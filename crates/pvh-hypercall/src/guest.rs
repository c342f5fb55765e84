//! Copies from and to guest memory at linear addresses.

use core::marker::PhantomData;

use pvh_abi::{Errno, Gpa};
use pvh_memory::{Access, GuestMemory, LinearAddress, LinearMemory};
use zerocopy::{
    FromBytes, Immutable, IntoBytes,
    little_endian::{U32, U64},
};

use crate::{Answers, Budget, Width, XenVersion};

/// A copy hit an address that is not guest memory, or that the guest's kernel may not access: the
/// guest reads -EFAULT.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a guest address is not mapped")]
#[expect(clippy::exhaustive_structs, reason = "the guest is not told the cause")]
pub struct Fault;

/// Guest memory at linear addresses, as the calling vCPU maps them at this moment (supervisor data
/// accesses).
///
/// A copy goes up page by page; one that fails on a later page has written the earlier ones. Length
/// 0 succeeds. An implementation bounds its work by the length alone, whatever the page tables
/// hold.
pub trait GuestIo {
    /// Copies `buf.len()` bytes at `linear` out of guest memory.
    ///
    /// # Errors
    ///
    /// [`Fault`] if any byte cannot be read; `buf` is unspecified then.
    fn copy_from_guest(&self, linear: u64, buf: &mut [u8]) -> Result<(), Fault>;

    /// Copies `bytes` into guest memory at `linear`.
    ///
    /// # Errors
    ///
    /// [`Fault`] if any byte cannot be written; earlier pages have been written then.
    fn copy_to_guest(&self, linear: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Returns where a write to `linear` leads, for its page of 4 KiB: for areas that are written
    /// long after the call that registers them. Whether that is RAM is not looked at; `None`, by
    /// default, if it leads nowhere.
    fn translate(&self, linear: u64) -> Option<Gpa> {
        let _ = linear;
        None
    }
}

/// Guest memory behind the guest's own page tables.
impl<M: GuestMemory + ?Sized> GuestIo for LinearMemory<'_, M> {
    fn copy_from_guest(&self, linear: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.read(LinearAddress(linear), buf).map_err(|_| Fault)
    }

    fn copy_to_guest(&self, linear: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.write(LinearAddress(linear), bytes).map_err(|_| Fault)
    }

    fn translate(&self, linear: u64) -> Option<Gpa> {
        Self::translate(self, LinearAddress(linear), Access::Write).ok()
    }
}

impl From<Fault> for Errno {
    fn from(_: Fault) -> Self {
        Self::EFAULT
    }
}

/// Guest memory, together with the layouts that the caller uses and what the call may cost.
#[derive(Clone, Copy)]
pub struct Guest<'io> {
    io: &'io dyn GuestIo,
    width: Width,
    budget: &'io Budget,
    answers: &'static Answers,
}

impl core::fmt::Debug for Guest<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Guest")
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl<'io> Guest<'io> {
    /// Joins the three, for a guest of the oldest Xen. Each copy charges the budget; none is
    /// refused because it is spent.
    #[must_use]
    pub const fn new(io: &'io dyn GuestIo, width: Width, budget: &'io Budget) -> Self {
        Self {
            io,
            width,
            budget,
            answers: XenVersion::V4_17.answers(),
        }
    }

    /// Chooses the Xen whose answers the guest gets.
    #[must_use]
    pub const fn of_version(self, version: XenVersion) -> Self {
        Self {
            answers: version.answers(),
            ..self
        }
    }

    /// What the guest's Xen answers differently from another.
    #[must_use]
    pub const fn answers(&self) -> &'static Answers {
        self.answers
    }

    /// What is left of the cost of this go.
    #[must_use]
    pub const fn budget(&self) -> &'io Budget {
        self.budget
    }

    /// The caller's width.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Copies one structure in, whole and once.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub fn read<T: FromBytes + IntoBytes>(&self, linear: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_bytes(linear, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies bytes in.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub fn read_bytes(&self, linear: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.budget.charge_copy(buf.len());
        Ok(self.io.copy_from_guest(linear, buf)?)
    }

    /// Copies one structure in, by the caller's layout: `N` for 64-bit callers, `C` for the others.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub fn read_either<N, C, T>(&self, linear: u64) -> Result<T, Errno>
    where
        N: FromBytes + IntoBytes + Into<T>,
        C: FromBytes + IntoBytes + Into<T>,
    {
        match self.width {
            Width::Native => self.read::<N>(linear).map(Into::into),
            Width::Compat => self.read::<C>(linear).map(Into::into),
        }
    }

    /// Copies one structure out, padding included.
    ///
    /// # Errors
    ///
    /// EFAULT; what was to be done has been done then.
    pub fn write<T: IntoBytes + Immutable + ?Sized>(
        &self,
        linear: u64,
        value: &T,
    ) -> Result<(), Errno> {
        let bytes = value.as_bytes();
        self.budget.charge_copy(bytes.len());
        Ok(self.io.copy_to_guest(linear, bytes)?)
    }

    /// An array of frame numbers or machine words, 8 or 4 bytes each by the caller's width.
    #[must_use]
    pub const fn words(&self, linear: u64) -> GuestArray<'io, Word> {
        let element_bytes = match self.width {
            Width::Native => 8,
            Width::Compat => 4,
        };
        GuestArray::new(*self, linear, element_bytes)
    }

    /// An array of structures that have one layout.
    #[must_use]
    pub const fn array<T>(&self, linear: u64) -> GuestArray<'io, T> {
        GuestArray::new(*self, linear, size_of::<T>() as u64)
    }
}

/// A machine word of the caller, as an element of a [`GuestArray`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Word;

/// An array in guest memory; an element is copied when it is read.
#[derive(Clone, Copy, Debug)]
pub struct GuestArray<'io, T> {
    guest: Guest<'io>,
    linear: u64,
    element_bytes: u64,
    element: PhantomData<T>,
}

impl<'io, T> GuestArray<'io, T> {
    const fn new(guest: Guest<'io>, linear: u64, element_bytes: u64) -> Self {
        Self {
            guest,
            linear,
            element_bytes,
            element: PhantomData,
        }
    }

    /// What is left of the cost of this go.
    pub(crate) const fn budget(&self) -> &'io Budget {
        self.guest.budget
    }

    /// The linear address of an element; one past the end of the address space is a fault.
    fn at(&self, index: u64) -> Result<u64, Errno> {
        let offset = index.checked_mul(self.element_bytes);
        offset
            .and_then(|offset| self.linear.checked_add(offset))
            .ok_or(Errno::EFAULT)
    }
}

impl<T: FromBytes + IntoBytes + Immutable> GuestArray<'_, T> {
    /// Reads an element.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub fn get(&self, index: u64) -> Result<T, Errno> {
        self.guest.read(self.at(index)?)
    }

    /// Writes an element.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub fn set(&self, index: u64, value: &T) -> Result<(), Errno> {
        self.guest.write(self.at(index)?, value)
    }
}

impl GuestArray<'_, Word> {
    /// Reads a word.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub fn word(&self, index: u64) -> Result<u64, Errno> {
        let at = self.at(index)?;
        self.guest.read_either::<U64, U32, u64>(at)
    }

    /// Writes a word, cut to the caller's width.
    ///
    /// # Errors
    ///
    /// EFAULT.
    pub fn set_word(&self, index: u64, value: u64) -> Result<(), Errno> {
        let at = self.at(index)?;
        match self.guest.width {
            Width::Native => self.guest.write(at, &U64::new(value)),
            Width::Compat => {
                let [b0, b1, b2, b3, ..] = value.to_le_bytes();
                self.guest.write(at, &[b0, b1, b2, b3])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pvh_memory::{PagingPolicy, PagingState, SliceMemory};

    use super::*;

    #[test]
    fn memory_without_paging_is_guest_io_and_a_hole_is_efault() {
        let policy = PagingPolicy {
            address_bits: 39,
            is_amd: false,
            has_gib_pages: false,
            has_pse36: false,
        };
        let mut bytes = [0; 0x2000];
        let memory = SliceMemory::new(Gpa(0), &mut bytes);
        let io = LinearMemory::new(&memory, &PagingState::UNPAGED, &policy);
        let budget = Budget::new(100);
        let guest = Guest::new(&io, Width::Compat, &budget);
        assert_eq!(guest.write(0x0ffe, &[1_u8, 2, 3, 4]), Ok(()));
        assert_eq!(guest.words(0x0ffe).word(0), Ok(0x0403_0201));
        assert_eq!(guest.read::<[u8; 4]>(0x1ffd), Err(Errno(14)));
        assert_eq!(guest.write(0x1ffe, &[9_u8; 4]), Err(Errno(14)));
        assert_eq!(guest.words(u64::MAX).word(1), Err(Errno(14)), "no wrap");
        assert_eq!(GuestIo::translate(&io, 0x1ffe), Some(Gpa(0x1ffe)));
        extern crate std;
        let shown = std::format!("{guest:?}");
        assert_eq!(shown, "Guest { width: Compat, .. }");
    }

    #[test]
    fn words_are_8_bytes_or_4() {
        struct Echo;
        impl GuestIo for Echo {
            fn copy_from_guest(&self, linear: u64, buf: &mut [u8]) -> Result<(), Fault> {
                // Answers where it was asked, so that the test sees the addresses.
                for (byte, at) in buf.iter_mut().zip(linear.to_le_bytes()) {
                    *byte = at;
                }
                Ok(())
            }
            fn copy_to_guest(&self, _: u64, _: &[u8]) -> Result<(), Fault> {
                Err(Fault)
            }
        }
        let budget = Budget::new(100);
        let third = |width| Guest::new(&Echo, width, &budget).words(0x100).word(3);
        assert_eq!(third(Width::Native), Ok(0x118));
        assert_eq!(third(Width::Compat), Ok(0x10c));
    }
}
