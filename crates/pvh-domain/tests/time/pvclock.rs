//! `vcpu_time_info`.

use core::num::NonZeroU64;

use proptest::prelude::*;
use pvh_abi::Gpa;
use pvh_domain::{
    TscScale,
    parts::{
        shared_info::SharedInfo,
        time::{TSC_STABLE, TimeInfo},
        vcpu_info::VcpuInfos,
    },
};

use crate::watched::{PAGE, Watched, u32_at, u64_at};

fn scale(hz: u64) -> TscScale {
    TscScale::of(NonZeroU64::new(hz).unwrap())
}

const INFO: TimeInfo = TimeInfo {
    tsc_timestamp: 0x1122_3344_5566_7788,
    system_time_ns: 0x0102_0304_0506_0708,
    scale: TscScale {
        multiplier: 0x8000_0001,
        shift: -3,
    },
    flags: TSC_STABLE,
};

/// The place of vCPU 1's `vcpu_time_info` in the page.
const AT: usize = 64 + 32;

/// A guest with `shared_info` mapped, and what writes the time of its vCPU 1.
fn guest() -> (Watched, impl Fn(&Watched, &TimeInfo)) {
    let memory = Watched::new();
    let mut shared_info = SharedInfo::new();
    shared_info.map(&memory, PAGE / 0x1000).unwrap();
    let infos = VcpuInfos::new(2);
    let write = move |memory: &Watched, info: &TimeInfo| {
        info.write(memory, infos.spot(&shared_info, 1).unwrap());
    };
    (memory, write)
}

#[test]
fn every_field_has_its_place() {
    let (memory, write) = guest();
    write(&memory, &INFO);
    let bytes = memory.page();
    let bytes = &bytes[AT..AT + 32];
    assert_eq!(u32_at(bytes, 0), 2, "even, and 2 more");
    assert_eq!(u32_at(bytes, 4), 0);
    assert_eq!(u64_at(bytes, 8), 0x1122_3344_5566_7788);
    assert_eq!(u64_at(bytes, 16), 0x0102_0304_0506_0708);
    assert_eq!(u32_at(bytes, 24), 0x8000_0001);
    assert_eq!(bytes[28..], [0xfd, 1, 0, 0], "-3, then the flags");
}

#[test]
fn a_reader_sees_an_odd_version_whenever_the_fields_are_not_whole() {
    let (memory, write) = guest();
    let fields = |page: &[u8]| page[AT + 4..AT + 32].to_vec();
    write(&memory, &INFO);
    let first = fields(&memory.page());
    memory.seen();
    let later = TimeInfo {
        tsc_timestamp: 9,
        system_time_ns: 8,
        flags: 0,
        ..INFO
    };
    write(&memory, &later);
    let last = fields(&memory.page());
    let seen = memory.seen();
    assert!(
        seen.iter().any(|page| u32_at(page, AT) == 3),
        "odd meanwhile"
    );
    for page in seen {
        match u32_at(&page, AT) {
            2 => assert_eq!(fields(&page), first),
            4 => assert_eq!(fields(&page), last),
            version => assert_eq!(version, 3),
        }
    }
}

#[test]
fn a_version_that_the_guest_has_written_is_gone_on_from() {
    for (before, after) in [(u32::MAX - 1, 0), (u32::MAX, 2), (7, 10)] {
        let (memory, write) = guest();
        let version = Gpa(PAGE + AT as u64);
        pvh_memory::GuestMemory::write(&memory, version, &before.to_le_bytes()).unwrap();
        write(&memory, &INFO);
        assert_eq!(u32_at(&memory.page(), AT), after, "{before:#x}");
        assert!(memory.seen().iter().all(|page| {
            let version = u32_at(page, AT);
            version == before || version == after || version % 2 == 1
        }));
    }
}

#[test]
fn an_area_is_written_in_three_steps() {
    let mut steps = Vec::new();
    INFO.write_area(6, |offset, bytes| steps.push((offset, bytes.to_vec())));
    let [odd, whole, even] = &steps[..] else {
        unreachable!("three steps")
    };
    assert_eq!(*odd, (0, vec![5, 0, 0, 0]));
    assert_eq!((whole.0, whole.1.len()), (0, 32));
    assert_eq!(u32_at(&whole.1, 0), 5);
    assert_eq!(u64_at(&whole.1, 16), 0x0102_0304_0506_0708);
    assert_eq!(*even, (0, vec![6, 0, 0, 0]));
}

#[test]
fn scales_of_known_rates() {
    // 10^9 * 2^32 / rate, after the rate has been shifted into (10^9, 2 * 10^9]
    let known = [
        (1_000_000_000, 0x8000_0000, 1),
        (2_000_000_000, 0x8000_0000, 0),
        (1_000_000_001, 0xffff_fffb, 0),
        (2_500_000_000, 0xcccc_cccc, -1),
        (3_000_000_000, 0xaaaa_aaaa, -1),
        (4_000_000_000, 0x8000_0000, -1),
        (1, 0xee6b_2800, 30),
    ];
    for (hz, multiplier, shift) in known {
        assert_eq!(scale(hz), TscScale { multiplier, shift }, "{hz} Hz");
    }
}

