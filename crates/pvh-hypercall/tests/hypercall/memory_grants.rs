//! `memory_op` and `grant_table_op`.

use pvh_hypercall::Width::{Compat, Native};

use crate::domain::{Domain, FlatGuest, call, e820};

const MEMORY_OP: u64 = 12;
const GRANT_TABLE_OP: u64 = 20;

fn new() -> (Domain, FlatGuest) {
    (Domain::default(), FlatGuest::new())
}

#[test]
fn add_to_physmap_is_24_bytes_or_16() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x7ff0, 1, 3, 0, 0xfeff, 1]);
    assert_eq!(call(&mut domain, &guest, Native, MEMORY_OP, &[7, 0x100]), 0);
    guest.put_u32(0x100, &[0x7ff0, 0, 0, 0x1000]);
    assert_eq!(call(&mut domain, &guest, Compat, MEMORY_OP, &[7, 0x100]), 0);
    assert_eq!(domain.asked, ["add 1 0x3 0x10000feff", "add 0 0x0 0x1000"]);
}

#[test]
fn a_foreign_page_is_enosys_but_in_the_batch() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x7ff0, 4, 0, 0]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[7, 0x100]),
        -38
    );
}

#[test]
fn a_range_comes_page_by_page() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[3 << 16 | 0x7ff0, 3, 0x10, 0x20]);
    assert_eq!(call(&mut domain, &guest, Compat, MEMORY_OP, &[7, 0x100]), 0);
    assert_eq!(
        domain.asked,
        ["add 2 0x10 0x20", "add 2 0x11 0x21", "add 2 0x12 0x22"]
    );
    let at_the_end = [7 | 3 << 6, 0x100];
    let answer = call(&mut domain, &guest, Compat, MEMORY_OP, &at_the_end);
    assert_eq!((answer, domain.asked.len()), (0, 3), "nothing is left");
    let past_the_end = 7 | 4 << 6;
    assert_eq!(
        call(
            &mut domain,
            &guest,
            Compat,
            MEMORY_OP,
            &[past_the_end, 0x100]
        ),
        -84
    );
    let above_16_bits = 7 | 0x1_0000 << 6;
    assert_eq!(
        call(
            &mut domain,
            &guest,
            Compat,
            MEMORY_OP,
            &[above_16_bits, 0x100]
        ),
        -33
    );
}

#[test]
fn a_batch_writes_each_result_and_goes_on() {
    let (mut domain, guest) = new();
    guest.put_u32(0x200, &[1, 0xbad, 3]);
    guest.put_u32(0x300, &[0x10, 0x11, 0x12]);
    guest.put_u32(0x400, &[9, 9, 9]);
    guest.put_u32(0x100, &[2 << 16 | 0x7ff0, 3, 0x200, 0x300, 0x400]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[23, 0x100]),
        0
    );
    let results = [0x400, 0x404, 0x408].map(|at| guest.u32(at).cast_signed());
    assert_eq!(results, [0, -22, 0]);
    guest.put_u32(0x100, &[3 << 16 | 0x7ff0, 3, 0x200, 0x300, 0x400]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[23, 0x100]),
        -95,
        "no ranges"
    );
    guest.put_u32(0x100, &[2 << 16 | 0x7ff0, 3, 0x200, 0x300, 0xfffc]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[23, 0x100]),
        -14
    );
    assert_eq!(guest.u32(0xfffc), 0, "the first result was written");
    guest.put_u32(0x100, &[2 << 16 | 0x7ff0, 0, 0, 0, 0]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[23, 0x100]),
        0,
        "size 0"
    );
}

#[test]
fn a_domain_is_judged_once_before_sizes_and_frames() {
    let (mut domain, guest) = new();
    for (space, command) in [(0, 7), (3, 7), (3, 7 | 4 << 6)] {
        guest.put_u32(0x100, &[3 << 16 | 9, space, 0, 0, 0xffff_ffff, 0xffff_ffff]);
        let answer = call(&mut domain, &guest, Native, MEMORY_OP, &[command, 0x100]);
        assert_eq!(answer, -3, "space {space}, {command:#x}");
    }
    guest.put_u32(0x100, &[9, 3, 0x200, 0x300, 0x400]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[23, 0x100]),
        -3
    );
    assert!(domain.asked.is_empty());
}

