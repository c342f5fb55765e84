//! Tests of images that need no guest.

use std::{io::Write, os::unix::fs::symlink};

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> DiskArgument {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        argument(path)
    }
}

fn argument(path: PathBuf) -> DiskArgument {
    DiskArgument {
        path,
        is_read_only: false,
        is_raw: false,
        cache: CacheMode::Writeback,
        device: None,
    }
}

fn range(at: u64, len: u64) -> GuestRange {
    GuestRange::new(Gpa(at), len)
}

/// The error and what to do, in one line.
fn line(argument: &DiskArgument) -> String {
    let error = Image::open(argument).unwrap_err();
    let fix = error.fix();
    crate::exit::sentence(&error, fix)
}

#[test]
fn a_raw_file_is_read_and_written() {
    let folder = Folder::new();
    let argument = folder.file("disk", &[7; 2048]);
    let image = Image::open(&argument).unwrap();
    assert_eq!(image.len_bytes(), 2048);
    let ram = GuestRam::new(1 << 20).unwrap();
    image.read(&ram, 512, &[range(0x1000, 1024)]).unwrap();
    let mut byte = [0];
    ram.read(Gpa(0x13ff), &mut byte).unwrap();
    assert_eq!(byte, [7]);
    image.write(&ram, 1024, &[range(0x2000, 512)]).unwrap();
    image.flush().unwrap();
    let bytes = fs::read(&argument.path).unwrap();
    assert_eq!(
        (bytes[1023], bytes[1024], bytes[1535], bytes[1536]),
        (7, 0, 0, 7)
    );
}

#[test]
fn images_of_other_formats_are_refused_with_the_command_that_converts_them() {
    let folder = Folder::new();
    for (name, magic) in [
        ("qcow2", &b"QFI\xfb\0\0\0\x03"[..]),
        ("VMDK", b"KDMV"),
        ("VHDX", b"vhdxfile"),
    ] {
        let mut bytes = magic.to_vec();
        bytes.resize(1024, 0);
        let mut argument = folder.file(name, &bytes);
        let line = line(&argument);
        let path = argument.path.display();
        assert!(line.contains(&format!("this is a {name} image")), "{line}");
        let command = format!("qemu-img convert -O raw {path} {path}.raw");
        assert!(line.contains(&command), "{line}");
        argument.is_raw = true;
        assert!(Image::open(&argument).is_ok(), "the user knows better");
    }
}

#[test]
fn a_size_that_no_disk_has_is_refused() {
    let folder = Folder::new();
    for len in [0, 511, 513] {
        let argument = folder.file("disk", &vec![0; len]);
        let line = line(&argument);
        assert!(line.contains("512-byte sectors"), "{line}");
        let command = format!("truncate -s %512 {}", argument.path.display());
        assert!(line.contains(&command), "{line}");
    }
}

#[test]
fn an_image_is_locked_against_a_second_use() {
    let folder = Folder::new();
    let writable = folder.file("disk", &[0; 512]);
    let read_only = DiskArgument {
        is_read_only: true,
        ..writable.clone()
    };
    let link = folder.0.path().join("link");
    symlink(&writable.path, &link).unwrap();
    let first = Image::open(&writable).unwrap();
    for again in [&writable, &read_only, &argument(link)] {
        let error = Image::open(again).unwrap_err();
        assert!(matches!(error, ImageError::InUse), "{error}");
    }
    drop(first);
    let _first = Image::open(&read_only).unwrap();
    let _second = Image::open(&read_only).unwrap();
    let error = Image::open(&writable).unwrap_err();
    assert!(matches!(error, ImageError::InUse), "{error}");
}

#[test]
fn what_is_no_disk_is_refused() {
    let folder = Folder::new();
    let missing = argument(folder.0.path().join("missing"));
    assert!(line(&missing).contains("No such file"));
    assert!(line(&argument(folder.0.path().into())).contains("neither a regular file"));
    assert!(line(&argument("/dev/null".into())).contains("neither a regular file"));
}

#[test]
fn a_read_only_disk_cannot_be_written() {
    let folder = Folder::new();
    let mut argument = folder.file("disk", &[7; 512]);
    argument.is_read_only = true;
    let image = Image::open(&argument).unwrap();
    let ram = GuestRam::new(1 << 20).unwrap();
    let error = image.write(&ram, 0, &[range(0, 512)]).unwrap_err();
    assert!(matches!(error, IoError::Write(_)), "{error}");
    image.flush().unwrap();
}

#[test]
fn a_file_that_was_cut_short_gives_errors() {
    let folder = Folder::new();
    let argument = folder.file("disk", &[7; 2048]);
    let image = Image::open(&argument).unwrap();
    let file = OpenOptions::new().write(true).open(&argument.path);
    file.unwrap().set_len(700).unwrap();
    let ram = GuestRam::new(1 << 20).unwrap();
    assert!(image.read(&ram, 0, &[range(0, 512)]).is_ok());
    for offset in [512, 1536] {
        let error = image.read(&ram, offset, &[range(0, 512)]).unwrap_err();
        let ended = matches!(error, IoError::Read(TransferError::End { .. }));
        assert!(ended, "{error}");
    }
}

#[test]
fn the_user_is_told_once_of_each_topic() {
    let folder = Folder::new();
    let image = Image::open(&folder.file("disk", &[0; 512])).unwrap();
    for topic in [Topic::Failure, Topic::Refusal, Topic::Connection] {
        assert!(image.is_news(topic));
        assert!(!image.is_news(topic));
    }
}

#[test]
fn a_flush_that_failed_stops_all_writes() {
    let folder = Folder::new();
    let image = Image::open(&folder.file("disk", &[0; 512])).unwrap();
    image.has_lost_writes.store(true, SeqCst);
    let ram = GuestRam::new(1 << 20).unwrap();
    assert!(matches!(image.flush(), Err(IoError::Lost)));
    let written = image.write(&ram, 0, &[range(0, 512)]);
    assert!(matches!(written, Err(IoError::Lost)));
    assert!(image.read(&ram, 0, &[range(0, 512)]).is_ok());
}

#[test]
fn without_the_page_cache_sectors_are_read_or_the_way_out_is_told() {
    let folder = Folder::new();
    let mut argument = folder.file("disk", &[7; 8192]);
    argument.cache = CacheMode::None;
    match Image::open(&argument) {
        Ok(image) => {
            let ram = GuestRam::new(1 << 20).unwrap();
            image.read(&ram, 512, &[range(0x1200, 512)]).unwrap();
        }
        Err(error) => assert_eq!(error.fix().as_deref(), Some("use cache=writeback")),
    }
}

#[test]
fn a_file_that_may_not_be_written_names_the_way_out() {
    let folder = Folder::new();
    let argument = folder.file("disk", &[0; 512]);
    let mut file = File::create(folder.0.path().join("other")).unwrap();
    file.write_all(b"x").unwrap();
    let error = ImageError::Open {
        is_read_only: false,
        source: io::ErrorKind::PermissionDenied.into(),
    };
    assert!(error.fix().unwrap().contains(",ro"));
    assert!(Image::open(&argument).is_ok());
}
