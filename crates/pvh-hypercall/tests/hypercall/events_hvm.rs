//! `event_channel_op` and `hvm_op`.

use pvh_hypercall::Width::{Compat, Native};

use crate::domain::{Domain, FlatGuest, call};

fn new() -> (Domain, FlatGuest) {
    (Domain::default(), FlatGuest::new())
}

fn events(domain: &mut Domain, guest: &FlatGuest, op: u64, arg: u64) -> i64 {
    call(domain, guest, Native, 32, &[op, arg])
}

fn hvm(domain: &mut Domain, guest: &FlatGuest, op: u64, arg: u64) -> i64 {
    call(domain, guest, Compat, 34, &[op, arg])
}

#[test]
fn calls_that_make_a_port_write_it_where_the_structure_has_it() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[1, 2, 0]);
    let made = [
        (0, 0x108, 40),
        (1, 0x108, 41),
        (6, 0x104, 42),
        (7, 0x104, 43),
    ];
    for (op, at, port) in made {
        guest.put_u32(0x100, &[1, 2, 0]);
        assert_eq!(events(&mut domain, &guest, op, 0x100), 0, "{op}");
        assert_eq!(guest.u32(at), port, "{op}");
    }
    assert_eq!(
        domain.asked,
        ["interdomain 1 2", "virq 1 2", "unbound 0x1 0", "ipi 1"]
    );
    assert_eq!(
        events(&mut domain, &guest, 2, 0x100),
        -22,
        "a PVH domU has no pirqs"
    );
}

#[test]
fn a_virq_of_24_or_more_is_einval() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[24, 0, 0]);
    assert_eq!(events(&mut domain, &guest, 1, 0x100), -22);
    guest.put_u32(0x100, &[23, 0, 0]);
    assert_eq!(events(&mut domain, &guest, 1, 0x100), 0);
}

#[test]
fn calls_on_a_port_read_four_bytes() {
    let (mut domain, guest) = new();
    guest.put_u32(0xfffc, &[7]);
    for (op, result) in [(3, -22), (4, 0), (9, 0)] {
        assert_eq!(events(&mut domain, &guest, op, 0xfffc), result);
        assert_eq!(events(&mut domain, &guest, op, 0xfffd), -14);
    }
    assert_eq!(domain.asked, ["close 7", "send 7", "unmask 7"]);
}

#[test]
fn status_fills_every_field_and_keeps_the_query() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x7ff0, 5, 0, 0, 0, 0]);
    assert_eq!(events(&mut domain, &guest, 5, 0x100), 0);
    let answer = [0, 4, 8, 12, 16, 20].map(|offset| guest.u32(0x100 + offset));
    assert_eq!(answer, [0x7ff0, 5, 2, 1, 9, 10]);
}

#[test]
fn the_fifo_calls() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x33, 0, 64, 1, 0, 0]);
    assert_eq!(events(&mut domain, &guest, 11, 0x100), 0);
    assert_eq!(guest.bytes::<1>(0x110), [17], "link_bits");
    assert_eq!(events(&mut domain, &guest, 12, 0x100), 0);
    assert_eq!(events(&mut domain, &guest, 13, 0x100), 0);
    assert_eq!(events(&mut domain, &guest, 8, 0x100), 0);
    assert_eq!(events(&mut domain, &guest, 10, 0x100), 0);
    assert_eq!(
        domain.asked,
        [
            "control 1 0x33 64",
            "expand 0x33",
            "priority 51 0",
            "vcpu 51 0",
            "reset 0x33"
        ]
    );
    assert_eq!(
        events(&mut domain, &guest, 14, 0x100),
        -38,
        "internal to Xen"
    );
}

#[test]
fn get_param_writes_the_value_and_an_index_of_39_is_einval() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x7ff0, 17, 0, 0]);
    assert_eq!(hvm(&mut domain, &guest, 1, 0x100), 0);
    assert_eq!(guest.u64(0x108), 17 << 32);
    for op in [0, 1] {
        guest.put_u32(0x100, &[0x7ff0, 39, 0, 0]);
        assert_eq!(hvm(&mut domain, &guest, op, 0x100), -22);
        assert_eq!(hvm(&mut domain, &guest, op, 0xfff1), -14);
    }
    guest.put_u32(0x100, &[0x7ff0, 38, 1, 2]);
    assert_eq!(hvm(&mut domain, &guest, 0, 0x100), 0);
    assert_eq!(domain.asked, ["set 0x7ff0 38 0x200000001"]);
}

#[test]
fn an_upcall_vector_is_0x10_or_above() {
    let (mut domain, guest) = new();
    for (vector, result) in [(0x0f_u32, -22), (0x10, 0), (0xf3, 0)] {
        guest.put_u32(0x100, &[1, vector]);
        assert_eq!(hvm(&mut domain, &guest, 23, 0x100), result);
    }
    assert_eq!(domain.asked, ["vector 1 0x10", "vector 1 0xf3"]);
}

#[test]
fn the_other_sub_ops_of_hvm_op() {
    let (mut domain, guest) = new();
    assert_eq!(hvm(&mut domain, &guest, 5, 0), 0);
    assert_eq!(hvm(&mut domain, &guest, 5, 1), -22);
    assert_eq!(hvm(&mut domain, &guest, 24, 0), 0);
    assert_eq!(hvm(&mut domain, &guest, 24, 1), -22);
    assert_eq!(
        hvm(&mut domain, &guest, 9, 0x100),
        -22,
        "page tables are not shadowed"
    );
    assert_eq!(hvm(&mut domain, &guest, 10, 0x100), 0);
    assert_eq!(guest.u64(0x100), 0x1122_3344_5566);
    assert_eq!(hvm(&mut domain, &guest, 15, 0x200), 0);
    assert_eq!(guest.bytes::<2>(0x202), [2, 0]);
    assert_eq!(hvm(&mut domain, &guest, 25, 0x100), -95);
    for gone in [2, 3, 4, 6, 7, 8, 12, 13, 14, 16, 22, 26, u64::MAX] {
        assert_eq!(hvm(&mut domain, &guest, gone, 0x100), -38, "{gone}");
    }
}

#[test]
fn a_trace_record_has_28_bytes_at_most_and_no_class() {
    let (mut domain, guest) = new();
    for (event, extra, result) in [(0x0fff, 28, 0), (0x1000, 0, -22), (0, 29, -22)] {
        guest.put_u32(0x100, &[event | extra << 16]);
        assert_eq!(hvm(&mut domain, &guest, 11, 0x100), result);
    }
}
