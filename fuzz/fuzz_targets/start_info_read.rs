//! The fuzz target `start_info_read`: see docs/fuzzing.md.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pvh_oracles::start_info_read(bytes));
