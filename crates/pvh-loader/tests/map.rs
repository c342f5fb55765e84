//! A mapped guest sees the same memory as a copied one.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "the numbers are small, and a test may stop"
)]

use std::{cell::RefCell, fs::File, io::Write as _, os::unix::fs::FileExt};

use proptest::prelude::*;
use pvh_abi::{Gpa, GuestRange, start_info::MemmapKind};
use pvh_loader::{
    Image,
    commit::{Loaded, Method},
    module::ModuleSource,
    plan::Boot,
};
use pvh_memory::{FileRange, GuestMemory, MapError, MemoryError, VecMemory, WordOp};
use pvh_start_info::MemmapRange;
use pvh_testkit::elf::{Class, Elf, Note, Segment};

const MIB: u64 = 1 << 20;
const RAM_BYTES: u64 = 4 * MIB;

/// Memory that maps by reading, and records where, so that the result can be compared.
struct Mapper {
    inner: VecMemory,
    refuses: bool,
    maps: RefCell<Vec<GuestRange>>,
    writes: RefCell<Vec<GuestRange>>,
}

impl Mapper {
    /// Not zeros, so that zeroing shows.
    fn poisoned() -> Self {
        Self {
            inner: VecMemory::from(vec![0xA5; RAM_BYTES as usize]),
            refuses: false,
            maps: RefCell::default(),
            writes: RefCell::default(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; RAM_BYTES as usize];
        self.inner.read(Gpa(0), &mut bytes).unwrap();
        bytes
    }
}

impl GuestMemory for Mapper {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.inner.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.inner.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        let range = GuestRange::new(at, bytes.len() as u64);
        self.writes.borrow_mut().push(range);
        self.inner.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.inner.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.inner.atomic_u64(at, op)
    }

    fn map_file(&self, at: Gpa, range: FileRange<'_>) -> Result<(), MapError> {
        let FileRange {
            file,
            offset,
            len_bytes,
        } = range;
        assert!(at.is_aligned(4096) && offset.is_multiple_of(4096));
        assert!(len_bytes > 0 && len_bytes.is_multiple_of(4096));
        if self.refuses {
            let source = std::io::ErrorKind::PermissionDenied.into();
            // The host may have taken the old pages away by then.
            self.inner.zero(at, len_bytes).unwrap();
            return Err(MapError::Host { at, source });
        }
        let mut bytes = vec![0; len_bytes as usize];
        let file = File::from(file.try_clone_to_owned().unwrap());
        file.read_exact_at(&mut bytes, offset).unwrap();
        self.inner.write(at, &bytes).unwrap();
        let range = GuestRange::new(at, len_bytes);
        self.maps.borrow_mut().push(range);
        Ok(())
    }
}

/// A segment by what matters to a mapping.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Bytes skipped before it, in the guest.
    gap: u64,
    /// The file offset within its page, if it differs from the address's.
    skew: Option<u64>,
    file_size: u64,
    zeros: u64,
}

