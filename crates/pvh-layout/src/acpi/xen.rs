//! The ACPI tables of a Xen PVH domain, where Xen's toolstack puts them (libacpi, libxl_x86_acpi.c;
//! decision 7).
//!
//! They lie in pages from 0xFC00_1000 on, in the hole below 4 GiB, after a page that describes
//! them. Xen's tables name ports for events and power at which nothing answers, and no soft-off
//! state: a guest that does not make the hypercall can only halt. Here the ports and the soft-off
//! state are those of the plain platform, which work, and the MADT does not claim that there are
//! PICs. The rest is as in Xen's tables: no I/O APIC, no timer, no device.

use alloc::{vec, vec::Vec};

use acpi_tables::{facs::FACS, sdt::Sdt};
use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE};
use pvh_elfnote::{Features, XenNotes};

use super::encode::{LAPIC, NO_CMOS_RTC, NO_VGA, SCI, Tables, append_processors, encode, soft_off};
use crate::{
    layout::Block,
    ports::{I8042_COMMAND, PM1A_CONTROL, PM1A_EVENT, RESET_CPU},
};

/// Where a Xen domain finds the ACPI root pointer (RSDP).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "Xen's toolstack has these two")]
pub enum RsdpPlace {
    /// In the page after the tables, at an address that start info gives.
    AfterTables,
    /// In the last 64 bytes below 1 MiB, for a Linux that looks nowhere else.
    Below1Mib,
}

impl RsdpPlace {
    /// Decides by the notes of an image, as Xen's toolstack does: below 1 MiB for a Linux without
    /// the feature `linux_rsdp_unrestricted`, otherwise after the tables.
    #[must_use]
    pub fn for_guest(notes: &XenNotes) -> Self {
        let os = notes.guest_os.as_ref().map(|name| name.as_bytes());
        let is_unrestricted = notes.supported_features.contains(RSDP_UNRESTRICTED);
        if os == Some(b"linux") && !is_unrestricted {
            Self::Below1Mib
        } else {
            Self::AfterTables
        }
    }
}

/// The tables as bytes, and where they go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct XenAcpi {
    /// Where the RSDP is.
    pub(crate) rsdp: Gpa,
    info: Vec<u8>,
    tables: Vec<u8>,
    rsdp_bytes: Vec<u8>,
}

impl XenAcpi {
    /// Builds the tables for processors with these APIC ids; the ACPI processor id of the n-th is
    /// n.
    pub(crate) fn build(apic_ids: &[u8], place: RsdpPlace) -> Self {
        let mut tables = Tables {
            at: TABLES,
            bytes: Vec::new(),
        };
        // The FACS comes first, because it must begin at a multiple of 64 bytes.
        let facs = tables.append(&encode(&FACS::new()));
        let dsdt = tables.append(&dsdt());
        let old_fadt = tables.append(fadt(FADT_1_BYTES, 1, facs, dsdt).as_slice());
        let fadt = tables.append(fadt(FADT_5_BYTES, 5, facs, dsdt).as_slice());
        let madt_table = madt(apic_ids);
        let madt = tables.append(madt_table.as_slice());
        let xsdt = tables.append(&roots(*b"XSDT", &[fadt, madt], 8));
        let rsdt = tables.append(&roots(*b"RSDT", &[old_fadt, madt], 4));
        let mut bytes = tables.bytes;
        bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
        let rsdp = match place {
            RsdpPlace::AfterTables => Gpa(TABLES.0.saturating_add(bytes.len() as u64)),
            RsdpPlace::Below1Mib => LOW_RSDP,
        };
        Self {
            rsdp,
            info: info_page(apic_ids.len(), madt),
            tables: bytes,
            rsdp_bytes: rsdp_bytes(rsdt, xsdt),
        }
    }

    /// Returns the bytes to write: the page that describes the tables, the tables, the RSDP.
    pub(crate) fn into_blocks(self) -> [Block; 3] {
        [
            (INFO, self.info),
            (TABLES, self.tables),
            (self.rsdp, self.rsdp_bytes),
        ]
        .map(|(at, bytes)| Block { at, bytes })
    }

    /// Returns the pages in the hole below 4 GiB that hold them.
    pub(crate) fn pages(&self) -> GuestRange {
        let tables_end = TABLES.0.saturating_add(self.tables.len() as u64);
        let end = match self.rsdp {
            LOW_RSDP => tables_end,
            _ => tables_end.saturating_add(PAGE_SIZE),
        };
        GuestRange::new(INFO, end.saturating_sub(INFO.0))
    }

    /// Returns the ranges that the memory map calls ACPI, in the toolstack's order: each from the
    /// start of its page on.
    pub(crate) fn map_ranges(&self) -> [GuestRange; 3] {
        [
            (self.rsdp, &self.rsdp_bytes),
            (INFO, &self.info),
            (TABLES, &self.tables),
        ]
        .map(|(at, bytes)| {
            let offset = at.0 % PAGE_SIZE;
            let start = Gpa(at.0.saturating_sub(offset));
            GuestRange::new(start, offset.saturating_add(bytes.len() as u64))
        })
    }
}

