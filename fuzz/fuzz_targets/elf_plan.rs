//! The fuzz target `elf_plan`: see docs/fuzzing.md.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pvh_oracles::elf_plan(bytes));
