//! Tests of whole layouts, against the literals of libxl and libxenguest.
#![expect(clippy::arithmetic_side_effects, reason = "a test may panic")]

use alloc::string::ToString;

use proptest::prelude::*;
use pvh_abi::start_info::MemmapKind;

use super::*;
use crate::acpi::reader::Reader;

const AFTER: Platform = Platform::Xen(RsdpPlace::AfterTables);
const BELOW: Platform = Platform::Xen(RsdpPlace::Below1Mib);
const PLATFORMS: [Platform; 3] = [Platform::Plain, AFTER, BELOW];

fn layout(platform: Platform, memory_bytes: u64, vcpus: u32) -> Result<Layout, LayoutError> {
    Layout::new(&LayoutConfig {
        platform,
        memory_bytes,
        address_bits: 48,
        apic_ids: &platform.apic_ids(vcpus),
    })
}

fn map(platform: Platform, memory_bytes: u64) -> Vec<(u64, u64, u32)> {
    let layout = layout(platform, memory_bytes, 2).unwrap();
    let ranges = layout.memory_map.iter();
    let fields = ranges.map(|range| (range.start.0, range.len_bytes, range.kind.0));
    fields.collect()
}

#[test]
fn a_plain_guest_s_tables_take_the_last_page_of_low_ram() {
    let layout = layout(Platform::Plain, 512 << 20, 2).unwrap();
    assert_eq!(layout.ram, [GuestRange::new(Gpa(0), 512 << 20)]);
    assert_eq!(
        (layout.pages, layout.special_pages, layout.rsdp),
        (vec![], None, Gpa(0x1FFF_F000))
    );
    // RAM 1, reserved 2, ACPI 3.
    assert_eq!(
        map(Platform::Plain, 512 << 20),
        [
            (0, 0x9_F000, 1),
            (0x9_F000, 0x6_1000, 2),
            (0x10_0000, 0x1FEF_F000, 1),
            (0x1FFF_F000, 0x1000, 3),
            (0xFEC0_0000, 0x140_0000, 2),
        ]
    );
}

#[test]
fn a_plain_guest_s_map_is_sorted_and_keeps_high_ram_whole() {
    assert_eq!(
        map(Platform::Plain, 8 << 30),
        [
            (0, 0x9_F000, 1),
            (0x9_F000, 0x6_1000, 2),
            (0x10_0000, 0xFBEF_F000, 1),
            (0xFBFF_F000, 0x1000, 3),
            (0xFEC0_0000, 0x140_0000, 2),
            (0x1_0000_0000, (8 << 30) - 0xFC00_0000, 1),
        ]
    );
}

#[test]
fn a_plain_guest_s_interrupt_controllers_and_kvm_s_pages_are_reserved() {
    let [.., (start, len_bytes, kind)] = map(Platform::Plain, 16 << 20)[..] else {
        panic!("an empty map");
    };
    let reserved = GuestRange::new(Gpa(start), len_bytes);
    assert_eq!(kind, 2);
    // I/O APIC, local APIC, KVM's identity map and task state segment.
    for page in [0xFEC0_0000, 0xFEE0_0000, 0xFFFB_C000, 0xFFFB_F000] {
        assert!(reserved.contains(Gpa(page)));
    }
}

#[test]
fn a_plain_guest_s_hole_and_stack_end_where_ram_does() {
    let controllers = (0xFEC0_0000, 0x140_0000, 2);
    // RAM that ends below the stack's end has neither stack nor hole.
    assert_eq!(
        map(Platform::Plain, 0xA_0000),
        [(0, 0x9_F000, 1), (0x9_F000, 0x1000, 3), controllers]
    );
    assert_eq!(
        map(Platform::Plain, 0xA_1000),
        [
            (0, 0x9_F000, 1),
            (0x9_F000, 0x1000, 2),
            (0xA_0000, 0x1000, 3),
            controllers
        ]
    );
    assert_eq!(
        map(Platform::Plain, 0x10_1000),
        [
            (0, 0x9_F000, 1),
            (0x9_F000, 0x6_1000, 2),
            (0x10_0000, 0x1000, 3),
            controllers
        ]
    );
}

