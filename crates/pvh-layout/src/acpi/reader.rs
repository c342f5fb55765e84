//! Reads tables as a guest does: follows the addresses, checks the sums.

use alloc::vec::Vec;

use pvh_abi::Gpa;

/// Guest memory with the tables in it.
pub(crate) struct Reader {
    blocks: Vec<(Gpa, Vec<u8>)>,
    rsdp: Gpa,
}

impl Reader {
    pub(crate) fn new(blocks: impl IntoIterator<Item = (Gpa, Vec<u8>)>, rsdp: Gpa) -> Self {
        let blocks = blocks.into_iter().collect();
        Self { blocks, rsdp }
    }

    /// The bytes from an address on, up to the end of their block.
    pub(crate) fn at(&self, address: u64) -> &[u8] {
        let found = self.blocks.iter().find_map(|(at, bytes)| {
            let offset = usize::try_from(address.checked_sub(at.0)?).ok()?;
            bytes.get(offset..).filter(|rest| !rest.is_empty())
        });
        found.unwrap()
    }

    /// The root pointer, of which both sums must hold.
    pub(crate) fn rsdp(&self) -> &[u8] {
        let rsdp = self.at(self.rsdp.0);
        assert_eq!((&rsdp[..8], rsdp[15]), (&b"RSD PTR "[..], 2));
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp[..36])), (0, 0));
        rsdp
    }

    /// The table at an address, of which the sum must hold.
    pub(crate) fn table(&self, address: u64) -> &[u8] {
        let bytes = self.at(address);
        let table = &bytes[..u32_at(bytes, 4) as usize];
        assert_eq!(sum(table), 0, "checksum of {:?}", &table[..4]);
        table
    }

    /// What the XSDT names.
    pub(crate) fn tables(&self) -> Vec<&[u8]> {
        let xsdt = self.table(u64_at(self.rsdp(), 24));
        assert_eq!(&xsdt[..4], b"XSDT");
        let entries = xsdt[36..].chunks(8);
        entries.map(|entry| self.table(u64_at(entry, 0))).collect()
    }

    /// What the RSDT names.
    pub(crate) fn old_tables(&self) -> Vec<&[u8]> {
        let rsdt = self.table(u32_at(self.rsdp(), 16).into());
        assert_eq!(&rsdt[..4], b"RSDT");
        let entries = rsdt[36..].chunks(4);
        let entries = entries.map(|entry| self.table(u32_at(entry, 0).into()));
        entries.collect()
    }

    /// The table with a signature.
    pub(crate) fn find(&self, signature: &[u8]) -> &[u8] {
        let tables = self.tables();
        let mut tables = tables.into_iter();
        tables.find(|table| table.starts_with(signature)).unwrap()
    }
}

pub(crate) fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..][..4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..][..8].try_into().unwrap())
}
