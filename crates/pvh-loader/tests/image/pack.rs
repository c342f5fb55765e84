//! Packs a kernel the way the kernel's build does.

use std::io::Write;

use lzma_rust2::{FilterType, LzmaOptions, LzmaWriter, XzOptions, XzWriter};
use pvh_loader::image::Codec;
use pvh_testkit::{
    bzimage::{SetupHeader, headed},
    elf::{Class, Elf, Note, Segment},
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

pub(crate) const ENTRY: u32 = 0x10_0040;

pub(crate) const CODECS: [Codec; 8] = [
    Codec::Stored,
    Codec::Gzip,
    Codec::Bzip2,
    Codec::Lzma,
    Codec::Xz,
    Codec::Lzo,
    Codec::Lz4,
    Codec::Zstd,
];

/// A bootable ELF whose one segment has `len` bytes of code-like data.
pub(crate) fn elf_of(class: Class, len: usize) -> Vec<u8> {
    Elf::new(class)
        .segment(Segment::load(0x10_0000, code(len)))
        .segment(Segment::notes(&[Note::entry(ENTRY)]))
        .build()
}

/// A bootable ELF of some 300 KiB, more than one block of lzop.
pub(crate) fn elf() -> Vec<u8> {
    elf_of(Class::Elf64, 300 << 10)
}

/// Packs, with the length appended where the kernel's build appends it.
pub(crate) fn payload(codec: Codec, content: &[u8]) -> Vec<u8> {
    let mut packed = stream(codec, content);
    if !matches!(codec, Codec::Gzip | Codec::Stored) {
        packed.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
    }
    packed
}

/// Packs, nothing appended.
pub(crate) fn stream(codec: Codec, content: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Stored => content.to_vec(),
        Codec::Gzip => gzip(content),
        Codec::Bzip2 => {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            writer.write_all(content).unwrap();
            writer.finish().unwrap()
        }
        Codec::Lzma => {
            // as `lzma -9` does with a pipe: no length in the header, an end mark in the stream
            let options = LzmaOptions::with_preset(1);
            let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
            writer.write_all(content).unwrap();
            writer.finish().unwrap()
        }
        Codec::Xz => {
            let mut options = XzOptions::with_preset(1);
            options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
            options.prepend_pre_filter(FilterType::BcjX86, 0);
            let mut writer = XzWriter::new(Vec::new(), options).unwrap();
            writer.write_all(content).unwrap();
            writer.finish().unwrap()
        }
        Codec::Lzo => lzop(content),
        Codec::Lz4 => lz4(content),
        Codec::Zstd => compress_to_vec(content, CompressionLevel::Fastest),
        other => panic!("{other:?} cannot be packed here"),
    }
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(content).unwrap();
    writer.finish().unwrap()
}

/// A bzImage of boot protocol 2.15 with two setup sectors around `payload`.
pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
    headed(&HEADER, payload)
}

/// The header of [`bzimage`].
pub(crate) const HEADER: SetupHeader = SetupHeader {
    setup_sectors: 2,
    version: [15, 2],
    payload_offset: 0x2cc,
    payload_excess: 0,
};

/// Half noise, half runs, with x86 calls in between for the BCJ filter to change.
fn code(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(&[0xe8, 0x10, 0x20, 0x00, 0x00]);
        bytes.extend_from_slice(&[0x90; 11]);
    }
    bytes.truncate(len);
    bytes
}

fn lz4(content: &[u8]) -> Vec<u8> {
    let mut out = 0x184c_2102_u32.to_le_bytes().to_vec();
    for block in content.chunks(8 << 20) {
        let packed = lz4_flex::block::compress(block);
        out.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
        out.extend_from_slice(&packed);
    }
    out
}

/// The header that lzop 1.04 writes from a pipe: method 3, level 9.
pub(crate) fn lzop_header(flags: u32) -> Vec<u8> {
    let mut out = vec![0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a];
    out.extend_from_slice(&[0x10, 0x40, 0x20, 0xa0, 0x09, 0x40, 3, 9]);
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 12]); // mode, time
    out.push(0); // no name
    out.extend_from_slice(&[0; 4]); // checksum of the header
    out
}

/// As lzop 1.04 writes it from a pipe: with the Adler-32 of the content.
fn lzop(content: &[u8]) -> Vec<u8> {
    let mut out = lzop_header(1);
    for block in content.chunks(256 << 10) {
        let packed = lzokay::compress::compress(block).unwrap();
        let stored = packed.len() >= block.len();
        let bytes = if stored { block } else { &packed };
        out.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&[0; 4]); // the Adler-32, which the kernel does not look at either
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(&[0; 4]);
    out
}
