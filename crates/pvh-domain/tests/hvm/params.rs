//! The table of params.h, one row a parameter.

use pvh_abi::{DomId, Errno, hvm::HvmParam};
use pvh_domain::parts::hvm::{Change, HvmState};

const ME: DomId = DomId(5);
const SELF: DomId = DomId(0x7ff0);
const EPERM: Errno = Errno(1);
const ESRCH: Errno = Errno(3);
const EEXIST: Errno = Errno(17);
const ENODEV: Errno = Errno(19);
const EINVAL: Errno = Errno(22);

/// A letter for each parameter: the guest may set (and read) it, read it, neither, or it is
/// deprecated.
const DRAWN: &str = "SRS-D-------- D-S-RSS DDDDDDD ---D---S RSS-";

fn state() -> HvmState {
    HvmState::new(ME, 1)
}

fn set(state: &mut HvmState, index: u32, value: u64) -> Result<(), Errno> {
    state.set_param(SELF, HvmParam(index), value, &mut Vec::new())
}

fn preset(state: &mut HvmState, index: u32, value: u64) -> Result<(), Errno> {
    state.preset(HvmParam(index), value, &mut Vec::new())
}

/// A value that the parameter takes.
fn good_value(index: u32) -> u64 {
    match index {
        9 => 0x47,
        14 => 3,
        36 => 8,
        37 => 0x68_0000_1000,
        38 => 1,
        _ => 3,
    }
}

#[test]
fn every_parameter_has_the_rights_that_are_drawn() {
    let letters = DRAWN.chars().filter(|letter| !letter.is_whitespace());
    let letters: Vec<char> = letters.collect();
    assert_eq!(letters.len(), 39);
    for (index, letter) in (0..).zip(letters) {
        let mut state = state();
        let got = state.param(SELF, HvmParam(index));
        let done = set(&mut state, index, good_value(index));
        let want = match letter {
            'S' if index == 19 => (Ok(0), Err(ENODEV)),
            'S' => (Ok(0), Ok(())),
            'R' => (Ok(0), Err(EPERM)),
            'D' => (Err(EINVAL), Err(EINVAL)),
            _ => (Err(EPERM), Err(EPERM)),
        };
        assert_eq!((got, done), want, "parameter {index}");
        let after = if done.is_ok() { good_value(index) } else { 0 };
        if got.is_ok() {
            let now = state.param(ME, HvmParam(index));
            assert_eq!(now, Ok(after), "parameter {index}");
        }
    }
}

#[test]
fn the_toolstack_sets_all_but_the_deprecated() {
    for index in 0..39 {
        let mut state = state();
        let done = preset(&mut state, index, good_value(index));
        let is_deprecated = matches!(index, 4 | 13 | 20..=26 | 30);
        let want = match index {
            _ if is_deprecated => Err(EINVAL),
            19 => Err(ENODEV),
            _ => Ok(()),
        };
        assert_eq!(done, want, "parameter {index}");
        if done.is_ok() {
            let value = state.value(HvmParam(index));
            assert_eq!(value, good_value(index), "parameter {index}");
        }
    }
}

#[test]
fn what_the_toolstack_set_the_guest_reads() {
    let mut state = state();
    for (index, value) in [(1, 0xf_effc), (2, 1), (17, 0xf_efff), (18, 2)] {
        preset(&mut state, index, value).unwrap();
        assert_eq!(state.param(SELF, HvmParam(index)), Ok(value));
    }
    assert_eq!(set(&mut state, 18, 7), Ok(()), "a guest may move its port");
    assert_eq!(state.param(SELF, HvmParam(18)), Ok(7));
}

#[test]
fn an_index_of_39_is_einval_before_the_domain_is_looked_up() {
    let mut state = state();
    for index in [39, u32::MAX] {
        assert_eq!(state.param(DomId(7), HvmParam(index)), Err(EINVAL));
        assert_eq!(set(&mut state, index, 0), Err(EINVAL));
        assert_eq!(preset(&mut state, index, 0), Err(EINVAL));
        assert_eq!(state.value(HvmParam(index)), 0);
    }
}

#[test]
fn an_unknown_domain_is_esrch_and_domain_0_is_not_hvm() {
    let mut state = state();
    for (domain, errno) in [(7, ESRCH), (0x7ff1, ESRCH), (0, EINVAL)] {
        let mut changes = Vec::new();
        let domain = DomId(domain);
        assert_eq!(state.param(domain, HvmParam(1)), Err(errno));
        let done = state.set_param(domain, HvmParam(0), 1, &mut changes);
        assert_eq!((done, changes), (Err(errno), vec![]));
    }
}

