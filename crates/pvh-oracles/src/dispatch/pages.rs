//! Guest memory of one page, for both the calls and their model.

use std::cell::RefCell;

use pvh_abi::Errno;
use pvh_hypercall::{Fault, GuestIo};

/// Guest memory of one page that is found at all pages below 4 GiB but each sixteenth, which is
/// none.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Pages(RefCell<Box<[u8; 4096]>>);

impl Pages {
    pub(super) fn new(content: &[u8]) -> Self {
        let mut bytes = Box::new([0; 4096]);
        bytes[..content.len()].copy_from_slice(content);
        Self(RefCell::new(bytes))
    }

    fn place(linear: u64, index: usize) -> Result<usize, Fault> {
        let at = linear.checked_add(index as u64).ok_or(Fault)?;
        let is_there = at < 1 << 32 && at >> 12 & 15 != 15;
        let place = usize::try_from(at & 0xfff).map_err(|_| Fault)?;
        if is_there { Ok(place) } else { Err(Fault) }
    }

    /// The bytes at an address.
    pub(super) fn read(&self, linear: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len];
        self.copy_from_guest(linear, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes little-endian bytes of a number.
    pub(super) fn put(&self, linear: u64, value: u64, size: usize) -> Result<(), Errno> {
        Ok(self.copy_to_guest(linear, &value.to_le_bytes()[..size])?)
    }
}

impl GuestIo for Pages {
    fn copy_from_guest(&self, linear: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let bytes = self.0.borrow();
        for (index, byte) in buf.iter_mut().enumerate() {
            *byte = bytes[Self::place(linear, index)?];
        }
        Ok(())
    }

    fn copy_to_guest(&self, linear: u64, from: &[u8]) -> Result<(), Fault> {
        let mut bytes = self.0.borrow_mut();
        for (index, byte) in from.iter().enumerate() {
            bytes[Self::place(linear, index)?] = *byte;
        }
        Ok(())
    }
}