/// A PC's first instruction is at F000:FFF0. In real mode: mov al, 0xFE; out 0x64, al; hlt; jmp to
/// the beginning.
#[test]
fn a_plain_guest_that_jumps_to_the_bios_resets_the_machine() {
    let code = |platform, memory_bytes| layout(platform, memory_bytes, 2).unwrap().reset_code;
    let expected = Block {
        at: Gpa(0xF_FFF0),
        bytes: vec![0xB0, 0xFE, 0xE6, 0x64, 0xF4, 0xEB, 0xF9],
    };
    assert_eq!(code(Platform::Plain, 512 << 20), Some(expected.clone()));
    assert_eq!(code(Platform::Plain, 0x10_1000), Some(expected));
    // The tables would lie there, and a domain has RAM there.
    assert_eq!(code(Platform::Plain, 0x10_0000), None);
    assert_eq!(code(AFTER, 512 << 20), None);
}

#[test]
fn the_first_stack_ends_at_640_kib() {
    for (platform, smallest) in [(Platform::Plain, 0xA_1000), (AFTER, 0xA_0000)] {
        let stack = |memory_bytes| layout(platform, memory_bytes, 2).unwrap().stack_top;
        assert_eq!(stack(smallest - 0x1000), None);
        assert_eq!(stack(smallest), Some(Gpa(0xA_0000)));
        assert_eq!(stack(8 << 30), Some(Gpa(0xA_0000)));
    }
}

#[test]
fn ram_that_would_be_all_tables_is_refused() {
    assert_eq!(
        layout(Platform::Plain, 0x1000, 2),
        Err(LayoutError::NoRoomForTables {
            memory_bytes: 0x1000
        })
    );
    assert!(layout(Platform::Plain, 0x2000, 2).is_ok());
    assert!(layout(AFTER, 0x1000, 2).is_ok());
    assert!(layout(BELOW, 0xF_F000, 2).is_err());
    assert!(layout(BELOW, 0x10_0000, 2).is_ok());
}

/// After libxl_x86.c, domain_construct_memmap, and what a Linux on a real Xen 4.17 prints.
#[test]
fn a_domain_s_map_is_in_the_toolstack_s_order() {
    assert_eq!(
        map(AFTER, 5 << 30),
        [
            (0, 0xFC00_0000, 1),
            (0xFEFF_8000, 0x8000, 2),
            (0xFC00_2000, 64, 3),
            (0xFC00_0000, 0x1000, 3),
            (0xFC00_1000, 0x1000, 3),
            (0x1_0000_0000, (5 << 30) - 0xFC00_0000, 1),
        ]
    );
    let entries = layout(AFTER, 5 << 30, 2).unwrap().e820();
    let entries = entries.iter();
    let entries = entries.map(|e| (e.addr.get(), e.size.get(), e.kind.get()));
    assert_eq!(entries.collect::<Vec<_>>(), map(AFTER, 5 << 30));
}

#[test]
fn a_low_rsdp_takes_its_page_out_of_ram() {
    assert_eq!(
        map(BELOW, 16 << 20),
        [
            (0, 0xF_F000, 1),
            (0x10_0000, 0xF0_0000, 1),
            (0xFEFF_8000, 0x8000, 2),
            (0xF_F000, 0x1000, 3),
            (0xFC00_0000, 0x1000, 3),
            (0xFC00_1000, 0x1000, 3),
        ]
    );
    assert_eq!(map(BELOW, 1 << 20)[0], (0, 0xF_F000, 1));
    assert_eq!(layout(BELOW, 16 << 20, 2).unwrap().rsdp, Gpa(0xF_FFC0));
}

#[test]
fn a_domain_s_pages_are_its_tables_and_the_special_pages() {
    let pages = |platform| layout(platform, 16 << 20, 2).unwrap().pages;
    let special = GuestRange::new(Gpa(0xFEFF_8000), 0x8000);
    let tables = |len_bytes| GuestRange::new(Gpa(0xFC00_0000), len_bytes);
    assert_eq!(pages(AFTER), [tables(0x3000), special]);
    assert_eq!(pages(BELOW), [tables(0x2000), special]);
    let layout = layout(AFTER, 16 << 20, 2).unwrap();
    assert_eq!(layout.special_pages, Some(special));
}

#[test]
fn a_domain_s_pages_are_counted_as_xen_counts_them() {
    let small = layout(AFTER, 16 << 20, 2).unwrap().page_counts();
    // 16 MiB, the page that describes the tables, the tables' page, the RSDP's page and 8 special
    // pages.
    assert_eq!(small.pages, 4096 + 3 + 8);
    assert_eq!(small.max_pages, 4096 + 256);
    assert_eq!(small.max_gfn, 0xFEFFF);
    let large = layout(AFTER, 5 << 30, 2).unwrap().page_counts();
    assert_eq!(large.max_gfn, (5 << 18) + 0x4000 - 1);
    let plain = layout(Platform::Plain, 16 << 20, 2).unwrap().page_counts();
    assert_eq!((plain.pages, plain.max_gfn), (4096, 4095));
}

