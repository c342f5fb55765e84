//! Guest RAM: the contract of the memory trait, mapped files, and the host memory it uses.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

#[path = "../../pvh-memory/tests/shared/frames.rs"]
mod frames;
#[path = "../../pvh-memory/tests/shared/mod.rs"]
mod shared;

mod trait_promises {
    use pvh_kvm::GuestRam;
    use pvh_memory::GuestMemory;

    fn with(test: &dyn Fn(&(dyn GuestMemory + Sync))) {
        test(&GuestRam::new(0x2000).unwrap());
    }

    crate::shared::memory_tests!(with);
    crate::shared::shared_memory_tests!(with);
}

mod frames_that_change {
    use pvh_abi::{Gpa, GuestRange};
    use pvh_kvm::{GuestRam, MAX_ADDED_FRAMES};
    use pvh_memory::{FrameError, Frames, GuestMemory, WordOp};

    fn with(test: &dyn Fn(&dyn Frames)) {
        test(&GuestRam::new(0x4000).unwrap());
    }

    crate::frames::frames_tests!(with);

    #[test]
    fn no_more_than_256_frames_are_added() {
        let ram = GuestRam::new(0x4000).unwrap();
        let limit = u64::from(MAX_ADDED_FRAMES);
        assert_eq!(limit, 256);
        ram.add_frames(0x10000..0x10000 + limit).unwrap();
        assert_eq!(ram.add_frame(4), Err(FrameError::Exhausted { limit }));
        ram.remove_frame(0).unwrap();
        ram.add_frame(0).unwrap();
        ram.remove_frame(0x10000).unwrap();
        ram.add_frame(4).unwrap();
    }

    #[test]
    fn threads_use_their_frames_while_others_are_added_and_removed() {
        let ram = GuestRam::new(0x4000).unwrap();
        ram.add_frame(0x100).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|threads| {
            for at in [0x1FF8, 0x10_0FF8, 0x3000] {
                let (ram, done) = (&ram, &done);
                threads.spawn(move || {
                    let mut word = 0;
                    while !done.load(std::sync::atomic::Ordering::SeqCst) {
                        let before = ram.atomic_u64(Gpa(at), WordOp::Swap(word + 1));
                        assert_eq!(before, Ok(word));
                        word += 1;
                    }
                });
            }
            for round in 0..2000 {
                let gfn = 0x200 + round % 7;
                ram.remove_frame(2).unwrap();
                ram.add_frames(gfn..gfn + 4).unwrap();
                ram.write(Gpa(gfn * 0x1000), &[0xEE; 0x4000]).unwrap();
                ram.add_frame(2).unwrap();
                ram.write(Gpa(0x2000), &[0xEE; 0x1000]).unwrap();
                ram.remove_frames(gfn..gfn + 4).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
    }

    #[test]
    fn the_frames_of_the_local_apic_and_of_kvm_get_no_page() {
        let ram = GuestRam::new(0x4000).unwrap();
        for gfn in [0xFEE00, 0xFFFBC, 0xFFFBD, 0xFFFBE, 0xFFFBF] {
            assert_eq!(ram.add_frame(gfn), Err(FrameError::OutOfReach { gfn }));
        }
        ram.add_frame(0xFFFC0).unwrap();
        let ram = [GuestRange::new(Gpa(0), 0x4000)];
        let small = GuestRam::with_ranges(&ram, &[], 36).unwrap();
        let gfn = 1 << 24;
        assert_eq!(small.add_frame(gfn), Err(FrameError::OutOfReach { gfn }));
        small.add_frame(gfn - 1).unwrap();
    }

    #[test]
    fn pages_beside_ram_are_memory_and_no_ram_range() {
        let range = |(start, len_bytes)| GuestRange::new(Gpa(start), len_bytes);
        let ram = [(0, 0xFC00_0000), (0x1_0000_0000, 0x400_0000)].map(range);
        let pages = [(0xFC00_0000, 0x2000), (0xFEFF_8000, 0x8000)].map(range);
        let ram = GuestRam::with_ranges(&ram, &pages, 46).unwrap();
        assert_eq!(ram.size_bytes(), 0x1_0000_0000);
        assert_eq!(ram.ram_ranges().len(), 2);
        // RAM ends where the first of them begins.
        ram.write(Gpa(0xFBFF_FFFE), &[1, 2, 3, 4]).unwrap();
        assert!(ram.is_ram(Gpa(0xFEFF_8000), 0x8000) && !ram.is_ram(Gpa(0xFC00_2000), 1));
        ram.remove_frames(0xFBFFF..0xFC001).unwrap();
        assert!(!ram.is_ram(Gpa(0xFBFF_FFFF), 1) && !ram.is_ram(Gpa(0xFC00_0000), 1));
        ram.add_frames(0xFBFFF..0xFC001).unwrap();
        let mut back = [9; 4];
        ram.read(Gpa(0xFBFF_FFFE), &mut back).unwrap();
        assert_eq!(back, [0; 4]);
    }

    #[test]
    fn a_frame_removed_and_added_again_does_not_show_its_file() {
        use std::{io::Write, os::fd::AsFd};
        let ram = GuestRam::new(0x4000).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[5; 0x2000]).unwrap();
        let range = pvh_memory::FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes: 0x2000,
        };
        ram.map_file(Gpa(0x1000), range).unwrap();
        ram.remove_frames(1..3).unwrap();
        ram.add_frames(1..3).unwrap();
        let mut back = [9; 0x2000];
        ram.read(Gpa(0x1000), &mut back).unwrap();
        assert_eq!(back, [0; 0x2000]);
    }
}

