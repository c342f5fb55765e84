//! Tests of the ACPI tables of a Xen domain, against the literals of libacpi and libxl.

use pvh_testkit::elf::{Class, Elf, Note, Segment};

use super::*;
use crate::acpi::reader::{Reader, u32_at, u64_at};

/// The tables, and guest memory that holds them.
struct Guest {
    acpi: XenAcpi,
    reader: Reader,
}

impl Guest {
    fn new(cpus: u8) -> Self {
        let ids: Vec<u8> = (0..=u8::MAX).step_by(2).take(cpus.into()).collect();
        let acpi = XenAcpi::build(&ids, RsdpPlace::AfterTables);
        let reader = Reader::new(blocks(&acpi), acpi.rsdp);
        Self { acpi, reader }
    }
}

fn blocks(acpi: &XenAcpi) -> [(Gpa, Vec<u8>); 3] {
    acpi.clone()
        .into_blocks()
        .map(|block| (block.at, block.bytes))
}

#[test]
fn the_tables_begin_at_fc001000_and_the_rsdp_has_the_page_after_them() {
    let guest = Guest::new(1);
    let [(info, _), (tables, bytes), (rsdp, _)] = blocks(&guest.acpi);
    assert_eq!((info, tables), (Gpa(0xFC00_0000), Gpa(0xFC00_1000)));
    assert_eq!(bytes.len() % 4096, 0);
    assert_eq!(rsdp, Gpa(0xFC00_1000 + bytes.len() as u64));
    assert_eq!(guest.acpi.rsdp, rsdp);
    assert!(guest.reader.at(0xFC00_1000).starts_with(b"FACS"));
    assert_eq!(guest.acpi.pages().start, Gpa(0xFC00_0000));
    assert_eq!(guest.acpi.pages().len_bytes, 0x2000 + bytes.len() as u64);
}

#[test]
fn the_tables_of_128_processors_fit_into_16_pages() {
    let guest = Guest::new(128);
    assert!(guest.acpi.tables.len() <= 16 * 4096);
    assert_eq!(guest.reader.tables()[1].len(), 44 + 128 * 8);
}

#[test]
fn the_rsdp_is_revision_2_in_64_bytes_and_both_its_sums_hold() {
    let guest = Guest::new(1);
    let rsdp = guest.reader.rsdp();
    assert_eq!(rsdp.len(), 64);
    assert_eq!((&rsdp[9..15], rsdp[15]), (&b"Xen\0\0\0"[..], 2));
    assert_eq!((u32_at(rsdp, 20), &rsdp[36..]), (36, &[0; 28][..]));
}

#[test]
fn each_table_names_xen_as_its_maker() {
    let guest = Guest::new(2);
    let tables = [guest.reader.tables(), guest.reader.old_tables()].concat();
    assert_eq!(tables.len(), 4);
    for table in tables {
        assert_eq!(&table[10..24], b"Xen\0\0\0HVM\0\0\0\0\0");
    }
}

#[test]
fn the_madt_has_even_apic_ids_no_io_apic_and_no_pics() {
    let guest = Guest::new(3);
    let madt = guest.reader.tables()[1];
    assert_eq!((&madt[..4], madt[8]), (&b"APIC"[..], 2));
    assert_eq!((u32_at(madt, 36), u32_at(madt, 40)), (0xFEE0_0000, 0));
    assert_eq!(
        madt[44..],
        [
            [0, 8, 0, 0, 1, 0, 0, 0],
            [0, 8, 1, 2, 1, 0, 0, 0],
            [0, 8, 2, 4, 1, 0, 0, 0]
        ]
        .concat()
    );
}

#[test]
fn the_xsdt_has_a_fadt_of_revision_5_and_the_rsdt_one_of_revision_1() {
    let guest = Guest::new(2);
    let (new, old) = (guest.reader.tables()[0], guest.reader.old_tables()[0]);
    assert_eq!((&new[..4], new[8], new.len()), (&b"FACP"[..], 5, 268));
    assert_eq!((&old[..4], old[8], old.len()), (&b"FACP"[..], 1, 116));
    assert_eq!(guest.reader.old_tables()[1], guest.reader.tables()[1]);
    // Both name the same FACS and DSDT.
    assert_eq!(new[36..44], old[36..44]);
    assert_eq!(u64_at(new, 132), u64::from(u32_at(new, 36)));
    assert_eq!(u64_at(new, 140), u64::from(u32_at(new, 40)));
    let facs = guest.reader.at(u64_at(new, 132));
    assert_eq!((&facs[..4], u64_at(new, 132) % 64), (&b"FACS"[..], 0));
    assert!(guest.reader.table(u64_at(new, 140)).starts_with(b"DSDT"));
}

