//! What the builder refuses, and with which words.

use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_start_info::{BuildError, Builder, Generation, MemmapRange, Module, Part};

const AT: Gpa = Gpa(0x20_0000);

const RAM: MemmapRange = MemmapRange {
    start: Gpa(0),
    len_bytes: 0x800_0000,
    kind: MemmapKind::RAM,
};

fn module(paddr: u64, size_bytes: u64) -> Module<'static> {
    Module {
        paddr: Gpa(paddr),
        size_bytes,
        cmdline: None,
    }
}

/// Asserts that the builder refuses, and that it has written nothing.
fn assert_refused(builder: &Builder<'_>, at: Gpa, want: BuildError) {
    let mut out = [0xa5; 4096];
    assert_eq!(builder.write(at, &mut out), Err(want));
    assert_eq!(out, [0xa5; 4096], "{want}");
}

/// Asserts that the builder refuses wherever the block is to lie.
fn assert_unbuildable(builder: &Builder<'_>, want: BuildError) {
    assert_eq!(builder.size_bytes(), Err(want));
    assert_refused(builder, AT, want);
}

#[test]
fn the_draft_refuses_a_memory_map() {
    let generation = Generation::Draft;
    let builder = Builder::new(generation).memmap(&[RAM]);
    let part = Part::Memmap;
    assert_unbuildable(&builder, BuildError::Unsayable { part, generation });
}

#[test]
fn version_0_refuses_a_memory_map() {
    let generation = Generation::V0;
    let builder = Builder::new(generation).memmap(&[RAM]);
    let part = Part::Memmap;
    assert_unbuildable(&builder, BuildError::Unsayable { part, generation });
}

#[test]
fn the_draft_refuses_an_rsdp() {
    let generation = Generation::Draft;
    let builder = Builder::new(generation).rsdp(Gpa(0xe_0000));
    let part = Part::Rsdp;
    assert_unbuildable(&builder, BuildError::Unsayable { part, generation });
}

#[test]
fn the_draft_refuses_a_module_command_line_and_names_the_module() {
    let generation = Generation::Draft;
    let mut modules = [module(0x1000, 1), module(0x2000, 1)];
    modules[1].cmdline = Some(b"x");
    let part = Part::ModuleCommandLine(1);
    let want = BuildError::Unsayable { part, generation };
    assert_unbuildable(&Builder::new(generation).modules(&modules), want);
    assert_eq!(
        want.to_string(),
        "command line of module 1: a start info of generation Draft has no field for it"
    );
}

#[test]
fn the_draft_refuses_a_module_that_ends_above_4_gib() {
    let too_high = [
        (0x1_0000_0000, 1),
        (0xffff_ffff, 2),
        (0x1000, 0xffff_f001),
        (0x1_0000_0000, 0),
        (u64::MAX, u64::MAX),
    ];
    for (paddr, len_bytes) in too_high {
        let modules = [module(0x1000, 1), module(paddr, len_bytes)];
        let want = BuildError::AboveFourGib {
            part: Part::Module(1),
            at: Gpa(paddr),
            len_bytes,
        };
        assert_unbuildable(&Builder::new(Generation::Draft).modules(&modules), want);
    }
}

#[test]
fn a_nul_inside_a_command_line_is_refused_with_its_offset() {
    let part = Part::CommandLine;
    let builder = Builder::new(Generation::V1).cmdline(b"ab\0cd");
    assert_unbuildable(&builder, BuildError::Nul { part, offset: 2 });
    let builder = Builder::new(Generation::Draft).cmdline(b"ends with it\0");
    assert_unbuildable(&builder, BuildError::Nul { part, offset: 12 });
}

#[test]
fn a_nul_inside_the_command_line_of_a_module_is_refused() {
    let mut modules = [module(0x1000, 1), module(0x2000, 1)];
    modules[1].cmdline = Some(b"\0");
    let want = BuildError::Nul {
        part: Part::ModuleCommandLine(1),
        offset: 0,
    };
    assert_unbuildable(&Builder::new(Generation::V0).modules(&modules), want);
}

#[test]
fn a_module_at_zero_is_refused() {
    for generation in [Generation::Draft, Generation::V0, Generation::V1] {
        let modules = [module(0, 0x1000)];
        let want = BuildError::AtZero {
            part: Part::Module(0),
        };
        assert_unbuildable(&Builder::new(generation).modules(&modules), want);
    }
}

#[test]
fn an_rsdp_at_zero_is_refused() {
    let builder = Builder::new(Generation::V1).rsdp(Gpa(0));
    assert_unbuildable(&builder, BuildError::AtZero { part: Part::Rsdp });
}

#[test]
fn a_module_that_runs_past_the_end_of_the_address_space_is_refused() {
    let len_bytes = 0x1001;
    let at = Gpa(u64::MAX - 0xfff);
    let want = BuildError::Overflow {
        part: Part::Module(0),
        at,
        len_bytes,
    };
    let modules = [module(at.0, len_bytes)];
    assert_unbuildable(&Builder::new(Generation::V1).modules(&modules), want);
    let modules = [module(at.0, 0x1000)];
    assert!(
        Builder::new(Generation::V1)
            .modules(&modules)
            .size_bytes()
            .is_ok()
    );
}

#[test]
fn a_memory_map_range_that_runs_past_the_end_of_the_address_space_is_refused() {
    let range = MemmapRange {
        start: Gpa(1 << 63),
        len_bytes: (1 << 63) + 1,
        kind: MemmapKind::RESERVED,
    };
    let want = BuildError::Overflow {
        part: Part::MemmapRange(1),
        at: range.start,
        len_bytes: range.len_bytes,
    };
    assert_unbuildable(&Builder::new(Generation::V1).memmap(&[RAM, range]), want);
}

#[test]
fn a_block_at_zero_is_refused() {
    for generation in [Generation::Draft, Generation::V0, Generation::V1] {
        let want = BuildError::AtZero { part: Part::Block };
        assert_refused(&Builder::new(generation), Gpa(0), want);
    }
}

#[test]
fn a_block_that_is_not_aligned_to_8_is_refused() {
    for low_bits in 1..8 {
        let at = Gpa(0x20_0000 | low_bits);
        assert_refused(
            &Builder::new(Generation::V1),
            at,
            BuildError::Misaligned { at },
        );
    }
}

#[test]
fn a_block_that_ends_above_4_gib_is_refused() {
    for at in [0xffff_ffd0, 0x1_0000_0000, 0xffff_ffff_ffff_fff8] {
        let want = BuildError::AboveFourGib {
            part: Part::Block,
            at: Gpa(at),
            len_bytes: 56,
        };
        assert_refused(&Builder::new(Generation::V1), Gpa(at), want);
    }
}

#[test]
fn a_buffer_one_byte_short_is_refused_and_left_as_it_was() {
    let mut out = [0xa5; 55];
    let want = BuildError::BufferTooSmall {
        need_bytes: 56,
        len_bytes: 55,
    };
    assert_eq!(Builder::new(Generation::V1).write(AT, &mut out), Err(want));
    assert_eq!(out, [0xa5; 55]);
}
