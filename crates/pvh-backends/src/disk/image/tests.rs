//! Tests of images that need no guest.

use std::os::unix::fs::symlink;

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use tempfile::TempDir;

use super::*;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn open(path: &Path) -> Result<Image, ImageError> {
    Image::open(path, &ImageOptions::default())
}

const READ_ONLY: ImageOptions = ImageOptions {
    is_read_only: true,
    is_raw: false,
    cache: CacheMode::Writeback,
    keeps_discarded: false,
};

fn range(at: u64, len: u64) -> GuestRange {
    GuestRange::new(Gpa(at), len)
}

#[test]
fn a_raw_file_is_read_and_written() {
    let folder = Folder::new();
    let path = folder.file("disk", &[7; 2048]);
    let image = open(&path).unwrap();
    assert_eq!(image.len_bytes(), 2048);
    let ram = GuestRam::new(1 << 20).unwrap();
    image.read(&ram, 512, &[range(0x1000, 1024)]).unwrap();
    let mut byte = [0];
    ram.read(Gpa(0x13ff), &mut byte).unwrap();
    assert_eq!(byte, [7]);
    image.write(&ram, 1024, &[range(0x2000, 512)]).unwrap();
    image.flush().unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(
        (bytes[1023], bytes[1024], bytes[1535], bytes[1536]),
        (7, 0, 0, 7)
    );
}

#[test]
fn images_of_other_formats_are_refused_unless_the_bytes_are_meant() {
    let folder = Folder::new();
    for (name, magic) in [
        ("qcow2", &b"QFI\xfb\0\0\0\x03"[..]),
        ("VMDK", b"KDMV"),
        ("VHDX", b"vhdxfile"),
    ] {
        let mut bytes = magic.to_vec();
        bytes.resize(1024, 0);
        let path = folder.file(name, &bytes);
        let error = open(&path).unwrap_err();
        assert!(
            matches!(error, ImageError::Format { format } if format == name),
            "{error}"
        );
        let raw = ImageOptions {
            is_raw: true,
            ..ImageOptions::default()
        };
        assert!(Image::open(&path, &raw).is_ok(), "the user knows better");
    }
}

#[test]
fn a_size_that_no_disk_has_is_refused() {
    let folder = Folder::new();
    for len in [0, 511, 513] {
        let path = folder.file("disk", &vec![0; len]);
        let error = open(&path).unwrap_err().to_string();
        assert!(error.contains("512-byte sectors"), "{error}");
    }
}

#[test]
fn an_image_is_locked_against_a_second_use() {
    let folder = Folder::new();
    let path = folder.file("disk", &[0; 512]);
    let link = folder.0.path().join("link");
    symlink(&path, &link).unwrap();
    let first = open(&path).unwrap();
    for again in [open(&path), Image::open(&path, &READ_ONLY), open(&link)] {
        let error = again.unwrap_err();
        assert!(matches!(error, ImageError::InUse), "{error}");
    }
    drop(first);
    let _first = Image::open(&path, &READ_ONLY).unwrap();
    let _second = Image::open(&path, &READ_ONLY).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, ImageError::InUse), "{error}");
}

#[test]
fn a_file_that_is_handed_in_is_checked_and_locked_as_well() {
    let folder = Folder::new();
    let path = folder.file("disk", &[7; 512]);
    let file = File::open(&path).unwrap();
    let image = Image::from_file(file, Path::new("given"), &READ_ONLY).unwrap();
    assert_eq!((image.path(), image.len_bytes()), (Path::new("given"), 512));
    assert!(matches!(open(&path), Err(ImageError::InUse)));
    let null = File::open("/dev/null").unwrap();
    let refused = Image::from_file(null, Path::new("null"), &READ_ONLY);
    assert!(matches!(refused, Err(ImageError::Kind)));
}

#[test]
fn what_is_no_disk_is_refused() {
    let folder = Folder::new();
    let missing = open(&folder.0.path().join("missing")).unwrap_err();
    assert!(
        matches!(&missing, ImageError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound),
        "{missing}"
    );
    for path in [folder.0.path(), Path::new("/dev/null")] {
        let refused = open(path).unwrap_err();
        assert!(matches!(refused, ImageError::Kind), "{refused}");
    }
}

#[test]
fn a_read_only_disk_cannot_be_written() {
    let folder = Folder::new();
    let path = folder.file("disk", &[7; 512]);
    let image = Image::open(&path, &READ_ONLY).unwrap();
    let ram = GuestRam::new(1 << 20).unwrap();
    let error = image.write(&ram, 0, &[range(0, 512)]).unwrap_err();
    assert!(matches!(error, IoError::Write(_)), "{error}");
    image.flush().unwrap();
}

#[test]
fn a_file_that_was_cut_short_gives_errors() {
    let folder = Folder::new();
    let path = folder.file("disk", &[7; 2048]);
    let image = open(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path);
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
    let image = open(&folder.file("disk", &[0; 512])).unwrap();
    for topic in [Topic::Failure, Topic::Refusal, Topic::Connection] {
        assert!(image.is_news(topic));
        assert!(!image.is_news(topic));
    }
}

#[test]
fn a_flush_that_failed_stops_all_writes() {
    let folder = Folder::new();
    let image = open(&folder.file("disk", &[0; 512])).unwrap();
    image.has_lost_writes.store(true, SeqCst);
    let ram = GuestRam::new(1 << 20).unwrap();
    assert!(matches!(image.flush(), Err(IoError::Lost)));
    let written = image.write(&ram, 0, &[range(0, 512)]);
    assert!(matches!(written, Err(IoError::Lost)));
    assert!(image.read(&ram, 0, &[range(0, 512)]).is_ok());
}

#[test]
fn without_the_page_cache_sectors_are_read_or_direct_io_is_refused() {
    let folder = Folder::new();
    let path = folder.file("disk", &[7; 8192]);
    let options = ImageOptions {
        cache: CacheMode::None,
        ..ImageOptions::default()
    };
    match Image::open(&path, &options) {
        Ok(image) => {
            let ram = GuestRam::new(1 << 20).unwrap();
            image.read(&ram, 512, &[range(0x1200, 512)]).unwrap();
        }
        Err(error) => assert!(matches!(error, ImageError::Direct { .. }), "{error}"),
    }
}