#[test]
fn a_domain_has_even_apic_ids() {
    assert_eq!(AFTER.apic_ids(3), [0, 2, 4]);
    assert_eq!(Platform::Plain.apic_ids(3), [0, 1, 2]);
    // 128 vCPUs and no more, 255 and no more.
    assert_eq!(AFTER.apic_ids(128).last(), Some(&254));
    assert_eq!(AFTER.apic_ids(u32::MAX).len(), 128);
    assert_eq!(Platform::Plain.apic_ids(255).last(), Some(&254));
    assert_eq!(Platform::Plain.apic_ids(u32::MAX).len(), 255);
}

#[test]
fn vcpus_that_no_machine_has_are_refused() {
    let refused = |platform, apic_ids: &[u8]| {
        let config = LayoutConfig {
            platform,
            memory_bytes: 16 << 20,
            address_bits: 48,
            apic_ids,
        };
        Layout::new(&config).unwrap_err().to_string()
    };
    assert_eq!(
        refused(AFTER, &[]),
        "0 vCPUs are out of range: a guest has 1 to 128"
    );
    let many: Vec<u8> = (0..129).collect();
    assert_eq!(
        refused(AFTER, &many),
        "129 vCPUs are out of range: a guest has 1 to 128"
    );
    assert_eq!(
        refused(Platform::Plain, &[0; 256]),
        "256 vCPUs are out of range: a guest has 1 to 255"
    );
    assert_eq!(
        refused(Platform::Plain, &[0, 1, 0]),
        "vCPU 2 cannot have APIC id 0: another vCPU has it, or it is 255"
    );
    assert!(refused(Platform::Plain, &[255]).starts_with("vCPU 0 cannot have APIC id 255"));
}

#[test]
fn addresses_that_do_not_reach_the_local_apic_are_refused() {
    for platform in PLATFORMS {
        let mut config = LayoutConfig {
            platform,
            memory_bytes: 16 << 20,
            address_bits: 31,
            apic_ids: &[0],
        };
        assert_eq!(
            Layout::new(&config),
            Err(LayoutError::AddressBits { address_bits: 31 })
        );
        config.address_bits = 32;
        assert!(Layout::new(&config).is_ok());
        config.memory_bytes = 0xFC00_1000;
        assert!(matches!(
            Layout::new(&config),
            Err(LayoutError::Ram(RamSizeError::TooLarge { .. }))
        ));
    }
}

/// Sizes around every place where a layout changes.
fn edges() -> impl Iterator<Item = u64> {
    let edges = [0x1000, 0xF_F000, 0x10_0000, 0xFC00_0000, 1 << 32, 1 << 40];
    edges.into_iter().flat_map(|edge| {
        (0..5_u64).filter_map(move |pages| (edge + pages * 0x1000).checked_sub(0x2000))
    })
}

#[test]
fn the_edges_of_the_hole_are_exact() {
    let ram = |memory_bytes| {
        let layout = layout(AFTER, memory_bytes, 1).unwrap();
        let ranges = layout.ram.iter();
        let ranges = ranges.map(|range| (range.start.0, range.len_bytes));
        ranges.collect::<Vec<_>>()
    };
    assert_eq!(ram(0xFBFF_F000), [(0, 0xFBFF_F000)]);
    assert_eq!(ram(0xFC00_0000), [(0, 0xFC00_0000)]);
    assert_eq!(
        ram(0xFC00_1000),
        [(0, 0xFC00_0000), (0x1_0000_0000, 0x1000)]
    );
}

#[test]
fn every_layout_of_up_to_4_mib_and_around_the_edges_is_sound() {
    let small = (1..=1024).map(|pages| pages * 0x1000);
    for memory_bytes in small.chain(edges()) {
        for platform in PLATFORMS {
            check(platform, memory_bytes, 3).unwrap();
        }
    }
}

proptest! {
    /// From 1 page to 1 TiB, small and large sizes alike.
    #[test]
    fn every_layout_is_sound(
        shift in 0_u32..=28, pages in any::<u64>(), which in 0_usize..3, vcpus in 1_u32..=255,
    ) {
        let memory_bytes = ((1 << shift) + pages % (1 << shift)).min(1 << 28) * 0x1000;
        let platform = PLATFORMS[which];
        let vcpus = vcpus.min(platform.max_vcpus());
        check(platform, memory_bytes, vcpus)?;
    }
}

