//! Bytes between files and guest memory.
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "the numbers are small, and a test may stop"
)]

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::fs::FileExt},
};

use pvh_abi::{Gpa, GuestRange};
use pvh_kvm::{GuestRam, TransferError};
use pvh_memory::{FileRange, FillError, Frames, GuestMemory, MemoryError};

const RAM_BYTES: u64 = 2 << 20;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn contents(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn ranges(list: &[(u64, u64)]) -> Vec<GuestRange> {
    let list = list.iter();
    list.map(|&(at, len)| GuestRange::new(Gpa(at), len))
        .collect()
}

fn bytes(ram: &GuestRam, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.read(Gpa(at), &mut bytes).unwrap();
    bytes
}

#[test]
fn ranges_are_filled_in_their_order() {
    let ram = GuestRam::new(RAM_BYTES).unwrap();
    let file = file(b"..abcdefgh");
    let ranges = ranges(&[(0x5000, 2), (0x1fff, 3), (0x5002, 1), (0x0, 0), (0x9000, 2)]);
    ram.read_from_file(file.as_fd(), 2, &ranges).unwrap();
    assert_eq!(bytes(&ram, 0x5000, 4), b"abf\0");
    assert_eq!(bytes(&ram, 0x1ffe, 5), b"\0cde\0");
    assert_eq!(bytes(&ram, 0x9000, 3), b"gh\0");
}

#[test]
fn ranges_are_written_in_their_order() {
    let ram = GuestRam::new(RAM_BYTES).unwrap();
    ram.write(Gpa(0x1ffe), b"abcd").unwrap();
    ram.write(Gpa(0x5000), b"ef").unwrap();
    let file = file(b"........");
    let ranges = ranges(&[(0x5000, 2), (0x1ffe, 4)]);
    ram.write_to_file(file.as_fd(), 1, &ranges).unwrap();
    assert_eq!(contents(file), b".efabcd.");
}

#[test]
fn more_parts_than_one_call_takes() {
    let ram = GuestRam::new(RAM_BYTES).unwrap();
    let wanted: Vec<u8> = (0..2500_u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let file = file(&wanted);
    // Every other byte of memory, so that no two follow each other.
    let list: Vec<_> = (0..2500).map(|n| (0x1000 + 2 * n, 1)).collect();
    ram.read_from_file(file.as_fd(), 0, &ranges(&list)).unwrap();
    let read: Vec<u8> = bytes(&ram, 0x1000, 5000).into_iter().step_by(2).collect();
    assert_eq!(read, wanted);
}

#[test]
fn a_file_that_is_too_short_is_an_error() {
    let ram = GuestRam::new(RAM_BYTES).unwrap();
    let file = file(&[7; 1000]);
    let error = ram.read_from_file(file.as_fd(), 0, &ranges(&[(0x1000, 512), (0x3000, 512)]));
    assert!(
        matches!(error, Err(TransferError::End { at: 1000 })),
        "{error:?}"
    );
    assert_eq!(bytes(&ram, 0x3000 + 487, 2), [7, 0], "what there was");
    let error = ram.read_from_file(file.as_fd(), 1 << 40, &ranges(&[(0x1000, 512)]));
    assert!(matches!(error, Err(TransferError::End { .. })), "{error:?}");
    let error = ram.read_from_file(file.as_fd(), u64::MAX, &ranges(&[(0x1000, 512)]));
    assert!(
        matches!(error, Err(TransferError::Host { .. })),
        "{error:?}"
    );
}

#[test]
fn the_host_s_refusal_is_passed_on() {
    let ram = GuestRam::new(RAM_BYTES).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, [0; 512]).unwrap();
    let read_only = File::open(&path).unwrap();
    let error = ram.write_to_file(read_only.as_fd(), 0, &ranges(&[(0, 512)]));
    let Err(TransferError::Host { at: 0, source }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.raw_os_error(), Some(9), "EBADF");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = ram.write_to_file(full.as_fd(), 0, &ranges(&[(0, 512)]));
    let Err(TransferError::Host { source, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.raw_os_error(), Some(28), "ENOSPC");
}

#[test]
fn what_is_not_ram_is_refused_before_anything_is_moved() {
    let ram = GuestRam::new(RAM_BYTES).unwrap();
    let file = file(&[7; 4096]);
    for bad in [
        (RAM_BYTES, 1),
        (RAM_BYTES - 1, 2),
        (0xfee0_0000, 512),
        (u64::MAX, 1),
        (0, u64::MAX),
    ] {
        let error = ram.read_from_file(file.as_fd(), 0, &ranges(&[(0x1000, 512), bad]));
        assert!(
            matches!(error, Err(TransferError::Memory(_))),
            "{bad:x?}: {error:?}"
        );
    }
    assert_eq!(bytes(&ram, 0x1000, 1), [0]);
}

#[test]
fn frames_that_the_guest_has_changed() {
    let ram = GuestRam::new(RAM_BYTES).unwrap();
    let file = file(&[7; 8192]);
    // A page in a hole, and one that is gone.
    let hole = RAM_BYTES / 4096 + 5;
    ram.add_frame(hole).unwrap();
    ram.remove_frame(3).unwrap();
    let list = ranges(&[(hole * 4096 + 512, 1024), (0x2000, 4096)]);
    ram.read_from_file(file.as_fd(), 0, &list).unwrap();
    assert_eq!(bytes(&ram, hole * 4096 + 511, 2), [0, 7]);
    assert_eq!(bytes(&ram, hole * 4096 + 1535, 2), [7, 0]);
    assert_eq!(bytes(&ram, 0x2fff, 1), [7]);
    for bad in [(0x3000, 512), (0x2e00, 1024), ((hole + 1) * 4096, 1)] {
        let error = ram.read_from_file(file.as_fd(), 0, &ranges(&[bad]));
        assert!(
            matches!(error, Err(TransferError::Memory(_))),
            "{bad:x?}: {error:?}"
        );
    }
}

/// A file of data, a hole, data and a hole to its end, read over RAM that is not zero.
#[test]
fn a_file_with_holes_fills_ram_with_its_bytes_and_its_zeros() {
    let ram = GuestRam::new(16 << 20).unwrap();
    ram.write(Gpa(0), &vec![0xEE; 16 << 20]).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[1; 5000], 0).unwrap();
    file.write_all_at(&[2; 9000], 4 << 20).unwrap();
    file.set_len(8 << 20).unwrap();
    let len_bytes = (8 << 20) - 7;
    let range = FileRange {
        file: file.as_fd(),
        offset: 7,
        len_bytes,
    };
    ram.fill(Gpa(0x1003), range).unwrap();
    let mut wanted = vec![0; 8 << 20];
    file.read_exact_at(&mut wanted, 0).unwrap();
    assert!(bytes(&ram, 0x1003, len_bytes as usize) == wanted[7..]);
    assert_eq!(bytes(&ram, 0, 0x1003), [0xEE; 0x1003]);
    let after = 0x1003 + len_bytes;
    assert!(bytes(&ram, after, 4096).iter().all(|&byte| byte == 0xEE));
}

/// Other tests of this process use a few MiB meanwhile.
#[test]
fn a_hole_takes_no_memory() {
    let ram = GuestRam::new(64 << 20).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.set_len(48 << 20).unwrap();
    let range = FileRange {
        file: file.as_fd(),
        offset: 0,
        len_bytes: 48 << 20,
    };
    let before = resident_kib();
    ram.fill(Gpa(0), range).unwrap();
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB");
    assert_eq!(bytes(&ram, 4095, 2), [1, 0]);
}

/// Returns the memory that this process has, by `/proc/self/statm`.
fn resident_kib() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages = text.split_whitespace().nth(1).unwrap();
    pages.parse::<u64>().unwrap() * 4
}

#[test]
fn a_fill_past_the_end_of_a_file_says_where_it_ends() {
    let ram = GuestRam::new(RAM_BYTES).unwrap();
    let sparse = tempfile::tempfile().unwrap();
    sparse.set_len(8192).unwrap();
    for file in [file(&[7; 8192]), sparse] {
        let range = |offset, len_bytes| FileRange {
            file: file.as_fd(),
            offset,
            len_bytes,
        };
        let error = ram.fill(Gpa(0), range(4096, 4097)).unwrap_err();
        let FillError::Read {
            offset: 8192,
            source,
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(source.kind(), ErrorKind::UnexpectedEof);
        let error = ram.fill(Gpa(RAM_BYTES), range(0, 1)).unwrap_err();
        assert!(matches!(
            error,
            FillError::Memory(MemoryError::NotRam { .. })
        ));
        ram.fill(Gpa(0), range(8192, 0)).unwrap();
    }
}
