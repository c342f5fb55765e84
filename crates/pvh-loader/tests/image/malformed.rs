//! Damaged and truncated files.

use std::{error::Error, fs::File, io::Write};

use pvh_loader::image::{Codec, Image, ImageError, Limits, UnpackError};
use pvh_testkit::{
    bzimage::{SetupHeader, headed},
    elf::{Class, Elf, Note, Segment},
};

use crate::{
    PAYLOAD_AT,
    pack::{CODECS, HEADER, bzimage, elf, elf_of, gzip, payload, stream},
};

fn refusal(bytes: impl Into<Vec<u8>>) -> ImageError {
    Image::from_bytes(bytes.into()).unwrap_err()
}

/// The error inside [`ImageError::Unpack`], which must be about `codec`.
fn unpack_error(bytes: Vec<u8>, want: Codec) -> UnpackError {
    match refusal(bytes) {
        ImageError::Unpack { codec, source, .. } if codec == want => source,
        other => panic!("{want:?}: {other:?}"),
    }
}

#[test]
fn a_missing_file_and_a_directory_are_named() {
    let missing = Image::open("/no/such/kernel").unwrap_err();
    assert_eq!(missing.to_string(), "cannot open the kernel");
    assert!(
        missing
            .source()
            .unwrap()
            .to_string()
            .contains("No such file")
    );
    let directory = Image::open(std::env::temp_dir()).unwrap_err();
    assert!(matches!(directory, ImageError::Directory));
    assert!(matches!(
        Image::open("/dev/zero").unwrap_err(),
        ImageError::NotAFile
    ));
}

#[test]
fn an_empty_and_a_tiny_file_are_named() {
    assert!(matches!(refusal([]), ImageError::Empty));
    assert!(matches!(
        refusal([1, 2, 3]),
        ImageError::TooShort { len_bytes: 3 }
    ));
    // An ELF's header has 52 bytes.
    assert!(matches!(
        refusal([0xAA; 51]),
        ImageError::TooShort { len_bytes: 51 }
    ));
    assert!(matches!(
        refusal([0xAA; 52]),
        ImageError::UnknownFormat { .. }
    ));
}

#[test]
fn a_file_that_is_no_kernel_is_named_with_advice() {
    let script = refusal(*b"#!/bin/sh\necho hello\n");
    assert_eq!(
        script.to_string(),
        "neither an ELF nor a bzImage; it looks like a script"
    );
    let mut cpio = vec![0; 1000];
    cpio[..6].copy_from_slice(b"070701");
    assert_eq!(
        refusal(cpio).fix(),
        Some("give it as the initrd, after the kernel")
    );
    let mut noise = vec![0x81; 1000];
    noise[1] = 0x0a;
    assert_eq!(
        refusal(noise).to_string(),
        "neither an ELF nor a bzImage; it begins with 81 0a 81 81"
    );
    assert_eq!(
        refusal(stream(Codec::Xz, &elf())).fix(),
        Some("unpack it first")
    );
}

#[test]
fn every_refusal_is_one_line() {
    let mut cut = bzimage(&payload(Codec::Gzip, &elf()));
    cut.truncate(5000);
    for bytes in [
        vec![],
        vec![7],
        cut,
        gzip(b"x"),
        bzimage(b"unknown codec"),
        b"\x7fELF".to_vec(),
    ] {
        let refused = refusal(bytes);
        let mut error: Option<&dyn Error> = Some(&refused);
        while let Some(one) = error {
            assert!(!one.to_string().contains('\n') && !one.to_string().is_empty());
            error = one.source();
        }
    }
}

#[test]
fn a_bzimage_that_is_too_old_or_holds_nothing_is_refused() {
    let header = SetupHeader {
        version: [7, 2],
        ..HEADER
    };
    let old = refusal(headed(&header, b"\x1f\x8b"));
    assert_eq!(
        old.to_string(),
        "the bzImage has boot protocol 2.07, which does not say where the kernel is"
    );
    assert!(matches!(refusal(bzimage(b"")), ImageError::NoPayload));
}

#[test]
fn a_setup_header_cut_short_is_refused() {
    let whole = bzimage(&payload(Codec::Gzip, &elf()));
    for len in 0x206..0x250 {
        assert!(matches!(
            refusal(&whole[..len]),
            ImageError::Truncated {
                what: "the setup header",
                ..
            }
        ));
    }
}

#[test]
fn an_unknown_codec_is_named_by_its_first_bytes() {
    let refused = refusal(bzimage(b"\x04\x22\x4d\x18 a modern lz4 frame"));
    assert_eq!(
        refused.to_string(),
        "the bzImage's payload at offset 0x8cc has an unknown compression (it begins with \
         04 22 4d 18 20 61)"
    );
    assert!(refused.fix().is_some());
}

#[test]
fn a_stream_cut_anywhere_is_truncated_or_damaged_and_never_taken() {
    let bytes = elf_of(Class::Elf64, 1000);
    for codec in CODECS {
        let whole = stream(codec, &bytes);
        for len in 6..whole.len() {
            let cut = bzimage(&whole[..len]);
            let refused = match Image::from_bytes(cut) {
                Ok(_) if codec == Codec::Stored => continue, // the notes come before the cut
                Ok(_) => panic!("{codec:?} cut at {len} of {} is taken", whole.len()),
                Err(refused) => refused,
            };
            if let ImageError::Unpack {
                source: UnpackError::Truncated { offset },
                ..
            } = refused
            {
                assert_eq!(offset, u64::try_from(len).unwrap());
            }
        }
    }
}