mod mapped_files {
    use std::{fs::File, io::Write, os::fd::AsFd};

    use pvh_abi::{Gpa, GuestRange};
    use pvh_kvm::GuestRam;
    use pvh_memory::{FileRange, GuestMemory, MapError};

    /// Returns a file of three pages, filled with 1, 2 and 3, and half a page filled with 4.
    fn file() -> File {
        let mut file = tempfile::tempfile().unwrap();
        for (byte, len) in [(1, 0x1000), (2, 0x1000), (3, 0x1000), (4, 0x800)] {
            file.write_all(&vec![byte; len]).unwrap();
        }
        file
    }

    fn range(file: &File, offset: u64, len_bytes: u64) -> FileRange<'_> {
        FileRange {
            file: file.as_fd(),
            offset,
            len_bytes,
        }
    }

    fn byte(ram: &GuestRam, at: u64) -> u8 {
        let mut byte = [0];
        ram.read(Gpa(at), &mut byte).unwrap();
        byte[0]
    }

    #[test]
    fn a_mapped_range_replaces_its_pages_and_no_others() {
        let ram = GuestRam::new(0x10000).unwrap();
        ram.write(Gpa(0), &[0xEE; 0x10000]).unwrap();
        ram.map_file(Gpa(0x4000), range(&file(), 0x1000, 0x2000))
            .unwrap();
        assert_eq!(byte(&ram, 0x3FFF), 0xEE);
        assert_eq!(byte(&ram, 0x4000), 2);
        assert_eq!(byte(&ram, 0x4FFF), 2);
        assert_eq!(byte(&ram, 0x5FFF), 3);
        assert_eq!(byte(&ram, 0x6000), 0xEE);
    }

    #[test]
    fn the_rest_of_the_last_page_reads_as_zeros() {
        let ram = GuestRam::new(0x10000).unwrap();
        ram.write(Gpa(0), &[0xEE; 0x10000]).unwrap();
        ram.map_file(Gpa(0), range(&file(), 0x3000, 0x1000))
            .unwrap();
        assert_eq!([0x7FF, 0x800, 0xFFF].map(|at| byte(&ram, at)), [4, 0, 0]);
    }

    #[test]
    fn writes_to_a_mapped_range_do_not_reach_the_file() {
        let file = file();
        let ram = GuestRam::new(0x10000).unwrap();
        for at in [0x1000, 0x2000] {
            ram.map_file(Gpa(at), range(&file, 0, 0x1000)).unwrap();
        }
        ram.write(Gpa(0x1000), b"guest").unwrap();
        assert_eq!(byte(&ram, 0x1000), b'g');
        assert_eq!(byte(&ram, 0x2000), 1);
    }

    #[test]
    fn a_file_can_be_mapped_above_4_gib() {
        let ranges = [0, 0x1_0000_0000].map(|start| GuestRange::new(Gpa(start), 0x2000));
        let ram = GuestRam::with_ranges(&ranges, &[], 46).unwrap();
        ram.map_file(Gpa(0x1_0000_1000), range(&file(), 0, 0x1000))
            .unwrap();
        assert_eq!(byte(&ram, 0x1_0000_0FFF), 0);
        assert_eq!(byte(&ram, 0x1_0000_1000), 1);
    }

    #[test]
    fn anything_but_whole_pages_is_refused() {
        let ram = GuestRam::new(0x10000).unwrap();
        let file = file();
        for (at, offset, len) in [(1, 0, 0x1000), (0, 1, 0x1000), (0, 0, 0x800)] {
            let error = ram.map_file(Gpa(at), range(&file, offset, len));
            assert!(matches!(error, Err(MapError::Misaligned { .. })));
        }
        assert_eq!(byte(&ram, 0), 0);
    }

    #[test]
    fn a_range_that_is_not_all_ram_is_refused() {
        let ram = GuestRam::new(0x2000).unwrap();
        for at in [0x1000, 0x2000, 0x1_0000_0000, !0xFFF] {
            let error = ram.map_file(Gpa(at), range(&file(), 0, 0x2000));
            assert!(matches!(error, Err(MapError::NotRam { .. })), "{at:#x}");
        }
        assert_eq!(byte(&ram, 0x1000), 0);
    }

    #[test]
    fn a_range_past_the_end_of_the_file_is_refused() {
        let ram = GuestRam::new(0x10000).unwrap();
        for (offset, len) in [(0, 0x5000), (0x4000, 0x1000), (!0xFFF, 0x1000)] {
            let error = ram.map_file(Gpa(0), range(&file(), offset, len));
            assert!(matches!(error, Err(MapError::Host { .. })), "{offset:#x}");
        }
        assert_eq!(byte(&ram, 0), 0);
    }

    #[test]
    fn a_file_that_is_not_regular_is_refused() {
        let ram = GuestRam::new(0x10000).unwrap();
        let device = File::open("/dev/zero").unwrap();
        let error = ram.map_file(Gpa(0), range(&device, 0, 0x1000));
        assert!(matches!(error, Err(MapError::Host { .. })));
    }

    /// A file of sysfs is regular and one page long, and the kernel refuses to map it only after it
    /// has removed the old pages.
    #[test]
    fn a_file_that_cannot_be_mapped_leaves_no_hole() {
        let ram = GuestRam::new(0x10000).unwrap();
        ram.write(Gpa(0x1000), b"before").unwrap();
        ram.write(Gpa(0x3000), b"after").unwrap();
        let file = File::open("/sys/kernel/uevent_seqnum").unwrap();
        let error = ram.map_file(Gpa(0x2000), range(&file, 0, 0x1000));
        assert!(matches!(error, Err(MapError::Host { .. })));
        assert_eq!(byte(&ram, 0x2000), 0);
        ram.write(Gpa(0x2000), b"again").unwrap();
        assert_eq!(byte(&ram, 0x2000), b'a');
        assert_eq!((byte(&ram, 0x1000), byte(&ram, 0x3000)), (b'b', b'a'));
    }

    #[test]
    fn zeros_over_a_mapped_file_do_not_change_the_file() {
        let file = file();
        let ram = GuestRam::new(0x10000).unwrap();
        ram.map_file(Gpa(0x1000), range(&file, 0, 0x4000)).unwrap();
        ram.write(Gpa(0x2000), b"guest").unwrap();
        ram.zero(Gpa(0x1800), 0x2000).unwrap();
        let bytes = [0x17FF, 0x1800, 0x2000, 0x37FF, 0x3800].map(|at| byte(&ram, at));
        assert_eq!(bytes, [1, 0, 0, 0, 3]);
        ram.write(Gpa(0x2000), b"again").unwrap();
        assert_eq!(byte(&ram, 0x2000), b'a');
        ram.map_file(Gpa(0x2000), range(&file, 0, 0x1000)).unwrap();
        assert_eq!(byte(&ram, 0x2000), 1);
    }

    #[test]
    fn an_empty_range_maps_nothing() {
        let ram = GuestRam::new(0x1000).unwrap();
        ram.map_file(Gpa(0), range(&file(), 0x1000, 0)).unwrap();
        assert_eq!(byte(&ram, 0), 0);
    }
}

