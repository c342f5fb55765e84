//! Guest-physical pages that KVM uses for itself.

use pvh_abi::Gpa;

/// The page where KVM puts an identity map. KVM needs it on processors that cannot run a guest in
/// real mode directly.
pub const IDENTITY_MAP_AT: Gpa = Gpa(0xFFFB_C000);

/// The three pages where KVM puts a task state segment, for the same reason.
pub const TSS_AT: Gpa = Gpa(0xFFFB_D000);

/// Length in bytes of the pages at [`IDENTITY_MAP_AT`] and [`TSS_AT`], which are adjacent. A memory
/// map that lists them reports them as reserved.
pub const KVM_PRIVATE_BYTES: u64 = 0x4000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_that_kvm_uses_are_adjacent() {
        assert_eq!(IDENTITY_MAP_AT, Gpa(0xFFFB_C000));
        assert_eq!(TSS_AT.0 - IDENTITY_MAP_AT.0, 0x1000);
        assert_eq!(KVM_PRIVATE_BYTES, 0x1000 + 3 * 0x1000);
    }
}