#[test]
fn frame_number_all_ones_is_einval_and_a_range_past_the_end_eoverflow() {
    let (mut domain, guest) = new();
    let ones = 0xffff_ffff;
    for space in [0, 1, 2, 3] {
        guest.put_u32(0x100, &[0x7ff0, space, 0, 0, ones, ones]);
        assert_eq!(
            call(&mut domain, &guest, Native, MEMORY_OP, &[7, 0x100]),
            -22
        );
    }
    guest.put_u32(0x100, &[2 << 16 | 0x7ff0, 3, 0, 0, ones - 1, ones]);
    assert_eq!(
        call(&mut domain, &guest, Native, MEMORY_OP, &[7, 0x100]),
        -75
    );
    guest.put_u32(0x100, &[2 << 16 | 0x7ff0, 3, ones - 1, ones, 0, 0]);
    assert_eq!(
        call(&mut domain, &guest, Native, MEMORY_OP, &[7, 0x100]),
        -75
    );
    // A batch ends there; what came before is done.
    guest.put_u32(0x200, &[1, 0, 2, 0]);
    guest.put_u32(0x300, &[0x10, 0, ones, ones]);
    guest.put_u32(0x100, &[2 << 16 | 0x7ff0, 2, 0x200, 0, 0x300, 0, 0x400, 0]);
    assert_eq!(
        call(&mut domain, &guest, Native, MEMORY_OP, &[23, 0x100]),
        -22
    );
    assert_eq!(domain.asked, ["add 2 0x1 0x10"]);
}

#[test]
fn a_batch_that_says_it_is_done_is_eilseq() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[2 << 16 | 0x7ff0, 3, 0x200, 0x300, 0x400]);
    let resumed = |done: u64| 23 | done << 6;
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[resumed(3), 0x100]),
        -84
    );
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[resumed(4), 0x100]),
        -84
    );
    assert!(domain.asked.is_empty());
}

#[test]
fn the_memory_map_has_entries_of_20_bytes_cut_to_the_room() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[8, 0, 0x200, 0]);
    assert_eq!(
        call(&mut domain, &guest, Native, MEMORY_OP, &[9, 0x100]),
        -38,
        "no map was set"
    );
    domain.map = vec![e820(0, 0xa_0000), e820(0x10_0000, 0x700_0000)];
    assert_eq!(call(&mut domain, &guest, Native, MEMORY_OP, &[9, 0x100]), 0);
    assert_eq!(guest.u32(0x100), 2);
    assert_eq!(
        (guest.u64(0x214), guest.u64(0x21c), guest.u32(0x224)),
        (0x10_0000, 0x700_0000, 1)
    );
    guest.put_u32(0x100, &[1, 0x300]);
    assert_eq!(call(&mut domain, &guest, Compat, MEMORY_OP, &[9, 0x100]), 0);
    assert_eq!(
        (guest.u32(0x100), guest.u64(0x308), guest.u64(0x314)),
        (1, 0xa_0000, 0)
    );
    guest.put_u32(0x100, &[2, 0xffff]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[9, 0x100]),
        -14
    );
}

#[test]
fn set_memory_map_takes_1024_entries_at_most() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x7ff0, 1024, 0x200]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[13, 0x100]),
        0
    );
    assert_eq!(domain.map.len(), 1024);
    guest.put_u32(0x100, &[0x7ff0, 1025, 0x200]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[13, 0x100]),
        -22
    );
    guest.put_u32(0x100, &[0x7ff0, 1024, 0xf000]);
    assert_eq!(
        call(&mut domain, &guest, Compat, MEMORY_OP, &[13, 0x100]),
        -14
    );
    assert_eq!(domain.map.len(), 1024, "the old one stays");
}

