//! The wallclock in `shared_info`.

use pvh_domain::parts::{shared_info::SharedInfo, time::Wallclock};
use pvh_hypercall::Width;

use crate::watched::{PAGE, Watched, u32_at};

const CLOCK: Wallclock = Wallclock {
    seconds: 0x0000_0002_8000_0001,
    nanoseconds: 999_999_999,
};

fn mapped(width: Width) -> (Watched, SharedInfo) {
    let memory = Watched::new();
    let mut shared_info = SharedInfo::new();
    shared_info.map(&memory, PAGE / 0x1000).unwrap();
    shared_info.latch(&memory, width);
    (memory, shared_info)
}

#[test]
fn the_wallclock_is_at_3072_with_64_bit_shared_info() {
    let (memory, mut shared_info) = mapped(Width::Native);
    shared_info.set_wallclock(&memory, CLOCK);
    let page = memory.page();
    let words = [3072, 3076, 3080, 3084].map(|at| u32_at(&page, at));
    assert_eq!(words, [2, 0x8000_0001, 999_999_999, 2]);
}

#[test]
fn with_32_bit_shared_info_it_is_at_2304_and_its_high_half_at_2340() {
    let (memory, mut shared_info) = mapped(Width::Compat);
    shared_info.set_wallclock(&memory, CLOCK);
    let page = memory.page();
    let words = [2304, 2308, 2312, 2316, 2340].map(|at| u32_at(&page, at));
    assert_eq!(words, [4, 0x8000_0001, 999_999_999, 0, 2]);
}

#[test]
fn latching_another_width_writes_it_at_its_new_place() {
    let (memory, mut shared_info) = mapped(Width::Native);
    shared_info.set_wallclock(&memory, CLOCK);
    shared_info.latch(&memory, Width::Native);
    assert_eq!(u32_at(&memory.page(), 3072), 2, "no change, no write");
    shared_info.latch(&memory, Width::Compat);
    let page = memory.page();
    assert_eq!(
        [2308, 2312, 2340].map(|at| u32_at(&page, at)),
        [0x8000_0001, 999_999_999, 2]
    );
}

#[test]
fn a_reader_sees_an_odd_version_whenever_the_fields_are_not_whole() {
    let (memory, mut shared_info) = mapped(Width::Native);
    memory.seen();
    shared_info.set_wallclock(&memory, CLOCK);
    let seen = memory.seen();
    assert!(seen.iter().any(|page| u32_at(page, 3072) == 1));
    for page in seen {
        let fields = [3076, 3080, 3084].map(|at| u32_at(&page, at));
        match u32_at(&page, 3072) {
            0 => assert_eq!(fields, [0; 3]),
            2 => assert_eq!(fields, [0x8000_0001, 999_999_999, 2]),
            version => assert_eq!(version, 1),
        }
    }
}

#[test]
fn it_is_the_wall_time_at_system_time_0() {
    let clock = Wallclock::at_system_time_0(1_700_000_000_500_000_000, 600_000_000);
    assert_eq!(
        (clock.seconds, clock.nanoseconds),
        (1_699_999_999, 900_000_000)
    );
    assert_eq!(Wallclock::at_system_time_0(5, 6), Wallclock::default());
}
