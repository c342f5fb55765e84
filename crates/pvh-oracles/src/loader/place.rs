//! The plan of a boot: whatever is asked, nothing is placed where it may not be, and nothing is
//! refused that fits.

use pvh_abi::{Gpa, GuestRange};
use pvh_loader::plan::{Demand, Placement, PlanError, Relocation, Segment, WriteKind, place};

use crate::{bytes::is_printable, tape::Tape};

const PAGE: u64 = 4096;
const FOUR_GIB: u64 = 1 << 32;
const ONE_GIB: u64 = 1 << 30;
/// Never used by what a loader chooses to place.
const LOW: [(u64, u64); 2] = [(0, 0x1_0000), (0x9_f000, 0x10_0000)];

/// A demand out of bytes.
struct Asked {
    segments: Vec<Segment>,
    modules: Vec<u64>,
    ram: Vec<GuestRange>,
    taken: Vec<GuestRange>,
    relocation: Option<Relocation>,
    entry: u32,
    file_len_bytes: u64,
    start_info_bytes: u64,
}

/// Plans a boot and checks the plan, or that there was a reason for none.
///
/// # Panics
///
/// If a plan overlaps, leaves RAM, lies in what is taken, moves what may not be moved or drops a
/// byte; or if a refusal names a reason that does not hold.
pub fn elf_plan(bytes: &[u8]) {
    let asked = Asked::read(&mut Tape::new(bytes));
    let demand = Demand {
        segments: &asked.segments,
        file_len_bytes: asked.file_len_bytes,
        entry: asked.entry,
        relocation: asked.relocation,
        module_sizes: &asked.modules,
        start_info_bytes: asked.start_info_bytes,
        ram: &asked.ram,
        taken: &asked.taken,
    };
    match place(&demand) {
        Ok(plan) => asked.check(&plan),
        Err(error) => {
            is_printable(&error);
            assert!(error.fix().is_some(), "{error}: no way out");
            asked.check_refusal(&error);
        }
    }
}

impl Asked {
    /// Counts, then RAM, taken ranges, segments, modules, the rest.
    fn read(tape: &mut Tape<'_>) -> Self {
        let shape = tape.byte();
        let range = |tape: &mut Tape<'_>| GuestRange::new(Gpa(tape.address()), tape.address());
        let ram = (0..=shape & 3).map(|_| range(tape)).collect();
        let taken = (0..shape >> 2 & 3).map(|_| range(tape)).collect();
        let mut segments = Vec::new();
        for _ in 0..=shape >> 4 & 3 {
            let (at, mem_size) = (tape.address(), tape.address());
            let trim = tape.byte();
            let file_size = match trim {
                0..=191 => mem_size.saturating_sub(u64::from(trim)),
                192..=223 => 0,
                _ => tape.address(),
            };
            let (file_offset, align) = (tape.address(), 1_u64 << tape.below(64));
            segments.push(Segment {
                at,
                mem_size,
                file_offset,
                file_size,
                align,
            });
        }
        let modules = (0..shape >> 6).map(|_| tape.address()).collect();
        let inside = segments.first().map_or(0, |segment| segment.at);
        let entry = match tape.byte() {
            move_by @ 0..=199 => inside.wrapping_add(u64::from(move_by)) & 0xffff_ffff,
            _ => u64::from(tape.word()),
        };
        let relocation = tape.flag().then(|| Relocation {
            align: match tape.byte() {
                0..=99 => None,
                bit @ 100..=199 => Some(1_u32 << (bit % 32)),
                _ => Some(tape.word()),
            },
            min: low(tape.address()),
            max: low(tape.address().wrapping_sub(1)),
        });
        let file_len_bytes = match tape.flag() {
            true => tape.address(),
            false => u64::MAX,
        };
        let start_info_bytes = tape.address();
        Self {
            segments,
            modules,
            ram,
            taken,
            relocation,
            entry: low(entry),
            file_len_bytes,
            start_info_bytes,
        }
    }

