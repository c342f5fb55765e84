//! "What is a handle" to "any failure", page crossing, wrap, target frame.

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, LinearAddress, LinearFault, LinearMemory, VecMemory};

use crate::guest::{Guest, NEXT_PAGE, PAGE, RAM_BYTES};

fn pattern(len: u16) -> Vec<u8> {
    (0..len).map(|i| (i % 251 + 1).to_le_bytes()[0]).collect()
}

#[test]
fn a_buffer_crosses_into_an_unlike_frame() {
    for guest in Guest::paged() {
        let at = LinearAddress(guest.at.0 & !0xFFF | 0xFFD);
        guest.view().write(at, b"crossing").unwrap();
        assert_eq!(guest.bytes(PAGE | 0xFFD, 3), b"cro");
        assert_eq!(guest.bytes(NEXT_PAGE, 5), b"ssing");
        let mut read = [0; 8];
        guest.view().read(at, &mut read).unwrap();
        assert_eq!(&read, b"crossing");
    }
}

#[test]
fn a_buffer_may_be_of_any_length_and_alignment() {
    for guest in Guest::paged() {
        let start = guest.at.0 & !0xFFF;
        for offset in [0, 1, 0x7FF, 0xFFF] {
            for len in [1, 2, 0x1000, 0x1001] {
                let bytes = pattern(len);
                let at = LinearAddress(start | offset);
                guest.view().write(at, &bytes).unwrap();
                let mut read = vec![0; bytes.len()];
                guest.view().read(at, &mut read).unwrap();
                assert_eq!(read, bytes, "{len:#x} at {offset:#x}");
            }
        }
    }
}

#[test]
fn the_first_page_keeps_its_bytes_and_its_bits_when_the_second_fails() {
    for guest in Guest::paged() {
        let second = LinearAddress((guest.at.0 & !0xFFF) + 0x2000);
        let at = LinearAddress(second.0 - 3);
        let fault = guest.view().write(at, b"crossing").unwrap_err();
        assert_eq!(
            fault,
            LinearFault::NotPresent {
                at: second,
                level: 1
            }
        );
        assert_eq!(fault.at(), second);
        assert_eq!(guest.bytes(NEXT_PAGE | 0xFFD, 3), b"cro");
        let entry = if guest.levels() == 2 { 0x1014 } else { 0x1028 };
        assert_eq!(guest.bytes(entry, 1), [0x63], "accessed and dirty");
    }
}

#[test]
fn the_second_page_is_walked_after_the_first_page_s_bytes_have_moved() {
    // The first page is the last table itself: the bytes that move into it are the second page's
    // entry.
    let guest = Guest::four_level();
    guest.set(1, 0x1003);
    let at = LinearAddress((guest.at.0 & !0xFFF) | 0x28);
    let mut bytes = vec![0; 0x1000];
    bytes[..8].copy_from_slice(&0x6003_u64.to_le_bytes());
    bytes[0xFD8..].fill(0xAB);
    guest.view().write(at, &bytes).unwrap();
    assert_eq!(guest.bytes(0x6000, 0x28), [0xAB; 0x28]);
    assert_eq!(
        guest.bytes(NEXT_PAGE, 0x28),
        [0; 0x28],
        "not through the entry of before"
    );
}

#[test]
fn length_0_succeeds_untouched_wherever_it_is() {
    for guest in Guest::paged().into_iter().chain([Guest::unpaged()]) {
        let before = guest.bytes(0, 0x2_0000);
        for at in [0, guest.at.0, 0xFFFF_FFFF_FFFF, u64::MAX].map(LinearAddress) {
            assert_eq!(guest.view().write(at, &[]), Ok(()));
            assert_eq!(guest.view().read(at, &mut []), Ok(()));
        }
        assert_eq!(guest.bytes(0, 0x2_0000), before);
    }
}

#[test]
fn address_0_is_an_ordinary_address() {
    let guest = Guest::unpaged();
    guest.view().write(LinearAddress(0), b"null").unwrap();
    assert_eq!(guest.bytes(0, 4), b"null");
}

#[test]
fn a_hole_fails_both_ways_and_keeps_what_came_before() {
    let guest = Guest::unpaged();
    let end = LinearAddress(RAM_BYTES);
    let fault = LinearFault::NotRam {
        at: end,
        target: Gpa(RAM_BYTES),
    };
    let at = LinearAddress(RAM_BYTES - 2);
    assert_eq!(guest.view().write(at, b"edge"), Err(fault));
    assert_eq!(guest.bytes(RAM_BYTES - 2, 2), b"ed");
    assert_eq!(guest.view().read(at, &mut [0; 4]), Err(fault));
    for paged in Guest::paged() {
        paged.set(1, 0xFEE0_0003);
        let fault = LinearFault::NotRam {
            at: paged.at,
            target: Gpa(0xFEE0_0567),
        };
        assert_eq!(paged.view().write(paged.at, &[0]), Err(fault));
        assert_eq!(paged.view().read(paged.at, &mut [0]), Err(fault));
    }
}

