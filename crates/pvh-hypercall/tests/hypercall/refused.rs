//! Calls that a PVH domain does not have.

use pvh_hypercall::{Call, Handler, Outcome, Width, dispatch};

use crate::domain::{Domain, FlatGuest, call};

/// A handler that offers nothing.
struct Nothing;

impl Handler for Nothing {}

fn answer_of_nothing(number: u64) -> Outcome {
    dispatch(
        &mut Nothing,
        &FlatGuest::new(),
        Call::new(Width::Native, number, [0; 5]),
    )
}

#[test]
fn an_unknown_number_is_enosys_and_reaches_nobody() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    for number in [0, 11, 16, 23, 33, 39, 48, 55, 128, 0x8000_001d, u64::MAX] {
        assert_eq!(
            call(&mut domain, &guest, Width::Native, number, &[]),
            -38,
            "{number:#x}"
        );
    }
    assert!(domain.asked.is_empty());
}

#[test]
fn calls_of_the_toolstack_are_eperm_once_their_argument_is_read() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    for (number, version) in [(7, 0x0300_0001), (35, 0x15), (36, 0x15)] {
        for (at, version, want) in [
            (0x100, version, -1),
            (0x100, version + 1, -13),
            (0xffff_0000, version, -14),
            (0xff80, version, -14),
        ] {
            guest.put_u32(0x104, &[version]);
            for width in [Width::Native, Width::Compat] {
                let result = call(&mut domain, &guest, width, number, &[at]);
                assert_eq!(result, want, "{number} {at:#x}");
            }
        }
    }
    assert_eq!(call(&mut domain, &guest, Width::Native, 42, &[]), -1);
    assert_eq!(call(&mut domain, &guest, Width::Native, 40, &[]), -95);
    assert_eq!(call(&mut domain, &guest, Width::Native, 49, &[0x100]), -95);
    assert_eq!(
        call(&mut domain, &guest, Width::Native, 49, &[1 << 40]),
        -14
    );
}

#[test]
fn a_device_models_call_has_1_or_2_buffers_and_a_domain_that_is_not_its_own() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    for (args, want) in [
        ([5, 0, 0x100], -61),
        ([5, 3, 0x100], -7),
        ([5, 2, 0xfff0], -14),
        ([5, 2, 0x100], -1),
        ([0, 1, 0x100], -22),
        ([0x7ff0, 1, 0x100], -3),
    ] {
        let result = call(&mut domain, &guest, Width::Native, 41, &args);
        assert_eq!(result, want, "{args:?}");
    }
    let compat = call(&mut domain, &guest, Width::Compat, 41, &[5, 2, 0xfff0]);
    assert_eq!(compat, -1, "8 bytes each");
}

#[test]
fn page_tables_of_pv_are_not_for_hvm() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    for (width, args, want) in [
        (Width::Native, [0, 1, 0, 0x7ff0], -22),
        (Width::Native, [0, 1, 0, 0], -1),
        (Width::Native, [0, 1, 0, 77], -3),
        (Width::Compat, [0, 1, 0, 0], -1),
        (Width::Compat, [0xffff_0000, 1, 0, 0], -1),
        (Width::Compat, [0xffff_0000, 0, 0, 0], 0),
    ] {
        assert_eq!(call(&mut domain, &guest, width, 26, &args), want);
    }
}

#[test]
fn a_64_bit_caller_uses_all_of_rax_a_32_bit_caller_eax() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    let yield_with_high_half = 0x1_0000_001d;
    assert_eq!(
        call(
            &mut domain,
            &guest,
            Width::Native,
            yield_with_high_half,
            &[0]
        ),
        -38
    );
    assert_eq!(
        call(
            &mut domain,
            &guest,
            Width::Compat,
            yield_with_high_half,
            &[0]
        ),
        0
    );
    assert_eq!(domain.asked, ["yield"]);
}

#[test]
fn a_group_that_is_not_offered_is_enosys_and_the_console_eperm() {
    for number in [12, 15, 17, 20, 21, 24, 29, 32, 34] {
        assert_eq!(answer_of_nothing(number), Outcome::Return(-38), "{number}");
    }
    assert_eq!(answer_of_nothing(18), Outcome::Return(-1));
}
