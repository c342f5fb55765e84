//! What the guest is told about its memory.

use pvh_abi::{Gpa, GuestRange, address::PAGE_SIZE, memory::E820Entry, start_info::MemmapKind};
use pvh_domain::memory;
use pvh_layout::LOWMEM_END;
use pvh_start_info::MemmapRange;

use crate::acpi::XenAcpi;

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
pub(crate) fn draw(ram: &[GuestRange], acpi_bytes: u64) -> Option<MemoryMap> {
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

/// What a Xen domain is told about its memory, and which pages it has beside RAM.
#[derive(Clone, Debug)]
pub(crate) struct XenMap {
    /// What start info says, and `XENMEM_memory_map`: in the order of Xen's toolstack, which is not that of addresses.
    pub(crate) ranges: Vec<MemmapRange>,
    /// The pages in the hole below 4 GiB: ACPI tables and special pages.
    pub(crate) pages: Vec<GuestRange>,
    /// What the domain begins with.
    pub(crate) domain: memory::Config,
}

/// Draws the map of a Xen PVH domain as its toolstack does: low RAM, special pages, ACPI tables, RAM from 4 GiB on; `None`
/// when there is no RAM for an RSDP below 1 MiB.
///
/// Xen lists the page of such an RSDP inside low RAM. Here it is cut out of it, so that nothing is loaded there.
pub(crate) fn draw_xen(ram: &[GuestRange], acpi: &XenAcpi) -> Option<XenMap> {
    let (low, high) = ram.split_first()?;
    let tables = acpi.ranges();
    let low_rsdp = tables.into_iter().find(|(at, _)| at.0 < LOWMEM_END.0);
    let mut ranges = match low_rsdp {
        None => vec![range(low.start, low.len_bytes, MemmapKind::RAM)],
        Some((at, len_bytes)) => {
            let end = at.checked_add(len_bytes)?;
            let after = low
                .start
                .checked_add(low.len_bytes)?
                .checked_offset_from(end)?;
            vec![
                range(
                    low.start,
                    at.checked_offset_from(low.start)?,
                    MemmapKind::RAM,
                ),
                range(end, after, MemmapKind::RAM),
            ]
        }
    };
    ranges.retain(|range| range.len_bytes > 0);
    ranges.push(range(SPECIAL, SPECIAL_BYTES, MemmapKind::RESERVED));
    ranges.extend(tables.map(|(at, len_bytes)| range(at, len_bytes, MemmapKind::ACPI)));
    ranges.extend(
        high.iter()
            .map(|high| range(high.start, high.len_bytes, MemmapKind::RAM)),
    );
    let special = GuestRange {
        start: SPECIAL,
        len_bytes: SPECIAL_BYTES,
    };
    let pages = vec![acpi.pages(), special];
    let domain = domain_memory(ram, &pages, &ranges);
    Some(XenMap {
        ranges,
        pages,
        domain,
    })
}

/// What the domain begins with: its pages, room for a little more, and the map.
fn domain_memory(ram: &[GuestRange], pages: &[GuestRange], map: &[MemmapRange]) -> memory::Config {
    let count = |ranges: &[GuestRange]| {
        let lengths = ranges.iter().map(|range| range.len_bytes / PAGE_SIZE);
        lengths.fold(0, u64::saturating_add)
    };
    let ends = ram.iter().chain(pages);
    let ends = ends.map(|range| range.start.0.saturating_add(range.len_bytes) / PAGE_SIZE);
    let end = ends.max().unwrap_or(0);
    memory::Config {
        pages: count(ram).saturating_add(count(pages)),
        max_pages: count(ram).saturating_add(SLACK_PAGES),
        max_gfn: end.saturating_sub(1),
        host_pages: end,
        memory_map: map.iter().map(e820).collect(),
    }
}

fn e820(range: &MemmapRange) -> E820Entry {
    E820Entry {
        addr: range.start.0.into(),
        size: range.len_bytes.into(),
        kind: range.kind.0.into(),
    }
}

const fn range(start: Gpa, len_bytes: u64, kind: MemmapKind) -> MemmapRange {
    MemmapRange {
        start,
        len_bytes,
        kind,
    }
}

/// The pages for the rings of console, xenstore and others.
const SPECIAL: Gpa = Gpa(0xFEFF_8000);
const SPECIAL_BYTES: u64 = 0x8000;
/// Xen's toolstack lets a domain have 1 MiB more than its RAM, which the pages in the hole come out of.
const SLACK_PAGES: u64 = 256;

/// From the I/O APIC's page on up to 4 GiB: interrupt controllers, and pages KVM keeps for itself.
const HOLE: Gpa = Gpa(0xFEC0_0000);
const HOLE_BYTES: u64 = (1 << 32) - HOLE.0;

#[cfg(test)]
mod tests {
    use pvh_kvm::{GuestRam, IDENTITY_MAP_AT, TSS_AT};
    use pvh_layout::ram_layout;
    use pvh_memory::GuestMemory;

    use super::*;
    use crate::acpi::RsdpPlace;

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

    fn xen(size_bytes: u64, place: RsdpPlace) -> Option<XenMap> {
        let acpi = XenAcpi::build(&[0, 2], place);
        draw_xen(&ram_layout(size_bytes, 48).unwrap(), &acpi)
    }

    fn listed(map: &XenMap) -> Vec<(u64, u64, u32)> {
        let ranges = map.ranges.iter();
        let fields = ranges.map(|range| (range.start.0, range.len_bytes, range.kind.0));
        fields.collect()
    }

    /// After libxl_x86.c, domain_construct_memmap, and what a Linux on a real Xen 4.17 prints.
    #[test]
    fn a_domain_s_map_is_in_the_toolstack_s_order() {
        let map = xen(5 << 30, RsdpPlace::AfterTables).unwrap();
        assert_eq!(
            listed(&map),
            [
                (0, 0xFC00_0000, 1),
                (0xFEFF_8000, 0x8000, 2),
                (0xFC00_2000, 64, 3),
                (0xFC00_0000, 0x1000, 3),
                (0xFC00_1000, 0x1000, 3),
                (0x1_0000_0000, (5 << 30) - 0xFC00_0000, 1),
            ]
        );
        let entries = map.domain.memory_map.iter();
        let entries = entries.map(|e| (e.addr.get(), e.size.get(), e.kind.get()));
        assert_eq!(entries.collect::<Vec<_>>(), listed(&map));
    }

    #[test]
    fn a_low_rsdp_takes_its_page_out_of_ram() {
        let map = xen(16 << 20, RsdpPlace::Below1Mib).unwrap();
        assert_eq!(
            listed(&map),
            [
                (0, 0xF_F000, 1),
                (0x10_0000, 0xF0_0000, 1),
                (0xFEFF_8000, 0x8000, 2),
                (0xF_F000, 0x1000, 3),
                (0xFC00_0000, 0x1000, 3),
                (0xFC00_1000, 0x1000, 3),
            ]
        );
        assert_eq!(
            listed(&xen(1 << 20, RsdpPlace::Below1Mib).unwrap())[0],
            (0, 0xF_F000, 1)
        );
        assert!(xen(0xF_F000, RsdpPlace::Below1Mib).is_none());
        assert!(xen(0xF_F000, RsdpPlace::AfterTables).is_some());
    }

    #[test]
    fn a_domain_s_pages_back_its_tables_and_its_rings() {
        for place in [RsdpPlace::AfterTables, RsdpPlace::Below1Mib] {
            let acpi = XenAcpi::build(&[0, 2], place);
            let map = xen(16 << 20, place).unwrap();
            let ram = ram_layout(16 << 20, 48).unwrap();
            let ram = GuestRam::with_ranges(&ram, &map.pages, 48).unwrap();
            for (at, bytes) in acpi.pieces() {
                ram.write(at, bytes).unwrap();
            }
            assert!(ram.is_ram(Gpa(0xFEFF_8000), 0x8000));
            assert!(!ram.is_ram(Gpa(0xFEFF_7FFF), 1) && !ram.is_ram(Gpa(0xFF00_0000), 1));
        }
    }

    #[test]
    fn a_domain_s_pages_are_counted_as_xen_counts_them() {
        let small = xen(16 << 20, RsdpPlace::AfterTables).unwrap().domain;
        // 16 MiB, the info page, a page of tables, the RSDP's, and 8 special pages.
        assert_eq!(small.pages, 4096 + 3 + 8);
        assert_eq!(small.max_pages, 4096 + 256);
        assert_eq!(small.max_gfn, 0xFEFFF);
        let large = xen(5 << 30, RsdpPlace::AfterTables).unwrap().domain;
        assert_eq!(large.max_gfn, (5 << 18) + 0x4000 - 1);
    }

    #[test]
    fn a_kernel_can_be_planned_with_either_map() {
        let image = pvh_loader::Image::from_bytes(pvh_conformance::demo_image().to_vec()).unwrap();
        for place in [RsdpPlace::AfterTables, RsdpPlace::Below1Mib] {
            let boot = pvh_loader::plan::Boot {
                memmap: xen(16 << 20, place).unwrap().ranges,
                rsdp: Some(XenAcpi::build(&[0, 2], place).rsdp),
                ..Default::default()
            };
            image.plan(&boot).unwrap();
        }
    }
}
