//! Finding the hypercall stubs of an image, and what patching them does to guest memory.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the numbers are small, and a test may stop"
)]

use std::{
    env, fs,
    io::{Seek, SeekFrom, Write as _},
    time::Instant,
};

use proptest::prelude::*;
use pvh_abi::{Gpa, GuestRange, start_info::MemmapKind};
use pvh_loader::{
    Image,
    commit::{CommitError, Method},
    plan::{Boot, PlanError},
    stubs::{CallInstruction, HypercallPatch, Stub, StubError, StubPair},
};
use pvh_start_info::MemmapRange;
use pvh_testkit::elf::{Class, Elf, Note, Segment};

#[path = "common/recorder.rs"]
mod common;
use common::{Recorder, planned};

const MIB: u64 = 1 << 20;
const ENTRY: u32 = 0x10_0000;
const PORT: u8 = 0xE4;

/// VMMCALL, RET, padding, VMCALL, RET.
const PAIR: &[u8] =
    b"\x0f\x01\xd9\xc3\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\x0f\x01\xc1\xc3";

/// `len` bytes of HLT with `pieces` put in at their offsets.
fn code(len: usize, pieces: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0xF4; len];
    for &(at, piece) in pieces {
        bytes[at..at + piece.len()].copy_from_slice(piece);
    }
    bytes
}

fn elf(segments: impl IntoIterator<Item = Segment>) -> Elf {
    let start = Elf::bootable(Class::Elf64, ENTRY);
    segments.into_iter().fold(start, Elf::segment)
}

fn image(segments: impl IntoIterator<Item = Segment>) -> Image {
    Image::from_bytes(elf(segments).build()).unwrap()
}

fn find(segments: impl IntoIterator<Item = Segment>) -> Result<StubPair, StubError> {
    StubPair::find(&image(segments))
}

fn boot(image: &Image) -> Boot {
    let ram = MemmapRange {
        start: Gpa(0),
        len_bytes: 64 * MIB,
        kind: MemmapKind::RAM,
    };
    let stubs = StubPair::find(image).unwrap();
    Boot {
        memmap: vec![ram],
        patch: Some(HypercallPatch { stubs, port: PORT }),
        ..Boot::default()
    }
}

fn memory() -> Recorder {
    Recorder::new(&[GuestRange::new(Gpa(0), 64 * MIB)])
}

#[test]
fn a_pair_is_found_with_its_file_and_guest_addresses() {
    let file = elf([Segment::load(2 * MIB, code(4096, &[(0x240, PAIR)]))]);
    let bytes = file.build();
    let pair = StubPair::find(&Image::from_bytes(bytes.clone()).unwrap()).unwrap();
    let in_file = bytes.windows(20).position(|at| at == PAIR).unwrap() as u64;
    let vmmcall = Stub {
        call: CallInstruction::Vmmcall,
        at: Gpa(0x20_0240),
        file_offset: in_file,
        segment: 1,
    };
    let vmcall = Stub {
        call: CallInstruction::Vmcall,
        at: Gpa(0x20_0250),
        file_offset: in_file + 16,
        segment: 1,
    };
    assert_eq!(pair, StubPair { vmmcall, vmcall });
}

#[test]
fn stubs_are_aligned_in_memory_wherever_their_segment_begins() {
    let pair = find([Segment::load(2 * MIB + 5, code(4096, &[(11, PAIR)]))]).unwrap();
    assert_eq!(pair.vmmcall.at, Gpa(2 * MIB + 16));
    let unaligned = find([Segment::load(2 * MIB + 5, code(4096, &[(16, PAIR)]))]);
    assert!(matches!(unaligned, Err(StubError::NoStub { .. })));
}

#[test]
fn a_pair_across_the_pieces_the_search_reads_is_found_once() {
    const PIECE: usize = 256 << 10;
    for back in (0..=96).step_by(16) {
        let segment = Segment::load(2 * MIB, code(2 * PIECE, &[(PIECE - back, PAIR)]));
        let pair = find([segment]).unwrap();
        assert_eq!(pair.vmmcall.at, Gpa(2 * MIB + (PIECE - back) as u64));
    }
}

#[test]
fn code_without_a_stub_is_refused() {
    let refused = find([Segment::load(2 * MIB, code(4096, &[]))]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no hypercall stub (VMMCALL or VMCALL, then a return) in 4112 bytes of code"
    );
}

#[test]
fn a_stub_without_the_other_is_refused() {
    let refused = find([Segment::load(2 * MIB, code(4096, &[(0x40, &PAIR[..16])]))]);
    assert!(matches!(
        refused,
        Err(StubError::NoPair { at: Gpa(0x20_0040) })
    ));
}

