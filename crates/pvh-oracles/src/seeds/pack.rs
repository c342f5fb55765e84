//! Packs kernels as the kernel's build does.

use std::io::Write;

use lzma_rust2::{CheckType, FilterType, LzmaOptions, LzmaWriter, XzOptions, XzWriter};
use pvh_loader::image::Codec;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

/// All codecs.
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

/// Packs `content`, and appends its length for the codecs for which the kernel's build does so.
///
/// # Panics
///
/// If a packer fails, or for an unknown codec.
#[must_use]
pub fn payload(codec: Codec, content: &[u8]) -> Vec<u8> {
    let mut packed = stream(codec, content).expect("packing into memory");
    if !matches!(codec, Codec::Gzip | Codec::Stored) {
        packed.extend(size(content).to_le_bytes());
    }
    packed
}

fn stream(codec: Codec, content: &[u8]) -> std::io::Result<Vec<u8>> {
    match codec {
        Codec::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            writer.write_all(content)?;
            writer.finish()
        }
        Codec::Bzip2 => {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            writer.write_all(content)?;
            writer.finish()
        }
        Codec::Lzma => {
            let mut options = LzmaOptions::with_preset(0);
            options.dict_size = 4096;
            let mut writer = LzmaWriter::new_use_header(Vec::new(), &options, None)?;
            writer.write_all(content)?;
            writer.finish()
        }
        Codec::Xz => {
            let mut options = XzOptions::with_preset(0);
            options.lzma_options.dict_size = 4096;
            options.set_check_sum_type(CheckType::Crc32);
            options.prepend_pre_filter(FilterType::BcjX86, 0);
            let mut writer = XzWriter::new(Vec::new(), options)?;
            writer.write_all(content)?;
            writer.finish()
        }
        Codec::Lzo => Ok(lzop(content)),
        Codec::Lz4 => {
            let mut out = 0x184c_2102_u32.to_le_bytes().to_vec();
            for block in content.chunks(LZ4_BLOCK_BYTES) {
                let packed = lz4_flex::block::compress(block);
                out.extend(size(&packed).to_le_bytes());
                out.extend(packed);
            }
            Ok(out)
        }
        Codec::Zstd => Ok(compress_to_vec(content, CompressionLevel::Fastest)),
        _ => Ok(content.to_vec()),
    }
}

/// The kernel's build packs 8 MiB at a time; seeds are smaller, and are to have several blocks.
const LZ4_BLOCK_BYTES: usize = 1024;

/// One stored and one packed block in lzop's framing: method 3, level 9, no checksums.
fn lzop(content: &[u8]) -> Vec<u8> {
    let mut out = b"\x89LZO\0\x0d\x0a\x1a\x0a".to_vec();
    out.extend([0x10, 0x40, 0x20, 0xa0, 0x09, 0x40, 3, 9]);
    out.extend([0; 4 + 12 + 1 + 4]); // flags, mode and times, no name, checksum
    let (first, second) = content.split_at(content.len() / 2);
    let packed = lzokay::compress::compress(second).expect("packing into memory");
    for (content, bytes) in [(first, first), (second, &packed)] {
        out.extend(size(content).to_be_bytes());
        out.extend(size(bytes).to_be_bytes());
        out.extend_from_slice(bytes);
    }
    out.extend([0; 4]);
    out
}

/// A zstd frame of a raw block and one that says a byte `repeats` times; nothing is checked or
/// stated beforehand.
pub(super) fn runs(content: &[u8], repeats: u32) -> Vec<u8> {
    let block =
        |kind: u32, size: u32, is_last: u32| (size << 3 | kind << 1 | is_last).to_le_bytes();
    let (raw, run) = (block(0, size(content), 0), block(1, repeats, 1));
    let mut out = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    out.extend([0, 0x28]);
    out.extend(raw.iter().take(3));
    out.extend_from_slice(content);
    out.extend(run.iter().take(3));
    out.push(0);
    out
}

fn size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
