//! Places the kernel's segments.

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};

use super::{
    demand::{Demand, Relocation, Segment},
    error::{Fix, Obstacle, PlanError},
    memory::Memory,
    pieces::ram_needed,
    placement::{Write, WriteKind},
};
use crate::layout::{ADDRESSABLE, Fit, ISA_END, LOW_PAGES, Span};

pub(super) struct Kernel {
    pub(super) entry: u32,
    pub(super) extent: Span,
    pub(super) moved_by: i64,
    pub(super) writes: Vec<Write>,
}

pub(super) fn place(demand: &Demand<'_>, memory: &Memory) -> Result<Kernel, PlanError> {
    let linked = Linked::new(demand)?;
    if !linked
        .pieces
        .iter()
        .any(|piece| piece.range().contains(Gpa(demand.entry.into())))
    {
        let image = linked.extent.range();
        return Err(PlanError::EntryOutside {
            entry: demand.entry,
            image,
        });
    }
    let start = linked.start(demand, memory)?;
    let shift = Shift {
        from: linked.extent.start,
        to: start,
    };
    let pieces = linked.pieces.iter();
    Ok(Kernel {
        entry: u32::try_from(shift.apply(demand.entry.into())).unwrap_or(demand.entry),
        extent: Span::new(start, shift.apply(linked.extent.end)),
        moved_by: start.wrapping_sub(linked.extent.start).cast_signed(),
        writes: pieces
            .flat_map(|piece| piece.writes(demand, shift))
            .collect(),
    })
}

/// A move of the whole image. Both places are below 4 GiB, so no sum overflows.
#[derive(Clone, Copy)]
struct Shift {
    from: u64,
    to: u64,
}

impl Shift {
    const fn apply(self, at: u64) -> u64 {
        at.saturating_sub(self.from).saturating_add(self.to)
    }
}

/// A segment with its place in memory, as linked.
#[derive(Clone, Copy)]
struct Piece {
    index: usize,
    span: Span,
    /// The end of its bytes from the file.
    filled: u64,
    /// The zeros to be written after them: without those that another segment writes.
    zeros: Span,
}

impl Piece {
    fn new(index: usize, segment: &Segment, file_len_bytes: u64) -> Result<Self, PlanError> {
        let &Segment {
            at,
            mem_size,
            file_offset,
            file_size,
            ..
        } = segment;
        if file_size > mem_size {
            return Err(PlanError::SegmentFileSize {
                index,
                file_size,
                mem_size,
            });
        }
        let file_end = file_offset.checked_add(file_size);
        if file_size > 0 && file_end.is_none_or(|end| end > file_len_bytes) {
            return Err(PlanError::SegmentPastFile {
                index,
                file_offset,
                file_size,
                file_len_bytes,
            });
        }
        let end = at
            .checked_add(mem_size)
            .filter(|&end| end <= ADDRESSABLE.end);
        match end {
            Some(end) => {
                let filled = at.saturating_add(file_size);
                Ok(Self {
                    index,
                    span: Span::new(at, end),
                    filled,
                    zeros: Span::new(filled, end),
                })
            }
            None => Err(PlanError::SegmentTooHigh {
                index,
                at: Gpa(at),
                mem_size,
            }),
        }
    }

    const fn range(&self) -> GuestRange {
        self.span.range()
    }

    fn writes(&self, demand: &Demand<'_>, shift: Shift) -> impl Iterator<Item = Write> + use<> {
        let index = self.index;
        let segment = demand.segments.get(index);
        let file_offset = segment.map_or(0, |segment| segment.file_offset);
        let range = |start, end| Span::new(shift.apply(start), shift.apply(end)).range();
        let bytes = Write {
            kind: WriteKind::Segment { index, file_offset },
            range: range(self.span.start, self.filled),
        };
        let zeros = Write {
            kind: WriteKind::Bss { index },
            range: range(self.zeros.start, self.zeros.end),
        };
        [bytes, zeros]
            .into_iter()
            .filter(|write| write.range.len_bytes > 0)
    }
}

/// The image where it was linked: checked, in file order. Segments overlap in zeros only.
struct Linked {
    pieces: Vec<Piece>,
    extent: Span,
}

impl Linked {
    fn new(demand: &Demand<'_>) -> Result<Self, PlanError> {
        let mut pieces = Vec::with_capacity(demand.segments.len());
        for (index, segment) in demand.segments.iter().enumerate() {
            if segment.mem_size > 0 || segment.file_size > 0 {
                pieces.push(Piece::new(index, segment, demand.file_len_bytes)?);
            }
        }
        let extent = merge_zeros(&mut pieces)?;
        Ok(Self { pieces, extent })
    }

