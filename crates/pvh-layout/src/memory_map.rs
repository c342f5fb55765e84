//! The memory map of either platform: what the guest is told about its memory.

use alloc::{vec, vec::Vec};

use pvh_abi::{
    Gpa, GuestRange, address::PAGE_SIZE, special_pages::SPECIAL_PAGES, start_info::MemmapKind,
};
use pvh_start_info::MemmapRange;

use crate::{acpi::XenAcpi, ram::LOWMEM_END};

/// Draws the map of the plain platform, and returns it with the address for the ACPI tables.
///
/// The last pages of low RAM hold the tables. The PC's hole below 1 MiB, the first stack under it,
/// and the addresses of interrupt controllers and of KVM's own pages are reserved. `None` when no
/// RAM is left below the tables.
///
/// Xen has its tables in the hole below 4 GiB, in pages of their own. Here they are in RAM: that
/// needs no second memory slot, costs a guest two pages at most, and leaves everything below 1 MiB
/// to guests that take it for granted.
pub(crate) fn plain(ram: &[GuestRange], acpi_bytes: u64) -> Option<(Vec<MemmapRange>, Gpa)> {
    let (low, high) = ram.split_first()?;
    let acpi_bytes = acpi_bytes.checked_next_multiple_of(PAGE_SIZE)?;
    let left_bytes = low.len_bytes.checked_sub(acpi_bytes);
    let left_bytes = left_bytes.filter(|&left| left > 0)?;
    let acpi = low.start.checked_add(left_bytes)?;
    let mut map = with_pc_hole(acpi.0);
    map.push(range(acpi, acpi_bytes, MemmapKind::ACPI));
    map.push(of(CONTROLLERS, MemmapKind::RESERVED));
    map.extend(high.iter().map(|&high| of(high, MemmapKind::RAM)));
    Some((map, acpi))
}

/// Returns the map of RAM from 0 to `end`: the first stack and the PC's hole are reserved in it.
///
/// There is memory in both all the same. RAM that ends below the hole has neither.
fn with_pc_hole(end: u64) -> Vec<MemmapRange> {
    if end < STACK_TOP.0 {
        return vec![range(Gpa(0), end, MemmapKind::RAM)];
    }
    let stack = STACK_TOP.0.saturating_sub(PAGE_SIZE);
    let hole_end = end.min(PC_HOLE_END);
    let mut map = vec![
        range(Gpa(0), stack, MemmapKind::RAM),
        range(
            Gpa(stack),
            hole_end.saturating_sub(stack),
            MemmapKind::RESERVED,
        ),
        range(Gpa(hole_end), end.saturating_sub(hole_end), MemmapKind::RAM),
    ];
    map.retain(|range| range.len_bytes > 0);
    map
}

/// Draws the map of a Xen PVH domain in the order of Xen's toolstack, which is not that of
/// addresses: low RAM, special pages, ACPI tables, RAM from 4 GiB on.
///
/// `None` when the RSDP is to lie below 1 MiB and there is no RAM. Xen lists the page of such an
/// RSDP inside low RAM. Here it is cut out of RAM, so that nothing is loaded there.
pub(crate) fn xen(ram: &[GuestRange], acpi: &XenAcpi) -> Option<Vec<MemmapRange>> {
    let (low, high) = ram.split_first()?;
    let tables = acpi.map_ranges();
    let low_rsdp = tables.into_iter().find(|range| range.start < LOWMEM_END);
    let mut map = match low_rsdp {
        None => vec![of(*low, MemmapKind::RAM)],
        Some(rsdp) => around(*low, rsdp)?.into(),
    };
    map.retain(|range| range.len_bytes > 0);
    map.push(of(SPECIAL_PAGES, MemmapKind::RESERVED));
    map.extend(tables.map(|table| of(table, MemmapKind::ACPI)));
    map.extend(high.iter().map(|&high| of(high, MemmapKind::RAM)));
    Some(map)
}

/// Returns the RAM before and after a range, which may be empty; `None` if RAM ends before the
/// range does.
fn around(ram: GuestRange, hole: GuestRange) -> Option<[MemmapRange; 2]> {
    let before_bytes = hole.start.checked_offset_from(ram.start)?;
    let after = hole.end()?;
    let after_bytes = ram.end()?.checked_offset_from(after)?;
    Some([
        range(ram.start, before_bytes, MemmapKind::RAM),
        range(after, after_bytes, MemmapKind::RAM),
    ])
}

const fn of(place: GuestRange, kind: MemmapKind) -> MemmapRange {
    range(place.start, place.len_bytes, kind)
}

const fn range(start: Gpa, len_bytes: u64, kind: MemmapKind) -> MemmapRange {
    MemmapRange {
        start,
        len_bytes,
        kind,
    }
}

/// End of the page for a guest's first stack, and start of the hole that a PC has for its video
/// memory and firmware.
pub(crate) const STACK_TOP: Gpa = Gpa(0xA_0000);
pub(crate) const PC_HOLE_END: u64 = 0x10_0000;

/// From the I/O APIC's page up to 4 GiB: the interrupt controllers, and the pages that KVM keeps
/// for itself.
const CONTROLLERS: GuestRange = GuestRange::new(Gpa(0xFEC0_0000), 0x140_0000);
