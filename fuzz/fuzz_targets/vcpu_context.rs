//! The fuzz target `vcpu_context`: see docs/fuzzing.md.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pvh_oracles::vcpu_context(bytes));