    /// Chooses where the image begins: where it was linked if that is free, else elsewhere if it
    /// may be moved, else where it was linked if its segments are free (a hole may lie between
    /// two).
    fn start(&self, demand: &Demand<'_>, memory: &Memory) -> Result<u64, PlanError> {
        if memory.free.first_missing(self.extent).is_none() {
            return Ok(self.extent.start);
        }
        let moved = demand
            .relocation
            .map(|conditions| self.moved(conditions, demand, memory));
        if let Some(Ok(start)) = moved {
            return Ok(start);
        }
        let blocked = self.pieces.iter().find_map(|piece| {
            let at = memory.free.first_missing(piece.span)?;
            Some((piece, at))
        });
        match (blocked, moved) {
            (None, _) => Ok(self.extent.start),
            (Some(_), Some(Err(error))) => Err(error),
            (Some((piece, at)), _) => Err(self.blocked(piece, at, demand, memory)),
        }
    }

    /// Finds the highest place that meets the conditions, by the rule of Xen's dom0 builder.
    fn moved(
        &self,
        conditions: Relocation,
        demand: &Demand<'_>,
        memory: &Memory,
    ) -> Result<u64, PlanError> {
        let Relocation { align, min, max } = conditions;
        let align = align.map_or_else(|| default_align(demand.segments), u64::from);
        if !align.is_power_of_two() {
            return Err(PlanError::RelocationAlign { align });
        }
        let [low_pages, _] = LOW_PAGES;
        let floor = u64::from(min).max(low_pages.end);
        let end = u64::from(max).saturating_add(1);
        let fit = Fit {
            len_bytes: self.extent.len(),
            align_bytes: align,
            within: Span::new(floor, end),
        };
        memory
            .free
            .highest(fit)
            .ok_or_else(|| PlanError::RelocationNoRoom {
                len_bytes: self.extent.len(),
                align,
                min: min.into(),
                max: max.into(),
                fix: room_to_move(fit, demand, memory),
            })
    }

    fn blocked(&self, piece: &Piece, at: u64, demand: &Demand<'_>, memory: &Memory) -> PlanError {
        let no_ram = memory
            .ram
            .first_missing(Span::new(at, at.saturating_add(1)))
            .is_some();
        let (obstacle, fix) = if no_ram {
            (
                Obstacle::NotRam,
                more_ram(self.extent.end, demand, memory, Fix::Relink),
            )
        } else {
            (Obstacle::Reserved, Fix::MoveReserved)
        };
        PlanError::SegmentBlocked {
            index: piece.index,
            range: piece.range(),
            at: Gpa(at),
            obstacle,
            fix,
        }
    }
}

/// Gives zeros that several segments share to the first one by place, and returns the range from
/// the first byte of all to the last.
///
/// Two segments may overlap where both have zeros: the result is the same in any order. An overlap
/// with a byte of the file is an error.
fn merge_zeros(pieces: &mut [Piece]) -> Result<Span, PlanError> {
    let mut by_place: Vec<&mut Piece> = pieces.iter_mut().collect();
    by_place.sort_unstable_by_key(|piece| piece.span);
    let mut all: Option<Span> = None;
    // The segments before this one that reach farthest: with all their bytes, and with those of the
    // file.
    let (mut end, mut filled) = ((0, 0), (0, 0));
    for piece in by_place {
        let Span { start, .. } = piece.span;
        let has_bytes = piece.filled > start;
        let (reach, index) = if has_bytes { end } else { filled };
        if reach > start {
            return Err(PlanError::SegmentsOverlap {
                first: index,
                second: piece.index,
                at: Gpa(start),
            });
        }
        piece.zeros.start = piece.zeros.start.max(end.0).min(piece.zeros.end);
        end = end.max((piece.span.end, piece.index));
        filled = filled.max((piece.filled, piece.index));
        let first = all.map_or(start, |all| all.start);
        all = Some(Span::new(first, end.0));
    }
    all.ok_or(PlanError::NoSegments)
}

/// Returns the largest alignment of the segments if it is a page or more, else 2 MiB, as libelf
/// does.
fn default_align(segments: &[Segment]) -> u64 {
    let largest = segments.iter().map(|segment| segment.align).max();
    largest
        .filter(|&align| align >= PAGE_SIZE)
        .unwrap_or(2 << 20)
}

/// Returns what would make room for an image that must be moved.
fn room_to_move(fit: Fit, demand: &Demand<'_>, memory: &Memory) -> Fix {
    let lowest = Gpa(fit.within.start).checked_align_up(fit.align_bytes);
    let lowest_end = lowest.and_then(|start| start.checked_add(fit.len_bytes));
    match lowest_end {
        Some(end) if end.0 <= fit.within.end => {
            // The highest place is taken: the modules may have to go below it.
            let kernel_end = end.0.max(ISA_END).saturating_add(fit.align_bytes);
            more_ram(kernel_end, demand, memory, Fix::MoveReserved)
        }
        _ => Fix::Rebuild,
    }
}

/// Returns [`Fix::MoreRam`] if more RAM below 4 GiB would hold everything, else `otherwise`.
fn more_ram(kernel_end: u64, demand: &Demand<'_>, memory: &Memory, otherwise: Fix) -> Fix {
    let needed = ram_needed(kernel_end, demand.module_sizes, demand.start_info_bytes);
    match needed {
        Some(ram_bytes) => memory.more_ram(ram_bytes, otherwise),
        None => otherwise,
    }
}
