//! The adapters that need nothing but this crate, through the shared tests.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "a list of ranges, of which there is one"
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

mod pages {
    use pvh_abi::Gpa;
    use pvh_memory::{FrameError, FrameStep, Frames, GuestMemory, Pages, PagesError, VecMemory};

    fn with(test: &dyn Fn(&(dyn GuestMemory + Sync))) {
        let memory = VecMemory::from(vec![0; 0x3000]);
        // Frames 0 and 1 are RAM, and the window behind them is empty.
        test(&Pages::new(memory, &[0..1, 1..2], &[2..3, 7..7]).unwrap());
    }

    fn with_frames(test: &dyn Fn(&dyn Frames)) {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x40_0000)]).unwrap();
        test(&Pages::new(memory, &[0..4], &[4..0x400]).unwrap());
    }

    crate::shared::memory_tests!(with);
    crate::shared::shared_memory_tests!(with);
    crate::frames::fixed_frames_tests!(with_frames);

    #[test]
    fn ranges_that_overlap_or_are_not_ram_are_refused() {
        let new = |ram, window| {
            let memory = VecMemory::from(vec![0; 0x8000]);
            Pages::new(memory, &[ram], &[window]).map(|_| ())
        };
        assert_eq!(new(0..4, 4..8), Ok(()));
        assert_eq!(new(0..4, 3..8), Err(PagesError::Overlap { gfn: 3 }));
        assert_eq!(new(3..8, 0..4), Err(PagesError::Overlap { gfn: 3 }));
        let refused = PagesError::NotRam { first: 4, last: 8 };
        assert_eq!(new(0..4, 4..9), Err(refused));
        let (first, last) = (4, u64::MAX - 1);
        let refused = PagesError::NotRam { first, last };
        assert_eq!(new(0..4, 4..u64::MAX), Err(refused));
    }

    #[test]
    fn frames_outside_the_ranges_keep_what_the_memory_says() {
        let memory = VecMemory::from(vec![0; 0x8000]);
        let memory = Pages::new(memory, &[0..2], &[4..6]).unwrap();
        assert!(memory.is_ram(Gpa(0x2000), 0x2000) && !memory.is_ram(Gpa(0x2000), 0x2001));
        let (present, absent) = (
            |gfn| FrameError::Present { gfn },
            |gfn| FrameError::Absent { gfn },
        );
        assert_eq!(memory.add_frame(2), Err(present(2)));
        assert_eq!(memory.remove_frame(2), Err(absent(2)));
        assert_eq!(memory.add_frame(8), Err(FrameError::Exhausted { limit: 2 }));
        let gfn = u64::MAX;
        assert_eq!(
            memory.check_add(gfn - 1..gfn),
            Err(FrameError::OutOfReach { gfn: gfn - 1 })
        );
    }

    /// Each length and place, against a list of flags, over the borders of words of 64 bits.
    #[test]
    fn an_access_is_ram_where_each_of_its_frames_has_a_page() {
        let memory = VecMemory::zeroed(&[(Gpa(0), 200 * 0x1000)]).unwrap();
        let memory = Pages::new(memory, &[0..67, 67..200], &[]).unwrap();
        let gone = [0, 1, 63, 64, 66, 67, 130, 131, 199];
        for gfn in gone {
            memory.remove_frame(gfn).unwrap();
        }
        for first in 0..200_u64 {
            for count in 1..=200 - first {
                let want = !gone.iter().any(|gfn| (first..first + count).contains(gfn));
                let is_ram = memory.is_ram(Gpa(first * 0x1000 + 0xfff), count * 0x1000 - 0xfff);
                assert_eq!(is_ram, want, "{count} frames from {first}");
            }
        }
    }

    #[test]
    fn a_step_covers_2_mib_of_one_range_and_takes_no_slot() {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x40_0000)]).unwrap();
        let memory = Pages::new(memory, &[0..4], &[4..0x400]).unwrap();
        let step = |gfns| match memory.next_step(gfns) {
            FrameStep {
                frames,
                takes_slot: false,
            } => frames,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [step(1..3), step(1..9), step(4..0x400), step(4..4)],
            [2, 3, 512, 0]
        );
        assert_eq!(step(0x400..0x500), 1, "outside");
    }

    #[test]
    fn what_a_guest_writes_into_a_removed_frame_does_not_come_back() {
        let memory = Pages::new(VecMemory::from(vec![7; 0x2000]), &[0..2], &[]).unwrap();
        memory.remove_frame(1).unwrap();
        memory
            .memory()
            .write(Gpa(0x1000), b"behind the back")
            .unwrap();
        memory.add_frame(1).unwrap();
        let bytes = memory.into_memory().into_bytes();
        assert_eq!(bytes, [[7; 0x1000], [0; 0x1000]].concat());
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
