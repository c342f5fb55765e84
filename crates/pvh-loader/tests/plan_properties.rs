//! Properties of every plan.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "the oracle's numbers are 128 bits wide, and a test may stop"
)]

use proptest::prelude::*;
use pvh_abi::{Gpa, GuestRange};
use pvh_loader::plan::{Demand, Placement, PlanError, Relocation, Segment, WriteKind, place};

#[derive(Clone, Debug)]
struct Case {
    segments: Vec<Segment>,
    file_len_bytes: u64,
    entry: u32,
    relocation: Option<Relocation>,
    module_sizes: Vec<u64>,
    start_info_bytes: u64,
    ram: Vec<GuestRange>,
    taken: Vec<GuestRange>,
}

impl Case {
    fn place(&self) -> Result<Placement, PlanError> {
        place(&Demand {
            segments: &self.segments,
            file_len_bytes: self.file_len_bytes,
            entry: self.entry,
            relocation: self.relocation,
            module_sizes: &self.module_sizes,
            start_info_bytes: self.start_info_bytes,
            ram: &self.ram,
            taken: &self.taken,
        })
    }
}

/// First and last-plus-one, without overflow.
fn ends(range: GuestRange) -> (u128, u128) {
    let start = u128::from(range.start.0);
    (start, start + u128::from(range.len_bytes))
}

/// Tells whether the union of `parts` holds all of `whole`, by eating it from the left.
fn covered(whole: GuestRange, parts: &[GuestRange]) -> bool {
    let (mut at, end) = ends(whole);
    while at < end {
        let reach = parts
            .iter()
            .map(|&part| ends(part))
            .filter(|&(s, e)| s <= at && at < e);
        match reach.map(|(_, e)| e).max() {
            Some(further) => at = further,
            None => return false,
        }
    }
    true
}

fn apart(a: GuestRange, b: GuestRange) -> bool {
    let ((a_start, a_end), (b_start, b_end)) = (ends(a), ends(b));
    a_start == a_end || b_start == b_end || a_end <= b_start || b_end <= a_start
}

fn check(case: &Case, plan: &Placement) -> Result<(), TestCaseError> {
    for (n, write) in plan.writes.iter().enumerate() {
        let range = write.range;
        prop_assert!(range.len_bytes > 0, "{:?} is empty", write);
        prop_assert!(ends(range).1 <= 1 << 32, "{:?} is not below 4 GiB", write);
        prop_assert!(covered(range, &case.ram), "{:?} is not all RAM", write);
        for &taken in &case.taken {
            prop_assert!(apart(range, taken), "{:?} is in {}", write, taken);
        }
        for other in plan.writes.iter().skip(n + 1) {
            prop_assert!(
                apart(range, other.range),
                "{:?} overlaps {:?}",
                write,
                other
            );
        }
    }
    check_kernel(case, plan)?;
    check_pieces(case, plan)
}

fn check_kernel(case: &Case, plan: &Placement) -> Result<(), TestCaseError> {
    let mut entered = false;
    for (index, segment) in case.segments.iter().enumerate() {
        let start = segment.at.wrapping_add_signed(plan.moved_by);
        let filled = GuestRange::new(Gpa(start), segment.file_size);
        let zeros_at = Gpa(start.wrapping_add(segment.file_size));
        let zeros = GuestRange::new(zeros_at, segment.mem_size - segment.file_size);
        let all = GuestRange::new(Gpa(start), segment.mem_size);
        entered |= all.contains(Gpa(plan.entry.into()));
        let file_offset = segment.file_offset;
        for (kind, range) in [
            (WriteKind::Segment { index, file_offset }, filled),
            (WriteKind::Bss { index }, zeros),
        ] {
            let found: Vec<_> = plan
                .writes
                .iter()
                .filter(|write| write.kind == kind)
                .collect();
            if kind == (WriteKind::Bss { index }) && shares_zeros(case, index) {
                prop_assert!(found.iter().all(|write| is_inside(write.range, range)));
                continue;
            }
            match (&found[..], range.len_bytes) {
                ([], 0) => {}
                ([write], _) => prop_assert_eq!(write.range, range),
                _ => prop_assert!(false, "{} writes of {:?}", found.len(), kind),
            }
        }
    }
    prop_assert!(entered, "the entry {:#x} is in no segment", plan.entry);
    prop_assert_eq!(i64::from(plan.entry), i64::from(case.entry) + plan.moved_by);
    if plan.moved_by != 0 {
        let Relocation { align, min, max } = case.relocation.unwrap();
        let (start, end) = ends(plan.kernel);
        prop_assert!(start >= u128::from(min) && end - 1 <= u128::from(max));
        prop_assert!(plan.kernel.start.is_aligned(align.map_or(4096, u64::from)));
    }
    Ok(())
}