/// Checks what must hold of every layout, by literals.
fn check(platform: Platform, memory_bytes: u64, vcpus: u32) -> Result<(), TestCaseError> {
    let layout = match layout(platform, memory_bytes, vcpus) {
        Ok(layout) => layout,
        Err(error) => {
            let smallest: u64 = match platform {
                Platform::Plain => 0x2000,
                Platform::Xen(RsdpPlace::AfterTables) => 0x1000,
                Platform::Xen(RsdpPlace::Below1Mib) => 0x10_0000,
            };
            prop_assert!(memory_bytes < smallest, "{memory_bytes:#x}: {error}");
            return Ok(());
        }
    };
    let memory = check_memory(&layout, memory_bytes)?;
    check_map(&layout, &memory)?;
    check_tables(&layout, vcpus, &memory)
}

/// RAM is as large as it should be and leaves the hole; nothing overlaps. Returns RAM and pages,
/// sorted.
fn check_memory(layout: &Layout, memory_bytes: u64) -> Result<Vec<(u64, u64)>, TestCaseError> {
    let span = |range: &GuestRange| (range.start.0, range.start.0 + range.len_bytes);
    let ram: u64 = layout.ram.iter().map(|range| range.len_bytes).sum();
    prop_assert_eq!(ram, memory_bytes);
    for (start, end) in layout.ram.iter().map(span) {
        prop_assert!(end <= 0xFC00_0000 || start == 0x1_0000_0000);
    }
    for (start, end) in layout.pages.iter().map(span) {
        prop_assert!(start >= 0xFC00_0000 && end <= 0xFF00_0000);
    }
    let mut memory: Vec<_> = layout.ram.iter().chain(&layout.pages).map(span).collect();
    memory.sort_unstable();
    for (start, end) in &memory {
        prop_assert!(start < end && start % 0x1000 == 0 && end % 0x1000 == 0);
    }
    prop_assert!(memory.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    Ok(memory)
}

/// The map's ranges do not overlap; its RAM and ACPI ranges are memory; it covers all RAM.
fn check_map(layout: &Layout, memory: &[(u64, u64)]) -> Result<(), TestCaseError> {
    let mut map: Vec<_> = layout.memory_map.clone();
    map.sort_by_key(|range| range.start);
    for pair in map.windows(2) {
        prop_assert!(pair[0].start.0 + pair[0].len_bytes <= pair[1].start.0);
    }
    let mut ram_bytes = 0;
    for range in &map {
        prop_assert!(range.len_bytes > 0);
        let (start, end) = (range.start.0, range.start.0 + range.len_bytes);
        let is_backed = memory.iter().any(|have| have.0 <= start && end <= have.1);
        prop_assert!(
            is_backed || range.kind == MemmapKind::RESERVED,
            "{:?}",
            range
        );
        if layout.ram.iter().any(|ram| ram.contains(range.start)) {
            prop_assert!(is_backed, "{:?}", range);
            ram_bytes += range.len_bytes;
        }
    }
    let size: u64 = layout.ram.iter().map(|range| range.len_bytes).sum();
    prop_assert_eq!(ram_bytes, size);
    if let Some(top) = layout.stack_top {
        prop_assert_eq!(top.0, 0xA_0000);
        prop_assert!(memory[0].0 == 0 && memory[0].1 >= top.0);
    }
    Ok(())
}

/// The tables lie below 4 GiB, in memory, in ACPI ranges of the map; a guest that follows the RSDP
/// finds each vCPU.
fn check_tables(layout: &Layout, vcpus: u32, memory: &[(u64, u64)]) -> Result<(), TestCaseError> {
    for block in &layout.acpi {
        let (start, end) = (block.at.0, block.at.0 + block.bytes.len() as u64);
        prop_assert!(end <= 0xFEC0_0000);
        prop_assert!(memory.iter().any(|have| have.0 <= start && end <= have.1));
        let mut acpi = layout.memory_map.iter();
        prop_assert!(acpi.any(|range| range.kind == MemmapKind::ACPI
            && range.start.0 <= start
            && end <= range.start.0 + range.len_bytes));
    }
    prop_assert_eq!(layout.rsdp.0 % 16, 0);
    let blocks = layout.acpi.iter();
    let blocks = blocks.map(|block| (block.at, block.bytes.clone()));
    let reader = Reader::new(blocks, layout.rsdp);
    let madt = reader.find(b"APIC");
    let processors = madt[44..].chunks(8).filter(|entry| entry[..2] == [0, 8]);
    prop_assert_eq!(processors.count(), vcpus as usize);
    Ok(())
}