#[test]
fn what_is_set_once_takes_no_second_value() {
    for (index, first, second) in [
        (5, 0xf_effd, 1),
        (6, 0xf_effb, 1),
        (9, 1, 5),
        (32, 0xf_eff0, 1),
        (33, 8, 9),
        (35, 1, 2),
        (38, 1, 0),
    ] {
        let mut state = state();
        assert_eq!(preset(&mut state, index, first), Ok(()), "{index}");
        let again = preset(&mut state, index, second);
        assert_eq!(again, Err(EEXIST), "{index}");
        assert_eq!(preset(&mut state, index, first), Ok(()), "{index}: same");
        assert_eq!(state.value(HvmParam(index)), first, "{index}");
    }
}

#[test]
fn values_out_of_range_are_einval_and_not_kept() {
    for (index, wrong) in [
        (9, vec![0, 2, 0x2001, u64::MAX]),
        (10, vec![4, u64::MAX]),
        (14, vec![1, 2, 4]),
        (31, vec![6, u64::MAX]),
        (33, vec![0, 65]),
        (35, vec![4]),
        (36, vec![1, 2, 16, u64::MAX]),
        (38, vec![2]),
    ] {
        let mut state = state();
        let before = state.value(HvmParam(index));
        for value in wrong {
            let done = preset(&mut state, index, value);
            assert_eq!(done, Err(EINVAL), "{index}: {value:#x}");
            assert_eq!(state.value(HvmParam(index)), before);
        }
    }
    assert_eq!(set(&mut state(), 36, 2), Err(EINVAL));
}

#[test]
fn values_at_the_ends_of_their_ranges_are_taken() {
    for (index, value) in [
        (9, 0x1fff),
        (10, 0),
        (14, 0),
        (31, 5),
        (33, 1),
        (33, 64),
        (36, 4),
        (36, 0),
    ] {
        let mut state = state();
        assert_eq!(preset(&mut state, index, value), Ok(()), "{index}");
        assert_eq!(state.value(HvmParam(index)), value, "{index}");
    }
}

#[test]
fn a_triple_fault_reboots_unless_the_toolstack_says_otherwise() {
    let mut state = state();
    assert_eq!(state.value(HvmParam(31)), 1);
    preset(&mut state, 31, 3).unwrap();
    assert_eq!(state.value(HvmParam(31)), 3);
}

#[test]
fn a_task_state_segment_that_cannot_be_crashes_the_guest() {
    for (index, value) in [
        (15, 1 << 32),
        (15, u64::MAX),
        (37, 0),
        (37, 0x67_ffff_ffff),
        (37, 0x1000),
    ] {
        let mut state = state();
        let mut changes = Vec::new();
        let done = state.set_param(SELF, HvmParam(index), value, &mut changes);
        assert_eq!(done, Err(EINVAL), "{index}: {value:#x}");
        assert_eq!(changes, [Change::Crash], "{index}: {value:#x}");
        assert_eq!(state.value(HvmParam(37)), 0);

        let done = state.preset(HvmParam(index), value, &mut changes);
        assert_eq!(done, Err(EINVAL));
        assert_eq!(changes, [Change::Crash], "the toolstack crashes nobody");
    }
}

#[test]
fn only_the_callback_has_effects_when_it_is_set() {
    for index in [2, 15, 18, 34, 36, 37] {
        let mut changes = Vec::new();
        let param = HvmParam(index);
        let done = state().set_param(SELF, param, good_value(index), &mut changes);
        assert_eq!((done, changes), (Ok(()), vec![]), "{index}");
    }
}

#[test]
fn both_task_state_segments_are_one() {
    let mut state = state();
    set(&mut state, 15, 0xffff_f000).unwrap();
    let both = |state: &HvmState| [15, 37].map(|index| state.value(HvmParam(index)));
    assert_eq!(both(&state), [0xffff_f000, 0x80_ffff_f000], "128 bytes");
    set(&mut state, 37, 0x68_0000_2000).unwrap();
    assert_eq!(both(&state), [0x2000, 0x68_0000_2000]);
    set(&mut state, 37, 0xffff_ffff_0000_3000).unwrap();
    assert_eq!(both(&state), [0x3000, 0x2089_0000_3000], "8329 at most");
    set(&mut state, 15, 0).unwrap();
    assert_eq!(both(&state), [0, 0]);
}
