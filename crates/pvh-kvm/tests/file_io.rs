//! Bytes between files and guest memory.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    os::fd::AsFd,
};

use pvh_abi::{Gpa, GuestRange};
use pvh_kvm::{GuestRam, TransferError};
use pvh_memory::{Frames, GuestMemory};

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
