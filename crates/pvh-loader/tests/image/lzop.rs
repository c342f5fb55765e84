//! Files of lzop that differ from those of the kernel's build.

use pvh_loader::image::{Codec, Image, ImageError, UnpackError};

use crate::pack::{ENTRY, bzimage, elf, lzop_header};

const ADLER_32: u32 = 0x1;
const ADLER_32_PACKED: u32 = 0x2;
const EXTRA_FIELD: u32 = 0x40;
const CRC_32: u32 = 0x100;
const CRC_32_PACKED: u32 = 0x200;

fn word(out: &mut Vec<u8>, value: usize) {
    out.extend(u32::try_from(value).unwrap().to_be_bytes());
}

fn header(flags: u32) -> Vec<u8> {
    let mut out = lzop_header(flags);
    if flags & EXTRA_FIELD != 0 {
        word(&mut out, 5);
        out.extend(b"extra");
        out.extend([0; 4]); // its checksum
    }
    out
}

/// A payload of which every other block is stored as it is.
fn payload(flags: u32, content: &[u8]) -> Vec<u8> {
    let mut out = header(flags);
    let sums = |kinds: u32| (flags & kinds).count_ones().saturating_mul(4) as usize;
    for (index, block) in content.chunks(50_000).enumerate() {
        let packed = lzokay::compress::compress(block).unwrap();
        let is_stored = index % 2 == 1 || packed.len() >= block.len();
        let bytes = if is_stored { block } else { &packed };
        word(&mut out, block.len());
        word(&mut out, bytes.len());
        out.extend(vec![0xAA; sums(ADLER_32 | CRC_32)]);
        if !is_stored {
            out.extend(vec![0xBB; sums(ADLER_32_PACKED | CRC_32_PACKED)]);
        }
        out.extend(bytes);
    }
    word(&mut out, 0);
    out.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
    out
}

#[test]
fn checksums_of_each_kind_and_an_extra_field_are_stepped_over() {
    for flags in [
        0,
        ADLER_32,
        CRC_32,
        ADLER_32 | CRC_32,
        ADLER_32_PACKED,
        ADLER_32 | ADLER_32_PACKED,
        ADLER_32 | CRC_32 | ADLER_32_PACKED | CRC_32_PACKED,
        EXTRA_FIELD,
        EXTRA_FIELD | ADLER_32 | CRC_32_PACKED,
    ] {
        let image = Image::from_bytes(bzimage(&payload(flags, &elf()))).unwrap();
        assert_eq!(image.entry(), ENTRY, "{flags:#x}");
        let mut content = vec![0; elf().len()];
        image.read_at(0, &mut content).unwrap();
        assert!(content == elf(), "{flags:#x}");
    }
}

#[test]
fn a_block_is_not_empty_not_grown_and_not_longer_than_256_kib() {
    for (unpacked, packed) in [(100, 0), (100, 101), ((256 << 10) + 1, 10)] {
        let mut file = header(0);
        word(&mut file, unpacked);
        word(&mut file, packed);
        file.extend(vec![0; packed + 8]);
        let refused = Image::from_bytes(bzimage(&file)).unwrap_err();
        let ImageError::Unpack {
            codec: Codec::Lzo,
            source: UnpackError::Corrupt { offset, .. },
            ..
        } = refused
        else {
            panic!("{unpacked} {packed}: {refused:?}")
        };
        // Behind the header and both lengths.
        assert_eq!(offset, 46, "{unpacked} {packed}");
    }
}

#[test]
fn a_block_that_is_shorter_than_it_says_is_refused() {
    let block = lzokay::compress::compress(&[7; 100]).unwrap();
    for (says, is_short) in [(101, true), (100, false)] {
        let mut file = header(0);
        word(&mut file, says);
        word(&mut file, block.len());
        file.extend(&block);
        word(&mut file, 0);
        file.extend(100_u32.to_le_bytes());
        // Whole or not, a hundred sevens are no kernel.
        let refused = Image::from_bytes(bzimage(&file)).unwrap_err();
        let is_corrupt = matches!(
            refused,
            ImageError::Unpack {
                source: UnpackError::Corrupt { .. },
                ..
            }
        );
        assert_eq!(is_corrupt, is_short, "{refused:?}");
    }
}
