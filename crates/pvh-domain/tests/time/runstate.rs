//! Runstates and their areas.

use pvh_domain::{
    RunState,
    parts::runstate::{RunstateClock, write_area},
};
use pvh_hypercall::{Width, group::Runstate};
use zerocopy::IntoBytes;

use crate::watched::{u32_at, u64_at};

/// Offline from 100 on, running from 150, blocked from 180.
fn blocked() -> RunstateClock {
    let mut runstate = RunstateClock::new(100);
    runstate.change(RunState::Running, 150);
    runstate.change(RunState::Blocked, 180);
    runstate
}

const fn times(runstate: &Runstate) -> [u64; 4] {
    runstate.time_ns
}

#[test]
fn each_state_counts_the_time_it_lasted() {
    assert_eq!(times(&blocked().at_last_change()), [30, 0, 0, 50]);
    assert_eq!(times(&blocked().at(200)), [30, 0, 20, 50]);
    assert_eq!(blocked().at(200).since_ns, 180);
}

#[test]
fn a_change_to_the_same_state_is_none() {
    let mut runstate = blocked();
    runstate.change(RunState::Blocked, 500);
    assert_eq!(runstate, blocked());
}

#[test]
fn time_that_goes_backwards_counts_as_none() {
    let mut runstate = blocked();
    runstate.change(RunState::Runnable, 10);
    assert_eq!(
        (times(&runstate.at_last_change()), runstate.state()),
        ([30, 0, 0, 50], RunState::Runnable)
    );
    assert_eq!(runstate.at_last_change().since_ns, 180);
    assert_eq!(times(&runstate.at(5)), [30, 0, 0, 50]);
}

#[test]
fn both_layouts_have_their_fields() {
    let runstate = blocked().at_last_change();
    let wide = runstate.to_info();
    let wide = wide.as_bytes();
    assert_eq!((wide.len(), u32_at(wide, 0), u64_at(wide, 8)), (48, 2, 180));
    assert_eq!((u64_at(wide, 16), u64_at(wide, 40)), (30, 50));
    let narrow = runstate.to_info_compat();
    let narrow = narrow.as_bytes();
    assert_eq!(
        (narrow.len(), u32_at(narrow, 0), u64_at(narrow, 4)),
        (44, 2, 180)
    );
    assert_eq!((u64_at(narrow, 12), u64_at(narrow, 36)), (30, 50));
}

#[test]
fn the_numbers_are_those_of_vcpu_h() {
    let states = [
        RunState::Running,
        RunState::Runnable,
        RunState::Blocked,
        RunState::Offline,
    ];
    assert_eq!(states.map(RunState::number), [0, 1, 2, 3]);
    assert_eq!(RunstateClock::new(0).state(), RunState::Offline);
}

#[test]
fn an_area_is_written_at_once_without_the_update_flag() {
    for (width, len) in [(Width::Native, 48), (Width::Compat, 44)] {
        let mut steps = Vec::new();
        write_area(&blocked().at_last_change(), width, false, |at, bytes| {
            steps.push((at, bytes.len()))
        });
        assert_eq!(steps, [(0, len)]);
    }
}

#[test]
fn with_the_update_flag_bit_63_of_the_entry_time_is_set_meanwhile() {
    for (width, entry) in [(Width::Native, 8_usize), (Width::Compat, 4)] {
        let mut area = [0; 48];
        let mut seen = Vec::new();
        write_area(&blocked().at_last_change(), width, true, |at, bytes| {
            let at = usize::try_from(at).unwrap();
            area[at..at + bytes.len()].copy_from_slice(bytes);
            seen.push((u32_at(&area, 0), u64_at(&area, entry)));
        });
        let flag = 0x8000_0000_0000_0000;
        assert_eq!(seen, [(0, flag), (2, flag | 180), (2, 180)], "{width:?}");
    }
}

#[test]
fn an_entry_time_of_years_keeps_its_last_byte_but_for_the_flag() {
    let entry = 0x1234_5678_9abc_def0;
    let mut runstate = RunstateClock::new(0);
    runstate.change(RunState::Running, entry);
    let mut area = [0; 48];
    write_area(
        &runstate.at_last_change(),
        Width::Native,
        true,
        |at, bytes| {
            let at = usize::try_from(at).unwrap();
            area[at..at + bytes.len()].copy_from_slice(bytes);
        },
    );
    assert_eq!(u64_at(&area, 8), entry);
}
