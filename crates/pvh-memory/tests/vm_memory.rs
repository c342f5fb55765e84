//! The vm-memory adapter, through the shared tests and some of its own.
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

mod borrowed {
    use pvh_memory::VmMemory;
    use vm_memory::*;

    fn with(test: &dyn Fn(&(dyn pvh_memory::GuestMemory + Sync))) {
        let ranges = [(0, 0x1000), (0x1000, 0x1000), (0x4_0000, 0x1000)];
        let ranges = ranges.map(|(at, len)| (GuestAddress(at), len));
        let ram = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
        test(&VmMemory::new(ram.iter()));
    }

    crate::shared::memory_tests!(with);
    crate::shared::shared_memory_tests!(with);
}

mod pages {
    use pvh_memory::{Frames, Pages, VmMemory};
    use vm_memory::*;

    /// RAM of 16 KiB, and a window of 4 MiB behind it, in a region of the hypervisor's.
    fn with(test: &dyn Fn(&dyn Frames)) {
        let ranges = [(0, 0x4000), (0x4000, 0x40_0000)];
        let ranges = ranges.map(|(at, len)| (GuestAddress(at), len));
        let ram = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
        test(&Pages::new(VmMemory::new(ram.iter()), &[0..4], &[4..0x404]).unwrap());
    }

    crate::frames::fixed_frames_tests!(with);
}

mod owned {
    use std::{
        io::{self, Seek as _, SeekFrom, Write as _},
        os::fd::AsFd as _,
        sync::Arc,
    };

    use pvh_abi::Gpa;
    use pvh_memory::{FileRange, FillError, GuestMemory, MemoryError, VmMemory, WordOp};
    use vm_memory::{
        GuestAddress, GuestMemoryRegion as _, GuestRegionMmap,
        bitmap::{AtomicBitmap, Bitmap as _},
    };

    type Region = GuestRegionMmap<AtomicBitmap>;

    fn region(at: u64, len: usize) -> Arc<Region> {
        Arc::new(Region::from_range(GuestAddress(at), len, None).unwrap())
    }

    /// In any order: the adapter sorts them.
    fn with(test: &dyn Fn(&(dyn GuestMemory + Sync))) {
        let regions = [(0x4000_0000, 0x1000), (0x1000, 0x1000), (0, 0x1000)];
        test(&VmMemory::new(regions.map(|(at, len)| region(at, len))));
    }

    crate::shared::memory_tests!(with);
    crate::shared::shared_memory_tests!(with);

    #[test]
    fn words_and_bytes_mark_the_dirty_bitmap_and_loads_do_not() {
        let ram = region(0x1000, 0x4000);
        let memory = VmMemory::new([Arc::clone(&ram)]);
        memory.atomic_u32(Gpa(0x2000), WordOp::Load).unwrap();
        memory.atomic_u64(Gpa(0x2000), WordOp::Load).unwrap();
        memory.read(Gpa(0x2000), &mut [0; 8]).unwrap();
        let dirty = || [0_usize, 0x1000, 0x2000, 0x3000].map(|at| ram.bitmap().dirty_at(at));
        assert_eq!(dirty(), [false; 4]);
        memory.atomic_u32(Gpa(0x2000), WordOp::Or(1)).unwrap();
        memory.atomic_u64(Gpa(0x3000), WordOp::Or(1)).unwrap();
        memory.write(Gpa(0x4000), b"dirt").unwrap();
        assert_eq!(dirty(), [false, true, true, true]);
    }

    /// Long enough to be read from a second opening of the file, over the border of two regions.
    #[test]
    fn a_long_file_is_read_into_the_regions_and_keeps_its_position() {
        let bytes: Vec<u8> = (0..600 << 10).map(|at: u32| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.seek(SeekFrom::Start(77)).unwrap();
        let memory = VmMemory::new([region(0, 0x8_0000), region(0x8_0000, 0x8_0000)]);
        let range = |offset, len_bytes| FileRange {
            file: file.as_fd(),
            offset,
            len_bytes,
        };
        memory.fill(Gpa(0x3_0001), range(3, 590 << 10)).unwrap();
        let mut all = vec![0; 0x10_0000];
        memory.read(Gpa(0), &mut all).unwrap();
        let end = 0x3_0001 + (590 << 10);
        assert_eq!(all[0x3_0001..end], bytes[3..3 + (590 << 10)]);
        assert!(
            all[..0x3_0001]
                .iter()
                .chain(&all[end..])
                .all(|&byte| byte == 0)
        );
        let short = memory.fill(Gpa(0), range(0, 601 << 10)).unwrap_err();
        assert!(matches!(
            short,
            FillError::Read { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof
        ));
        let hole = memory.fill(Gpa(0x8_0000), range(0, 590 << 10));
        assert!(matches!(
            hole,
            Err(FillError::Memory(MemoryError::NotRam { .. }))
        ));
        assert_eq!(file.stream_position().unwrap(), 77);
    }

    /// Regions need not begin at a page; a word cut by their border cannot be changed in one step.
    #[test]
    fn a_word_in_two_regions_is_refused_untouched() {
        let memory = VmMemory::new([region(0, 0x1004), region(0x1004, 0x0ffc)]);
        let at = Gpa(0x1000);
        assert!(memory.is_ram(at, 8));
        let refused = memory.atomic_u64(at, WordOp::Swap(!0));
        assert_eq!(refused, Err(MemoryError::Backend { at }));
        let mut word = [1; 8];
        memory.read(at, &mut word).unwrap();
        assert_eq!(word, [0; 8]);
    }
}