#[test]
fn two_pairs_are_refused_in_one_segment_or_in_two() {
    let twice = code(4096, &[(0x40, PAIR), (0x800, PAIR)]);
    let refused = find([Segment::load(2 * MIB, twice)]);
    let Err(StubError::Several { first, second }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((first, second), (Gpa(0x20_0040), Gpa(0x20_0800)));
    let one = || code(4096, &[(0x40, PAIR)]);
    let refused = find([Segment::load(2 * MIB, one()), Segment::load(3 * MIB, one())]);
    assert!(matches!(refused, Err(StubError::Several { .. })));
}

#[test]
fn three_stubs_in_a_row_are_refused() {
    let row = code(4096, &[(0x40, PAIR), (0x60, PAIR)]);
    let refused = find([Segment::load(2 * MIB, row)]);
    assert!(matches!(refused, Err(StubError::Several { .. })));
}

#[test]
fn a_lone_stub_beside_a_pair_does_not_matter() {
    let one = code(4096, &[(0x40, &PAIR[..16]), (0x800, PAIR)]);
    let pair = find([Segment::load(2 * MIB, one)]).unwrap();
    assert_eq!(pair.vmmcall.at, Gpa(0x20_0800));
}

#[test]
fn data_that_looks_like_a_pair_is_no_pair() {
    let data = Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)])).flags(6);
    assert!(matches!(find([data]), Err(StubError::NoStub { .. })));
}

#[test]
fn an_image_without_code_is_refused() {
    let file = Elf::new(Class::Elf64)
        .segment(Segment::load(u64::from(ENTRY), code(64, &[(0, PAIR)])).flags(4))
        .segment(Segment::notes(&[Note::entry(ENTRY)]));
    let refused = StubPair::find(&Image::from_bytes(file.build()).unwrap());
    assert!(matches!(refused, Err(StubError::NoCode)));
}

#[test]
fn more_code_than_256_mib_is_refused_before_it_is_read() {
    let huge = || Segment::load(2 * MIB, code(16, &[])).file_size(128 << 20);
    let refused = find([huge(), huge()]);
    let code_bytes = (256 << 20) + 16;
    assert!(
        matches!(refused, Err(StubError::TooMuchCode { code_bytes: found }) if found == code_bytes)
    );
}

#[test]
fn code_past_the_end_of_the_file_is_refused() {
    let refused = find([Segment::load(2 * MIB, code(16, &[])).file_size(1 << 20)]);
    assert!(matches!(refused, Err(StubError::Read(_))));
}

#[test]
fn code_past_the_end_of_the_address_space_is_refused() {
    let refused = find([Segment::load(u64::MAX - 8, code(16, &[]))]);
    assert!(matches!(refused, Err(StubError::Wraps { segment: 1 })));
    let offset = find([Segment::load(2 * MIB, code(16, &[])).offset(u64::MAX - 8)]);
    assert!(matches!(offset, Err(StubError::Wraps { segment: 1 })));
    assert!(find([Segment::load(u64::MAX - 16, code(15, &[]))]).is_err());
}

#[test]
fn the_instructions_become_out_to_the_port_and_nop() {
    let image = image([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]))]);
    let boot = boot(&image);
    let plan = image.plan(&boot).unwrap();
    let memory = memory();
    plan.commit(Method::Copy, &memory).unwrap();
    let found = memory.bytes(Gpa(0x20_0040), 20);
    let mut wanted = PAIR.to_vec();
    wanted[..3].copy_from_slice(&[0xE7, 0xE4, 0x90]); // out %eax, $0xe4; nop
    wanted[16..19].copy_from_slice(&[0xE7, 0xE4, 0x90]);
    assert_eq!(found, wanted);
}

#[test]
fn without_a_patch_the_instructions_stay() {
    let image = image([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]))]);
    let boot = Boot {
        patch: None,
        ..boot(&image)
    };
    let plan = image.plan(&boot).unwrap();
    assert!(plan.placement().patches.is_empty());
    let memory = memory();
    plan.commit(Method::Copy, &memory).unwrap();
    assert_eq!(memory.written(), planned(plan.placement()));
    assert_eq!(memory.bytes(Gpa(0x20_0040), 20), PAIR);
}

