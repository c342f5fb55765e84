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
    fn each_frame_of_a_large_range_away_from_0_can_be_removed() {
        let memory = VecMemory::zeroed(&[(Gpa(0x10_0000), 193 * 0x1000)]).unwrap();
        for gfn in 0x100..=0x1c0 {
            memory.remove_frame(gfn).unwrap();
            assert!(!memory.is_ram(Gpa(gfn * 0x1000), 1), "{gfn:#x}");
            memory.read(Gpa(gfn * 0x1000), &mut []).unwrap();
            assert!(gfn == 0x1c0 || memory.is_ram(Gpa((gfn + 1) * 0x1000), 0x1000));
        }
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

#[cfg(feature = "std")]
mod files {
    use std::{
        fs::File,
        io::{self, Write as _},
        os::fd::AsFd,
    };

    use pvh_abi::Gpa;
    use pvh_memory::{
        FileRange, FillError, GuestMemory, MapError, MemoryError, SliceMemory, VecMemory, WordOp,
    };

    /// Memory whose host refuses each mapping.
    struct Refused;

    impl GuestMemory for Refused {
        fn is_ram(&self, _at: Gpa, _len_bytes: u64) -> bool {
            true
        }

        fn read(&self, _at: Gpa, _buf: &mut [u8]) -> Result<(), MemoryError> {
            Ok(())
        }

        fn write(&self, _at: Gpa, _bytes: &[u8]) -> Result<(), MemoryError> {
            Ok(())
        }

        fn atomic_u32(&self, _at: Gpa, _op: WordOp<u32>) -> Result<u32, MemoryError> {
            Ok(0)
        }

        fn atomic_u64(&self, _at: Gpa, _op: WordOp<u64>) -> Result<u64, MemoryError> {
            Ok(0)
        }

        fn map_file(&self, at: Gpa, _range: FileRange<'_>) -> Result<(), MapError> {
            let source = io::Error::other("no");
            Err(MapError::Host { at, source })
        }
    }

    fn map(memory: impl GuestMemory) -> Result<(), MapError> {
        let file = File::open("/dev/null").unwrap();
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes: 0x1000,
        };
        memory.map_file(Gpa(0x1000), range)
    }

    #[test]
    fn a_file_is_not_mapped_where_that_is_not_provided_for() {
        let memory = VecMemory::from(vec![0; 0x2000]);
        assert!(matches!(map(memory), Err(MapError::Unsupported)));
    }

    /// A file of 300 KiB, longer than the buffer, at an odd place between bytes that stay.
    #[test]
    fn a_file_is_read_where_it_belongs_and_nowhere_else() {
        let bytes: Vec<u8> = (0..300 << 10).map(|at: u32| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut slice = vec![0xEE; 512 << 10];
        let memory = SliceMemory::new(Gpa(0x1000), &mut slice);
        let range = |offset, len_bytes| FileRange {
            file: file.as_fd(),
            offset,
            len_bytes,
        };
        memory.fill(Gpa(0x1003), range(5, 299 << 10)).unwrap();
        memory.fill(Gpa(0x1003), range(0, 0)).unwrap();
        let end = 3 + (299 << 10);
        assert_eq!(slice[3..end], bytes[5..5 + (299 << 10)]);
        assert!(
            slice[..3]
                .iter()
                .chain(&slice[end..])
                .all(|&byte| byte == 0xEE)
        );
    }

    #[test]
    fn a_fill_that_is_refused_says_why_and_where() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 0x1000]).unwrap();
        let range = |offset, len_bytes| FileRange {
            file: file.as_fd(),
            offset,
            len_bytes,
        };
        let mut slice = vec![0xEE; 0x2000];
        let memory = SliceMemory::new(Gpa(0), &mut slice);
        let (at, len_bytes) = (Gpa(0x1001), 0x1000);
        let hole = memory.fill(at, range(0, len_bytes)).unwrap_err();
        let not_ram = MemoryError::NotRam { at, len_bytes };
        assert!(matches!(hole, FillError::Memory(error) if error == not_ram));
        let end = memory.fill(Gpa(0), range(0x800, 0x801)).unwrap_err();
        assert!(matches!(
            end,
            FillError::Read { offset: 0x800, source } if source.kind() == io::ErrorKind::UnexpectedEof
        ));
        assert!(slice.iter().all(|&byte| byte == 0xEE));
    }

    #[test]
    fn a_reference_to_memory_maps_as_the_memory_does() {
        for refused in [map(Refused), map(&Refused)] {
            assert!(matches!(
                refused,
                Err(MapError::Host {
                    at: Gpa(0x1000),
                    ..
                })
            ));
        }
    }
}
