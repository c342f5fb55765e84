//! "Mode, tested in this order": root, index, offset, large pages.

use pvh_memory::{Access, LinearAddress, LinearFault, PagingMode};

use crate::guest::{Guest, NEXT_PAGE};

#[test]
fn unpaged_is_by_cr0_pg_whatever_else_is_set() {
    let mut guest = Guest::unpaged();
    guest.state.cr4 = 0x30;
    guest.state.efer = 0xD00;
    assert_eq!(guest.state.mode(), PagingMode::Unpaged);
    assert_eq!(guest.translate(), Ok(0x5567));
}

#[test]
fn unpaged_goes_on_above_4_gib() {
    let guest = Guest::unpaged();
    let gpa = guest
        .view()
        .translate(LinearAddress(0x1_0000_0000), Access::Write);
    assert_eq!(gpa.unwrap().0, 0x1_0000_0000);
}

#[test]
fn lma_is_4_level_before_pae_is_looked_at() {
    let mut guest = Guest::four_level();
    assert_eq!(guest.state.mode(), PagingMode::FourLevel);
    assert_eq!(guest.translate(), Ok(0x5567));
    guest.state.cr4 = 0;
    assert_eq!(guest.state.mode(), PagingMode::FourLevel);
}

#[test]
fn la57_is_not_looked_at() {
    let mut guest = Guest::four_level();
    guest.state.cr4 |= 1 << 12;
    assert_eq!(guest.state.mode(), PagingMode::FourLevel);
    assert_eq!(guest.translate(), Ok(0x5567));
}

#[test]
fn the_pcid_in_cr3_is_ignored() {
    let mut guest = Guest::four_level();
    guest.state.cr3 |= 0xFFF;
    assert_eq!(guest.translate(), Ok(0x5567));
}

#[test]
fn four_level_ignores_bits_63_to_48_of_the_address() {
    let mut guest = Guest::four_level();
    guest.at.0 |= 0xFFFF << 48;
    assert_eq!(guest.translate(), Ok(0x5567));
    guest.at.0 &= !(1 << 63);
    assert_eq!(guest.translate(), Ok(0x5567));
}

#[test]
fn pae_reads_its_highest_entry_from_memory_inside_a_page() {
    let mut guest = Guest::pae();
    assert_eq!(guest.state.mode(), PagingMode::Pae);
    assert_eq!(guest.translate(), Ok(0x5567));
    guest.state.cr3 |= 0x1F;
    assert_eq!(
        guest.translate(),
        Ok(0x5567),
        "bits 4:0 are not the address"
    );
    guest.set(3, 0);
    let fault = guest.translate().unwrap_err();
    assert_eq!(
        fault,
        LinearFault::NotPresent {
            at: guest.at,
            level: 3
        }
    );
}

#[test]
fn pae_has_no_address_of_4_gib() {
    let guest = Guest::pae();
    for at in [0x1_0000_0000, 0x1_8060_4567, u64::MAX].map(LinearAddress) {
        let fault = guest.view().translate(at, Access::Read).unwrap_err();
        assert_eq!(fault, LinearFault::PastTheEnd { at });
    }
}

#[test]
fn two_level_paging_is_the_default_and_wraps_at_4_gib() {
    let mut guest = Guest::two_level();
    assert_eq!(guest.state.mode(), PagingMode::TwoLevel);
    assert_eq!(guest.translate(), Ok(0x5567));
    guest.at.0 |= 1 << 32;
    assert_eq!(guest.translate(), Ok(0x5567));
}

#[test]
fn bits_63_to_32_of_cr3_count_in_long_mode_only() {
    for mut guest in [Guest::pae(), Guest::two_level()] {
        guest.state.cr3 |= 0xDEAD << 32;
        assert_eq!(guest.translate(), Ok(0x5567));
    }
    let mut guest = Guest::four_level();
    guest.state.cr3 |= 1 << 32;
    let fault = guest.translate().unwrap_err();
    assert!(matches!(fault, LinearFault::TableNotRam { level: 4, .. }));
}

#[test]
fn the_next_page_has_its_own_entry() {
    for mut guest in Guest::paged() {
        guest.at.0 += 0x1000;
        assert_eq!(guest.translate(), Ok(NEXT_PAGE | 0x567));
    }
}

#[test]
fn four_level_maps_2_mib_whatever_pse_is() {
    let guest = Guest::four_level();
    guest.set(2, 0x3FC0_0083);
    assert_eq!(guest.translate(), Ok(0x3FC0_4567));
}

#[test]
fn four_level_maps_1_gib_if_there_are_such_pages() {
    let mut guest = Guest::four_level();
    guest.set(3, 0x001C_4000_0083);
    assert_eq!(guest.translate(), Ok(0x001C_4060_4567));
    guest.policy.has_gib_pages = false;
    let fault = guest.translate().unwrap_err();
    assert!(matches!(
        fault,
        LinearFault::ReservedBits {
            level: 3,
            bits: 0x80,
            ..
        }
    ));
}

#[test]
fn bit_12_of_a_large_page_s_entry_is_no_address() {
    let guest = Guest::four_level();
    guest.set(2, 0x3FC0_1083);
    assert_eq!(guest.translate(), Ok(0x3FC0_4567));
}

#[test]
fn pae_maps_2_mib_whatever_pse_is() {
    let guest = Guest::pae();
    guest.set(2, 0x003F_FFE0_0083);
    assert_eq!(guest.translate(), Ok(0x003F_FFE0_4567));
}

#[test]
fn two_level_maps_4_mib_if_pse_is_on() {
    let mut guest = Guest::two_level();
    guest.set(2, 0x3FC0_0083);
    assert_eq!(guest.translate(), Ok(0x3FC0_4567));
    guest.set(2, 0x1083);
    assert_eq!(guest.translate(), Ok(0x4567), "bit 12 is no address");
    guest.state.cr4 = 0;
    assert_eq!(
        guest.translate(),
        Ok(0x5567),
        "bit 7 is ignored: a table at 0x1000"
    );
}

#[test]
fn pse36_puts_address_bits_39_to_32_in_bits_20_to_13() {
    let mut guest = Guest::two_level();
    guest.set(2, 0x3FC0_0083 | 0xA5 << 13);
    assert_eq!(guest.translate(), Ok(0xA5_3FC0_4567));
    guest.policy.has_pse36 = false;
    let fault = guest.translate().unwrap_err();
    assert!(matches!(fault, LinearFault::ReservedBits { level: 2, .. }));
}

#[test]
fn bit_7_of_the_last_level_is_no_page_size() {
    for guest in Guest::paged() {
        guest.change(1, 0, 0x80);
        assert_eq!(guest.translate(), Ok(0x5567));
    }
}

#[test]
fn a_linear_address_is_shown_as_one_and_in_hexadecimal() {
    let address = LinearAddress(0xffff_8000_0000_0000);
    assert_eq!(address.to_string(), "linear 0xffff800000000000");
    assert_eq!(format!("{address:#x}"), "0xffff800000000000");
}
