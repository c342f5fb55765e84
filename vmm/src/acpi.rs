//! The ACPI tables a guest finds through its RSDP: processors, serial port, power off, reset.
//!
//! The platform is *not* hardware-reduced, as Xen's is not: Linux takes a hardware-reduced platform for one
//! with EFI, reboots through that, and where there is none jumps to a BIOS that is not there either. So
//! there is a PM1a block, small as it is, and an SCI that never comes.

mod xen;

use acpi_tables::{
    Aml, aml,
    facs::FACS,
    fadt::{FADTBuilder, Flags},
    gas::{AccessSize, AddressSpace, GAS},
    madt::{EnabledStatus, IoApic, ProcessorLocalApic},
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};
use pvh_abi::Gpa;

use crate::devices::{COM1, COM1_GSI, I8042_COMMAND, PM1A_CONTROL, PM1A_EVENT, RESET_CPU};

pub(crate) use xen::{RsdpPlace, XenAcpi};

/// The tables as bytes for one address, and where the RSDP is among them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Acpi {
    /// What to write, at the address the tables were built for.
    pub(crate) bytes: Vec<u8>,
    /// Where the RSDP is.
    pub(crate) rsdp: Gpa,
}

impl Acpi {
    /// Builds the tables for processors with these APIC ids, to be written at `at`.
    ///
    /// The ACPI processor id of the n-th is n. The length depends on the number of processors only.
    pub(crate) fn build(at: Gpa, apic_ids: &[u8]) -> Self {
        let mut tables = Tables {
            at,
            bytes: vec![0; RSDP_RESERVED_BYTES],
        };
        // First, for it must begin on a border of 64 bytes.
        let facs = tables.append(&encode(&FACS::new()));
        let dsdt = tables.append(&dsdt());
        let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        xsdt.add_entry(tables.append(&encode(&fadt(facs, dsdt).finalize())));
        xsdt.add_entry(tables.append(&madt(apic_ids)));
        let xsdt = tables.append(&encode(&xsdt));
        let rsdp = encode(&Rsdp::new(OEM_ID, xsdt));
        let mut bytes = tables.bytes;
        for (place, byte) in bytes.iter_mut().zip(rsdp) {
            *place = byte;
        }
        Self { bytes, rsdp: at }
    }
}

/// Tables one after the other.
struct Tables {
    at: Gpa,
    bytes: Vec<u8>,
}

impl Tables {
    /// Appends a table on a 16-byte border and returns its address.
    fn append(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let address = self.at.0.saturating_add(self.bytes.len() as u64);
        self.bytes.extend_from_slice(table);
        address
    }
}

/// Says how to power off, to reset, and what of a PC is not there.
fn fadt(facs: u64, dsdt: u64) -> FADTBuilder {
    let ports = |port: u16, bits| {
        let size = match bits {
            8 => AccessSize::ByteAccess,
            _ => AccessSize::WordAccess,
        };
        GAS::new(AddressSpace::SystemIo, bits, 0, size, u64::from(port))
    };
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .dsdt_64(dsdt);
    // Low RAM ends below 4 GiB. Small readers know the 32-bit fields only; of the DSDT both may be set if
    // they agree, of the FACS one.
    fadt.firmware_ctrl = u32::try_from(facs).unwrap_or(0).into();
    fadt.dsdt = u32::try_from(dsdt).unwrap_or(0).into();
    fadt.iapc_boot_arch = (NO_VGA | NO_CMOS_RTC).into();
    fadt.sci_int = SCI.into();
    fadt.pm1a_evt_blk = u32::from(PM1A_EVENT).into();
    fadt.pm1_evt_len = 4;
    fadt.x_pm1a_evt_blk = ports(PM1A_EVENT, 32);
    fadt.pm1a_cnt_blk = u32::from(PM1A_CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_cnt_blk = ports(PM1A_CONTROL, 16);
    fadt.reset_reg = ports(I8042_COMMAND, 8);
    fadt.reset_value = RESET_CPU;
    fadt
}

/// Lists the processors and the I/O APIC.
///
/// There is no override for IRQ 0: KVM routes every legacy line to the I/O APIC pin of its own number.
fn madt(apic_ids: &[u8]) -> Vec<u8> {
    let mut madt = Sdt::new(*b"APIC", 36, 1, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    madt.append_slice(&LAPIC.to_le_bytes());
    madt.append_slice(&PCAT_COMPAT.to_le_bytes());
    for (uid, &apic_id) in (0..=u8::MAX).zip(apic_ids) {
        let processor = ProcessorLocalApic::new(uid, apic_id, EnabledStatus::Enabled);
        madt.append_slice(&encode(&processor));
    }
    madt.append_slice(&encode(&IoApic::new(IOAPIC_ID, IOAPIC, 0)));
    madt.as_slice().to_vec()
}

/// Declares the soft-off state and COM1.
fn dsdt() -> Vec<u8> {
    let id = aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501"));
    let unit = aml::Name::new("_UID".into(), &aml::ZERO);
    let ports = aml::IO::new(COM1, COM1, 1, 8);
    let line = aml::Interrupt::new(true, true, false, false, COM1_GSI);
    let resources = aml::ResourceTemplate::new(vec![&ports, &line]);
    let resources = aml::Name::new("_CRS".into(), &resources);
    let com1 = aml::Device::new("_SB_.COM1".into(), vec![&id, &unit, &resources]);
    let mut code = soft_off();
    code.append(&mut encode(&com1));
    dsdt_of(&code, OEM_ID, OEM_TABLE_ID)
}

/// Code that declares the soft-off state.
fn soft_off() -> Vec<u8> {
    let sleep_type = SLEEP_TYPE_S5;
    let s5 = aml::Package::new(vec![&sleep_type, &sleep_type, &aml::ZERO, &aml::ZERO]);
    encode(&aml::Name::new("_S5_".into(), &s5))
}

/// The table that holds code.
fn dsdt_of(code: &[u8], oem_id: [u8; 6], oem_table_id: [u8; 8]) -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, oem_id, oem_table_id, OEM_REVISION);
    dsdt.append_slice(code);
    dsdt.as_slice().to_vec()
}

