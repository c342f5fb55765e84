//! Where `place` puts things: plain numbers, without an image, a file or memory.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "the numbers are small, and a test may stop"
)]

use pvh_abi::{Gpa, GuestRange};
use pvh_loader::plan::{
    Demand, Fix, Obstacle, Placement, PlanError, Relocation, Segment, WriteKind, place,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn range(start: u64, end: u64) -> GuestRange {
    GuestRange::new(Gpa(start), end - start)
}

fn segment(at: u64, file_size: u64, mem_size: u64) -> Segment {
    Segment {
        at,
        mem_size,
        file_offset: 0x1000,
        file_size,
        align: 0x20_0000,
    }
}

/// A kernel of 1 MiB at 16 MiB, entered at its start, in 128 MiB of RAM; a page of start info.
struct Case {
    segments: Vec<Segment>,
    entry: u32,
    relocation: Option<Relocation>,
    modules: Vec<u64>,
    start_info_bytes: u64,
    ram: Vec<GuestRange>,
    taken: Vec<GuestRange>,
}

fn case() -> Case {
    Case {
        segments: vec![segment(16 * MIB, MIB, MIB)],
        entry: 0x100_0000,
        relocation: None,
        modules: Vec::new(),
        start_info_bytes: 200,
        ram: vec![range(0, 128 * MIB)],
        taken: Vec::new(),
    }
}

impl Case {
    fn place(&self) -> Result<Placement, PlanError> {
        place(&Demand {
            segments: &self.segments,
            file_len_bytes: 64 * MIB,
            entry: self.entry,
            relocation: self.relocation,
            module_sizes: &self.modules,
            start_info_bytes: self.start_info_bytes,
            ram: &self.ram,
            taken: &self.taken,
        })
    }
}

#[test]
fn everything_follows_the_kernel_in_the_order_xen_has() {
    let case = Case {
        modules: vec![5000, 0, 4096],
        ..case()
    };
    let plan = case.place().unwrap();
    assert_eq!((plan.entry, plan.moved_by), (0x100_0000, 0));
    assert_eq!(plan.kernel, range(16 * MIB, 17 * MIB));
    let modules = [
        GuestRange::new(Gpa(0x110_0000), 5000),
        GuestRange::new(Gpa(0x110_2000), 0),
        GuestRange::new(Gpa(0x110_3000), 4096),
    ];
    assert_eq!(plan.modules, modules);
    assert_eq!(plan.start_info, Gpa(0x110_4000));
    let writes: Vec<_> = plan.writes.iter().map(|w| (w.kind, w.range)).collect();
    let kernel = WriteKind::Segment {
        index: 0,
        file_offset: 0x1000,
    };
    assert_eq!(
        writes,
        [
            (kernel, range(0x100_0000, 0x110_0000)),
            (WriteKind::Module { index: 0 }, modules[0]),
            (
                WriteKind::ModuleTail { index: 0 },
                range(0x110_1388, 0x110_2000)
            ),
            (
                WriteKind::ModuleTail { index: 1 },
                range(0x110_2000, 0x110_3000)
            ),
            (WriteKind::Module { index: 2 }, modules[2]),
            (WriteKind::StartInfo, range(0x110_4000, 0x110_5000)),
        ]
    );
}

#[test]
fn zeros_follow_the_bytes_of_a_segment() {
    let case = Case {
        segments: vec![segment(16 * MIB, 100, MIB), segment(32 * MIB, 0, 8)],
        ..case()
    };
    let writes = case.place().unwrap().writes;
    assert_eq!(writes[1].kind, WriteKind::Bss { index: 0 });
    assert_eq!(writes[1].range, range(0x100_0064, 0x110_0000));
    assert_eq!(writes[2].kind, WriteKind::Bss { index: 1 });
    assert_eq!(writes[2].range, range(0x200_0000, 0x200_0008));
}

#[test]
fn an_empty_segment_has_no_place_and_takes_none() {
    let mut case = case();
    case.segments.push(segment(1 << 60, 0, 0));
    assert_eq!(case.place().unwrap().kernel, range(16 * MIB, 17 * MIB));
}

#[test]
fn the_bytes_of_a_segment_may_not_end_after_the_file() {
    let mut case = case();
    case.segments[0].file_offset = 63 * MIB;
    assert!(case.place().is_ok());
    for file_offset in [63 * MIB + 1, u64::MAX - MIB, u64::MAX] {
        case.segments[0].file_offset = file_offset;
        let want = PlanError::SegmentPastFile {
            index: 0,
            file_offset,
            file_size: MIB,
            file_len_bytes: 64 * MIB,
        };
        assert_eq!(case.place(), Err(want));
    }
    case.segments[0].file_size = 0; // then the offset means nothing
    assert!(case.place().is_ok());
}

#[test]
fn a_segment_may_end_at_4_gib_and_not_above() {
    let mut case = Case {
        segments: vec![segment(4 * GIB - MIB, MIB, MIB)],
        entry: 0xFFF0_0000,
        ram: vec![range(0, 5 * GIB)],
        ..case()
    };
    assert_eq!(case.place().unwrap().kernel, range(4 * GIB - MIB, 4 * GIB));
    case.segments[0].mem_size += 1;
    let want = PlanError::SegmentTooHigh {
        index: 0,
        at: Gpa(4 * GIB - MIB),
        mem_size: MIB + 1,
    };
    assert_eq!(case.place(), Err(want));
}

#[test]
fn a_large_module_leaves_the_start_info_below_1_gib() {
    let case = Case {
        modules: vec![2 * GIB],
        ram: vec![range(0, 3 * GIB)],
        ..case()
    };
    let plan = case.place().unwrap();
    assert_eq!(plan.start_info, Gpa(17 * MIB));
    assert_eq!(
        plan.modules,
        [GuestRange::new(Gpa(17 * MIB + 4 * KIB), 2 * GIB)]
    );
}

#[test]
fn a_module_that_fills_all_after_the_kernel_leaves_the_start_info_before_it() {
    let case = Case {
        modules: vec![2 * GIB],
        ram: vec![range(0, 2 * GIB + 17 * MIB)],
        ..case()
    };
    let plan = case.place().unwrap();
    assert_eq!(plan.start_info, Gpa(MIB));
    assert_eq!(plan.modules, [GuestRange::new(Gpa(17 * MIB), 2 * GIB)]);
}

#[test]
fn a_module_goes_before_a_kernel_that_has_no_room_after_it() {
    let case = Case {
        modules: vec![8 * MIB, 3 * KIB],
        ram: vec![range(0, 18 * MIB)],
        ..case()
    };
    let plan = case.place().unwrap();
    let starts: Vec<_> = plan.modules.iter().map(|module| module.start).collect();
    assert_eq!(starts, [Gpa(MIB), Gpa(17 * MIB + 4 * KIB)]);
    assert_eq!(plan.start_info, Gpa(17 * MIB));
}

#[test]
fn a_kernel_above_1_gib_has_its_start_info_below() {
    let case = Case {
        segments: vec![segment(GIB, MIB, MIB)],
        entry: 0x4000_0000,
        ram: vec![range(0, 2 * GIB)],
        ..case()
    };
    assert_eq!(case.place().unwrap().start_info, Gpa(MIB));
}

/// Xen as a guest copies a trampoline to 0x1000, OSv writes to 0x1000 and 0x2000, Linux takes the
/// last 384 KiB below 1 MiB for a hole. The page below that is for a stack.
#[test]
fn the_loader_places_nothing_in_the_low_pages_or_the_legacy_hole() {
    let small = |end| Case {
        segments: vec![segment(MIB, MIB, MIB)],
        entry: 0x10_0000,
        ram: vec![range(0, end)],
        ..case()
    };
    assert_eq!(small(2 * MIB).place().unwrap().start_info, Gpa(0x1_0000));
    let module = Case {
        modules: vec![600 * KIB],
        ..small(2 * MIB)
    };
    assert!(matches!(
        module.place(),
        Err(PlanError::NoRoomForModule {
            index: 0,
            longest_bytes: 0x8_E000,
            ..
        })
    ));
}

#[test]
fn segments_of_the_image_may_lie_in_the_low_pages() {
    let case = Case {
        segments: vec![segment(0, 0x1000, 0x1000), segment(0x7000, 0x1000, 0x1000)],
        entry: 0,
        ..case()
    };
    let plan = case.place().unwrap();
    assert_eq!(plan.kernel, range(0, 0x8000));
    assert_eq!(plan.start_info, Gpa(0x1_0000));
}

#[test]
fn start_info_without_room_below_1_gib_is_refused() {
    let case = Case {
        segments: vec![segment(2 * GIB, MIB, MIB)],
        entry: 0x8000_0000,
        ram: vec![range(0, 0x1_0000), range(GIB, 3 * GIB)],
        ..case()
    };
    let error = case.place().unwrap_err();
    let want = PlanError::NoRoomForStartInfo {
        size_bytes: 200,
        longest_bytes: 0,
        fix: Fix::SmallerStartInfo,
    };
    assert_eq!(error, want);
    // Nor would more RAM help if there were less.
    let less = Case {
        segments: vec![segment(2 * GIB, MIB, MIB)],
        entry: 0x8000_0000,
        ram: vec![range(0, 0x1_0000), range(2 * GIB, 2 * GIB + MIB)],
        ..self::case()
    };
    assert_eq!(less.place().unwrap_err(), want);
    assert_eq!(
        error.to_string(),
        "the start info needs 200 bytes contiguous below 1 GiB; the largest free block is 0 bytes"
    );
}

#[test]
fn a_taken_range_is_kept_free_by_modules_and_start_info() {
    let case = Case {
        modules: vec![1],
        taken: vec![
            range(17 * MIB + 1, 17 * MIB + 2),
            range(17 * MIB + 0x2FFF, 17 * MIB + 0x3001),
        ],
        ..case()
    };
    let plan = case.place().unwrap();
    assert_eq!(plan.modules, [GuestRange::new(Gpa(17 * MIB + 0x1000), 1)]);
    assert_eq!(plan.start_info, Gpa(17 * MIB + 0x4000));
}

#[test]
fn ram_ranges_that_touch_or_overlap_are_one() {
    let case = Case {
        ram: vec![
            range(16 * MIB + 5, 64 * MIB),
            range(0, 16 * MIB + 5),
            range(MIB, 2 * MIB),
        ],
        ..case()
    };
    assert_eq!(case.place().unwrap().kernel, range(16 * MIB, 17 * MIB));
}

#[test]
fn ram_above_4_gib_holds_nothing() {
    let case = Case {
        modules: vec![2 * GIB],
        ram: vec![range(0, GIB), range(4 * GIB, 16 * GIB)],
        ..case()
    };
    let error = case.place().unwrap_err();
    assert!(
        matches!(error, PlanError::NoRoomForModule { index: 0, .. }),
        "{error}"
    );
    let only_high = Case {
        ram: vec![range(4 * GIB, 16 * GIB)],
        ..case
    };
    assert_eq!(only_high.place(), Err(PlanError::NoRam));
}

fn relocatable(align: Option<u32>, min: u32, max: u32) -> Case {
    Case {
        relocation: Some(Relocation { align, min, max }),
        // The preferred place is taken.
        taken: vec![range(16 * MIB + 0x1000, 16 * MIB + 0x2000)],
        ..case()
    }
}

/// xen/arch/x86/hvm/dom0_build.c: the highest start = (end - size) rounded down to the alignment.
#[test]
fn a_relocatable_kernel_goes_to_the_highest_place_and_the_entry_with_it() {
    let mut case = relocatable(Some(0x20_0000), 0, u32::MAX);
    case.entry = 0x100_0123;
    let plan = case.place().unwrap();
    assert_eq!(plan.kernel, range(126 * MIB, 127 * MIB));
    assert_eq!(plan.entry, 126 * 0x10_0000 + 0x123);
    assert_eq!(plan.moved_by, 110 * 0x10_0000);
    assert_eq!(plan.start_info, Gpa(127 * MIB));
    assert_eq!(plan.writes[0].range, range(126 * MIB, 127 * MIB));
}

#[test]
fn a_kernel_moves_down_as_well() {
    let mut case = relocatable(Some(0x1000), 0, 0x00FF_FFFF);
    case.modules = vec![MIB];
    let plan = case.place().unwrap();
    assert_eq!(plan.kernel, range(15 * MIB, 16 * MIB));
    assert_eq!(plan.moved_by, -0x10_0000);
    assert_eq!(plan.entry, 0xF0_0000);
}

#[test]
fn a_relocatable_kernel_stays_where_it_is_free() {
    let mut case = relocatable(Some(3), 1 << 30, 0);
    case.taken.clear();
    assert_eq!(case.place().unwrap().moved_by, 0);
}

#[test]
fn the_last_byte_of_a_moved_kernel_may_be_max_itself() {
    let plan = relocatable(Some(0x10_0000), 0, 64 * 0x10_0000 - 1)
        .place()
        .unwrap();
    assert_eq!(plan.kernel, range(63 * MIB, 64 * MIB));
    let plan = relocatable(Some(0x10_0000), 0, 64 * 0x10_0000 - 2)
        .place()
        .unwrap();
    assert_eq!(plan.kernel, range(62 * MIB, 63 * MIB));
}

#[test]
fn a_moved_kernel_stays_at_or_above_min() {
    let plan = relocatable(Some(0x10_0000), 127 * 0x10_0000, u32::MAX).place();
    assert_eq!(plan.unwrap().kernel, range(127 * MIB, 128 * MIB));
    let error = relocatable(Some(0x10_0000), 127 * 0x10_0000 + 1, u32::MAX).place();
    let error = error.unwrap_err();
    assert!(
        matches!(error, PlanError::RelocationNoRoom { .. }),
        "{error}"
    );
    assert!(
        matches!(error.fix(), Some(Fix::MoreRam { .. })),
        "{error:?}"
    );
}

/// Without an alignment of its own: the largest of the segments' from a page up, else 2 MiB.
#[test]
fn the_default_alignment_is_that_of_libelf() {
    for (aligns, want) in [
        ([0, 1], 0x20_0000),
        ([0x1000, 8], 0x1000),
        ([0x40_0000, 0x1000], 0x40_0000),
    ] {
        let mut case = relocatable(None, 0, u32::MAX);
        case.segments = vec![segment(16 * MIB, 8, 8), segment(17 * MIB - 8, 8, 8)];
        for (segment, align) in case.segments.iter_mut().zip(aligns) {
            segment.align = align;
        }
        let start = (127 * MIB) / want * want;
        assert_eq!(case.place().unwrap().kernel.start, Gpa(start), "{want:#x}");
    }
}

#[test]
fn a_bad_alignment_is_refused_only_when_the_kernel_must_move() {
    for align in [0, 3, 0x20_0001] {
        let error = relocatable(Some(align), 0, u32::MAX).place().unwrap_err();
        let align = u64::from(align);
        assert_eq!(error, PlanError::RelocationAlign { align });
    }
}

/// Two segments with a hole between them: nobody says that the hole belongs to the image.
#[test]
fn a_hole_between_two_segments_is_no_obstacle() {
    let case = Case {
        segments: vec![segment(0x8000, 100, 100), segment(MIB, 100, 100)],
        entry: 0x10_0000,
        ram: vec![range(0, 640 * KIB), range(MIB, 64 * MIB)],
        taken: vec![range(0x9000, 0xA000)],
        ..case()
    };
    let plan = case.place().unwrap();
    assert_eq!(plan.kernel, range(0x8000, MIB + 100));
    assert_eq!(plan.start_info, Gpa(MIB + 0x1000));
}

/// A relocatable image is moved for a hole as well, for nobody says that it is not the image's;
/// when there is no other place, it stays.
#[test]
fn a_hole_between_two_segments_moves_an_image_that_can_be_moved() {
    let mut case = relocatable(Some(0x10_0000), 0, u32::MAX);
    case.segments = vec![
        segment(16 * MIB, 0x1000, 0x1000),
        segment(17 * MIB - 1, 1, 1),
    ];
    assert_eq!(case.place().unwrap().kernel, range(127 * MIB, 128 * MIB));
    case.relocation = Some(Relocation {
        align: Some(0x10_0000),
        min: 0x100_0000,
        max: 0x10F_FFFF,
    });
    let plan = case.place().unwrap();
    assert_eq!((plan.kernel, plan.moved_by), (range(16 * MIB, 17 * MIB), 0));
}

#[test]
fn an_obstacle_is_named_with_its_first_byte() {
    let mut case = case();
    case.taken = vec![range(16 * MIB + 7, 16 * MIB + 8)];
    let error = case.place().unwrap_err();
    assert_eq!(
        error.to_string(),
        "segment 0 (0x1000000..0x1100000) cannot be placed: a reserved range at 0x1000007"
    );
    assert_eq!(error.fix(), Some(Fix::MoveReserved));
    case.ram = vec![range(0, 16 * MIB + 7)];
    let error = case.place().unwrap_err();
    assert!(matches!(
        error,
        PlanError::SegmentBlocked {
            index: 0,
            at: Gpa(0x100_0007),
            obstacle: Obstacle::NotRam,
            ..
        }
    ));
}

/// Each error that asks for more RAM is gone with that much RAM.
#[test]
fn the_ram_that_the_fix_names_is_enough() {
    let cases = [
        Case {
            ram: vec![range(0, MIB)],
            modules: vec![70 * MIB + 1, 5],
            ..case()
        },
        Case {
            ram: vec![range(0, 20 * MIB)],
            modules: vec![4, 70 * MIB + 1],
            ..case()
        },
        Case {
            ram: vec![range(0, 20 * MIB)],
            start_info_bytes: 40 * MIB,
            ..case()
        },
        Case {
            ram: vec![range(0, 20 * MIB)],
            modules: vec![MIB],
            ..relocatable(Some(1), 0x200_0000, u32::MAX)
        },
    ];
    for mut case in cases {
        let error = case.place().unwrap_err();
        let Some(Fix::MoreRam { ram_bytes }) = error.fix() else {
            panic!("{error}: {:?}", error.fix());
        };
        case.ram = vec![range(0, ram_bytes)];
        case.place()
            .unwrap_or_else(|again| panic!("{error}, then {again}"));
    }
}

#[test]
fn more_ram_is_not_advised_for_a_module_that_never_fits_below_4_gib() {
    for size in [4 * GIB, 4 * GIB - 64 * MIB, u64::MAX, u64::MAX - 4095] {
        let case = Case {
            modules: vec![size],
            ..case()
        };
        assert_eq!(
            case.place().unwrap_err().fix(),
            Some(Fix::SmallerModules),
            "{size:#x}"
        );
    }
}

/// A program header table has 65535 entries at most; each segment is looked at a few times, not
/// against each other.
#[test]
fn as_many_segments_as_a_header_can_count_are_planned() {
    let segments: Vec<_> = (0..65_535)
        .rev()
        .map(|n| segment(16 * MIB + n * 16, 8, 16))
        .collect();
    let case = Case {
        segments,
        modules: vec![1; 1000],
        ..case()
    };
    let plan = case.place().unwrap();
    assert_eq!(plan.writes.len(), 2 * 65_535 + 2 * 1000 + 1);
    let mut moved = case;
    moved.relocation = Some(Relocation {
        align: None,
        min: 0,
        max: u32::MAX,
    });
    moved.taken = (0..100)
        .map(|n| range(16 * MIB + n * 64, 16 * MIB + n * 64 + 1))
        .collect();
    assert_ne!(moved.place().unwrap().moved_by, 0);
}
