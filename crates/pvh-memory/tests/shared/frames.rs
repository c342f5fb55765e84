//! The tests of memory whose frames change: RAM is frames 0 to 3, frame 4 and all after it are a
//! hole, and 8 frames of the hole can have a page at least.

use pvh_abi::Gpa;
use pvh_memory::{FrameError, FrameStep, Frames, MemoryError, WordOp};

/// The tests of a memory whose pages in a hole each take a memory slot.
#[allow(unused_macros, reason = "not every test program has such a memory")]
macro_rules! frames_tests {
    ($with:path) => {
        crate::frames::fixed_frames_tests!($with);
        crate::frames::each! { $with:
            ram_is_one_step_and_each_frame_of_a_hole_another
        }
    };
}

/// The tests of any such memory.
macro_rules! fixed_frames_tests {
    ($with:path) => {
        crate::frames::each! { $with:
            an_added_frame_reads_zeros_and_keeps_what_is_written
            a_removed_frame_is_no_ram_and_is_zero_when_it_comes_back
            a_frame_of_ram_can_be_removed_and_added
            a_frame_that_is_there_is_not_added
            a_frame_that_is_not_there_is_not_removed
            frames_are_added_all_or_none
            frames_are_removed_all_or_none
            an_access_may_cross_into_an_added_frame_and_not_into_a_removed_one
            an_access_across_many_frames_moves_each_byte_to_its_place
            words_work_in_an_added_frame
            no_frame_is_beyond_the_address_space
            pages_can_be_used_again_and_again
            frames_that_are_missing_can_be_asked_for_beforehand
        }
    };
}

