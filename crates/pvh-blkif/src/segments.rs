//! From the segments of a request to the pieces of granted pages.

use pvh_memory::GuestMemory;
use pvh_ring::{Access, GrantedPage, Grants};

use crate::{
    MAX_DIRECT_SEGMENTS, Piece, Refusal, SECTOR_BYTES,
    wire::{RawRequest, RawSegment, SEGMENT_BYTES},
};

/// The pieces of a request, and why there are none.
type Pieces<G> = Result<Vec<Piece<<G as Grants>::Page>>, Refusal<<G as Grants>::Error>>;

/// Copies the segments of a direct request.
pub(crate) fn direct<E: core::error::Error>(
    raw: &RawRequest,
) -> Result<Vec<RawSegment>, Refusal<E>> {
    let count = raw.direct_count();
    let limit = MAX_DIRECT_SEGMENTS;
    if usize::from(count) > limit {
        return Err(count_refused(count.into(), limit));
    }
    let segments = 0..usize::from(count);
    Ok(segments.map(|index| raw.direct_segment(index)).collect())
}

/// Copies the segments of an indirect request out of their pages, each page once.
pub(crate) fn indirect<G: Grants>(
    raw: &RawRequest,
    (memory, grants): (&(impl GuestMemory + ?Sized), &G),
    limit: u16,
) -> Result<Vec<RawSegment>, Refusal<G::Error>> {
    let count = raw.indirect_count();
    if count == 0 || count > limit {
        return Err(count_refused(count, limit.into()));
    }
    let mut segments = Vec::with_capacity(count.into());
    let mut left = usize::from(count);
    for index in 0.. {
        if left == 0 {
            break;
        }
        let reference = raw.indirect_reference(index);
        let page = take(grants, (index, reference), Access::Read)?;
        let here = left.min(SEGMENTS_IN_PAGE);
        let mut bytes = [0; PAGE_BYTES];
        let len = here.saturating_mul(SEGMENT_BYTES).min(PAGE_BYTES);
        let wanted = bytes.get_mut(..len).unwrap_or_default();
        let read = memory.read(page.gpa(), wanted);
        read.map_err(|source| Refusal::IndirectPage { index, source })?;
        let (chunks, _) = wanted.as_chunks::<SEGMENT_BYTES>();
        segments.extend(chunks.iter().map(|chunk| RawSegment::at(chunk, 0)));
        left = left.saturating_sub(here);
    }
    Ok(segments)
}

/// Counts the sectors of segments.
pub(crate) fn sectors<E: core::error::Error>(segments: &[RawSegment]) -> Result<u64, Refusal<E>> {
    let mut sum = 0_u64;
    for (index, segment) in segments.iter().enumerate() {
        let RawSegment { first, last, .. } = *segment;
        let count = last.checked_sub(first).filter(|_| last <= LAST_SECTOR);
        let count = count.ok_or(Refusal::Segment { index, first, last })?;
        sum = sum.saturating_add(u64::from(count).saturating_add(1));
    }
    Ok(sum)
}

/// Takes the pages of segments that have been checked. Those taken before one that is refused are
/// given back.
pub(crate) fn pieces<G: Grants>(grants: &G, segments: &[RawSegment], access: Access) -> Pieces<G> {
    let pieces = segments.iter().enumerate().map(|(index, segment)| {
        let page = take(grants, (index, segment.reference), access)?;
        let offset = u64::from(segment.first).saturating_mul(SECTOR_BYTES.into());
        let count = u32::from(segment.last.saturating_sub(segment.first)).saturating_add(1);
        // A page does not end past 2^64.
        let at = page.gpa().checked_add(offset).unwrap_or_default();
        Ok(Piece {
            page,
            at,
            len_bytes: count.saturating_mul(SECTOR_BYTES),
        })
    });
    pieces.collect()
}

fn take<G: Grants>(
    grants: &G,
    (index, reference): (usize, u32),
    access: Access,
) -> Result<G::Page, Refusal<G::Error>> {
    let page = grants.take(reference, access);
    page.map_err(|source| Refusal::Grant {
        index,
        reference,
        source,
    })
}

fn count_refused<E: core::error::Error>(count: u16, limit: usize) -> Refusal<E> {
    let limit = u16::try_from(limit).unwrap_or(u16::MAX);
    Refusal::SegmentCount { count, limit }
}

const PAGE_BYTES: usize = 4096;
const SEGMENTS_IN_PAGE: usize = PAGE_BYTES / SEGMENT_BYTES;
/// The last sector of a page.
const LAST_SECTOR: u8 = 7;
