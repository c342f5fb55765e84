//! `xen_version`, `sched_op`, `set_timer_op`, `vm_assist` and `console_io`.

use pvh_hypercall::Width::{Compat, Native};

use crate::domain::{Domain, FlatGuest, call};

const XEN_VERSION: u64 = 17;
const SCHED_OP: u64 = 29;
const UNREADABLE: u64 = 0x2_0000;

fn new() -> (Domain, FlatGuest) {
    (Domain::default(), FlatGuest::new())
}

#[test]
fn xen_version_0_answers_4_17() {
    let (mut domain, guest) = new();
    assert_eq!(
        call(&mut domain, &guest, Native, XEN_VERSION, &[0, 0]),
        0x4_0011
    );
}

#[test]
fn get_features_answers_submap_0_and_refuses_others() {
    let (mut domain, guest) = new();
    assert_eq!(
        call(&mut domain, &guest, Compat, XEN_VERSION, &[6, 0x100]),
        0
    );
    assert_eq!(guest.u32(0x104), 0x0001_2305);
    guest.put_u32(0x100, &[1]);
    assert_eq!(
        call(&mut domain, &guest, Native, XEN_VERSION, &[6, 0x100]),
        -22
    );
    assert_eq!(
        call(&mut domain, &guest, Native, XEN_VERSION, &[6, UNREADABLE]),
        -14
    );
}

#[test]
fn the_texts_have_their_sizes_and_end_in_nul() {
    let (mut domain, guest) = new();
    for (op, len) in [(1, 16_usize), (2, 144), (3, 1024), (4, 64), (8, 16), (9, 9)] {
        guest.put(0x1000, &[0xaa; 2048]);
        assert_eq!(
            call(&mut domain, &guest, Native, XEN_VERSION, &[op, 0x1000]),
            0
        );
        let memory: [u8; 2048] = guest.bytes(0x1000);
        assert_eq!(memory[len], 0xaa, "no byte behind the {len} of {op}");
        assert_ne!(
            memory[len.saturating_sub(1)],
            0xaa,
            "every byte of {op} is written"
        );
    }
    assert_eq!(
        &guest.bytes::<9>(0x1000),
        b"<denied>\0",
        "a domU is not shown the command line"
    );
}

#[test]
fn platform_parameters_are_where_pv_has_xen_and_0_for_32_bit_callers() {
    let (mut domain, guest) = new();
    for (width, want) in [
        (Native, &[0, 0, 0, 0, 0, 0x80, 0xff, 0xff][..]),
        (Compat, &[0; 4]),
    ] {
        guest.put(0x100, &[0xaa; 16]);
        assert_eq!(
            call(&mut domain, &guest, width, XEN_VERSION, &[5, 0x100]),
            0
        );
        assert_eq!(&guest.bytes::<16>(0x100)[..want.len()], want);
        assert_eq!(guest.bytes::<16>(0x100)[want.len()], 0xaa);
    }
}

#[test]
fn pagesize_wants_null_build_id_is_eperm_and_newer_ops_are_enosys() {
    let (mut domain, guest) = new();
    assert_eq!(
        call(&mut domain, &guest, Native, XEN_VERSION, &[7, 0]),
        4096
    );
    assert_eq!(call(&mut domain, &guest, Native, XEN_VERSION, &[7, 1]), -22);
    assert_eq!(
        call(&mut domain, &guest, Native, XEN_VERSION, &[10, 0x100]),
        -1
    );
    assert_eq!(
        call(&mut domain, &guest, Native, XEN_VERSION, &[11, 0x100]),
        -38
    );
}

#[test]
fn sched_op_shutdown_uses_the_low_8_bits_of_the_reason() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x0102_0301]);
    assert_eq!(call(&mut domain, &guest, Native, SCHED_OP, &[2, 0x100]), 0);
    assert_eq!(call(&mut domain, &guest, Native, SCHED_OP, &[5, 0x100]), 0);
    assert_eq!(
        call(&mut domain, &guest, Native, SCHED_OP, &[2, UNREADABLE]),
        -14
    );
    assert_eq!(domain.asked, ["shutdown 1", "code 1"]);
}

