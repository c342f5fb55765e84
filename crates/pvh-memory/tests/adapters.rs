//! The adapters that need nothing but this crate, through the shared tests.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

#[path = "shared/frames.rs"]
mod frames;
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

mod reference {
    use pvh_abi::Gpa;
    use pvh_memory::{Frames, GuestMemory, VecMemory};

    fn with(test: &dyn Fn(&(dyn GuestMemory + Sync))) {
        let memory = VecMemory::from(vec![0; 0x2000]);
        test(&&memory);
    }

    fn with_frames(test: &dyn Fn(&dyn Frames)) {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x4000)]).unwrap();
        test(&&memory.with_spare_frames(8));
    }

    crate::shared::memory_tests!(with);
    crate::shared::shared_memory_tests!(with);
    crate::frames::frames_tests!(with_frames);
}

mod frames_of_vec {
    use pvh_abi::Gpa;
    use pvh_memory::{FrameError, Frames, GuestMemory, VecMemory};

    fn with(test: &dyn Fn(&dyn Frames)) {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x4000)]).unwrap();
        test(&memory.with_spare_frames(8));
    }

    crate::frames::frames_tests!(with);

    #[test]
    fn without_spare_frames_a_hole_stays_a_hole() {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x4000)]).unwrap();
        let exhausted = FrameError::Exhausted { limit: 0 };
        assert_eq!(memory.add_frame(4), Err(exhausted));
        memory.remove_frame(0).unwrap();
        memory.add_frame(0).unwrap();
    }

    #[test]
    fn a_frame_that_is_ram_in_part_stays_as_it_is() {
        let memory = VecMemory::zeroed(&[(Gpa(0x800), 0x1000)]).unwrap();
        let memory = memory.with_spare_frames(8);
        for gfn in [0, 1] {
            assert_eq!(memory.remove_frame(gfn), Err(FrameError::Absent { gfn }));
            assert_eq!(memory.add_frame(gfn), Err(FrameError::Present { gfn }));
        }
        memory.add_frame(2).unwrap();
        assert!(memory.is_ram(Gpa(0x800), 0x1000) && memory.is_ram(Gpa(0x2000), 0x1000));
        assert!(!memory.is_ram(Gpa(0x17FF), 2) && !memory.is_ram(Gpa(0x7FF), 1));
    }
}