#[test]
fn a_stream_cut_in_half_is_called_truncated() {
    let bytes = elf();
    for codec in CODECS.into_iter().skip(1) {
        let whole = stream(codec, &bytes);
        let refused = unpack_error(bzimage(&whole[..whole.len() / 2]), codec);
        assert!(
            matches!(refused, UnpackError::Truncated { .. }),
            "{codec:?}: {refused:?}"
        );
    }
}

#[test]
fn a_flipped_bit_never_panics_and_a_checksum_finds_it() {
    let bytes = elf_of(Class::Elf64, 2000);
    for codec in CODECS {
        let whole = payload(codec, &bytes);
        for at in (0..whole.len()).step_by(11) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            let taken = Image::from_bytes(bzimage(&flipped));
            let checked = matches!(codec, Codec::Gzip | Codec::Bzip2 | Codec::Xz);
            if let Ok(image) = taken
                && checked
            {
                // only header bytes without a meaning, such as gzip's time, may change
                assert_eq!(image.bytes().unwrap(), bytes, "{codec:?} at {at}");
            }
        }
    }
}

#[test]
fn a_file_that_became_shorter_is_an_error_at_read() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&elf()).unwrap();
    let image = Image::open(file.path()).unwrap();
    let segment = image.segments()[0];
    File::options()
        .write(true)
        .open(file.path())
        .unwrap()
        .set_len(segment.offset + 10)
        .unwrap();
    let mut bytes = vec![0; 100];
    let refused = image.read_at(segment.offset, &mut bytes).unwrap_err();
    assert!(matches!(refused, ImageError::Read { len_bytes: 100, .. }));
    assert!(refused.source().is_some());
}

#[test]
fn a_read_past_the_end_is_an_error() {
    let image = Image::from_bytes(elf()).unwrap();
    let mut byte = [0];
    assert!(image.read_at(image.len_bytes() - 1, &mut byte).is_ok());
    for offset in [image.len_bytes(), u64::MAX] {
        assert!(matches!(
            image.read_at(offset, &mut byte),
            Err(ImageError::Read { .. })
        ));
    }
    assert!(image.read_at(image.len_bytes(), &mut []).is_ok());
}

#[test]
fn the_advice_for_a_missing_entry_note_is_how_to_add_it() {
    let load = Segment::load(0x10_0000, vec![0xf4; 16]);
    let bare = Elf::new(Class::Elf64).segment(load.clone());
    let refused = refusal(bare.build());
    assert_eq!(refused.to_string(), "the kernel has no PVH entry point");
    assert_eq!(
        refused.source().unwrap().to_string(),
        "the file has no ELF notes"
    );
    assert!(refused.fix().unwrap().contains("CONFIG_PVH=y"));
    let other = bare.segment(Segment::notes(&[Note::xen(6, *b"linux\0")]));
    let refused = refusal(other.build());
    assert_eq!(
        refused.source().unwrap().to_string(),
        "none of the 1 Xen notes is PHYS32_ENTRY (18)"
    );
    assert!(refused.fix().unwrap().contains("for Xen PV guests alone"));
}

#[test]
fn a_kernel_with_nothing_to_load_is_refused() {
    let none = Elf::new(Class::Elf32).segment(Segment::notes(&[Note::entry(0)]));
    assert!(matches!(refusal(none.build()), ImageError::NoSegments));
    let flagless = Segment::load(0x10_0000, vec![0xf4; 16]).flags(0);
    let none = none.segment(flagless);
    assert!(matches!(refusal(none.build()), ImageError::NoSegments));
}

#[test]
fn a_payload_past_the_end_names_both_lengths() {
    let mut cut = bzimage(&payload(Codec::Gzip, &elf()));
    cut.truncate(PAYLOAD_AT + 1000);
    assert!(matches!(
        refusal(cut),
        ImageError::PayloadOutside {
            offset: 0x8cc,
            file_bytes: 3252,
            ..
        }
    ));
}

#[test]
fn a_limit_of_the_pipe_holds() {
    let open_within = |max_file_bytes| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&elf_of(Class::Elf64, 100)[..]).unwrap();
        drop(writer);
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let limits = Limits {
            max_file_bytes,
            ..Limits::default()
        };
        Image::from_file(file, &limits)
    };
    let len = elf_of(Class::Elf64, 100).len() as u64;
    assert!(open_within(len).is_ok());
    let refused = open_within(len - 1).unwrap_err();
    assert!(
        matches!(refused, ImageError::FileTooLarge { limit_bytes } if limit_bytes == len - 1),
        "{refused:?}"
    );
}

#[test]
fn the_advice_for_cut_notes_is_to_copy_the_kernel_again() {
    let load = Segment::load(0x10_0000, vec![0xf4; 16]);
    let notes = Segment::notes(&[Note::xen(6, *b"linux\0")]);
    let mut file = Elf::new(Class::Elf64).segment(load).segment(notes).build();
    let name = file.windows(4).position(|bytes| bytes == b"Xen\0").unwrap();
    // The length of its content, two words before its name.
    file[name - 8..name - 4].copy_from_slice(&[0xFF; 4]);
    let refused = refusal(file);
    assert!(
        refused.fix().unwrap().contains("copy it again"),
        "{refused:?}"
    );
}