mod lost_pages {
    use std::{fs::File, io::Write, os::fd::AsFd, sync::Arc};

    use pvh_abi::Gpa;
    use pvh_kvm::{GuestRam, LostPages};
    use pvh_memory::{FileRange, GuestMemory};

    /// Returns RAM with a file of 16 pages of ones at 0x1000.
    fn mapped() -> (Arc<GuestRam>, File) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 0x10000]).unwrap();
        let ram = Arc::new(GuestRam::new(0x20000).unwrap());
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes: 0x10000,
        };
        ram.map_file(Gpa(0x1000), range).unwrap();
        (ram, file)
    }

    #[test]
    fn a_page_beyond_a_truncated_file_reads_zeros_and_is_reported() {
        let (ram, file) = mapped();
        let (other, _kept) = mapped();
        let lost = LostPages::watch(&ram).unwrap();
        let unharmed = LostPages::watch(&other).unwrap();
        ram.write(Gpa(0x3000), b"written pages are lost with the others")
            .unwrap();
        file.set_len(0x1000).unwrap();
        assert!(!lost.any());
        let mut bytes = [9; 0x10000];
        ram.read(Gpa(0x1000), &mut bytes).unwrap();
        assert!(lost.any() && !unharmed.any());
        assert!(lost.event().unwrap().read().unwrap() > 0);
        assert!(bytes[..0x1000].iter().all(|&byte| byte == 1));
        assert!(bytes[0x1000..].iter().all(|&byte| byte == 0));
        ram.write(Gpa(0x8000), b"again").unwrap();
    }

    #[test]
    fn watching_ends_with_its_guard() {
        for _ in 0..100 {
            let (ram, file) = mapped();
            let lost = LostPages::watch(&ram).unwrap();
            file.set_len(0).unwrap();
            ram.write(Gpa(0x1800), b"x").unwrap();
            assert!(lost.any());
        }
    }
}