#[test]
fn the_questions_of_memory_op() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x7ff0, 0x44, 0x44, 0]);
    let answers = [
        (2, 0x7_ffff),
        (3, 0x8000),
        (4, 0x9000),
        (14, 0xf_ffff),
        (15, -2),
    ];
    for (op, answer) in answers {
        assert_eq!(
            call(&mut domain, &guest, Native, MEMORY_OP, &[op, 0x100]),
            answer,
            "{op}"
        );
        let continued = op | 1 << 6;
        assert_eq!(
            call(&mut domain, &guest, Native, MEMORY_OP, &[continued, 0x100]),
            -22,
            "{op}"
        );
    }
    assert_eq!(domain.asked, ["remove 0x44"], "8 bytes in");
    guest.put_u32(0x100, &[0]);
    assert_eq!(
        call(&mut domain, &guest, Native, MEMORY_OP, &[3, 0x100]),
        -3
    );
    for filtered in [8, 10, 11, 12, 20, 22, 29, 63] {
        let result = call(&mut domain, &guest, Native, MEMORY_OP, &[filtered, 0x100]);
        assert_eq!(result, -38, "{filtered}");
    }
}

#[test]
fn memory_ops_of_the_toolstack_are_refused_in_xens_order() {
    let nowhere = 0xffff_0000;
    // Structure, answers to a 64-bit and to a 32-bit caller.
    for (op, words, native, compat) in [
        (5, &[0, 0][..], -95, -95),
        (25, &[], -95, -95),
        (28, &[], -13, -13),
        (18, &[], 0, 0),
        (19, &[], 0, 0),
        (27, &[1, 9], 0, 0),
        (27, &[2, 9], -22, -22),
        (24, &[0, 0, 0, 0, 0, 0, 5, 0], -1, -38),
        (24, &[1, 0, 0, 0, 0, 0, 5, 0], -22, -38),
        (24, &[0, 0, 0, 0, 9, 0, 5, 0], -22, -38),
        (24, &[0, 0, 0, 0, 0, 9, 5, 0], -22, -38),
        (24, &[0, 0, 0, 0, 0, 0, 0x7ff0, 0], -22, -38),
        (16, &[0, 0, 0, 0, 0, 0, 0, 0, 0], -22, -22),
        (17, &[0, 0, 0, 0, 0, 0, 0, 0, 0x7ff0], -1, -1),
        (21, &[0, 0], -22, -22),
        (21, &[0x7ff0_0000, 0], -3, -3),
        (21, &[0x0005_0000, 0], -1, -1),
        (26, &[0x7ff0, 0], -95, -95),
        (26, &[0x1_7ff0, 0], -22, -22),
    ] {
        let (mut domain, guest) = new();
        guest.put_u32(0x100, words);
        for (width, want) in [(Native, native), (Compat, compat)] {
            let answer = call(&mut domain, &guest, width, MEMORY_OP, &[op, 0x100]);
            assert_eq!(answer, want, "{op} {width:?}");
        }
    }
    for (op, native, compat) in [
        (5, -14, -95),
        (16, -14, -14),
        (21, -14, -14),
        (24, -14, -38),
        (25, -95, -95),
        (26, -14, -14),
        (27, -14, -14),
        (28, -13, -14),
        (11, -14, -14),
        (18, 0, 0),
        (27 | 1 << 6, -22, -22),
        (24 | 1 << 6, -22, -38),
        (26 | 1 << 6, -22, -22),
    ] {
        let (mut domain, guest) = new();
        for (width, want) in [(Native, native), (Compat, compat)] {
            let answer = call(&mut domain, &guest, width, MEMORY_OP, &[op, nowhere]);
            assert_eq!(answer, want, "{op:#x} {width:?}");
        }
    }
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0, 9]);
    call(&mut domain, &guest, Native, MEMORY_OP, &[27, 0x100]);
    assert_eq!(guest.u32(0x104), 0, "no device has ranges");
}

#[test]
fn of_grant_table_op_hvm_has_eight_sub_ops() {
    let (mut domain, guest) = new();
    for op in 0..13_u64 {
        let result = call(&mut domain, &guest, Native, GRANT_TABLE_OP, &[op, 0x100, 0]);
        let allowed = [0, 1, 2, 5, 6, 8, 10, 11].contains(&op);
        assert_eq!(result != -38, allowed, "{op}");
    }
}

