//! The block of bytes while it is written.

use pvh_abi::Gpa;
use zerocopy::{
    Immutable, IntoBytes,
    little_endian::{U32, U64},
};

use crate::{BuildError, Part, checks::low};

/// The block while it is written: its bytes, all zero at first, and the address of the first byte.
#[derive(Debug)]
pub(crate) struct Block<'o> {
    pub(crate) at: Gpa,
    pub(crate) bytes: &'o mut [u8],
}

impl Block<'_> {
    /// Writes a wire structure at an offset of the block.
    pub(crate) fn put_wire<T: IntoBytes + Immutable>(
        &mut self,
        offset: u64,
        value: &T,
    ) -> Result<(), BuildError> {
        self.put(offset, value.as_bytes())
    }

    /// Writes bytes at an offset of the block.
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), BuildError> {
        let len_bytes = self.bytes.len();
        let need_bytes = offset.saturating_add(bytes.len() as u64);
        let too_small = BuildError::BufferTooSmall {
            need_bytes,
            len_bytes,
        };
        let start = usize::try_from(offset).map_err(|_| too_small)?;
        let place = self
            .bytes
            .get_mut(start..)
            .and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(too_small)?.copy_from_slice(bytes);
        Ok(())
    }

    /// Returns the address of a part for a 64-bit field; 0 if it is absent.
    pub(crate) fn address(&self, part: Part, offset: Option<u64>) -> Result<U64, BuildError> {
        let Some(offset) = offset else {
            return Ok(U64::ZERO);
        };
        let address = self.at.checked_add(offset);
        let address = address.ok_or(BuildError::Overflow {
            part,
            at: self.at,
            len_bytes: offset,
        })?;
        Ok(U64::new(address.0))
    }

    /// Returns the address of a part for a 32-bit field; 0 if it is absent.
    pub(crate) fn low_address(&self, part: Part, offset: Option<u64>) -> Result<U32, BuildError> {
        let address = self.address(part, offset)?.get();
        low(part, Gpa(address), address)
    }
}
