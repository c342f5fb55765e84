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
    for number in [
        0,
        11,
        16,
        23,
        33,
        39,
        48,
        49,
        55,
        128,
        0x8000_001d,
        u64::MAX,
    ] {
        assert_eq!(
            call(&mut domain, &guest, Width::Native, number, &[]),
            -38,
            "{number:#x}"
        );
    }
    assert!(domain.asked.is_empty());
}

#[test]
fn calls_of_the_toolstack_are_eperm_and_counters_eopnotsupp() {
    let (mut domain, guest) = (Domain::default(), FlatGuest::new());
    for number in [7, 35, 36, 41, 42] {
        assert_eq!(
            call(&mut domain, &guest, Width::Native, number, &[]),
            -1,
            "{number}"
        );
    }
    assert_eq!(call(&mut domain, &guest, Width::Native, 40, &[]), -95);
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
