//! Reads CPUID and the time-stamp counter of the host's CPU.
// UNSAFETY: the intrinsics of CPUID and RDTSC are unsafe functions in the oldest Rust version that
// this crate supports.
#![expect(unsafe_code, reason = "the CPUID and RDTSC instructions")]

use core::arch::x86_64::{__cpuid, _rdtsc, CpuidResult};

/// Returns the width of this host's physical addresses in bits.
pub(crate) fn address_bits() -> u8 {
    if cpuid(EXTENDED).eax < EXTENDED_ADDRESS_SIZES {
        return ADDRESS_BITS_BEFORE_THE_LEAF;
    }
    let [bits, ..] = cpuid(EXTENDED_ADDRESS_SIZES).eax.to_le_bytes();
    bits
}

/// Returns this host CPU's time-stamp counter.
#[allow(unused_unsafe, reason = "unsafe in Rust 1.88, safe in later ones")]
pub(crate) fn time_stamp() -> u64 {
    // SAFETY: the intrinsic demands a CPU with the RDTSC instruction, which every x86-64 CPU has,
    // and that the system lets user space execute it. A system that does not ends the process by a
    // signal.
    unsafe { _rdtsc() }
}

#[allow(unused_unsafe, reason = "unsafe in Rust 1.88, safe in later ones")]
fn cpuid(leaf: u32) -> CpuidResult {
    // SAFETY: the intrinsic demands a CPU with the CPUID instruction. Every x86-64 CPU has it, and
    // this crate is built for no other.
    unsafe { __cpuid(leaf) }
}

const EXTENDED: u32 = 0x8000_0000;
const EXTENDED_ADDRESS_SIZES: u32 = 0x8000_0008;

/// The width that the manuals give for a CPU without the leaf.
const ADDRESS_BITS_BEFORE_THE_LEAF: u8 = 36;