    fn check(&self, plan: &Placement) {
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for write in &plan.writes {
            let (start, len) = (write.range.start.0, write.range.len_bytes);
            let end = start.checked_add(len).expect("a write does not wrap");
            assert!(len > 0 && end <= FOUR_GIB, "{write:?}");
            assert_eq!(self.first_not_free(start, end), None, "{write:?}");
            let is_chosen = !matches!(
                write.kind,
                WriteKind::Segment { .. } | WriteKind::Bss { .. }
            );
            let is_low = LOW.iter().any(|&(low, high)| start < high && low < end);
            assert!(
                !(is_low && is_chosen),
                "{write:?} lies where guests put things"
            );
            spans.push((start, end));
        }
        spans.sort_unstable();
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0, "{pair:x?} overlap");
        }
        self.check_kernel(plan);
        self.check_pieces(plan);
    }

    fn check_kernel(&self, plan: &Placement) {
        let moved = plan.moved_by;
        let there = |at: u64| at.wrapping_add_signed(moved);
        let mut wanted = Vec::new();
        for (index, segment) in self.segments.iter().enumerate() {
            let (at, file_size) = (there(segment.at), segment.file_size);
            assert!(file_size <= segment.mem_size);
            if file_size > 0 {
                let end = segment.file_offset.checked_add(file_size);
                assert!(end.is_some_and(|end| end <= self.file_len_bytes));
                let file_offset = segment.file_offset;
                wanted.push((WriteKind::Segment { index, file_offset }, at, file_size));
            }
        }
        let kernel = plan.writes.iter().filter_map(|write| match write.kind {
            WriteKind::Segment { .. } => {
                Some((write.kind, write.range.start.0, write.range.len_bytes))
            }
            _ => None,
        });
        assert_eq!(kernel.collect::<Vec<_>>(), wanted);
        self.check_zeros(plan);
        assert_eq!(u64::from(plan.entry), there(u64::from(self.entry)));
        assert!(self.entry_is_inside(), "the entry is in no segment");
        let (start, end) = self.extent();
        assert_eq!(plan.kernel, GuestRange::new(Gpa(there(start)), end - start));
        if moved == 0 {
            return;
        }
        let relocation = self.relocation.expect("only what may be moved is moved");
        assert!(
            self.first_not_free(start, end).is_some(),
            "moved without a need"
        );
        let page_align = self
            .segments
            .iter()
            .map(|segment| segment.align)
            .max()
            .filter(|&align| align >= PAGE);
        let align = relocation.align.map(u64::from);
        let align = align.or(page_align).unwrap_or(2 << 20);
        assert!(align.is_power_of_two() && there(start).is_multiple_of(align));
        assert!(there(start) >= u64::from(relocation.min));
        assert!(there(end) - 1 <= u64::from(relocation.max));
        assert_eq!(self.first_not_free(there(start), there(end)), None);
    }

    /// The zeros of each segment are written once, by it or by a segment that shares them.
    fn check_zeros(&self, plan: &Placement) {
        let zeros_of = |index: usize| {
            let segment = &self.segments[index];
            let at = segment.at.wrapping_add_signed(plan.moved_by);
            (at + segment.file_size, at + segment.mem_size)
        };
        let mut written = Vec::new();
        for write in &plan.writes {
            if let WriteKind::Bss { index } = write.kind {
                let (start, end) = zeros_of(index);
                let at = write.range.start.0;
                assert!(
                    start <= at && at + write.range.len_bytes <= end,
                    "{write:?}"
                );
                written.push((at, at + write.range.len_bytes));
            }
        }
        written.sort_unstable();
        for index in (0..self.segments.len()).filter(|&index| !is_empty(&self.segments[index])) {
            let (mut at, end) = zeros_of(index);
            for &(start, stop) in &written {
                if start <= at && at < stop {
                    at = stop;
                }
            }
            assert!(at >= end, "zeros of segment {index} are missing at {at:#x}");
        }
    }

    fn check_pieces(&self, plan: &Placement) {
        let mut wanted = Vec::new();
        for (index, (&size, module)) in self.modules.iter().zip(&plan.modules).enumerate() {
            let start = module.start.0;
            assert!(start.is_multiple_of(PAGE), "module {index} at {start:#x}");
            assert_eq!(module.len_bytes, size);
            let whole = size.max(1).next_multiple_of(PAGE);
            if size > 0 {
                wanted.push((WriteKind::Module { index }, start, size));
            }
            if size < whole {
                let tail = start + size;
                wanted.push((WriteKind::ModuleTail { index }, tail, whole - size));
            }
        }
        assert_eq!(plan.modules.len(), self.modules.len());
        let start = plan.start_info.0;
        let len = self.start_info_bytes.max(1).next_multiple_of(PAGE);
        assert!(start.is_multiple_of(PAGE) && start > 0 && start + len <= ONE_GIB);
        wanted.push((WriteKind::StartInfo, start, len));
        let pieces = plan.writes.iter().filter_map(|write| match write.kind {
            WriteKind::Segment { .. } | WriteKind::Bss { .. } => None,
            kind => Some((kind, write.range.start.0, write.range.len_bytes)),
        });
        assert_eq!(pieces.collect::<Vec<_>>(), wanted);
    }

    fn check_refusal(&self, error: &PlanError) {
        let loaded = || self.segments.iter().filter(|segment| !is_empty(segment));
        match *error {
            PlanError::NoRam => {
                let is_ram = |range: &GuestRange| range.len_bytes > 0 && range.start.0 < FOUR_GIB;
                assert!(!self.ram.iter().any(is_ram), "there is RAM");
            }
            PlanError::NoSegments => assert_eq!(loaded().count(), 0),
            PlanError::SegmentFileSize { index, .. } => {
                let segment = self.segments[index];
                assert!(segment.file_size > segment.mem_size);
            }
            PlanError::SegmentPastFile { index, .. } => {
                let Segment {
                    file_offset,
                    file_size,
                    ..
                } = self.segments[index];
                let end = file_offset.checked_add(file_size);
                assert!(end.is_none_or(|end| end > self.file_len_bytes));
            }
            PlanError::SegmentTooHigh { index, .. } => {
                let Segment { at, mem_size, .. } = self.segments[index];
                assert!(at.checked_add(mem_size).is_none_or(|end| end > FOUR_GIB));
            }
            PlanError::SegmentsOverlap { first, second, at } => {
                let holds = |index: usize| {
                    let Segment {
                        at: start,
                        mem_size,
                        ..
                    } = self.segments[index];
                    start <= at.0 && at.0 < start + mem_size
                };
                let has_byte = |index: usize| {
                    let segment = &self.segments[index];
                    at.0 - segment.at < segment.file_size
                };
                assert!(first != second && holds(first) && holds(second));
                assert!(has_byte(first) || has_byte(second), "only zeros overlap");
            }
            PlanError::EntryOutside { .. } => assert!(!self.entry_is_inside()),
            PlanError::SegmentBlocked { index, at, .. } => {
                let segment = self.segments[index];
                let end = segment.at + segment.mem_size;
                assert_eq!(self.first_not_free(segment.at, end), Some(at.0));
            }
            PlanError::NoRoomForStartInfo { .. } if loaded().all(|s| self.is_free(s)) => {
                self.check_no_room();
            }
            _ => {}
        }
    }

    /// There is no room for the start info beside a kernel that is where it was linked.
    fn check_no_room(&self) {
        let (start, end) = self.extent();
        if self.relocation.is_some() && self.first_not_free(start, end).is_some() {
            return; // it was moved, who knows where
        }
        let kernel = (
            start / PAGE * PAGE,
            end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX),
        );
        let Some(len) = self.start_info_bytes.max(1).checked_next_multiple_of(PAGE) else {
            return;
        };
        let mut starts: Vec<u64> = self.ram.iter().map(|range| range.start.0).collect();
        starts.extend(
            self.taken
                .iter()
                .filter_map(|range| range.end())
                .map(|end| end.0),
        );
        starts.extend(LOW.iter().map(|&(_, end)| end).chain([kernel.1]));
        for start in starts {
            let Some(at) = start.checked_next_multiple_of(PAGE) else {
                continue;
            };
            let Some(end) = at.checked_add(len).filter(|&end| end <= ONE_GIB) else {
                continue;
            };
            let mut no_go = LOW.into_iter().chain([kernel]);
            let is_free = self.first_not_free(at, end).is_none();
            let is_clear = !no_go.any(|(low, high)| at < high && low < end);
            assert!(!(is_free && is_clear), "there was room at {at:#x}");
        }
    }

    fn entry_is_inside(&self) -> bool {
        let entry = u64::from(self.entry);
        let holds = |s: &Segment| s.at <= entry && entry - s.at < s.mem_size;
        self.segments.iter().any(holds)
    }

    fn is_free(&self, segment: &Segment) -> bool {
        let end = segment.at.saturating_add(segment.mem_size);
        self.first_not_free(segment.at, end).is_none()
    }

    fn extent(&self) -> (u64, u64) {
        let loaded = || self.segments.iter().filter(|segment| !is_empty(segment));
        let start = loaded().map(|segment| segment.at).min().unwrap_or(0);
        let end = loaded().map(|segment| segment.at.saturating_add(segment.mem_size));
        (start, end.max().unwrap_or(0))
    }

    /// The first byte that is no RAM or taken, found from one edge to the next.
    fn first_not_free(&self, start: u64, end: u64) -> Option<u64> {
        let mut at = start;
        while at < end {
            let holds = |range: &&GuestRange| {
                let last = range.start.0.saturating_add(range.len_bytes);
                range.start.0 <= at && at < last
            };
            let ram = self.ram.iter().filter(holds);
            let ends = ram.map(|range| range.start.0.saturating_add(range.len_bytes));
            let Some(ram_end) = ends.max() else {
                return Some(at);
            };
            if self.taken.iter().any(|range| holds(&range)) {
                return Some(at);
            }
            let holes = self.taken.iter().filter(|range| range.len_bytes > 0);
            let next = holes.map(|range| range.start.0).filter(|&hole| hole > at);
            at = next.min().unwrap_or(u64::MAX).min(ram_end);
        }
        None
    }
}

const fn is_empty(segment: &Segment) -> bool {
    segment.mem_size == 0 && segment.file_size == 0
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or_default()
}