mod cost {
    use pvh_abi::{Gpa, GuestRange};
    use pvh_kvm::{GuestRam, RamError};
    use pvh_memory::GuestMemory;

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse().unwrap()
    }

    #[test]
    fn memory_larger_than_the_hosts_uses_only_touched_pages() {
        let before = resident_kib();
        let ranges = [
            GuestRange::new(Gpa(0), 0xFC00_0000),
            GuestRange::new(Gpa(0x1_0000_0000), (1 << 40) - 0xFC00_0000),
        ];
        let ram = GuestRam::with_ranges(&ranges, &[], 46).unwrap();
        assert_eq!(ram.size_bytes(), 1 << 40);
        for range in ram.ram_ranges() {
            let last = Gpa(range.start.0 + range.len_bytes - 1);
            ram.write(last, &[1]).unwrap();
        }
        // Other tests run at the same time, but touch little memory.
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 32 << 10, "{grown} KiB became resident");
    }

    #[test]
    fn huge_pages_keep_the_content() {
        let ram = GuestRam::new(8 << 20).unwrap();
        ram.write(Gpa(0x1000), b"before").unwrap();
        // A host without huge pages returns an error and changes nothing.
        let _ = ram.prefer_huge_pages();
        ram.write(Gpa(0x40_0000), b"after").unwrap();
        let mut bytes = [0; 6];
        ram.read(Gpa(0x1000), &mut bytes).unwrap();
        assert_eq!(&bytes, b"before");
        ram.zero(Gpa(0), 8 << 20).unwrap();
        ram.read(Gpa(0x40_0000), &mut bytes).unwrap();
        assert_eq!(bytes, [0; 6]);
    }

    #[test]
    fn zeroing_whole_pages_returns_them_to_the_host() {
        let ram = GuestRam::new(256 << 20).unwrap();
        ram.write(Gpa(0x1000), &vec![1; 64 << 20]).unwrap();
        let before = resident_kib();
        ram.zero(Gpa(0), 256 << 20).unwrap();
        let given_back = before.saturating_sub(resident_kib());
        assert!(given_back > 32 << 10, "{given_back} KiB were given back");
        let mut byte = [1];
        ram.read(Gpa(0x1000), &mut byte).unwrap();
        assert_eq!(byte, [0]);
    }

    #[test]
    fn zeroing_less_than_whole_pages_is_exact_to_the_byte() {
        let ram = GuestRam::new(0x10000).unwrap();
        for (at, len) in [
            (0x1800, 0x100),
            (0x1FFF, 2),
            (0x1FFF, 0x1001),
            (0x1001, 0x2FFE),
        ] {
            ram.write(Gpa(0x1000), &[7; 0x4000]).unwrap();
            ram.zero(Gpa(at), len).unwrap();
            let mut bytes = [0; 0x4000];
            ram.read(Gpa(0x1000), &mut bytes).unwrap();
            let zeros = |index: usize| (at..at + len).contains(&(index as u64 + 0x1000));
            let exact = bytes
                .iter()
                .enumerate()
                .all(|(index, &byte)| (byte == 0) == zeros(index));
            assert!(exact, "{len:#x} at {at:#x}");
        }
    }

    #[test]
    fn more_than_the_address_space_of_a_process_is_refused() {
        // No process can map 2^51 bytes.
        let high = GuestRange::new(Gpa(0x1_0000_0000), 1 << 51);
        let error = GuestRam::with_ranges(&[high], &[], 52).unwrap_err();
        assert!(matches!(error, RamError::Host { .. }), "{error}");
    }

    #[test]
    fn the_hosts_own_width_is_the_limit() {
        // No x86 CPU has more than 52 physical address bits.
        let error = GuestRam::new(1 << 53).unwrap_err();
        assert!(matches!(error, RamError::TooHigh { .. }), "{error}");
    }
}
