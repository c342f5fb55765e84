//! The generations of the structure.

use pvh_abi::start_info::{
    ModuleEntry, ModuleEntryDraft, StartInfoDraft, StartInfoV0, StartInfoV1,
};

/// A generation of the start-of-day structure.
///
/// The draft and the later generations have the same magic, and no field shows for certain which
/// one it is. So the caller always names the generation.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Generation {
    /// The 20 bytes of the first text (HVMlite, 2015): 32-bit fields, 8-byte module entries.
    Draft,
    /// Version 0, 40 bytes: 64-bit addresses, module command lines, the RSDP.
    V0,
    /// Version 1, 56 bytes: version 0 and a memory map.
    V1,
}

impl Generation {
    /// Returns the size of the structure itself in bytes.
    #[must_use]
    pub const fn head_size_bytes(self) -> u64 {
        let size = match self {
            Self::Draft => size_of::<StartInfoDraft>(),
            Self::V0 => size_of::<StartInfoV0>(),
            Self::V1 => size_of::<StartInfoV1>(),
        };
        size as u64
    }

    /// Returns the size of an entry of the module table in bytes.
    #[must_use]
    pub const fn module_entry_size_bytes(self) -> u64 {
        let size = match self {
            Self::Draft => size_of::<ModuleEntryDraft>(),
            Self::V0 | Self::V1 => size_of::<ModuleEntry>(),
        };
        size as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Generation;

    #[test]
    fn the_sizes_are_those_of_the_texts() {
        assert_eq!(Generation::Draft.head_size_bytes(), 20);
        assert_eq!(Generation::V0.head_size_bytes(), 40);
        assert_eq!(Generation::V1.head_size_bytes(), 56);
        assert_eq!(Generation::Draft.module_entry_size_bytes(), 8);
        assert_eq!(Generation::V0.module_entry_size_bytes(), 32);
        assert_eq!(Generation::V1.module_entry_size_bytes(), 32);
    }
}