fn encode(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Where the local APICs answer.
const LAPIC: u32 = 0xFEE0_0000;
/// Where the I/O APIC answers; its pins are the GSIs from 0 on.
const IOAPIC: u32 = 0xFEC0_0000;
/// KVM's I/O APIC has id 0 at reset.
const IOAPIC_ID: u8 = 0;
/// MADT flag: there are two 8259 PICs as well, to be masked when the APICs are used.
const PCAT_COMPAT: u32 = 1;
/// The system control interrupt's line, where PCs have it; nothing raises it.
const SCI: u16 = 9;
/// The value `\_S5` gives for the sleep type field.
const SLEEP_TYPE_S5: u8 = 5;
/// IA-PC boot architecture flag: do not look for a VGA.
const NO_VGA: u16 = 1 << 2;
/// IA-PC boot architecture flag: no clock at ports 0x70 and 0x71.
const NO_CMOS_RTC: u16 = 1 << 5;
/// The RSDP is 36 bytes; the table after it begins on a border.
const RSDP_RESERVED_BYTES: usize = 64;
const OEM_ID: [u8; 6] = *b"PVHVMM";
const OEM_TABLE_ID: [u8; 8] = *b"PVH-VMM ";
const OEM_REVISION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x1FFF_F000;

    /// What a guest does: follow the addresses, check the sums.
    struct Guest(Vec<u8>);

    impl Guest {
        fn new(cpus: u8) -> Self {
            let ids: Vec<u8> = (0..cpus).collect();
            Self(Acpi::build(Gpa(AT), &ids).bytes)
        }

        fn at(&self, address: u64) -> &[u8] {
            &self.0[usize::try_from(address.checked_sub(AT).unwrap()).unwrap()..]
        }

        fn table(&self, address: u64) -> &[u8] {
            let bytes = self.at(address);
            let len = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
            let table = &bytes[..len as usize];
            assert_eq!(sum(table), 0, "checksum of {:?}", &table[..4]);
            table
        }

        fn find(&self, signature: &[u8]) -> &[u8] {
            let rsdp = self.at(AT);
            let xsdt = self.table(u64_at(rsdp, 24));
            let found = xsdt[36..]
                .chunks(8)
                .map(|entry| self.table(u64_at(entry, 0)));
            found
                .into_iter()
                .find(|table| table.starts_with(signature))
                .unwrap()
        }
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn u64_at(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..][..8].try_into().unwrap())
    }

    #[test]
    fn the_rsdp_is_revision_2_and_both_its_sums_hold() {
        let guest = Guest::new(1);
        let rsdp = guest.at(AT);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!(rsdp[15], 2);
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp[..36])), (0, 0));
        assert_eq!(Acpi::build(Gpa(AT), &[0]).rsdp, Gpa(AT));
    }

    #[test]
    fn the_platform_is_not_hardware_reduced() {
        let guest = Guest::new(1);
        let fadt = guest.find(b"FACP");
        let flags = u32::from_le_bytes(fadt[112..116].try_into().unwrap());
        assert_eq!(flags & 1 << 20, 0);
        // No SMI command: ACPI mode is on from the start.
        assert_eq!(fadt[48..52], [0; 4]);
        let facs = u64::from(u32::from_le_bytes(fadt[36..40].try_into().unwrap()));
        assert_eq!(
            (&guest.at(facs)[..4], facs % 64, u64_at(fadt, 132)),
            (&b"FACS"[..], 0, 0)
        );
    }

    #[test]
    fn the_fadt_and_s5_say_how_to_power_off() {
        let guest = Guest::new(1);
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
        assert_eq!(
            u64::from(u32::from_le_bytes(fadt[40..44].try_into().unwrap())),
            u64_at(fadt, 140)
        );
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
        let guest = Guest::new(1);
        let fadt = guest.find(b"FACP");
        let flags = u32::from_le_bytes(fadt[112..116].try_into().unwrap());
        assert_ne!(flags & 1 << 10, 0, "reset register supported");
        assert_eq!(&fadt[116..120], &[1, 8, 0, 1]);
        assert_eq!((u64_at(fadt, 120), fadt[128]), (0x64, 0xFE));
        // No VGA, no CMOS clock, and no keyboard controller to probe.
        assert_eq!(u16::from_le_bytes([fadt[109], fadt[110]]), 0x24);
    }

    #[test]
    fn the_madt_has_one_local_apic_per_processor_and_the_io_apic() {
        let ids = [0, 2, 4];
        let bytes = Acpi::build(Gpa(AT), &ids).bytes;
        let guest = Guest(bytes);
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
        let guest = Guest::new(1);
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
            let low = Acpi::build(Gpa(0), &ids).bytes.len();
            assert_eq!(low, Acpi::build(Gpa(0xFBFF_0000), &ids).bytes.len());
        }
    }
}
