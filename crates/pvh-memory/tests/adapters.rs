//! The adapters that need nothing but this crate, through the shared tests.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

mod shared;

mod slice {
    use pvh_abi::Gpa;
    use pvh_memory::{GuestMemory, SliceMemory};

    fn with(test: &dyn Fn(&dyn GuestMemory)) {
        test(&SliceMemory::new(Gpa(0), &mut [0; 0x2000]));
    }

    crate::shared::memory_tests!(with);
}

mod vec {
    use pvh_memory::{GuestMemory, VecMemory};

    fn with(test: &dyn Fn(&(dyn GuestMemory + Sync))) {
        test(&VecMemory::from(vec![0; 0x2000]));
    }

    crate::shared::memory_tests!(with);
    crate::shared::shared_memory_tests!(with);
}

mod vec_of_ranges {
    use pvh_abi::Gpa;
    use pvh_memory::{GuestMemory, VecMemory};

    fn with(test: &dyn Fn(&(dyn GuestMemory + Sync))) {
        let ranges = [(0x1000, 0x1000), (0, 0x1000), (0x4_0000, 0x1000)];
        test(&VecMemory::zeroed(&ranges.map(|(at, len)| (Gpa(at), len))).unwrap());
    }

    crate::shared::memory_tests!(with);
    crate::shared::shared_memory_tests!(with);
}
