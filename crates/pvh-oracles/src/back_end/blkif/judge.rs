//! A second reading of blkif.h: what becomes of a request, by the bytes that were read.

use pvh_ring::Access;
use pvh_testkit::{blkif::Layout, grants::GrantTable};

use super::{RAM, SECTORS};
use crate::{
    back_end::{Record, size},
    bytes::field,
};

/// What a disk offers.
pub(super) struct Judge {
    pub(super) layout: Layout,
    pub(super) segments: u16,
    pub(super) is_read_only: bool,
    pub(super) has_discard: bool,
    pub(super) has_secure: bool,
}

/// What is to become of a request.
pub(super) struct Verdict {
    /// What it is to do, or the status of its response.
    pub(super) result: Result<Wanted, i16>,
    /// The references that are to be taken, in this order.
    pub(super) taken: Vec<(u32, Access)>,
}

/// A request that is to be carried out.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) operation: u8,
    pub(super) offset: u64,
    pub(super) len_bytes: u64,
    pub(super) is_secure: bool,
    /// Address and length of each.
    pub(super) pieces: Vec<(u64, u32)>,
}

const ERROR: i16 = -1;
const NOT_SUPPORTED: i16 = -2;

impl Judge {
    /// The id as it comes back.
    pub(super) fn id(&self, raw: &[u8]) -> [u8; 8] {
        self.number(raw, 0, 8).to_le_bytes()
    }

    /// Judges a request. Pages of segments are in the record.
    pub(super) fn judge(&self, raw: &[u8], grants: &GrantTable, record: &mut Record) -> Verdict {
        let mut taken = Vec::new();
        let result = match raw[0] {
            operation @ (0 | 1 | 3) => match raw[1] {
                0 if operation == 3 => Ok(Wanted {
                    operation,
                    ..Wanted::default()
                }),
                count @ 1..=11 => {
                    let segments: Vec<u64> = (0..count)
                        .map(|index| self.number(raw, 16 + 8 * u64::from(index), 8))
                        .collect();
                    self.transfer(raw, operation, &segments, grants, &mut taken)
                }
                _ => Err(ERROR),
            },
            5 if self.has_discard => self.discard(raw),
            6 if self.segments > 0 => {
                let segments = self.indirect(raw, grants, record, &mut taken);
                segments.and_then(|all| self.transfer(raw, raw[1], &all, grants, &mut taken))
            }
            _ => Err(NOT_SUPPORTED),
        };
        Verdict { result, taken }
    }

    /// The segments of an indirect request, as they were read from its pages.
    fn indirect(
        &self,
        raw: &[u8],
        grants: &GrantTable,
        record: &mut Record,
        taken: &mut Vec<(u32, Access)>,
    ) -> Result<Vec<u64>, i16> {
        let count = field(raw, 2, 2).unwrap_or(0);
        if raw[1] > 1 || count == 0 || count > u64::from(self.segments) {
            return Err(ERROR);
        }
        // 256 segments of 8 bytes are less than a page.
        let reference = reference(self.number(raw, 20, 4));
        taken.push((reference, Access::Read));
        let (page, _) = grants.entry(reference).ok_or(ERROR)?;
        if page.0 >= RAM {
            return Err(ERROR);
        }
        let bytes = record.read(page.0, size(count * 8));
        Ok((0..count)
            .filter_map(|index| field(&bytes, index * 8, 8))
            .collect())
    }

    fn transfer(
        &self,
        raw: &[u8],
        operation: u8,
        segments: &[u64],
        grants: &GrantTable,
        taken: &mut Vec<(u32, Access)>,
    ) -> Result<Wanted, i16> {
        if operation != 0 && self.is_read_only {
            return Err(ERROR);
        }
        let sectors = segments
            .iter()
            .map(|segment| (segment >> 32 & 0xFF, segment >> 40 & 0xFF));
        let counts = sectors.clone().map(|(first, last)| match (first, last) {
            (first, last) if last < 8 && first <= last => Ok(last - first + 1),
            _ => Err(ERROR),
        });
        let count = counts.sum::<Result<u64, i16>>()?;
        let (offset, len_bytes) = self.area(raw, count)?;
        let mut pieces = Vec::new();
        let access = if operation == 0 {
            Access::Write
        } else {
            Access::Read
        };
        for (segment, (first, last)) in segments.iter().zip(sectors) {
            let reference = reference(segment & 0xFFFF_FFFF);
            taken.push((reference, access));
            let (page, is_writable) = grants.entry(reference).ok_or(ERROR)?;
            if access == Access::Write && !is_writable {
                return Err(ERROR);
            }
            let len = u32::try_from((last - first + 1) * 512).map_err(|_| ERROR)?;
            pieces.push((page.0 + first * 512, len));
        }
        Ok(Wanted {
            operation,
            offset,
            len_bytes,
            is_secure: false,
            pieces,
        })
    }

    fn discard(&self, raw: &[u8]) -> Result<Wanted, i16> {
        let count = self.number(raw, 16, 8);
        if self.is_read_only || count == 0 {
            return Err(ERROR);
        }
        let (offset, len_bytes) = self.area(raw, count)?;
        Ok(Wanted {
            operation: 5,
            offset,
            len_bytes,
            is_secure: self.has_secure && raw[1] & 1 == 1,
            pieces: Vec::new(),
        })
    }

    /// Offset and length in bytes of `count` sectors, which the disk has to have.
    fn area(&self, raw: &[u8], count: u64) -> Result<(u64, u64), i16> {
        let (sector, count) = (u128::from(self.number(raw, 8, 8)), u128::from(count));
        if sector + count > u128::from(SECTORS) {
            return Err(ERROR);
        }
        let bytes = |sectors: u128| u64::try_from(sectors * 512).map_err(|_| ERROR);
        Ok((bytes(sector)?, bytes(count)?))
    }

    /// A field behind the first four bytes, by its offset from the id in the 32-bit layout's order.
    fn number(&self, raw: &[u8], offset: u64, len: usize) -> u64 {
        let id = match self.layout {
            Layout::X86_64 => 8,
            Layout::X86_32 => 4,
        };
        field(raw, id + offset, len).unwrap_or(0)
    }
}

fn reference(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
