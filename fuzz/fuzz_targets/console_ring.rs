//! The fuzz target `console_ring`: see docs/fuzzing.md.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pvh_oracles::console_ring(bytes));
