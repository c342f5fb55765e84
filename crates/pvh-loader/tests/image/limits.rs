//! Files that would take more memory than the limits allow.

use pvh_loader::image::{Codec, Image, ImageError, Limits, UnpackError};
use pvh_testkit::elf::Class;

use crate::pack::{CODECS, bzimage, elf_of, gzip, payload};

fn open_within(bytes: Vec<u8>, max_unpacked_bytes: u64) -> Result<Image, ImageError> {
    let limits = Limits {
        max_unpacked_bytes,
        ..Limits::default()
    };
    Image::from_bytes_within(bytes, &limits)
}

fn is_too_large(refused: &ImageError) -> bool {
    matches!(
        refused,
        ImageError::Unpack {
            source: UnpackError::TooLarge { .. },
            ..
        }
    )
}

#[test]
fn the_default_is_one_gibibyte_as_xens() {
    assert_eq!(Limits::default().max_unpacked_bytes, 1 << 30);
}

#[test]
fn a_kernel_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
    let bytes = elf_of(Class::Elf64, 200_000);
    let len = u64::try_from(bytes.len()).unwrap();
    for codec in CODECS {
        let file = bzimage(&payload(codec, &bytes));
        assert!(open_within(file.clone(), len).is_ok(), "{codec:?}");
        for limit in [len - 1, 70_000, 1, 0] {
            let refused = open_within(file.clone(), limit).unwrap_err();
            assert!(
                is_too_large(&refused),
                "{codec:?} within {limit}: {refused:?}"
            );
        }
    }
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let zeros = vec![0; 8 << 20];
    for codec in CODECS.into_iter().filter(|codec| *codec != Codec::Stored) {
        let file = bzimage(&payload(codec, &zeros));
        let refused = open_within(file, 1 << 20).unwrap_err();
        assert!(is_too_large(&refused), "{codec:?}: {refused:?}");
    }
    assert!(is_too_large(
        &open_within(gzip(&zeros), 1 << 20).unwrap_err()
    ));
}

#[test]
fn a_window_beyond_the_limit_is_refused() {
    let bytes = elf_of(Class::Elf64, 2000);
    // an .lzma header may ask for a dictionary of 4 GiB
    let mut lzma = payload(Codec::Lzma, &bytes);
    lzma[1..5].copy_from_slice(&0xffff_ff00_u32.to_le_bytes());
    let refused = Image::from_bytes(bzimage(&lzma)).unwrap_err();
    assert!(
        matches!(
            refused,
            ImageError::Unpack {
                source: UnpackError::Corrupt { .. },
                ..
            }
        ),
        "{refused:?}"
    );
    let limits = Limits {
        max_window_bytes: 1 << 10,
        ..Limits::default()
    };
    for codec in [Codec::Lzma, Codec::Xz] {
        let file = bzimage(&payload(codec, &bytes));
        assert!(
            Image::from_bytes_within(file, &limits).is_err(),
            "{codec:?}"
        );
    }
}

#[test]
fn a_zstd_window_of_exactly_the_limit_is_taken() {
    let stream = payload(Codec::Zstd, &elf_of(Class::Elf64, 200_000));
    // RFC 8878, 3.1.1.1: no single segment, then the window's exponent and mantissa.
    assert_eq!(stream[4] & 0x20, 0);
    let base = 1_u64 << (10 + (stream[5] >> 3));
    let window = base + base / 8 * u64::from(stream[5] & 7);
    for (max_window_bytes, is_taken) in [(window, true), (window - 1, false)] {
        let limits = Limits {
            max_window_bytes,
            ..Limits::default()
        };
        let opened = Image::from_bytes_within(bzimage(&stream), &limits);
        assert_eq!(opened.is_ok(), is_taken, "{max_window_bytes}");
    }
}

#[test]
fn a_payload_longer_than_a_file_may_be_is_refused() {
    let stream = payload(Codec::Gzip, &elf_of(Class::Elf64, 2000));
    let len = u64::try_from(stream.len()).unwrap();
    for (max_file_bytes, is_taken) in [(len, true), (len - 1, false), (len - 2, false)] {
        let limits = Limits {
            max_file_bytes,
            ..Limits::default()
        };
        let opened = Image::from_bytes_within(bzimage(&stream), &limits);
        assert_eq!(opened.is_ok(), is_taken, "{max_file_bytes}");
    }
}