/// Tells whether another segment overlaps one.
fn shares_zeros(case: &Case, index: usize) -> bool {
    let range = |s: &Segment| GuestRange::new(Gpa(s.at), s.mem_size);
    let own = case.segments.get(index).map(range);
    let mut others = case.segments.iter().enumerate();
    others.any(|(other, segment)| {
        other != index && own.is_some_and(|own| !apart(own, range(segment)))
    })
}

fn is_inside(part: GuestRange, whole: GuestRange) -> bool {
    let ((start, end), (first, last)) = (ends(part), ends(whole));
    first <= start && end <= last
}

fn check_pieces(case: &Case, plan: &Placement) -> Result<(), TestCaseError> {
    let sizes: Vec<u64> = plan.modules.iter().map(|module| module.len_bytes).collect();
    prop_assert_eq!(&sizes, &case.module_sizes);
    for module in &plan.modules {
        prop_assert!(module.start.is_aligned(4096) && module.start.0 >= 0x1_0000);
        let page = GuestRange::new(module.start, 1);
        prop_assert!(apart(page, plan.kernel), "{} is in the kernel", module);
    }
    let last = plan.writes.last().unwrap();
    prop_assert_eq!(last.kind, WriteKind::StartInfo);
    prop_assert_eq!(last.range.start, plan.start_info);
    prop_assert!(last.range.len_bytes >= case.start_info_bytes);
    prop_assert!(
        ends(last.range).1 <= 1 << 30,
        "the start info is not below 1 GiB"
    );
    prop_assert!(plan.start_info.is_aligned(4096) && plan.start_info.0 >= 0x1_0000);
    prop_assert!(apart(last.range, plan.kernel));
    Ok(())
}

fn a_range(limit: u64) -> impl Strategy<Value = GuestRange> {
    let pages = limit / 4096;
    let whole = (0..pages, 1..=pages).prop_map(|(start, len)| (start * 4096, len * 4096));
    let odd = (0..limit, 0..limit);
    prop_oneof![3 => whole, 1 => odd]
        .prop_map(move |(start, len)| GuestRange::new(Gpa(start), len.min(limit - start)))
}

/// Segments one after the other, with gaps, in any order in the file.
fn segments(limit: u64) -> impl Strategy<Value = Vec<Segment>> {
    let step = limit / 32;
    let one = (0..step, 1..step, 0..=100_u64, 0_u32..24);
    let all = prop::collection::vec(one, 1..8).prop_map(|list| {
        let mut at = 0x1000;
        let mut segments = Vec::new();
        for (gap, mem_size, percent, align) in list {
            at += gap;
            let file_size = mem_size * percent / 100;
            let align = 1 << align;
            segments.push(Segment {
                at,
                mem_size,
                file_offset: gap,
                file_size,
                align,
            });
            at += mem_size;
        }
        segments
    });
    all.prop_shuffle()
}

fn relocation(limit: u64) -> impl Strategy<Value = Option<Relocation>> {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let align = prop::option::of((0_u32..23).prop_map(|shift| 1 << shift));
    prop::option::of((align, 0..limit / 2, limit / 2..=limit))
        .prop_map(|r| r.map(|(align, min, max)| Relocation { align, min, max }))
}

/// Most of these can be planned.
fn likely(limit: u64) -> impl Strategy<Value = Case> {
    let memory = (
        prop::collection::vec(a_range(limit), 1..4),
        prop::collection::vec(a_range(limit / 32), 0..3),
        any::<bool>(),
    );
    let pieces = (prop::collection::vec(0..limit / 8, 0..5), 1..limit / 64);
    let entry = any::<(prop::sample::Index, prop::sample::Index)>();
    (segments(limit), relocation(limit), memory, pieces, entry).prop_map(
        move |(segments, relocation, (mut ram, taken, whole), pieces, (which, offset))| {
            if whole {
                ram = vec![GuestRange::new(Gpa(0), limit)];
            }
            let entered = which.get(&segments);
            let offset = offset.index(usize::try_from(entered.mem_size).unwrap());
            Case {
                entry: u32::try_from(entered.at + offset as u64).unwrap(),
                segments,
                file_len_bytes: limit * 2,
                relocation,
                module_sizes: pieces.0,
                start_info_bytes: pieces.1,
                ram,
                taken,
            }
        },
    )
}

/// Numbers that break sums.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u32..64, -2_i64..=2).prop_map(|(shift, off)| (1_u64 << shift).wrapping_add_signed(off)),
        0..=0x20_0000_u64,
    ]
}