macro_rules! each {
    ($with:path: $($test:ident)+) => {
        $(#[test] fn $test() { $with(&|memory| crate::frames::$test(memory)); })+
    };
}

#[allow(unused_imports, reason = "each user of this file needs one of them")]
pub(crate) use {each, fixed_frames_tests, frames_tests};

const PAGE: usize = 0x1000;

fn page(gfn: u64) -> Gpa {
    Gpa(gfn * 0x1000)
}

fn bytes(memory: &dyn Frames, gfn: u64) -> Vec<u8> {
    let mut bytes = vec![0xEE; PAGE];
    memory.read(page(gfn), &mut bytes).unwrap();
    bytes
}

fn is_ram(memory: &dyn Frames) -> [bool; 7] {
    [0, 1, 2, 3, 4, 5, 6].map(|gfn| memory.is_ram(page(gfn), 0x1000))
}

pub(crate) fn an_added_frame_reads_zeros_and_keeps_what_is_written(memory: &dyn Frames) {
    assert!(!memory.is_ram(page(6), 1));
    memory.add_frame(6).unwrap();
    assert!(memory.is_ram(page(6), 0x1000));
    assert!(!memory.is_ram(page(6), 0x1001) && !memory.is_ram(page(5), 0x1001));
    assert_eq!(bytes(memory, 6), [0; PAGE]);
    memory.write(page(6), &[7; PAGE]).unwrap();
    assert_eq!(bytes(memory, 6), [7; PAGE]);
    memory.zero(page(6), 0x1000).unwrap();
    assert_eq!(bytes(memory, 6), [0; PAGE]);
}

pub(crate) fn a_removed_frame_is_no_ram_and_is_zero_when_it_comes_back(memory: &dyn Frames) {
    memory.add_frame(6).unwrap();
    memory.write(page(6), &[7; PAGE]).unwrap();
    memory.remove_frame(6).unwrap();
    let not_ram = MemoryError::NotRam {
        at: page(6),
        len_bytes: 4,
    };
    assert!(!memory.is_ram(page(6), 1));
    assert_eq!(memory.read(page(6), &mut [0; 4]), Err(not_ram));
    assert_eq!(memory.write(page(6), &[0; 4]), Err(not_ram));
    assert_eq!(memory.zero(page(6), 4), Err(not_ram));
    assert_eq!(memory.atomic_u32(page(6), WordOp::Load), Err(not_ram));
    memory.add_frame(6).unwrap();
    assert_eq!(bytes(memory, 6), [0; PAGE]);
}

pub(crate) fn a_frame_of_ram_can_be_removed_and_added(memory: &dyn Frames) {
    memory.write(page(1), &[7; 2 * PAGE]).unwrap();
    memory.remove_frame(1).unwrap();
    assert_eq!(
        is_ram(memory),
        [true, false, true, true, false, false, false]
    );
    assert!(memory.read(page(1), &mut [0]).is_err());
    assert_eq!(bytes(memory, 2), [7; PAGE]);
    memory.add_frame(1).unwrap();
    assert_eq!(bytes(memory, 1), [0; PAGE]);
    memory.write(page(1), &[8; PAGE]).unwrap();
    assert_eq!(
        (bytes(memory, 1), bytes(memory, 2)),
        (vec![8; PAGE], vec![7; PAGE])
    );
}

pub(crate) fn a_frame_that_is_there_is_not_added(memory: &dyn Frames) {
    memory.write(page(3), &[7; PAGE]).unwrap();
    assert_eq!(memory.add_frame(3), Err(FrameError::Present { gfn: 3 }));
    memory.add_frame(4).unwrap();
    memory.write(page(4), &[7; PAGE]).unwrap();
    assert_eq!(memory.add_frame(4), Err(FrameError::Present { gfn: 4 }));
    assert_eq!(
        (bytes(memory, 3), bytes(memory, 4)),
        (vec![7; PAGE], vec![7; PAGE])
    );
}

pub(crate) fn a_frame_that_is_not_there_is_not_removed(memory: &dyn Frames) {
    assert_eq!(memory.remove_frame(4), Err(FrameError::Absent { gfn: 4 }));
    memory.remove_frame(2).unwrap();
    assert_eq!(memory.remove_frame(2), Err(FrameError::Absent { gfn: 2 }));
}

pub(crate) fn frames_are_added_all_or_none(memory: &dyn Frames) {
    memory.add_frame(6).unwrap();
    let taken = memory.add_frames(4..8);
    assert_eq!(taken, Err(FrameError::Present { gfn: 6 }));
    assert_eq!(is_ram(memory), [true, true, true, true, false, false, true]);
    memory.remove_frame(3).unwrap();
    memory.add_frames(3..6).unwrap();
    assert_eq!(is_ram(memory), [true; 7]);
    let exhausted = memory.add_frames(8..1 << 20);
    assert!(matches!(exhausted, Err(FrameError::Exhausted { .. })));
    assert!(!memory.is_ram(page(8), 1));
}

pub(crate) fn frames_are_removed_all_or_none(memory: &dyn Frames) {
    memory.add_frames(4..6).unwrap();
    let absent = memory.remove_frames(2..7);
    assert_eq!(absent, Err(FrameError::Absent { gfn: 6 }));
    assert_eq!(is_ram(memory), [true, true, true, true, true, true, false]);
    memory.remove_frames(2..6).unwrap();
    assert_eq!(
        is_ram(memory),
        [true, true, false, false, false, false, false]
    );
    memory.remove_frames(0..0).unwrap();
    memory.add_frames(0..0).unwrap();
}

pub(crate) fn an_access_may_cross_into_an_added_frame_and_not_into_a_removed_one(
    memory: &dyn Frames,
) {
    memory.add_frame(4).unwrap();
    let at = Gpa(page(4).0 - 2);
    memory.write(at, &[1, 2, 3, 4]).unwrap();
    let mut back = [0; 4];
    memory.read(at, &mut back).unwrap();
    assert_eq!(back, [1, 2, 3, 4]);
    memory.remove_frame(3).unwrap();
    assert!(memory.write(at, &[9; 4]).is_err());
    memory.read(page(4), &mut back).unwrap();
    assert_eq!(back, [3, 4, 0, 0]);
}

pub(crate) fn an_access_across_many_frames_moves_each_byte_to_its_place(memory: &dyn Frames) {
    memory.remove_frame(2).unwrap();
    memory.add_frames(4..6).unwrap();
    memory.add_frame(2).unwrap();
    let pattern: Vec<u8> = (0..5 * PAGE + 10)
        .map(|i| u8::try_from(i % 251).unwrap())
        .collect();
    let at = Gpa(5);
    memory.write(at, &pattern).unwrap();
    let mut back = vec![0; pattern.len()];
    memory.read(at, &mut back).unwrap();
    assert!(back == pattern);
    let mut one = [0];
    for place in [0, PAGE, 4 * PAGE - 6, 4 * PAGE - 5, 5 * PAGE + 9] {
        memory
            .read(Gpa(5 + u64::try_from(place).unwrap()), &mut one)
            .unwrap();
        assert_eq!(one[0], pattern[place], "byte {place}");
    }
    memory.zero(Gpa(0xFFE), 0x4004).unwrap();
    memory.read(at, &mut back).unwrap();
    assert!(back[..0xFF9] == pattern[..0xFF9] && back[0x4FFD..] == pattern[0x4FFD..]);
    assert!(back[0xFF9..0x4FFD].iter().all(|&byte| byte == 0));
}

pub(crate) fn words_work_in_an_added_frame(memory: &dyn Frames) {
    memory.add_frame(5).unwrap();
    assert_eq!(
        memory.atomic_u32(Gpa(0x5FFC), WordOp::Or(0x8000_0001)),
        Ok(0)
    );
    assert_eq!(
        memory.atomic_u64(Gpa(0x5FF8), WordOp::Load),
        Ok(0x8000_0001 << 32)
    );
    let misaligned = MemoryError::Misaligned {
        at: Gpa(0x5FFA),
        size_bytes: 4,
    };
    assert_eq!(
        memory.atomic_u32(Gpa(0x5FFA), WordOp::Load),
        Err(misaligned)
    );
    assert!(memory.atomic_u64(Gpa(0x6000), WordOp::Load).is_err());
    assert_eq!(memory.atomic_u64(Gpa(0x3000), WordOp::Swap(5)), Ok(0));
    assert_eq!(memory.atomic_u64(Gpa(0x3000), WordOp::Load), Ok(5));
}

pub(crate) fn no_frame_is_beyond_the_address_space(memory: &dyn Frames) {
    let gfn = u64::MAX - 1;
    assert_eq!(memory.add_frame(gfn), Err(FrameError::OutOfReach { gfn }));
    assert!(memory.remove_frame(gfn).is_err());
}

pub(crate) fn pages_can_be_used_again_and_again(memory: &dyn Frames) {
    for round in 0..500 {
        let gfn = 0x100 + round;
        memory.add_frames(gfn..gfn + 8).unwrap();
        memory.write(page(gfn), &[1; 8 * PAGE]).unwrap();
        memory.remove_frames(gfn..gfn + 8).unwrap();
    }
    memory.add_frames(0x100..0x108).unwrap();
    assert_eq!(bytes(memory, 0x107), [0; PAGE]);
}

pub(crate) fn frames_that_are_missing_can_be_asked_for_beforehand(memory: &dyn Frames) {
    memory.remove_frame(2).unwrap();
    memory.add_frame(5).unwrap();
    assert_eq!(memory.check_add(0..7), Ok(()), "present ones are no error");
    let exhausted = memory.check_add(0..1 << 20);
    assert!(matches!(exhausted, Err(FrameError::Exhausted { .. })));
    let gfn = u64::MAX - 1;
    let beyond = memory.check_add(gfn..gfn + 1);
    assert_eq!(beyond, Err(FrameError::OutOfReach { gfn }));
    let before = [true, true, false, true, false, true, false];
    assert_eq!(is_ram(memory), before, "nothing is changed");
}

#[allow(dead_code, reason = "not for memory without slots")]
pub(crate) fn ram_is_one_step_and_each_frame_of_a_hole_another(memory: &dyn Frames) {
    let step = |frames, takes_slot| FrameStep { frames, takes_slot };
    memory.remove_frame(2).unwrap();
    memory.add_frame(5).unwrap();
    assert_eq!(memory.next_step(1..3), step(2, false));
    assert_eq!(memory.next_step(1..9), step(3, false), "RAM ends at 4");
    assert_eq!(memory.next_step(4..9), step(1, true));
    assert_eq!(memory.next_step(5..9), step(1, true), "added or not");
    assert_eq!(memory.next_step(4..4).frames, 0);
}