#[test]
fn an_unpaged_buffer_goes_on_above_4_gib() {
    let memory = VecMemory::zeroed(&[(Gpa(0xFFFF_F000), 0x2000)]).unwrap();
    let guest = Guest::unpaged();
    let view = LinearMemory::new(&memory, &guest.state, &guest.policy);
    view.write(LinearAddress(0xFFFF_FFFE), b"over").unwrap();
    let mut bytes = [0; 4];
    memory.read(Gpa(0xFFFF_FFFE), &mut bytes).unwrap();
    assert_eq!(&bytes, b"over");
}

#[test]
fn a_two_level_buffer_goes_on_at_0() {
    let guest = Guest::two_level();
    // One table for both ends: entry 1023 for the last page, entry 0 for the first.
    for (at, entry) in [
        (0x2FFC, 0x1003_u32),
        (0x2000, 0x1003),
        (0x1FFC, 0x5003),
        (0x1000, 0x9003),
    ] {
        guest.memory.write(Gpa(at), &entry.to_le_bytes()).unwrap();
    }
    guest
        .view()
        .write(LinearAddress(0xFFFF_FFFE), b"over")
        .unwrap();
    assert_eq!(guest.bytes(0x5FFE, 2), b"ov");
    assert_eq!(guest.bytes(0x9000, 2), b"er");
}

#[test]
fn a_pae_buffer_ends_at_4_gib() {
    let guest = Guest::pae();
    for (at, entry) in [(0x3038, 0x2001), (0x2FF8, 0x1003), (0x1FF8, 0x5003)] {
        guest.set_u64(at, entry);
    }
    let fault = guest
        .view()
        .write(LinearAddress(0xFFFF_FFFE), b"over")
        .unwrap_err();
    assert_eq!(
        fault,
        LinearFault::PastTheEnd {
            at: LinearAddress(0x1_0000_0000)
        }
    );
    assert_eq!(guest.bytes(0x5FFE, 2), b"ov");
}

#[test]
fn no_buffer_goes_on_past_the_last_address() {
    let memory = VecMemory::zeroed(&[(Gpa(0), 0x1000), (Gpa(u64::MAX - 0xFFF), 0x1000)]).unwrap();
    let guest = Guest::unpaged();
    let view = LinearMemory::new(&memory, &guest.state, &guest.policy);
    let at = LinearAddress(u64::MAX - 1);
    assert_eq!(view.write(at, b"ok"), Ok(()));
    assert_eq!(view.write(at, b"over"), Err(LinearFault::PastTheEnd { at }));
    assert_eq!(
        view.read(at, &mut [0; 4]),
        Err(LinearFault::PastTheEnd { at })
    );
}

#[test]
fn a_4_level_buffer_crosses_4_gib_and_the_canonical_hole() {
    for second in [0x1_0000_0000, 0x0000_8000_0000_0000_u64] {
        let guest = Guest::four_level();
        // Every entry that is 0 so far leads one level down; the last ones to two pages.
        for table in [0x4000, 0x3000, 0x2000] {
            for index in 0..512 {
                guest.set_u64(table + index * 8, (table - 0x1000) | 3);
            }
        }
        guest.set_u64(0x1FF8, 0x5003);
        guest.set_u64(0x1000, 0x9003);
        guest
            .view()
            .write(LinearAddress(second - 2), b"over")
            .unwrap();
        assert_eq!(guest.bytes(0x5FFE, 2), b"ov");
        assert_eq!(guest.bytes(0x9000, 2), b"er");
    }
}

#[test]
fn each_copy_walks_anew() {
    let guest = Guest::four_level();
    let view = guest.view();
    view.write(guest.at, b"1").unwrap();
    guest.set(1, NEXT_PAGE | 3);
    view.write(guest.at, b"2").unwrap();
    assert_eq!(
        (guest.bytes(0x5567, 1), guest.bytes(0x9567, 1)),
        (b"1".to_vec(), b"2".to_vec())
    );
}

#[test]
fn a_fault_says_where_and_why() {
    let guest = Guest::two_level();
    guest.set(1, 0);
    let fault = guest.view().write(guest.at, &[0]).unwrap_err();
    assert_eq!(fault.to_string(), "linear 0xc04567: no entry at level 1");
}