fn numbers(len: u64) -> Vec<u8> {
    (1..=250).cycle().take(len as usize).collect()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// An image whose segments' bytes lie one after the other in its file.
fn kernel(parts: &[Part]) -> Vec<u8> {
    let mut at = MIB;
    let mut offset = 4096;
    let mut elf = Elf::new(Class::Elf64).segment(Segment::notes(&[Note::entry(0x10_0000)]));
    for (index, part) in parts.iter().enumerate() {
        at += if index == 0 { 0 } else { part.gap };
        offset += (part.skew.unwrap_or(at) + 4096 - offset % 4096) % 4096;
        let segment = Segment::load(at, Vec::new()).with(|segment| {
            segment.offset = Some(offset);
            segment.file_size = Some(part.file_size);
            segment.mem_size = Some(part.file_size + part.zeros);
        });
        elf = elf.segment(segment);
        at += part.file_size + part.zeros;
        offset += part.file_size;
    }
    let headers = elf.build().len() as u64;
    elf.trailer(numbers(offset - headers)).build()
}

fn boot(modules: &[u64]) -> Boot {
    let module = |&len: &u64| ModuleSource::from_file(file_of(&numbers(len))).unwrap();
    Boot {
        modules: modules.iter().map(module).collect(),
        memmap: vec![MemmapRange {
            start: Gpa(0),
            len_bytes: RAM_BYTES,
            kind: MemmapKind::RAM,
        }],
        ..Boot::default()
    }
}

fn image(parts: &[Part]) -> Image {
    Image::from_file(file_of(&kernel(parts)), &Default::default()).unwrap()
}

fn load(method: Method, memory: &Mapper, (image, boot): &(Image, Boot)) -> Loaded {
    let plan = image.plan(boot).unwrap();
    plan.commit(method, memory).unwrap()
}

fn loading(parts: &[Part], modules: &[u64]) -> (Image, Boot) {
    (image(parts), boot(modules))
}

const LARGE: Part = Part {
    gap: 0,
    skew: None,
    file_size: 0x2_0234,
    zeros: 0x5000,
};

#[test]
fn whole_pages_are_mapped_and_the_rest_is_copied() {
    let memory = Mapper::poisoned();
    let loaded = load(Method::Map, &memory, &loading(&[LARGE], &[0x1_8001]));
    let [segment, module] = memory.maps.borrow()[..] else {
        unreachable!("two mappings")
    };
    assert_eq!(segment, GuestRange::new(Gpa(MIB), 0x2_0000));
    assert_eq!(module.len_bytes, 0x1_8000);
    assert_eq!(loaded.mapped_bytes, 0x3_8000);
    let copied: u64 = memory.writes.borrow().iter().map(|w| w.len_bytes).sum();
    // The segment's end and its zeros, the module's last byte and the zeros after it, the start
    // info.
    assert_eq!(copied, 0x234 + 0x5000 + 1 + 0xFFF + 0x1000);
    assert_eq!(loaded.written_bytes, copied);
}

#[test]
fn copying_maps_nothing() {
    let loading = loading(&[LARGE], &[0x1_8001]);
    let memory = Mapper::poisoned();
    let loaded = load(Method::Copy, &memory, &loading);
    assert_eq!((loaded.mapped_bytes, memory.maps.borrow().len()), (0, 0));
}

#[test]
fn an_image_in_memory_is_copied() {
    let image = Image::from_bytes(kernel(&[LARGE])).unwrap();
    let boot = boot(&[]);
    let plan = image.plan(&boot).unwrap();
    let memory = Mapper::poisoned();
    let loaded = plan.commit(Method::Map, &memory).unwrap();
    assert_eq!(loaded.mapped_bytes, 0);
}

#[test]
fn a_file_at_an_unaligned_place_is_copied() {
    let skew = Some(1);
    let memory = Mapper::poisoned();
    let loaded = load(
        Method::Map,
        &memory,
        &loading(&[Part { skew, ..LARGE }], &[]),
    );
    assert_eq!(loaded.mapped_bytes, 0);
}

/// A host that refuses a mapping may have taken what was there: every byte is written anew.
#[test]
fn a_range_that_cannot_be_mapped_is_copied() {
    let loading = loading(&[LARGE], &[0x1_8001]);
    let (copied, refused) = (Mapper::poisoned(), Mapper::poisoned());
    load(Method::Copy, &copied, &loading);
    let refused = Mapper {
        refuses: true,
        ..refused
    };
    let loaded = load(Method::Map, &refused, &loading);
    assert_eq!(loaded.mapped_bytes, 0);
    assert!(copied.bytes() == refused.bytes());
}

fn part() -> impl Strategy<Value = Part> {
    let pages = |most: u64| (0..=most).prop_map(|pages| pages * 4096);
    let odd = |most: u64| 0..most;
    let size = prop_oneof![odd(0x100), odd(0x3_0000), pages(0x30)];
    let zeros = prop_oneof![Just(0), odd(0x3000), pages(3)];
    let gap = prop_oneof![Just(0), odd(0x2000), pages(2)];
    let skew = prop::option::weighted(0.3, odd(4096));
    (gap, skew, size, zeros).prop_map(|(gap, skew, file_size, zeros)| Part {
        gap,
        skew,
        file_size,
        zeros,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_is_the_same_mapped_and_copied(
        parts in prop::collection::vec(part(), 1..5),
        modules in prop::collection::vec(0_u64..0x3_0000, 0..3),
        zeros in 1_u64..0x1000,
    ) {
        // The entry lies in the first segment, so it has a byte.
        let mut parts = parts;
        if let Some(first) = parts.first_mut() {
            first.zeros += zeros;
        }
        let loading = loading(&parts, &modules);
        let (copied, mapped) = (Mapper::poisoned(), Mapper::poisoned());
        let by_copy = load(Method::Copy, &copied, &loading);
        let by_map = load(Method::Map, &mapped, &loading);
        prop_assert!(copied.bytes() == mapped.bytes());
        prop_assert_eq!(by_copy.entry, by_map.entry);
        prop_assert_eq!(by_copy.written_bytes, by_map.written_bytes + by_map.mapped_bytes);
    }
}
