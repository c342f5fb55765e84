//! Tests of the plain platform's ACPI tables, against the literals of the ACPI specification.

use super::*;
use crate::acpi::reader::{Reader, u32_at, u64_at};

const AT: u64 = 0x1FFF_F000;

fn guest(apic_ids: &[u8]) -> Reader {
    let acpi = PlainAcpi::build(Gpa(AT), apic_ids);
    Reader::new([(Gpa(AT), acpi.bytes)], Gpa(AT))
}

#[test]
fn the_rsdp_is_the_first_of_the_bytes() {
    let guest = guest(&[0]);
    // Revision and both sums are checked in `rsdp`.
    assert_eq!(guest.rsdp(), guest.at(AT));
    assert_eq!(u32_at(guest.rsdp(), 20), 36);
}

#[test]
fn the_platform_is_not_hardware_reduced() {
    let guest = guest(&[0]);
    let fadt = guest.find(b"FACP");
    let flags = u32_at(fadt, 112);
    assert_eq!(flags & 1 << 20, 0);
    // No SMI command: ACPI mode is on from the start.
    assert_eq!(fadt[48..52], [0; 4]);
    let facs = u64::from(u32_at(fadt, 36));
    assert_eq!(
        (&guest.at(facs)[..4], facs % 64, u64_at(fadt, 132)),
        (&b"FACS"[..], 0, 0)
    );
}

#[test]
fn the_fadt_and_s5_say_how_to_power_off() {
    let guest = guest(&[0]);
    let fadt = guest.find(b"FACP");
    assert_eq!(fadt.len(), 276);
    // PM1a event and control blocks, in the old fields and as generic addresses.
    assert_eq!(fadt[56..60], 0x600_u32.to_le_bytes());
    assert_eq!(fadt[64..68], 0x604_u32.to_le_bytes());
    assert_eq!((fadt[88], fadt[89]), (4, 2));
    assert_eq!(
        (&fadt[148..152], u64_at(fadt, 152)),
        (&[1, 32, 0, 2][..], 0x600)
    );
    assert_eq!(
        (&fadt[172..176], u64_at(fadt, 176)),
        (&[1, 16, 0, 2][..], 0x604)
    );
    let dsdt = guest.table(u64_at(fadt, 140));
    assert_eq!(u64::from(u32_at(fadt, 40)), u64_at(fadt, 140));
    let s5 = dsdt.windows(4).position(|name| name == b"_S5_").unwrap();
    // NameOp before; PackageOp, its length, four elements, BytePrefix 5 after.
    assert_eq!(dsdt[s5 - 1], 0x08);
    assert_eq!(
        &dsdt[s5 + 4..s5 + 11],
        &[0x12, 0x08, 0x04, 0x0A, 5, 0x0A, 5]
    );
}

#[test]
fn the_fadt_resets_through_the_keyboard_controller() {
    let guest = guest(&[0]);
    let fadt = guest.find(b"FACP");
    let flags = u32_at(fadt, 112);
    assert_ne!(flags & 1 << 10, 0, "reset register supported");
    assert_eq!(&fadt[116..120], &[1, 8, 0, 1]);
    assert_eq!((u64_at(fadt, 120), fadt[128]), (0x64, 0xFE));
    // No VGA, and no keyboard controller to probe.
    assert_eq!(u16::from_le_bytes([fadt[109], fadt[110]]), 0x04);
}

#[test]
fn the_madt_has_one_local_apic_per_processor_and_the_io_apic() {
    let ids = [0, 2, 4];
    let guest = guest(&ids);
    let madt = guest.find(b"APIC");
    assert_eq!(&madt[36..40], &0xFEE0_0000_u32.to_le_bytes());
    assert_eq!(madt[40..44], [1, 0, 0, 0], "PCAT_COMPAT");
    let entries = &madt[44..];
    for (uid, id) in (0_u8..).zip(ids) {
        let entry = &entries[usize::from(uid) * 8..][..8];
        assert_eq!(entry, &[0, 8, uid, id, 1, 0, 0, 0]);
    }
    let io_apic = &entries[24..];
    assert_eq!(io_apic, &[1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0]);
}

#[test]
fn the_dsdt_declares_com1_with_its_ports_and_line() {
    let guest = guest(&[0]);
    let fadt = guest.find(b"FACP");
    let dsdt = guest.table(u64_at(fadt, 140));
    let holds = |what: &[u8]| dsdt.windows(what.len()).any(|bytes| bytes == what);
    assert!(holds(b"COM1"));
    assert!(holds(&[0x41, 0xD0, 0x05, 0x01]), "EISA id of PNP0501");
    assert!(
        holds(&[0x47, 1, 0xF8, 0x03, 0xF8, 0x03, 1, 8]),
        "I/O 0x3F8, 8 ports"
    );
    assert!(
        holds(&[0x89, 6, 0, 3, 1, 4, 0, 0, 0]),
        "edge, active high, GSI 4"
    );
}

#[test]
fn the_length_does_not_depend_on_the_address() {
    for cpus in [1_u8, 2, 128, 255] {
        let ids: Vec<u8> = (0..cpus).collect();
        let low = PlainAcpi::build(Gpa(0), &ids).bytes.len();
        assert_eq!(low, PlainAcpi::build(Gpa(0xFBFF_0000), &ids).bytes.len());
    }
}

#[test]
fn the_tables_declare_a_clock_without_an_interrupt() {
    let guest = guest(&[0]);
    let fadt = guest.find(b"FACP");
    // Bit 5 of the boot architecture flags would say that there is none; CENTURY is at 108. FIX_RTC,
    // bit 6 of the flags, says that PM1a has no event of the clock.
    assert_eq!((fadt[109] & 1 << 5, fadt[108]), (0, 0x32));
    assert_ne!(u32_at(fadt, 112) & 1 << 6, 0);
    let dsdt = guest.table(u64_at(fadt, 140));
    let at = |what: &[u8]| dsdt.windows(what.len()).position(|bytes| bytes == what);
    let clock = at(b"RTC0").unwrap();
    assert!(at(b"COM1").unwrap() < clock);
    // EISA id of PNP0B00.
    assert!(at(&[0x41, 0xD0, 0x0B, 0x00]).unwrap() > clock);
    // I/O 0x70, 2 ports, and the end tag of the resources.
    assert!(at(&[0x47, 1, 0x70, 0, 0x70, 0, 1, 2, 0x79]).unwrap() > clock);
}