/// Builds a FADT of revision 1, which is the beginning of a later one, or of revision 5. Only
/// revision 5 can say that there is no clock at ports 0x70 and 0x71.
fn fadt(len_bytes: u32, revision: u8, facs: u64, dsdt: u64) -> Sdt {
    let mut fadt = Sdt::new(
        *b"FACP",
        len_bytes,
        revision,
        OEM_ID,
        OEM_TABLE_ID,
        OEM_REVISION,
    );
    // The tables lie below 4 GiB.
    let low = |address: u64| u32::try_from(address).unwrap_or(0);
    fadt.write_u32(36, low(facs));
    fadt.write_u32(40, low(dsdt));
    fadt.write_u16(46, SCI);
    fadt.write_u32(56, PM1A_EVENT.into());
    fadt.write_u32(64, PM1A_CONTROL.into());
    fadt.write_bytes(88, &[PM1_EVENT_BYTES, PM1_CONTROL_BYTES]);
    // No C2, no C3.
    fadt.write_u16(96, 0x0FFF);
    fadt.write_u16(98, 0x0FFF);
    fadt.write_u32(112, FLAGS);
    if revision >= 5 {
        fadt.write_u16(109, NO_VGA | NO_CMOS_RTC);
        fadt.write_bytes(116, &ports(I8042_COMMAND, 8));
        fadt.write_u8(128, RESET_CPU);
        fadt.write_u64(132, facs);
        fadt.write_u64(140, dsdt);
        fadt.write_bytes(148, &ports(PM1A_EVENT, 32));
        fadt.write_bytes(172, &ports(PM1A_CONTROL, 16));
    }
    fadt
}

/// Returns the generic address of an I/O port register of `bits` bits, without an access size.
fn ports(port: u16, bits: u8) -> [u8; 12] {
    let [low, high] = port.to_le_bytes();
    [1, bits, 0, 0, low, high, 0, 0, 0, 0, 0, 0]
}

/// Lists the processors, and nothing else: no interrupt line reaches a domain.
///
/// Xen's table has the flag that there are two PICs, and a Linux that reads it believes so without
/// a look (decision 64).
fn madt(apic_ids: &[u8]) -> Sdt {
    let mut madt = Sdt::new(*b"APIC", 36, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    madt.append_slice(&LAPIC.to_le_bytes());
    madt.append_slice(&NO_PICS.to_le_bytes());
    append_processors(&mut madt, apic_ids);
    madt
}

/// Declares the soft-off state.
fn dsdt() -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    dsdt.append_slice(&soft_off());
    dsdt.as_slice().to_vec()
}

/// Builds an RSDT or XSDT: the addresses of tables, in 4 or 8 bytes each.
fn roots(signature: [u8; 4], tables: &[u64], address_bytes: usize) -> Vec<u8> {
    let mut table = Sdt::new(signature, 36, 1, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    for address in tables.iter().map(|address| address.to_le_bytes()) {
        table.append_slice(address.get(..address_bytes).unwrap_or(&address));
    }
    table.as_slice().to_vec()
}

/// Builds the RSDP of revision 2, filled up to 64 bytes.
fn rsdp_bytes(rsdt: u64, xsdt: u64) -> Vec<u8> {
    let mut rsdp = b"RSD PTR \0".to_vec();
    rsdp.extend_from_slice(&OEM_ID);
    rsdp.push(2);
    rsdp.extend_from_slice(&u32::try_from(rsdt).unwrap_or(0).to_le_bytes());
    add_checksum(&mut rsdp, 8);
    rsdp.extend_from_slice(&RSDP_BYTES.to_le_bytes());
    rsdp.extend_from_slice(&xsdt.to_le_bytes());
    // The checksum of all bytes, and three reserved bytes.
    rsdp.extend_from_slice(&[0; 4]);
    add_checksum(&mut rsdp, 32);
    rsdp.resize(RSDP_RESERVED_BYTES, 0);
    rsdp
}

/// Sets the byte at `at` so that all bytes add up to 0.
fn add_checksum(bytes: &mut [u8], at: usize) {
    let sum = bytes
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    if let Some(byte) = bytes.get_mut(at) {
        *byte = byte.wrapping_sub(sum);
    }
}

/// Builds the page that the AML in Xen's tables reads: the number of processors, and the addresses
/// of the MADT's checksum and of its first processor.
fn info_page(cpus: usize, madt: u64) -> Vec<u8> {
    let mut info = vec![0, 0];
    info.extend_from_slice(&u16::try_from(cpus).unwrap_or(u16::MAX).to_le_bytes());
    info.resize(12, 0);
    for offset in [9, 44] {
        let address = u32::try_from(madt.saturating_add(offset)).unwrap_or(0);
        info.extend_from_slice(&address.to_le_bytes());
    }
    info.resize(PAGE_BYTES, 0);
    info
}

/// XENFEAT_linux_rsdp_unrestricted: this Linux takes the RSDP from start info.
const RSDP_UNRESTRICTED: Features = Features(1 << 15);

/// The page that describes the tables.
const INFO: Gpa = Gpa(0xFC00_0000);
const TABLES: Gpa = Gpa(0xFC00_1000);
const LOW_RSDP: Gpa = Gpa(0x000F_FFC0);

const RSDP_BYTES: u32 = 36;
const RSDP_RESERVED_BYTES: usize = 64;
const FADT_1_BYTES: u32 = 116;
const FADT_5_BYTES: u32 = 268;
const PM1_EVENT_BYTES: u8 = 4;
const PM1_CONTROL_BYTES: u8 = 2;
/// MADT flags without PCAT_COMPAT.
const NO_PICS: u32 = 0;
/// WBINVD, C1, no fixed power and sleep buttons, no fixed RTC wake status, a 32-bit timer, reset
/// register, platform clock.
const FLAGS: u32 = 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 15;

const OEM_ID: [u8; 6] = *b"Xen\0\0\0";
const OEM_TABLE_ID: [u8; 8] = *b"HVM\0\0\0\0\0";
const OEM_REVISION: u32 = 0;
const PAGE_BYTES: usize = 4096;

#[cfg(test)]
mod tests;
