//! The last values that are taken, one before those that are refused.

use pvh_abi::Gpa;
use pvh_start_info::{
    Builder, Generation, LINUX_CMDLINE_LIMIT, LINUX_MEMMAP_LIMIT, Module, XEN_MODULE_CMDLINE_LIMIT,
};

use crate::guest::Guest;

#[test]
fn the_limits_are_those_of_the_guests() {
    assert_eq!(LINUX_MEMMAP_LIMIT, 127);
    assert_eq!(LINUX_CMDLINE_LIMIT, 2047, "2048 with the NUL");
    assert_eq!(XEN_MODULE_CMDLINE_LIMIT, 1023, "1024 with the NUL");
}

#[test]
fn the_draft_takes_modules_up_to_the_last_byte_below_4_gib() {
    for (paddr, size_bytes) in [(0xffff_ffff, 1), (0x1000, 0xffff_f000), (1, 0xffff_ffff)] {
        let modules = [Module {
            paddr: Gpa(paddr),
            size_bytes,
            cmdline: None,
        }];
        let builder = Builder::new(Generation::Draft).modules(&modules);
        let guest = Guest::with(&builder, Gpa(0x1000));
        let info = guest.read(Generation::Draft).unwrap();
        let mut read = info.modules(1, |at, buf| guest.fetch(at, buf)).unwrap();
        let module = read.next().unwrap().unwrap();
        assert_eq!((module.paddr, module.size_bytes), (Gpa(paddr), size_bytes));
    }
}

#[test]
fn later_generations_take_modules_and_an_rsdp_anywhere() {
    for generation in [Generation::V0, Generation::V1] {
        let modules = [Module {
            paddr: Gpa(0x1_0000_0000),
            size_bytes: 0xffff_fffe_ffff_ffff,
            cmdline: None,
        }];
        let builder = Builder::new(generation).modules(&modules);
        let guest = Guest::with(&builder.rsdp(Gpa(u64::MAX)), Gpa(0x1000));
        let info = guest.read(generation).unwrap();
        assert_eq!(info.rsdp, Some(Gpa(u64::MAX)));
        let mut read = info.modules(1, |at, buf| guest.fetch(at, buf)).unwrap();
        let module = read.next().unwrap().unwrap();
        assert_eq!(module.paddr, Gpa(0x1_0000_0000));
        assert_eq!(module.size_bytes, 0xffff_fffe_ffff_ffff);
    }
}

#[test]
fn a_block_may_end_with_the_last_byte_below_4_gib() {
    let at = Gpa(0x1_0000_0000 - 56);
    let guest = Guest::with(&Builder::new(Generation::V1), at);
    assert_eq!(guest.read(Generation::V1).unwrap().version, Some(1));
}

#[test]
fn a_block_may_begin_at_8() {
    let guest = Guest::with(&Builder::new(Generation::V0), Gpa(8));
    assert_eq!(guest.read(Generation::V0).unwrap().version, Some(0));
}

#[test]
fn a_module_of_no_bytes_is_said_as_such() {
    let modules = [Module {
        paddr: Gpa(0x40_0000),
        size_bytes: 0,
        cmdline: None,
    }];
    let guest = Guest::with(&Builder::new(Generation::V1).modules(&modules), Gpa(0x1000));
    let info = guest.read(Generation::V1).unwrap();
    let mut read = info.modules(1, |at, buf| guest.fetch(at, buf)).unwrap();
    assert_eq!(read.next().unwrap().unwrap().size_bytes, 0);
}
