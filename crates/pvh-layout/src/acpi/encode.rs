//! What the tables of both platforms share: tables one after the other, the soft-off state,
//! constants.

use alloc::{vec, vec::Vec};

use acpi_tables::{
    Aml, aml,
    madt::{EnabledStatus, ProcessorLocalApic},
    sdt::Sdt,
};
use pvh_abi::Gpa;

/// Tables one after the other, from an address on.
pub(super) struct Tables {
    pub(super) at: Gpa,
    pub(super) bytes: Vec<u8>,
}

impl Tables {
    /// Appends a table at the next 16-byte boundary and returns its address.
    pub(super) fn append(&mut self, table: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
        let address = self.at.0.saturating_add(self.bytes.len() as u64);
        self.bytes.extend_from_slice(table);
        address
    }
}

/// Encodes one table or AML object.
pub(super) fn encode(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Encodes the AML that declares the soft-off state, `\_S5`.
pub(super) fn soft_off() -> Vec<u8> {
    let sleep_type = SLEEP_TYPE_S5;
    let s5 = aml::Package::new(vec![&sleep_type, &sleep_type, &aml::ZERO, &aml::ZERO]);
    encode(&aml::Name::new("_S5_".into(), &s5))
}

/// Appends one local APIC per processor; the ACPI processor id of the n-th is n.
pub(super) fn append_processors(madt: &mut Sdt, apic_ids: &[u8]) {
    for (uid, &apic_id) in (0..=u8::MAX).zip(apic_ids) {
        let processor = ProcessorLocalApic::new(uid, apic_id, EnabledStatus::Enabled);
        madt.append_slice(&encode(&processor));
    }
}

/// Address at which the local APICs answer.
pub(super) const LAPIC: u32 = 0xFEE0_0000;
/// MADT flag: there are also two 8259 PICs, which an OS masks when it uses the APICs.
pub(super) const PCAT_COMPAT: u32 = 1;
/// The line of the system control interrupt, where PCs have it; nothing raises it.
pub(super) const SCI: u16 = 9;
/// The value that `\_S5` gives for the sleep type field.
const SLEEP_TYPE_S5: u8 = 5;
/// IA-PC boot architecture flag: do not look for a VGA.
pub(super) const NO_VGA: u16 = 1 << 2;
/// IA-PC boot architecture flag: no real-time clock at ports 0x70 and 0x71.
pub(super) const NO_CMOS_RTC: u16 = 1 << 5;
