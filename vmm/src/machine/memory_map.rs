//! What the guest is told about its memory.

use pvh_abi::{Gpa, address::PAGE_SIZE, start_info::MemmapKind};
use pvh_kvm::RamRange;
use pvh_start_info::MemmapRange;

/// The memory map, and where in it the ACPI tables go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct MemoryMap {
    /// What start info says.
    pub(crate) ranges: Vec<MemmapRange>,
    /// Where the ACPI tables go.
    pub(crate) acpi: Gpa,
}

/// Draws the map: RAM with the last pages below 4 GiB taken off for the ACPI tables, and the hole where
/// interrupt controllers and KVM's own pages are; `None` when low RAM is too small for the tables.
///
/// Xen has its tables in the hole, in pages of their own. Here they are at the end of low RAM: that needs
/// no second memory slot, costs a guest two pages, and leaves everything below 1 MiB to guests that take
/// it for granted.
pub(crate) fn draw(ram: &[RamRange], acpi_bytes: u64) -> Option<MemoryMap> {
    let (low, high) = ram.split_first()?;
    let acpi_bytes = acpi_bytes.checked_next_multiple_of(PAGE_SIZE)?;
    let left = low
        .len_bytes
        .checked_sub(acpi_bytes)
        .filter(|&left| left > 0)?;
    let acpi = low.start.checked_add(left)?;
    let mut ranges = vec![
        MemmapRange {
            start: low.start,
            len_bytes: left,
            kind: MemmapKind::RAM,
        },
        MemmapRange {
            start: acpi,
            len_bytes: acpi_bytes,
            kind: MemmapKind::ACPI,
        },
        MemmapRange {
            start: HOLE,
            len_bytes: HOLE_BYTES,
            kind: MemmapKind::RESERVED,
        },
    ];
    ranges.extend(high.iter().map(|range| MemmapRange {
        start: range.start,
        len_bytes: range.len_bytes,
        kind: MemmapKind::RAM,
    }));
    Some(MemoryMap { ranges, acpi })
}

/// From the I/O APIC's page on up to 4 GiB: interrupt controllers, and pages KVM keeps for itself.
const HOLE: Gpa = Gpa(0xFEC0_0000);
const HOLE_BYTES: u64 = (1 << 32) - HOLE.0;

#[cfg(test)]
mod tests {
    use pvh_kvm::{IDENTITY_MAP_AT, LOWMEM_END, TSS_AT, ram_layout};

    use super::*;

    fn map(size_bytes: u64) -> Option<MemoryMap> {
        draw(&ram_layout(size_bytes, 48).unwrap(), 0x300)
    }

    fn of_kind(map: &MemoryMap, kind: MemmapKind) -> Vec<(u64, u64)> {
        let ranges = map.ranges.iter().filter(|range| range.kind == kind);
        ranges
            .map(|range| (range.start.0, range.len_bytes))
            .collect()
    }

    #[test]
    fn the_tables_take_the_last_page_of_low_ram() {
        let map = map(512 << 20).unwrap();
        assert_eq!(map.acpi, Gpa(0x1FFF_F000));
        assert_eq!(of_kind(&map, MemmapKind::RAM), [(0, 0x1FFF_F000)]);
        assert_eq!(of_kind(&map, MemmapKind::ACPI), [(0x1FFF_F000, 0x1000)]);
    }

    #[test]
    fn ram_above_the_hole_comes_last_and_whole() {
        let map = map(8 << 30).unwrap();
        assert_eq!(map.acpi, Gpa(LOWMEM_END.0 - 0x1000));
        let above = (8 << 30) - 0xFC00_0000;
        assert_eq!(
            of_kind(&map, MemmapKind::RAM),
            [(0, 0xFBFF_F000), (1 << 32, above)]
        );
    }

    #[test]
    fn the_interrupt_controllers_and_kvms_pages_are_reserved() {
        let map = map(16 << 20).unwrap();
        let reserved = of_kind(&map, MemmapKind::RESERVED);
        assert_eq!(reserved, [(0xFEC0_0000, 0x140_0000)]);
        for page in [Gpa(0xFEC0_0000), Gpa(0xFEE0_0000), TSS_AT, IDENTITY_MAP_AT] {
            assert!(
                reserved
                    .iter()
                    .any(|(start, len)| (*start..start + len).contains(&page.0))
            );
        }
    }

    #[test]
    fn nothing_overlaps_and_all_is_sorted() {
        for size in [1 << 20, 512 << 20, 0xFC00_0000, 4 << 30, 1 << 40] {
            let map = map(size).unwrap();
            for pair in map.ranges.windows(2) {
                let end = pair[0].start.checked_add(pair[0].len_bytes).unwrap();
                assert!(end <= pair[1].start, "{size:#x}: {pair:?}");
            }
        }
    }

    #[test]
    fn ram_that_would_be_all_tables_is_refused() {
        assert_eq!(map(0x1000), None);
        assert!(map(0x2000).is_some());
    }
}
