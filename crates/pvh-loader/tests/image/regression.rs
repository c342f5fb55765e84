//! Mistakes that other loaders made with headers, machines and packing.

use pvh_loader::image::{Codec, Format, Image, ImageError, UnpackError};
use pvh_testkit::{
    bzimage::{SetupHeader, headed},
    elf::{Class, Elf, Endian},
};

use crate::pack::{CODECS, HEADER, bzimage, elf, gzip, payload, stream};

const ENTRY: u32 = 0x10_0000;

fn refusal(bytes: Vec<u8>) -> ImageError {
    Image::from_bytes(bytes).unwrap_err()
}

fn unpack_error(bytes: Vec<u8>) -> UnpackError {
    match refusal(bytes) {
        ImageError::Unpack { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

// libelf: refused.
#[test]
fn a_program_header_table_past_the_end_is_refused() {
    for class in Class::ALL {
        let whole = Elf::bootable(class, ENTRY).build();
        let end = u64::try_from(whole.len()).unwrap();
        for offset in [end - 1, end, 0xffff_fff0, u64::MAX] {
            let bytes = Elf::bootable(class, ENTRY)
                .with_header(|header| header.segments_offset = Some(offset))
                .build();
            let refused = refusal(bytes);
            assert!(
                matches!(refused, ImageError::Elf { .. }),
                "{class:?} {offset:#x}: {refused:?}"
            );
        }
    }
}

// libelf: refused, because the table does not fit into the file.
#[test]
fn a_count_of_65535_program_headers_is_refused() {
    for class in Class::ALL {
        let bytes = Elf::bootable(class, ENTRY)
            .with_header(|header| header.segment_count = Some(65535))
            .build();
        assert!(
            matches!(refusal(bytes), ImageError::Elf { .. }),
            "{class:?}"
        );
    }
}

// libelf: taken. XTF's 64-bit kernels are such files.
#[test]
fn an_elf32_with_64_bit_code_is_taken() {
    let bytes = Elf::bootable(Class::Elf32, ENTRY).machine(62).build();
    assert_eq!(Image::from_bytes(bytes).unwrap().entry(), ENTRY);
}

// libelf reads it. This loader is stricter: no big-endian file runs on x86, and the refusal names
// the cause.
#[test]
fn a_big_endian_elf_is_refused() {
    for class in Class::ALL {
        let bytes = Elf::bootable(class, ENTRY).endian(Endian::Big).build();
        assert!(
            matches!(refusal(bytes), ImageError::Elf { .. }),
            "{class:?}"
        );
    }
}

// libelf ignores the machine. This loader is stricter: such a guest would crash at its first
// instruction.
#[test]
fn another_machine_is_refused() {
    for machine in [0, 40, 183, 243] {
        let bytes = Elf::bootable(Class::Elf64, ENTRY).machine(machine).build();
        let refused = refusal(bytes);
        assert!(matches!(refused, ImageError::Machine { machine: named } if named == machine));
    }
    let arm = refusal(Elf::bootable(Class::Elf64, ENTRY).machine(183).build());
    assert_eq!(
        arm.to_string(),
        "the ELF is for machine 183 (AArch64), not for x86"
    );
}

// libelf: taken. e_type is ignored: the segments and the note say all that is needed.
#[test]
fn et_dyn_and_et_rel_are_taken() {
    for kind in [3, 1] {
        let bytes = Elf::bootable(Class::Elf64, ENTRY).kind(kind).build();
        assert_eq!(
            Image::from_bytes(bytes).unwrap().entry(),
            ENTRY,
            "e_type {kind}"
        );
    }
}

// Libxenguest knows all but the stored one.
#[test]
fn a_bzimage_of_each_codec_is_taken() {
    for codec in CODECS {
        let image = Image::from_bytes(bzimage(&payload(codec, &elf()))).unwrap();
        assert_eq!(image.format(), Format::BzImage { codec });
        assert_eq!(image.bytes().unwrap(), elf(), "{codec:?}");
    }
}

// A length too small cuts the stream, one too large finds bytes after it or the file's end.
#[test]
fn a_wrong_payload_length_is_refused() {
    for codec in CODECS.into_iter().filter(|codec| *codec != Codec::Stored) {
        let packed = payload(codec, &elf());
        let len = u32::try_from(packed.len()).unwrap();
        for wrong in [
            1,
            5,
            len / 2,
            len - 1,
            len + 1,
            len + 4,
            len + 50,
            len + 1000,
            u32::MAX,
        ] {
            let header = SetupHeader {
                payload_excess: i64::from(wrong) - i64::from(len),
                ..HEADER
            };
            assert!(
                Image::from_bytes(headed(&header, &packed)).is_err(),
                "{codec:?} with {wrong} for {len}"
            );
        }
    }
}

// libxenguest: refused.
#[test]
fn a_payload_that_is_no_elf_is_refused() {
    for codec in CODECS.into_iter().filter(|codec| *codec != Codec::Stored) {
        let refused = refusal(bzimage(&payload(codec, b"#!/bin/sh\n")));
        assert!(
            matches!(
                &refused,
                ImageError::UnpackedNotElf { looks_like: Some(known), .. } if known.name == "a script"
            ),
            "{codec:?}: {refused:?}"
        );
    }
}

// This loader is stricter than libxenguest, which leaves most trailing bytes unread: a payload has
// an exact length, so what follows says that the file was changed.
#[test]
fn bytes_after_the_stream_are_refused() {
    for codec in CODECS.into_iter().filter(|codec| *codec != Codec::Stored) {
        let mut packed = payload(codec, &elf());
        packed.extend_from_slice(&[0xaa; 9]);
        let refused = unpack_error(bzimage(&packed));
        let named = matches!(
            refused,
            UnpackError::TrailingBytes { .. }
                | UnpackError::Truncated { .. }
                | UnpackError::Corrupt { .. }
        );
        assert!(named, "{codec:?}: {refused:?}");
    }
}

// The length the kernel's build appends must be that of the content.
#[test]
fn a_wrong_appended_length_is_refused() {
    for codec in CODECS
        .into_iter()
        .filter(|codec| !matches!(codec, Codec::Stored | Codec::Gzip))
    {
        let mut packed = stream(codec, &elf());
        packed.extend_from_slice(&77_u32.to_le_bytes());
        let refused = unpack_error(bzimage(&packed));
        assert!(
            matches!(
                refused,
                UnpackError::WrongLength {
                    stated_bytes: 77,
                    ..
                }
            ),
            "{codec:?}: {refused:?}"
        );
    }
}

// Gzip holds its own length, and a second one after it is refused.
#[test]
fn gzip_with_an_appended_length_is_refused() {
    let mut packed = gzip(&elf());
    packed.extend_from_slice(&u32::try_from(elf().len()).unwrap().to_le_bytes());
    let refused = unpack_error(bzimage(&packed));
    assert!(matches!(
        refused,
        UnpackError::TrailingBytes { len_bytes: 4, .. }
    ));
}

// libxenguest: it unpacks a file once, and a payload once.
#[test]
fn nested_gzip_is_refused() {
    let twice = refusal(gzip(&gzip(&elf())));
    let inside = refusal(bzimage(&gzip(&gzip(&elf()))));
    for refused in [twice, inside] {
        assert_eq!(
            refused.to_string(),
            "the gzip stream does not contain an ELF; it looks like a file packed by gzip"
        );
    }
}

// A wrong length costs nothing: 32 MiB of zeros with a trailer that says 4 GiB.
#[test]
fn a_bomb_is_refused() {
    let mut packed = stream(Codec::Xz, &vec![0; 32 << 20]);
    packed.extend_from_slice(&u32::MAX.to_le_bytes());
    let limits = pvh_loader::image::Limits {
        max_unpacked_bytes: 4 << 20,
        ..Default::default()
    };
    let refused = Image::from_bytes_within(bzimage(&packed), &limits).unwrap_err();
    assert!(matches!(
        refused,
        ImageError::Unpack {
            source: UnpackError::TooLarge {
                limit_bytes: 0x40_0000
            },
            ..
        }
    ));
}