fn wild() -> impl Strategy<Value = Case> {
    let range = || (any_number(), any_number()).prop_map(|(at, len)| GuestRange::new(Gpa(at), len));
    let numbers = (
        any_number(),
        any_number(),
        any_number(),
        any_number(),
        any_number(),
    );
    let segment = numbers.prop_map(|(at, mem_size, file_offset, file_size, align)| Segment {
        at,
        mem_size,
        file_offset,
        file_size: file_size.min(mem_size),
        align,
    });
    let relocation = prop::option::of(any::<(Option<u32>, u32, u32)>());
    (
        (
            prop::collection::vec(segment, 0..4),
            any_number(),
            any::<u32>(),
            relocation,
        ),
        (prop::collection::vec(any_number(), 0..4), any_number()),
        (
            prop::collection::vec(range(), 0..4),
            prop::collection::vec(range(), 0..3),
        ),
    )
        .prop_map(
            |((segments, file_len_bytes, entry, relocation), pieces, memory)| Case {
                segments,
                file_len_bytes,
                entry,
                relocation: relocation.map(|(align, min, max)| Relocation { align, min, max }),
                module_sizes: pieces.0,
                start_info_bytes: pieces.1,
                ram: memory.0,
                taken: memory.1,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_plan_for_a_small_guest_is_sound(case in likely(8 << 20)) {
        if let Ok(plan) = case.place() {
            check(&case, &plan)?;
        }
    }

    #[test]
    fn a_plan_for_a_large_guest_is_sound(case in likely(4 << 30)) {
        if let Ok(plan) = case.place() {
            check(&case, &plan)?;
        }
    }

    #[test]
    fn numbers_at_the_edges_neither_stop_the_planner_nor_fool_it(case in wild()) {
        if let Ok(plan) = case.place() {
            check(&case, &plan)?;
        }
    }

    /// Segments overlap exactly where a byte of one lies in another; zeros may overlap zeros.
    #[test]
    fn every_overlap_of_segments_is_found(
        parts in prop::collection::vec((16_u64..48, 0_u64..6, 0_u64..6), 1..6),
    ) {
        let segments: Vec<_> = parts.iter().map(|&(at, mem_size, file_size)| Segment {
            at,
            mem_size,
            file_offset: 0,
            file_size: file_size.saturating_sub(2).min(mem_size),
            align: 1,
        }).collect();
        let range = |s: &Segment| GuestRange::new(Gpa(s.at), s.mem_size);
        let ranges: Vec<_> = segments.iter().map(range).collect();
        let bytes = |s: &Segment| GuestRange::new(Gpa(s.at), s.file_size);
        let bytes: Vec<_> = segments.iter().map(bytes).collect();
        let meet = |a: usize, b: usize| !apart(bytes[a], ranges[b]) || !apart(bytes[b], ranges[a]);
        let overlap = (0..ranges.len()).any(|a| (0..a).any(|b| meet(a, b)));
        let case = Case {
            entry: u32::try_from(segments[0].at).unwrap(),
            segments,
            file_len_bytes: 16,
            relocation: None,
            module_sizes: Vec::new(),
            start_info_bytes: 1,
            ram: vec![GuestRange::new(Gpa(0), 1 << 20)],
            taken: Vec::new(),
        };
        match case.place() {
            Err(PlanError::SegmentsOverlap { first, second, at }) => {
                prop_assert!(overlap);
                prop_assert!(ranges[first].contains(at) && ranges[second].contains(at));
            }
            _ => prop_assert!(!overlap),
        }
    }

    /// A guest with twice the memory that is asked for, all of it free, can always be planned.
    #[test]
    fn what_fits_easily_is_planned(case in likely(64 << 20)) {
        let case = Case {
            ram: vec![GuestRange::new(Gpa(0), 256 << 20)],
            taken: Vec::new(),
            ..case
        };
        let plan = case.place();
        prop_assert!(plan.is_ok(), "{:?}", plan);
        prop_assert_eq!(plan.unwrap().moved_by, 0);
    }

    /// The order of the segments in the file and of the ranges of the map decides nothing.
    #[test]
    fn the_order_of_the_ranges_changes_nothing(case in likely(64 << 20)) {
        let mut turned = case.clone();
        turned.ram.reverse();
        turned.taken.reverse();
        prop_assert_eq!(case.place(), turned.place());
    }
}

/// The properties above are not empty: many of the cases are planned, and many are moved.
#[test]
fn the_likely_cases_are_planned_and_moved_often_enough() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let tries = 500;
    let (mut planned, mut moved) = (0, 0);
    for _ in 0..tries {
        let case = likely(64 << 20).new_tree(&mut runner).unwrap().current();
        if let Ok(plan) = case.place() {
            planned += 1;
            moved += i32::from(plan.moved_by != 0);
        }
    }
    assert!(
        planned * 3 > tries && moved * 10 > tries,
        "{planned} planned, {moved} moved of {tries}"
    );
}