#[test]
fn query_size_and_setup_table_want_a_count_of_one() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x7ff0, 9, 9, 9]);
    assert_eq!(
        call(&mut domain, &guest, Compat, GRANT_TABLE_OP, &[6, 0x100, 1]),
        0
    );
    assert_eq!([0x104, 0x108, 0x10c].map(|at| guest.u32(at)), [0, 64, 0]);
    for count in [0, 2] {
        for op in [2, 6] {
            let result = call(
                &mut domain,
                &guest,
                Compat,
                GRANT_TABLE_OP,
                &[op, 0x100, count],
            );
            assert_eq!(result, -22);
        }
    }
    guest.put_u32(0x100, &[1, 0, 0, 0]);
    assert_eq!(
        call(&mut domain, &guest, Compat, GRANT_TABLE_OP, &[6, 0x100, 1]),
        0
    );
    assert_eq!(
        guest.bytes::<2>(0x10c),
        (-2_i16).to_le_bytes(),
        "no such domain is a status"
    );
}

#[test]
fn setup_table_lists_frames_in_the_callers_words() {
    let (mut domain, guest) = new();
    guest.put_u32(0x100, &[0x7ff0, 2, 9, 0, 0x200, 0]);
    assert_eq!(
        call(&mut domain, &guest, Native, GRANT_TABLE_OP, &[2, 0x100, 1]),
        0
    );
    assert_eq!((guest.u64(0x200), guest.u64(0x208)), (0x100, 0x101));
    assert_eq!(guest.bytes::<2>(0x108), [0, 0]);
    guest.put_u32(0x100, &[0x7ff0, 2, 9, 0x300]);
    assert_eq!(
        call(&mut domain, &guest, Compat, GRANT_TABLE_OP, &[2, 0x100, 1]),
        0
    );
    assert_eq!((guest.u32(0x300), guest.u32(0x304)), (0x100, 0x101));
}

#[test]
fn a_copy_is_40_bytes_or_24() {
    let (mut domain, guest) = new();
    guest.put_u32(
        0x100,
        &[8, 1, 0, 0, 0x44, 0, 16 << 16 | 1, 0, 1 << 16 | 64, 0],
    );
    assert_eq!(
        call(&mut domain, &guest, Native, GRANT_TABLE_OP, &[5, 0x100, 1]),
        0
    );
    assert_eq!(guest.bytes::<2>(0x124), (-3_i16).to_le_bytes());
    guest.put_u32(0x100, &[8, 0, 0x44, 16 << 16 | 1, 2 << 16 | 64, 0]);
    assert_eq!(
        call(&mut domain, &guest, Compat, GRANT_TABLE_OP, &[5, 0x100, 1]),
        0
    );
    assert_eq!(guest.bytes::<2>(0x114), (-3_i16).to_le_bytes());
    let native = "copy true 0x100000008 to false 0x44+16 64";
    assert_eq!(domain.asked, [native, "copy false 0x8 to true 0x44+16 64"]);
}

#[test]
fn grant_versions() {
    let (mut domain, guest) = new();
    for (version, result) in [(1, 0), (2, -38), (0, -22), (3, -22)] {
        guest.put_u32(0x100, &[version]);
        let answer = call(&mut domain, &guest, Native, GRANT_TABLE_OP, &[8, 0x100, 1]);
        assert_eq!(answer, result, "{version}");
    }
    for count in [0, 3] {
        guest.put_u32(0x100, &[2]);
        let args = [8, 0x100, count];
        let answer = call(&mut domain, &guest, Native, GRANT_TABLE_OP, &args);
        assert_eq!(answer, -38, "one structure, whatever the count");
    }
    guest.put_u32(0x100, &[0x7ff0, 9]);
    assert_eq!(
        call(&mut domain, &guest, Native, GRANT_TABLE_OP, &[10, 0x100, 1]),
        0
    );
    assert_eq!(guest.u32(0x104), 1);
    let negative = 0x8000_0000;
    let result = call(
        &mut domain,
        &guest,
        Native,
        GRANT_TABLE_OP,
        &[8, 0x100, negative],
    );
    assert_eq!(result, -22, "the count is an int");
}
