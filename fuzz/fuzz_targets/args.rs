//! The fuzz target `args`: see docs/fuzzing.md.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pvh_oracles::args(bytes));