#[test]
fn the_fadt_says_which_parts_of_a_pc_are_absent() {
    let guest = Guest::new(1);
    let fadt = guest.reader.tables()[0];
    let flags = u32_at(fadt, 112);
    for bit in [0, 2, 4, 5, 6, 8, 15] {
        assert_ne!(flags & 1 << bit, 0, "flag {bit}");
    }
    assert_eq!(flags & 1 << 20, 0, "not hardware-reduced");
    let boot_arch = u16::from_le_bytes([fadt[109], fadt[110]]);
    assert_eq!(boot_arch, 1 << 2 | 1 << 5, "no VGA, no CMOS clock, no 8042");
    // No PM timer, no general-purpose events, in the old fields and the generic ones.
    assert_eq!((u32_at(fadt, 76), u32_at(fadt, 80)), (0, 0));
    assert_eq!((fadt[91], fadt[92]), (0, 0));
    assert_eq!(
        (&fadt[208..220], &fadt[220..232]),
        (&[0; 12][..], &[0; 12][..])
    );
    assert_eq!(u16::from_le_bytes([fadt[46], fadt[47]]), 9, "SCI");
    // ACPI mode is on from the start.
    assert_eq!(u32_at(fadt, 48), 0);
}

#[test]
fn a_guest_can_power_off_and_reset_without_a_hypercall() {
    let guest = Guest::new(1);
    let fadt = guest.reader.tables()[0];
    assert_eq!((u32_at(fadt, 56), u32_at(fadt, 64)), (0x600, 0x604));
    assert_eq!((fadt[88], fadt[89]), (4, 2));
    assert_eq!(
        (&fadt[148..152], u64_at(fadt, 152)),
        (&[1, 32, 0, 0][..], 0x600)
    );
    assert_eq!(
        (&fadt[172..176], u64_at(fadt, 176)),
        (&[1, 16, 0, 0][..], 0x604)
    );
    assert_ne!(u32_at(fadt, 112) & 1 << 10, 0, "reset register supported");
    assert_eq!(
        (&fadt[116..120], u64_at(fadt, 120), fadt[128]),
        (&[1, 8, 0, 0][..], 0x64, 0xFE)
    );
    let dsdt = guest.reader.table(u64_at(fadt, 140));
    let s5 = dsdt.windows(4).position(|name| name == b"_S5_").unwrap();
    assert_eq!(
        &dsdt[s5 + 4..s5 + 11],
        &[0x12, 0x08, 0x04, 0x0A, 5, 0x0A, 5]
    );
    assert!(
        !dsdt.windows(4).any(|name| name == b"COM1"),
        "no line reaches a domain"
    );
}

#[test]
fn the_info_page_leads_to_the_processors_and_the_sum_of_the_madt() {
    let guest = Guest::new(3);
    let info = guest.reader.at(0xFC00_0000);
    assert_eq!(info.len(), 4096);
    assert_eq!(
        (info[..2].to_vec(), u16::from_le_bytes([info[2], info[3]])),
        (vec![0, 0], 3)
    );
    let madt = guest.reader.tables()[1];
    assert_eq!(guest.reader.at(u32_at(info, 12).into())[0], madt[9]);
    assert_eq!(guest.reader.at(u32_at(info, 16).into())[..8], madt[44..52]);
}

#[test]
fn an_old_linux_finds_the_rsdp_below_1_mib() {
    let low = XenAcpi::build(&[0], RsdpPlace::Below1Mib);
    assert_eq!(low.rsdp, Gpa(0xF_FFC0));
    assert_eq!(blocks(&low)[2].1.len(), 64);
    assert_eq!(low.pages().len_bytes, 0x1000 + low.tables.len() as u64);
    let high = XenAcpi::build(&[0], RsdpPlace::AfterTables);
    assert_eq!(low.tables, high.tables);
}

#[test]
fn the_toolstack_lists_rsdp_info_and_tables() {
    let range = |start, len_bytes| GuestRange::new(Gpa(start), len_bytes);
    let tables = |acpi: &XenAcpi| range(0xFC00_1000, acpi.tables.len() as u64);
    let info = range(0xFC00_0000, 0x1000);
    let high = XenAcpi::build(&[0], RsdpPlace::AfterTables);
    assert_eq!(
        high.map_ranges(),
        [range(high.rsdp.0, 64), info, tables(&high)]
    );
    let low = XenAcpi::build(&[0], RsdpPlace::Below1Mib);
    assert_eq!(
        low.map_ranges(),
        [range(0xF_F000, 0x1000), info, tables(&low)]
    );
}

/// What an image with these notes gets.
fn place(guest_os: Option<&[u8]>, supported: Option<u32>) -> RsdpPlace {
    let mut notes = vec![Note::entry(0x10_0000)];
    notes.extend(guest_os.map(|name| Note::xen(6, name)));
    notes.extend(supported.map(|bits| Note::xen(17, bits.to_le_bytes())));
    let image = Elf::bootable(Class::Elf64, 0x10_0000);
    let image = image.segment(Segment::notes(&notes)).build();
    RsdpPlace::for_guest(&pvh_elfnote::scan(&image).unwrap())
}

#[test]
fn only_a_linux_that_does_not_say_otherwise_is_old() {
    let after = RsdpPlace::AfterTables;
    assert_eq!(place(None, None), after);
    assert_eq!(place(Some(b"FreeBSD"), None), after);
    assert_eq!(place(Some(b"linux"), Some(0x8801)), after);
    assert_eq!(place(Some(b"linux"), None), RsdpPlace::Below1Mib);
    assert_eq!(place(Some(b"linux\0"), Some(0x0801)), RsdpPlace::Below1Mib);
}
