//! The ACPI tables of the plain platform: processors, I/O APIC, serial port,
//! clock, power off, reset
//! (decision 4).

use alloc::{vec, vec::Vec};

use acpi_tables::{
    aml,
    facs::FACS,
    fadt::{FADTBuilder, Flags},
    gas::{AccessSize, AddressSpace, GAS},
    madt::IoApic,
    rsdp::Rsdp,
    sdt::Sdt,
    xsdt::XSDT,
};
use pvh_abi::Gpa;

use super::encode::{LAPIC, NO_VGA, PCAT_COMPAT, SCI, Tables, append_processors, encode, soft_off};
use crate::ports::{
    COM1, COM1_GSI, I8042_COMMAND, PM1A_CONTROL, PM1A_EVENT, RESET_CPU, RTC_CENTURY, RTC_INDEX,
};

/// The tables as bytes for one address; the RSDP is at that address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PlainAcpi {
    /// The bytes to write at the address for which the tables were built.
    pub(crate) bytes: Vec<u8>,
}

impl PlainAcpi {
    /// Builds the tables for processors with these APIC ids, to be written at `at`.
    ///
    /// The ACPI processor id of the n-th is n. The length depends on the number of processors only.
    pub(crate) fn build(at: Gpa, apic_ids: &[u8]) -> Self {
        let mut tables = Tables {
            at,
            bytes: vec![0; RSDP_RESERVED_BYTES],
        };
        // The FACS comes first, because it must begin at a multiple of 64 bytes.
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
        Self { bytes }
    }
}

/// Says how to power off and reset, and which parts of a PC are absent.
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
        // No event of the clock in the PM1a registers: it raises no interrupt.
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup)
        .dsdt_64(dsdt);
    // Low RAM ends below 4 GiB, and small readers know the 32-bit fields only. Of the DSDT, both
    // fields may be set if they agree; of the FACS, only one.
    fadt.firmware_ctrl = u32::try_from(facs).unwrap_or(0).into();
    fadt.dsdt = u32::try_from(dsdt).unwrap_or(0).into();
    fadt.iapc_boot_arch = NO_VGA.into();
    fadt.century = RTC_CENTURY;
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
/// There is no override for IRQ 0: KVM routes every legacy line to the I/O APIC pin of its own
/// number.
fn madt(apic_ids: &[u8]) -> Vec<u8> {
    let mut madt = Sdt::new(*b"APIC", 36, 1, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    madt.append_slice(&LAPIC.to_le_bytes());
    madt.append_slice(&PCAT_COMPAT.to_le_bytes());
    append_processors(&mut madt, apic_ids);
    madt.append_slice(&encode(&IoApic::new(IOAPIC_ID, IOAPIC, 0)));
    madt.as_slice().to_vec()
}

/// Declares the soft-off state, COM1, and the real-time clock, which has no interrupt.
fn dsdt() -> Vec<u8> {
    let id = aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501"));
    let unit = aml::Name::new("_UID".into(), &aml::ZERO);
    let ports = aml::IO::new(COM1, COM1, 1, COM1_PORTS);
    let line = aml::Interrupt::new(true, true, false, false, COM1_GSI);
    let resources = aml::ResourceTemplate::new(vec![&ports, &line]);
    let resources = aml::Name::new("_CRS".into(), &resources);
    let com1 = aml::Device::new("_SB_.COM1".into(), vec![&id, &unit, &resources]);
    let id = aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0B00"));
    let ports = aml::IO::new(RTC_INDEX, RTC_INDEX, 1, RTC_PORTS);
    let resources = aml::ResourceTemplate::new(vec![&ports]);
    let resources = aml::Name::new("_CRS".into(), &resources);
    let clock = aml::Device::new("_SB_.RTC0".into(), vec![&id, &resources]);
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    dsdt.append_slice(&soft_off());
    dsdt.append_slice(&encode(&com1));
    dsdt.append_slice(&encode(&clock));
    dsdt.as_slice().to_vec()
}

/// Address at which the I/O APIC answers; its pins are the GSIs from 0 on.
const IOAPIC: u32 = 0xFEC0_0000;
/// The id of KVM's I/O APIC at reset.
const IOAPIC_ID: u8 = 0;
/// How many ports COM1 has.
const COM1_PORTS: u8 = 8;
/// How many ports the real-time clock has.
const RTC_PORTS: u8 = 2;
/// The RSDP is 36 bytes; the table after it begins at a multiple of 64 bytes.
const RSDP_RESERVED_BYTES: usize = 64;
const OEM_ID: [u8; 6] = *b"PVHVMM";
const OEM_TABLE_ID: [u8; 8] = *b"PVH-VMM ";
const OEM_REVISION: u32 = 1;

#[cfg(test)]
mod tests;