#[test]
fn the_patches_move_with_the_image() {
    let segment = Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]));
    let reloc = Note::reloc(&[0x20_0000, 0x100_0000, 0x3FF_FFFF]);
    let notes = [Note::entry(0x20_0000), reloc];
    let file = Elf::new(Class::Elf64)
        .segment(segment)
        .segment(Segment::notes(&notes))
        .build();
    let image = Image::from_bytes(file).unwrap();
    let reserved = vec![GuestRange::new(Gpa(2 * MIB), 1)];
    let boot = Boot {
        reserved,
        ..boot(&image)
    };
    let plan = image.plan(&boot).unwrap();
    assert!(plan.placement().moved_by > 0);
    let memory = memory();
    plan.commit(Method::Copy, &memory).unwrap();
    let at = plan.placement().kernel.start.0 + 0x40;
    assert_eq!(plan.placement().patches[0].at, Gpa(at));
    let text = plan.placement().patches[0].to_string();
    assert!(text.ends_with(&format!(" at {}", Gpa(at))), "{text}");
    assert_eq!(memory.bytes(Gpa(at), 3), [0xE7, 0xE4, 0x90]);
    assert_eq!(memory.bytes(Gpa(at + 16), 3), [0xE7, 0xE4, 0x90]);
}

#[test]
fn stubs_of_another_image_are_refused_by_the_plan() {
    let with = image([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]))]);
    let boot = boot(&with);
    let elsewhere = image([Segment::load(3 * MIB, code(4096, &[(0x40, PAIR)]))]);
    let short = image([Segment::load(2 * MIB, code(0x42, &[])).mem_size(4096)]);
    let data = image([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)])).flags(6)]);
    let none = image([]);
    for other in [elsewhere, short, data, none] {
        let refused = other.plan(&boot);
        assert!(matches!(
            refused,
            Err(PlanError::StubOutside {
                at: Gpa(0x20_0040),
                ..
            })
        ));
    }
}

#[test]
fn stubs_that_share_a_byte_are_refused_by_the_plan() {
    let image = image([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]))]);
    let mut boot = boot(&image);
    let patch = boot.patch.as_mut().unwrap();
    patch.stubs.vmcall.at = Gpa(patch.stubs.vmmcall.at.0 + 2);
    patch.stubs.vmcall.file_offset = patch.stubs.vmmcall.file_offset + 2;
    let refused = image.plan(&boot);
    let overlap = PlanError::StubsOverlap { at: Gpa(0x20_0042) };
    assert_eq!(refused.unwrap_err(), overlap);
}

#[test]
fn stubs_at_the_ends_of_the_address_space_are_refused_by_the_plan() {
    let image = image([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]))]);
    for at in [0, 1, u64::MAX - 2, u64::MAX] {
        let mut boot = boot(&image);
        boot.patch.as_mut().unwrap().stubs.vmcall.at = Gpa(at);
        assert!(matches!(
            image.plan(&boot),
            Err(PlanError::StubOutside { .. })
        ));
    }
}

#[test]
fn a_file_that_has_changed_where_the_stubs_were_is_refused() {
    let bytes = elf([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]))]).build();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let handle = file.try_clone().unwrap();
    let image = Image::from_file(handle, &Default::default()).unwrap();
    let boot = boot(&image);
    let offset = boot.patch.unwrap().stubs.vmcall.file_offset;
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(b"\x0f\x01\xd9").unwrap();
    let plan = image.plan(&boot).unwrap();
    let memory = memory();
    let error = plan.commit(Method::Copy, &memory).unwrap_err();
    assert!(error.memory_untouched() && memory.writes().is_empty());
    assert_eq!(
        error.to_string(),
        "the image has changed: instead of VMCALL at 0x200050 it has the bytes [0f, 01, d9]"
    );
}

#[test]
fn the_file_is_never_written() {
    let bytes = elf([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]))]).build();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let image = Image::open(file.path()).unwrap();
    let boot = boot(&image);
    let plan = image.plan(&boot).unwrap();
    plan.commit(Method::Copy, &memory()).unwrap();
    assert_eq!(fs::read(file.path()).unwrap(), bytes);
}

#[test]
fn a_guest_memory_that_refuses_the_patch_is_an_error_that_says_so() {
    let image = image([Segment::load(2 * MIB, code(4096, &[(0x40, PAIR)]))]);
    let boot = boot(&image);
    let plan = image.plan(&boot).unwrap();
    let whole = memory();
    plan.commit(Method::Copy, &whole).unwrap();
    let mut failing = memory();
    failing.fails_at = Some(whole.writes().len() - 1);
    let error = plan.commit(Method::Copy, &failing).unwrap_err();
    assert!(matches!(error, CommitError::MemoryPatch { .. }) && !error.memory_untouched());
}

