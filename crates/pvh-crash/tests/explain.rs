//! Crashes that explain themselves.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

mod support;

use pvh_abi::Gpa;
use pvh_crash::{Scene, Symbols, explain};
use pvh_entry::EntryState;
use pvh_memory::{GuestMemory, VecMemory};
use support::{HIGH, long_mode, memory};

fn told(memory: &VecMemory, state: &EntryState, symbols: Option<&Symbols>) -> String {
    explain(&Scene {
        state,
        memory,
        symbols,
        address_bits: 40,
        is_triple_fault: true,
    })
}

fn assert_has(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
}

/// An ELF64 with the symbols `start` and `handler`, made by hand.
fn symbols() -> Symbols {
    let names = b"\0start\0handler\0";
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(b"\x7FELF\x02\x01\x01");
    let mut table = vec![0; 24];
    for (name, address) in [(1_u32, HIGH + 0x10_0200), (7, HIGH + 0x10_0300)] {
        table.extend(name.to_le_bytes());
        table.extend([2, 0, 1, 0]);
        table.extend(address.to_le_bytes());
        table.extend([0; 8]);
    }
    let (table_at, names_at) = (64, 64 + table.len() as u64);
    let sections_at = names_at + names.len() as u64;
    let section = |kind: u32, offset: u64, len: usize, link: u32| {
        let mut section = Vec::new();
        section.extend([0; 4]);
        section.extend(kind.to_le_bytes());
        section.extend([0; 16]);
        section.extend(offset.to_le_bytes());
        section.extend((len as u64).to_le_bytes());
        section.extend(link.to_le_bytes());
        section.extend([0; 20]);
        section
    };
    elf[40..48].copy_from_slice(&sections_at.to_le_bytes());
    elf[60..62].copy_from_slice(&3_u16.to_le_bytes());
    let table_len = table.len();
    elf.extend(table);
    elf.extend(names);
    elf.extend([0; 64]);
    elf.extend(section(2, table_at, table_len, 2));
    elf.extend(section(3, names_at, names.len(), 0));
    Symbols::read(&elf).unwrap()
}

/// Writes a 64-bit interrupt gate.
fn gate(memory: &VecMemory, vector: u64, handler: u64) {
    let [a, b, c, d, e, f, g, h] = handler.to_le_bytes();
    let bytes = [a, b, 0x10, 0, 0, 0x8E, c, d, e, f, g, h];
    memory.write(Gpa(0x4000 + vector * 16), &bytes).unwrap();
}

#[test]
fn a_page_fault_in_early_boot_without_an_interrupt_table() {
    let memory = memory();
    // mov eax, [rdi]
    memory.write(Gpa(0x10_0210), &[0x8B, 0x07]).unwrap();
    let mut state = long_mode();
    state.rip = HIGH + 0x10_0210;
    state.cr2 = 0x1_2345_6789;
    let text = told(&memory, &state, Some(&symbols()));
    assert_has(
        &text,
        &[
            "at 0xffffffff80100210 (start+0x10)",
            "bytes of the instruction: 8b 07",
            "1. page fault #PF: access to 0x123456789: linear 0x123456789: no entry at level 3",
            "2. delivery of the page fault #PF failed: the IDT has no such entry (limit 0x0)",
            "3. delivery of the double fault #DF failed: the IDT has no such entry (limit 0x0)",
            "page walk of the address 0x123456789, cr3 0x10000:",
            "level 4 at 0x10000: 0x0000000000011003 present writable",
            "level 3 at 0x11020: 0x0000000000000000 not present",
        ],
    );
}

#[test]
fn a_stack_that_overflows_has_no_place_for_the_frames() {
    let memory = memory();
    memory.write(Gpa(0x10_0200), &[0x50]).unwrap();
    for vector in [8, 14] {
        gate(&memory, vector, HIGH + 0x10_0300);
    }
    let mut state = long_mode();
    state.idtr.base = HIGH + 0x4000;
    state.idtr.limit = 0xFFF;
    state.rsp = HIGH + 0x20_0000 + 0x1000;
    state.cr2 = state.rsp - 8;
    let text = told(&memory, &state, Some(&symbols()));
    assert_has(
        &text,
        &[
            "at 0xffffffff80100200 (start+0x0)",
            "1. page fault #PF: access to 0xffffffff80200ff8",
            "2. delivery of the page fault #PF failed: its frame has no stack at 0xffffffff80200ff8",
            "3. delivery of the double fault #DF failed: its frame has no stack at 0xffffffff80200ff8",
        ],
    );
}

#[test]
fn a_jump_to_where_nothing_is_mapped() {
    let memory = memory();
    memory.write(Gpa(0x10000), &[0; 8]).unwrap();
    let mut state = long_mode();
    state.rip = 0;
    state.cr2 = 0;
    let text = told(&memory, &state, None);
    assert_has(
        &text,
        &[
            "at 0x0",
            "no instruction can be read there",
            "1. page fault #PF: the instruction cannot be read: linear 0x0: no entry at level 4",
            "level 4 at 0x10000: 0x0000000000000000 not present",
        ],
    );
}

#[test]
fn a_handler_that_is_there_is_named() {
    let memory = memory();
    memory.write(Gpa(0x10_0200), &[0x0F, 0x0B]).unwrap();
    gate(&memory, 6, HIGH + 0x10_0300);
    let mut state = long_mode();
    state.idtr.base = HIGH + 0x4000;
    state.idtr.limit = 0x7F;
    let text = told(&memory, &state, Some(&symbols()));
    assert_has(
        &text,
        &[
            "1. invalid opcode #UD: the instruction is UD",
            "2. delivery of the invalid opcode #UD: its IDT entry (0x10:0xffffffff80100300 (handler+0x0)) looks usable now",
            "3. delivery of the double fault #DF failed: the IDT has no such entry (limit 0x7f)",
        ],
    );
}

#[test]
fn any_registers_over_any_memory_are_told_of() {
    let memory = memory();
    for seed in 0..2000_u64 {
        let noise = |n: u64| {
            (seed + 1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left((n % 64) as u32)
        };
        let mut state = long_mode();
        state.rip = noise(1);
        state.rsp = noise(2);
        state.cr0 = noise(3);
        state.cr3 = noise(4) & 0x1F_FFFF;
        state.efer = noise(5) & 0xD01;
        state.idtr.base = noise(6);
        state.idtr.limit = 0xFFFF;
        state.tr.base = u64::MAX - noise(7) % 64;
        state.cs.base = noise(8);
        assert!(!told(&memory, &state, None).is_empty());
    }
}

#[test]
fn a_file_that_is_no_elf_or_a_broken_one_has_no_symbols() {
    assert!(Symbols::read(&Vec::new()).is_none());
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(b"\x7FELF\x02\x01\x01");
    elf[40..48].copy_from_slice(&[0xFF; 8]);
    elf[60..62].copy_from_slice(&[0xFF; 2]);
    assert!(Symbols::read(&elf).is_none());
}