#[test]
fn a_second_of_ticks_is_a_second() {
    for hz in [
        24_000_000,
        1_000_000_000,
        2_100_000_000,
        2_995_200_000,
        5_700_000_000,
    ] {
        let ns = scale(hz).nanoseconds(hz);
        assert!((999_999_998..=1_000_000_000).contains(&ns), "{hz} Hz: {ns}");
    }
}

#[test]
fn time_goes_on_from_the_timestamp() {
    let info = TimeInfo {
        tsc_timestamp: 1000,
        system_time_ns: 5000,
        scale: scale(2_000_000_000),
        flags: 0,
    };
    assert_eq!(info.system_time_at(1000), 5000);
    assert_eq!(
        info.system_time_at(1000 + 2_000_000_000),
        5000 + 1_000_000_000
    );
    assert_eq!(
        info.system_time_at(999),
        5000_u64.wrapping_add(u64::MAX / 2)
    );
}

#[test]
fn a_new_stamp_is_at_the_tsc_where_that_is_a_whole_nanosecond() {
    let first = TimeInfo {
        tsc_timestamp: 1000,
        system_time_ns: 5000,
        scale: scale(1_000_000_000),
        flags: TSC_STABLE,
    };
    let second = first.stamped_at(1000 + 1_234_567_891);
    let want = TimeInfo {
        tsc_timestamp: 1_234_568_891,
        system_time_ns: 1_234_572_891,
        ..first
    };
    assert_eq!(second, want);
    assert_eq!(second.stamped_at(1_234_568_890), second, "before it");
}

#[test]
fn half_an_hour_of_stamps_adds_less_than_200_ns() {
    for hz in [
        2_100_000_000_u64,
        2_893_202_000,
        2_995_200_000,
        3_400_001_000,
        2_600_000_000,
        2_400_000_000,
    ] {
        let first = TimeInfo {
            tsc_timestamp: 12_345,
            system_time_ns: 0,
            scale: scale(hz),
            flags: 0,
        };
        let (mut info, mut tsc) = (first, first.tsc_timestamp);
        for _ in 0..1800 {
            tsc += hz + 1_234;
            info = info.stamped_at(tsc);
        }
        let added = info.system_time_at(tsc) - first.system_time_at(tsc);
        assert!(added < 200, "{hz} Hz: {added}");
    }
}

proptest! {
    #[test]
    fn time_does_not_go_back_from_one_stamp_to_the_next(
        hz in prop_oneof![1000..=u64::MAX, 1_000_000..=10_000_000_000_u64],
        start: u64,
        ns: u32,
        steps in prop::collection::vec((0..10_000_000_000_u64, 0..10_000_000_000_u64), 1..20),
    ) {
        let mut old = TimeInfo {
            tsc_timestamp: start,
            system_time_ns: ns.into(),
            scale: scale(hz),
            flags: 0,
        };
        let mut tsc = start;
        for (step, later) in steps {
            tsc = tsc.wrapping_add(step);
            let new = old.stamped_at(tsc);
            let age = tsc.wrapping_sub(new.tsc_timestamp);
            let unit = 1_u64 << u32::from(new.scale.shift.min(0).unsigned_abs());
            let since = tsc.wrapping_sub(old.tsc_timestamp);
            prop_assert!(age < since / 1024 + unit && age < 4097 * unit, "{age} ticks old");
            for after in [0, 1, later / 1000, later] {
                let at = tsc.wrapping_add(after);
                let [was, is] = [&old, &new].map(|info| info.system_time_at(at));
                prop_assert!(is == was || is == was + 1, "{was}, then {is}");
            }
            old = new;
        }
    }

    #[test]
    fn a_scale_is_the_formula_of_the_text(hz in 1..=u64::MAX, ticks: u64) {
        let got = scale(hz);
        let by = i32::from(got.shift);
        // The rate as the scale sees it: shifted the other way.
        let rate = if by < 0 { u128::from(hz) >> -by } else { u128::from(hz) << by };
        prop_assert!(rate > 1_000_000_000 && rate <= 2_000_000_000);
        prop_assert_eq!(u128::from(got.multiplier), (1_000_000_000_u128 << 32) / rate);
        prop_assert!(got.multiplier >= 0x8000_0000);
        let shifted = if by < 0 { ticks >> -by } else { ticks << by };
        let want = (u128::from(shifted) * u128::from(got.multiplier)) >> 32;
        prop_assert_eq!(u128::from(got.nanoseconds(ticks)), want);
    }
}
