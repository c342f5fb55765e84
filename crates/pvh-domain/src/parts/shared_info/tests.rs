//! Tests of the `shared_info` page.

use super::*;

fn ram() -> VecMemory {
    VecMemory::zeroed(&[(Gpa(0), 0x8000), (Gpa(0xfeff_0000), 0x1000)]).unwrap()
}

#[test]
fn a_new_page_is_64_bit_zeros_and_nowhere() {
    let shared_info = SharedInfo::new();
    assert_eq!(shared_info.width(), Width::Native);
    assert_eq!(shared_info.place(), None);
    let page = shared_info.contents(&ram()).unwrap();
    assert!(page.iter().all(|byte| *byte == 0), "nothing is masked");
}

#[test]
fn the_words_of_a_port_are_where_the_header_has_them() {
    // pending, mask: 64-bit 2048 and 2560, 32-bit 2048 and 2176
    let mut shared_info = SharedInfo::new();
    let memory = ram();
    shared_info.map(&memory, 1).unwrap();
    for (width, port, pending, mask) in [
        (Width::Native, 0, 2048, 2560),
        (Width::Native, 4095, 2556, 3068),
        (Width::Compat, 33, 2052, 2180),
        (Width::Compat, 1023, 2172, 2300),
    ] {
        shared_info.latch(&memory, width);
        let word = shared_info.pending_word(port).unwrap();
        assert!(word.set_bit(&memory, 5));
        assert_eq!(
            memory.atomic_u32(Gpa(0x1000 + pending), WordOp::Swap(0)),
            Ok(32)
        );
        let word = shared_info.mask_word(port).unwrap();
        assert!(word.set_bit(&memory, 6));
        assert_eq!(
            memory.atomic_u32(Gpa(0x1000 + mask), WordOp::Swap(0)),
            Ok(64)
        );
    }
}

#[test]
fn ports_past_the_last_have_no_words() {
    let mut shared_info = SharedInfo::new();
    assert!(shared_info.pending_word(4096).is_none());
    shared_info.latch(&ram(), Width::Compat);
    assert!(shared_info.mask_word(1024).is_none());
    assert_eq!(
        (word_bits(Width::Native), word_bits(Width::Compat)),
        (64, 32)
    );
    assert_eq!(
        (max_ports(Width::Native), max_ports(Width::Compat)),
        (4096, 1024)
    );
}

#[test]
fn mapping_takes_the_contents_along_and_mapping_again_moves_them() {
    let (memory, mut shared_info) = (ram(), SharedInfo::new());
    shared_info.at(100).word(&memory, WordOp::Swap(7));
    memory.write(Gpa(0x2000), &[0xff; 4096]).unwrap();
    for place in [0x2000, 0xfeff_0000, 0x3000] {
        shared_info.map(&memory, place / 4096).unwrap();
        assert_eq!(shared_info.place(), Some(Gpa(place)));
        assert_eq!(memory.atomic_u32(Gpa(place + 100), WordOp::Load), Ok(7));
        assert_eq!(memory.atomic_u32(Gpa(place + 4092), WordOp::Load), Ok(0));
    }
    shared_info.unmap(&memory);
    assert_eq!(shared_info.at(100).word(&memory, WordOp::Load), Some(7));
}

/// Memory that takes words, and no bytes.
struct NoBytes<'memory>(&'memory VecMemory);

impl GuestMemory for NoBytes<'_> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.0.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        let len_bytes = bytes.len() as u64;
        Err(MemoryError::NotRam { at, len_bytes })
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        self.0.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.0.atomic_u64(at, op)
    }
}

#[test]
fn mapping_the_page_where_it_is_copies_nothing_that_a_vcpu_may_be_changing() {
    let (memory, mut shared_info) = (ram(), SharedInfo::new());
    shared_info.map(&memory, 2).unwrap();
    let no_bytes = NoBytes(&memory);
    assert_eq!(shared_info.map(&no_bytes, 2), Ok(()));
    assert_eq!(shared_info.place(), Some(Gpa(0x2000)));
    assert_eq!(
        shared_info.map(&no_bytes, 3),
        Err(Errno(22)),
        "to be copied"
    );
}

#[test]
fn a_frame_without_memory_is_refused_and_the_page_stays() {
    let (memory, mut shared_info) = (ram(), SharedInfo::new());
    shared_info.map(&memory, 2).unwrap();
    for gfn in [8, 0xfefef, 1 << 52, u64::MAX] {
        assert_eq!(shared_info.map(&memory, gfn), Err(Errno(22)), "{gfn:#x}");
        assert_eq!(shared_info.place(), Some(Gpa(0x2000)));
    }
}
