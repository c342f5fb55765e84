//! The guest-physical pages that KVM uses itself.

use pvh_abi::Gpa;

/// The page KVM takes for an identity map, where the processor cannot run real mode by itself.
pub const IDENTITY_MAP_AT: Gpa = Gpa(0xFFFB_C000);

/// The three pages KVM takes for a task state segment, for the same reason.
pub const TSS_AT: Gpa = Gpa(0xFFFB_D000);

/// Length of the pages at [`IDENTITY_MAP_AT`] and [`TSS_AT`] together, which follow each other. A memory
/// map that reports them at all reports them as reserved.
pub const KVM_PRIVATE_BYTES: u64 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kvm_takes_for_itself_lies_in_the_hole_and_touches() {
        assert_eq!(IDENTITY_MAP_AT, Gpa(0xFFFB_C000));
        assert_eq!(TSS_AT.0 - IDENTITY_MAP_AT.0, 0x1000);
        assert_eq!(KVM_PRIVATE_BYTES, 0x1000 + 3 * 0x1000);
    }
}