#[test]
fn sched_op_poll_is_24_bytes_or_16() {
    let (mut domain, guest) = new();
    guest.put_u32(0x200, &[5, 6]);
    guest.put_u32(0x100, &[0x200, 0, 2, 0, 77, 0]);
    assert_eq!(call(&mut domain, &guest, Native, SCHED_OP, &[3, 0x100]), 0);
    guest.put_u32(0x100, &[0x200, 1, 88, 0]);
    assert_eq!(call(&mut domain, &guest, Compat, SCHED_OP, &[3, 0x100]), 0);
    assert_eq!(
        domain.asked,
        ["poll 5", "poll 6", "until 77", "poll 5", "until 88"]
    );
}

#[test]
fn sched_op_poll_of_more_than_128_ports_is_einval() {
    let (mut domain, guest) = new();
    for (count, result) in [(128, 0), (129, -22), (u32::MAX, -22)] {
        guest.put_u32(0x100, &[0x200, 0, count, 0, 0, 0]);
        assert_eq!(
            call(&mut domain, &guest, Native, SCHED_OP, &[3, 0x100]),
            result
        );
    }
    guest.put_u32(0x100, &[0xffff_f000, 0, 1, 0, 0, 0]);
    assert_eq!(
        call(&mut domain, &guest, Native, SCHED_OP, &[3, 0x100]),
        -14
    );
}

#[test]
fn the_other_sub_ops_of_sched_op() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0, 30]);
    let results = [(0, 0), (1, 0), (4, -3), (6, 1), (7, -1), (8, -38)];
    for (op, result) in results {
        assert_eq!(
            call(&mut domain, &guest, Native, SCHED_OP, &[op, 0x100]),
            result,
            "{op}"
        );
    }
    assert_eq!(
        call(&mut domain, &guest, Native, SCHED_OP, &[7, UNREADABLE]),
        -1
    );
    assert_eq!(domain.asked, ["yield", "block", "watchdog 0 30"]);
}

#[test]
fn a_sub_op_is_an_int_of_which_64_bit_callers_high_halves_do_not_count() {
    let (mut domain, guest) = new();
    assert_eq!(
        call(
            &mut domain,
            &guest,
            Native,
            SCHED_OP,
            &[0xffff_ffff_0000_0000]
        ),
        0
    );
}

#[test]
fn set_timer_op_takes_one_register_or_two() {
    let (mut domain, guest) = new();
    assert_eq!(call(&mut domain, &guest, Native, 15, &[0x1_0000_0002]), 0);
    assert_eq!(call(&mut domain, &guest, Compat, 15, &[2, 1]), 0);
    assert_eq!(call(&mut domain, &guest, Native, 15, &[u64::MAX]), 0);
    assert_eq!(
        domain.asked,
        ["timer 4294967298", "timer 4294967298", "timer -1"]
    );
}

#[test]
fn vm_assist_has_type_5_alone_and_looks_at_it_first() {
    let (mut domain, guest) = new();
    for (command, kind, result) in [(0, 5, 0), (1, 5, 0), (2, 5, -38), (0, 4, -22), (9, 0, -22)] {
        assert_eq!(
            call(&mut domain, &guest, Native, 21, &[command, kind]),
            result
        );
    }
    assert_eq!(domain.asked, ["assist true", "assist false"]);
}

#[test]
fn console_io_writes_in_pieces_and_reads_what_there_is() {
    let (mut domain, guest) = new();
    assert_eq!(call(&mut domain, &guest, Native, 18, &[0, 600, 0x100]), 0);
    assert_eq!(domain.asked, ["text of 256", "text of 256", "text of 88"]);
    assert_eq!(call(&mut domain, &guest, Native, 18, &[1, 16, 0x4000]), 3);
    assert_eq!(&guest.bytes::<4>(0x4000), b"xxx\0");
    assert_eq!(
        call(&mut domain, &guest, Native, 18, &[1, 0x8000_0000, 0x4000]),
        -7
    );
    assert_eq!(call(&mut domain, &guest, Native, 18, &[2, 0, 0]), -38);
    assert_eq!(
        call(&mut domain, &guest, Native, 18, &[0, u64::MAX, 0xff00]),
        -14
    );
}
