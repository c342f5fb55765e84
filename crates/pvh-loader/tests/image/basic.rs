//! Each format and codec that a kernel may have.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
};

use pvh_loader::image::{Codec, Format, Image, ImageError, ImageSource, Limits};
use pvh_testkit::elf::Class;

use crate::pack::{CODECS, ENTRY, bzimage, elf, elf_of, gzip, payload, stream};

/// The whole ELF as the image gives it back.
fn content(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(image.len_bytes()).unwrap()];
    image.read_at(0, &mut bytes).unwrap();
    bytes
}

fn file_with(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

#[test]
fn an_elf_of_either_class_is_taken_as_it_is() {
    for (class, want) in [
        (Class::Elf32, pvh_elfnote::Class::Elf32),
        (Class::Elf64, pvh_elfnote::Class::Elf64),
    ] {
        let bytes = elf_of(class, 100);
        let image = Image::from_bytes(bytes.clone()).unwrap();
        assert_eq!(
            (image.format(), image.class(), image.entry()),
            (Format::Elf, want, ENTRY)
        );
        assert_eq!(image.segments().len(), 1);
        assert_eq!(
            (image.segments()[0].paddr, image.segments()[0].file_size),
            (0x10_0000, 100)
        );
        assert_eq!(content(&image), bytes);
    }
}

#[test]
fn a_plain_elf_file_stays_in_its_file() {
    let bytes = elf();
    let image = Image::from_file(file_with(&bytes), &Limits::default()).unwrap();
    assert_eq!(image.file_range().unwrap().1, 0);
    assert!(image.bytes().is_none());
    // Told by its length, not by its content.
    let told = format!("{image:?}");
    assert!(
        told.contains(&format!("len_bytes: {}", bytes.len())),
        "{told}"
    );
    assert_eq!(content(&image), bytes);
}

#[test]
fn a_path_is_opened() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&elf()).unwrap();
    assert_eq!(Image::open(file.path()).unwrap().entry(), ENTRY);
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let bytes = elf();
    let written = bytes.clone();
    let thread = std::thread::spawn(move || writer.write_all(&written).unwrap());
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    let image = Image::from_file(file, &Limits::default()).unwrap();
    thread.join().unwrap();
    assert!(image.file_range().is_none());
    assert_eq!(content(&image), bytes);
}

#[test]
fn a_gzipped_elf_is_unpacked_into_memory() {
    let bytes = elf();
    let image = Image::from_file(file_with(&gzip(&bytes)), &Limits::default()).unwrap();
    assert_eq!(image.format(), Format::GzippedElf);
    assert!(image.file_range().is_none());
    assert_eq!(image.bytes().unwrap(), bytes);
}

#[test]
fn a_gzipped_bzimage_is_taken_as_libxenguest_takes_it() {
    let bytes = elf();
    let image = Image::from_bytes(gzip(&bzimage(&payload(Codec::Xz, &bytes)))).unwrap();
    assert_eq!(image.format(), Format::GzippedBzImage { codec: Codec::Xz });
    assert_eq!(content(&image), bytes);
}

#[test]
fn a_bzimage_is_taken_with_each_codec() {
    let bytes = elf();
    for codec in CODECS {
        let file = bzimage(&payload(codec, &bytes));
        for image in [
            Image::from_bytes(file.clone()).unwrap(),
            Image::from_file(file_with(&file), &Limits::default()).unwrap(),
        ] {
            assert_eq!(image.format(), Format::BzImage { codec });
            assert_eq!(image.entry(), ENTRY);
            assert!(content(&image) == bytes, "{codec:?}");
        }
    }
}

#[test]
fn a_payload_without_the_appended_length_is_taken() {
    let bytes = elf();
    for codec in CODECS {
        let image = Image::from_bytes(bzimage(&stream(codec, &bytes))).unwrap();
        assert!(content(&image) == bytes, "{codec:?}");
    }
}

#[test]
fn lz4_blocks_of_8_mib_follow_each_other() {
    let bytes = elf_of(Class::Elf64, (16 << 20) + 5);
    let image = Image::from_bytes(bzimage(&payload(Codec::Lz4, &bytes))).unwrap();
    assert!(content(&image) == bytes);
}

#[test]
fn a_source_that_is_refused_comes_back() {
    let limits = Limits::default();
    let bytes = b"MZ, another format of this program".to_vec();
    let refused = Image::from_source(ImageSource::Bytes(bytes.clone()), &limits).unwrap_err();
    assert!(matches!(refused.given_back, ImageSource::Bytes(back) if back == bytes));

    let mut file = file_with(&bytes);
    file.seek(SeekFrom::Start(4)).unwrap();
    let refused = Image::from_source(ImageSource::File(file), &limits).unwrap_err();
    let ImageSource::File(mut file) = refused.given_back else {
        panic!("not a file");
    };
    assert_eq!(file.stream_position().unwrap(), 4);

    let folder = File::open("/").unwrap();
    let refused = Image::from_source(ImageSource::File(folder), &limits).unwrap_err();
    assert!(matches!(refused.why, ImageError::Directory));
    assert!(matches!(refused.given_back, ImageSource::File(_)));
}

#[test]
fn a_pipe_that_is_refused_comes_back_as_its_bytes() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"no kernel, and some more bytes").unwrap();
    drop(writer);
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    let refused = Image::from_source(ImageSource::File(file), &Limits::default()).unwrap_err();
    let ImageSource::Bytes(back) = refused.given_back else {
        panic!("not bytes");
    };
    assert_eq!(back, b"no kernel, and some more bytes");
}