/// A segment of some pieces of a kernel's code: stubs, halves of stubs, padding, anything.
fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let piece = prop_oneof![
        Just(PAIR.to_vec()),
        Just(PAIR[..16].to_vec()),
        Just(PAIR[16..].to_vec()),
        Just(b"\xf3\x0f\x1e\xfa".to_vec()),
        Just(vec![0xCC; 12]),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let segment = (
        proptest::collection::vec(piece, 0..8),
        0..16_u64,
        0..8_u32,
        0..64_u64,
    );
    proptest::collection::vec(segment, 1..4).prop_map(|parts| {
        let segments = parts.into_iter().zip(2..);
        let segments = segments.map(|((pieces, shift, flags, zeros), mib)| {
            let data = pieces.concat();
            let mem_size = data.len() as u64 + zeros;
            let segment = Segment::load(mib * MIB + shift, data).mem_size(mem_size);
            segment.flags(flags | 4)
        });
        segments.collect()
    })
}

proptest! {
    #[test]
    fn a_patch_changes_three_bytes_each_of_two_instructions_in_code(segments in segments()) {
        let image = image(segments);
        let Ok(stubs) = StubPair::find(&image) else { return Ok(()) };
        let patched = boot(&image);
        let plain = Boot { patch: None, ..boot(&image) };
        let (before, after) = (memory(), memory());
        for (boot, memory) in [(&plain, &before), (&patched, &after)] {
            let plan = image.plan(boot).unwrap();
            plan.commit(Method::Copy, memory).unwrap();
        }
        let (old, new) = (before.bytes(Gpa(0), 8 * MIB), after.bytes(Gpa(0), 8 * MIB));
        let mut wanted = old;
        for stub in stubs.in_order() {
            let code = image.segments().iter().any(|segment| {
                let filled = segment.paddr..segment.paddr + segment.file_size;
                segment.flags & 1 != 0 && filled.contains(&stub.at.0) && filled.contains(&(stub.at.0 + 2))
            });
            prop_assert!(code, "{:?} is not in code", stub);
            let at = usize::try_from(stub.at.0).unwrap();
            prop_assert_eq!(&wanted[at..at + 3], &stub.call.bytes()[..]);
            wanted[at..at + 3].copy_from_slice(&[0xE7, 0xE4, 0x90]);
        }
        prop_assert!(wanted == new);
    }
}

/// Loads a kernel where it was linked, and elsewhere if it may be moved.
fn patched_is_right(image: &Image) {
    let first = image.segments().iter().map(|segment| segment.paddr).min();
    let taken = vec![GuestRange::new(Gpa(first.unwrap()), 4096)];
    let ram = GuestRange::new(Gpa(0), 512 * MIB);
    for reserved in [Vec::new(), taken] {
        let is_moved = !reserved.is_empty();
        if is_moved && image.relocation().is_none() {
            continue;
        }
        let mut boot = Boot {
            reserved,
            ..boot(image)
        };
        boot.memmap[0].len_bytes = ram.len_bytes;
        let plan = image.plan(&boot).unwrap();
        assert_eq!(plan.placement().moved_by != 0, is_moved);
        let memory = Recorder::new(&[ram]);
        plan.commit(Method::Copy, &memory).unwrap();
        for stub in boot.patch.unwrap().stubs.in_order() {
            let at = stub
                .at
                .0
                .checked_add_signed(plan.placement().moved_by)
                .unwrap();
            let mut in_file = [0; 16];
            image.read_at(stub.file_offset, &mut in_file).unwrap();
            assert_eq!(in_file[..3], stub.call.bytes());
            let found = memory.bytes(Gpa(at), 16);
            assert_eq!(found[..3], [0xE7, 0xE4, 0x90]);
            assert_eq!(found[3..], in_file[3..]);
        }
    }
}

#[test]
#[ignore = "needs kernels: set PVH_TEST_KERNELS to a directory of them"]
fn every_linux_kernel_without_a_hypercall_page_has_one_pair() {
    let directory = env::var_os("PVH_TEST_KERNELS").expect("PVH_TEST_KERNELS names a directory");
    let mut bare = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let image = Image::open(&path).unwrap();
        let start = Instant::now();
        let found = StubPair::find(&image);
        println!("{}: {found:x?} in {:?}", path.display(), start.elapsed());
        let linux = image.notes().guest_os.is_some_and(|os| os == "linux");
        if linux && image.notes().hypercall_page.is_none() {
            let [first, second] = found.unwrap().in_order();
            assert!([16, 32, 64].contains(&(second.at.0 - first.at.0)));
            patched_is_right(&image);
            bare += 1;
        }
    }
    assert!(
        bare > 0,
        "no Linux kernel without a hypercall page in the directory"
    );
}
