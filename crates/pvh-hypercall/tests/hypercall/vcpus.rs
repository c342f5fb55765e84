//! `vcpu_op`.

use pvh_abi::Errno;
use pvh_hypercall::Width::{self, Compat, Native};

use crate::domain::{Domain, FlatGuest, call};

fn new() -> (Domain, FlatGuest) {
    (Domain::default(), FlatGuest::new())
}

fn vcpu_op(domain: &mut Domain, guest: &FlatGuest, width: Width, args: [u64; 3]) -> i64 {
    call(domain, guest, width, 24, &args)
}

#[test]
fn an_absent_vcpu_is_enoent_whatever_the_sub_op() {
    let (mut domain, guest) = new();
    for op in 0..20 {
        assert_eq!(vcpu_op(&mut domain, &guest, Native, [op, 2, 0]), -2, "{op}");
    }
    assert_eq!(
        vcpu_op(&mut domain, &guest, Native, [14, 1, 0]),
        -38,
        "newer than 4.17"
    );
    assert!(domain.asked.is_empty());
}

#[test]
fn initialise_copies_128_bytes_for_both_widths() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[1]);
    for width in [Native, Compat] {
        assert_eq!(vcpu_op(&mut domain, &guest, width, [0, 1, 0x100]), 0);
        assert_eq!(vcpu_op(&mut domain, &guest, width, [0, 1, 0xff80]), 0);
        assert_eq!(vcpu_op(&mut domain, &guest, width, [0, 1, 0xff81]), -14);
    }
    assert_eq!(domain.asked[0], "initialise 1 mode 1");
}

#[test]
fn a_vcpu_without_vcpu_info_is_refused_before_its_context_is_read() {
    let (mut domain, guest) = new();
    domain.may_initialise = Some(Errno::EINVAL);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [0, 1, u64::MAX]), -22);
}

#[test]
fn up_down_and_is_up() {
    let (mut domain, guest) = new();
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [1, 1, 0]), 0);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [2, 1, 0]), 0);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [3, 0, 0]), 1);
    assert_eq!(vcpu_op(&mut domain, &guest, Compat, [3, 1, 0]), 0);
    assert_eq!(domain.asked, ["up 1", "down 1"]);
}

#[test]
fn runstate_is_48_bytes_or_44() {
    let (mut domain, guest) = new();
    guest.put(0x100, &[0xaa; 64]);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [4, 0, 0x100]), 0);
    assert_eq!(
        (guest.u32(0x100), guest.u64(0x108), guest.u64(0x110)),
        (1, 2, 3)
    );
    assert_eq!((guest.u64(0x128), guest.u32(0x130)), (6, 0xaaaa_aaaa));
    guest.put(0x100, &[0xaa; 64]);
    assert_eq!(vcpu_op(&mut domain, &guest, Compat, [4, 0, 0x100]), 0);
    assert_eq!(
        (guest.u32(0x100), guest.u64(0x104), guest.u64(0x10c)),
        (1, 2, 3)
    );
    assert_eq!((guest.u64(0x124), guest.u32(0x12c)), (6, 0xaaaa_aaaa));
}

#[test]
fn an_area_of_a_32_bit_caller_has_a_clear_upper_half() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x5000, 1]);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [5, 1, 0x100]), 0);
    assert_eq!(vcpu_op(&mut domain, &guest, Compat, [5, 1, 0x100]), -14);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [13, 1, 0x100]), 0);
    assert_eq!(
        domain.asked,
        ["runstate 1 0x100005000 Native", "time 1 0x100005000"]
    );
}

#[test]
fn a_period_is_1_ms_or_more() {
    let (mut domain, guest) = new();
    for (period, result) in [
        (999_999_u64, -22),
        (1_000_000, 0),
        (u64::MAX >> 2, 0),
        (1 << 62, -22),
    ] {
        guest.put(0x100, &period.to_le_bytes());
        assert_eq!(
            vcpu_op(&mut domain, &guest, Native, [6, 1, 0x100]),
            result,
            "{period}"
        );
    }
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [7, 1, 0]), 0);
    assert_eq!(domain.asked.last().unwrap(), "periodic 1 None");
}

#[test]
fn a_singleshot_timer_is_the_callers_own() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[5, 0, 1]);
    for width in [Native, Compat] {
        assert_eq!(vcpu_op(&mut domain, &guest, width, [8, 0, 0x100]), 0);
        assert_eq!(vcpu_op(&mut domain, &guest, width, [8, 1, 0x100]), -22);
    }
    // The structure is 16 bytes or 12, and the id is looked at before it or after.
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [8, 0, 0xfff4]), -14);
    assert_eq!(vcpu_op(&mut domain, &guest, Compat, [8, 0, 0xfff4]), 0);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [8, 1, u64::MAX]), -22);
    assert_eq!(vcpu_op(&mut domain, &guest, Compat, [8, 1, u64::MAX]), -14);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [9, 0, 0]), 0);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [9, 1, 0]), -22);
    assert_eq!(domain.asked[0], "singleshot 5 true");
    guest.put_u32(0x100, &[5, 0, 0, 0]);
    let answer = call(&mut domain, &guest, Native, 24, &[8, 0, 0x100]);
    assert_eq!(answer, 0);
    assert_eq!(domain.asked.last().unwrap(), "singleshot 5 false");
}

#[test]
fn vcpu_info_nmi_and_physid() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x1234, 0, 64, 0]);
    assert_eq!(vcpu_op(&mut domain, &guest, Compat, [10, 1, 0x100]), 0);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [11, 1, 0]), 0);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [11, 1, 1]), -22);
    assert_eq!(vcpu_op(&mut domain, &guest, Native, [12, 1, 0x100]), -22);
    assert_eq!(domain.asked, ["vcpu_info 1 0x1234 64", "nmi 1"]);
}
