//! Packed kernels: whatever a stream says, what comes out is bounded and is what the header names.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use pvh_loader::{
    Image,
    image::{Codec, Format, Limits},
    inspect::{Verdict, inspect_bytes},
};

use pvh_testkit::bzimage::{self as builder, SetupHeader};

use crate::{
    bytes::{field, is_printable, slice},
    kernel::kernel,
    seeds::{CODECS, payload},
    tape::Tape,
};

const LIMITS: Limits = Limits {
    max_unpacked_bytes: 16 << 10,
    max_file_bytes: 256 << 10,
    max_window_bytes: 1 << 20,
};

/// What a payload begins with that is to be put into a sound bzImage; no kind of file begins so.
pub const PAYLOAD_MARK: u8 = 0xbc;

/// What the five bytes of a setup header begin with, and behind them a payload, or nothing for a
/// stored kernel; no kind of file begins so.
pub const HEADER_MARK: u8 = 0xbd;

/// What a codec (its number in `CODECS`) and the bytes behind a kernel begin with. They are packed
/// as the kernel's build does it, and have to come out as they were; no kind of file begins so.
pub const PACKED_MARK: u8 = 0xbb;

/// What a frame of Zstandard begins with, block by block; no kind of file begins so.
pub const FRAME_MARK: u8 = 0xba;

/// Opens a file of any kind, or a bzImage around what follows [`PAYLOAD_MARK`], [`HEADER_MARK`],
/// [`PACKED_MARK`] or [`FRAME_MARK`].
///
/// # Panics
///
/// If more comes out than the limit, if a payload is taken from where the header does not say, if a
/// length that contradicts the content is taken, if the content of any codec is not what was packed,
/// if a header that is right around a stored kernel
/// is refused, or if `inspect` and `Image` disagree.
pub fn bzimage(input: &[u8]) {
    let wrapped = match input.split_first() {
        Some((&PACKED_MARK, rest)) => return packed(Tape::new(rest)),
        Some((&FRAME_MARK, rest)) => (builder::bzimage(&frame(Tape::new(rest))), false),
        Some((&PAYLOAD_MARK, payload)) => (builder::bzimage(payload), false),
        Some((&HEADER_MARK, rest)) => headed(Tape::new(rest)),
        _ => (input.to_vec(), false),
    };
    let (file, is_sound) = (&wrapped.0[..], wrapped.1);
    let opened = Image::from_bytes_within(file.to_vec(), &LIMITS);
    let report = inspect_bytes(file.to_vec(), &LIMITS);
    let is_bootable = matches!(report.verdict, Verdict::Bootable);
    let image = match opened {
        Ok(image) => image,
        Err(error) => {
            is_printable(&error);
            assert!(!is_sound, "a sound header: {error}");
            assert!(!is_bootable, "inspect says it boots: {error}");
            return;
        }
    };
    assert_eq!(report.format, Some(image.format()));
    let elf = image.bytes().expect("it was given bytes");
    assert_eq!(elf.len() as u64, image.len_bytes());
    assert!(elf.starts_with(b"\x7fELF"));
    match image.format() {
        Format::Elf => assert_eq!(elf, file),
        Format::GzippedElf => {
            assert_eq!(gunzipped(file), elf);
            assert!(image.len_bytes() <= LIMITS.max_unpacked_bytes);
        }
        Format::BzImage { codec } => {
            assert!(image.len_bytes() <= LIMITS.max_unpacked_bytes);
            check_payload(file, elf, codec);
            let payload = report.payload.expect("a bzImage has one");
            let (at, packed) = where_it_is(file);
            assert_eq!((payload.offset, payload.packed_bytes), (at, packed));
        }
        _ => assert!(image.len_bytes() <= LIMITS.max_unpacked_bytes),
    }
}

/// Up to 7 setup sectors, any boot protocol, an offset, a payload that is said to be longer or
/// shorter. Tells besides whether it has to be taken: a payload of its true length that is known to
/// be good, and a protocol that knows payloads.
fn headed(mut tape: Tape<'_>) -> (Vec<u8>, bool) {
    let header = SetupHeader {
        setup_sectors: tape.byte() & 7,
        version: [tape.byte() & 31, tape.byte() & 3],
        payload_offset: tape.byte().into(),
        payload_excess: tape.byte().cast_signed().into(),
    };
    let [minor, major] = header.version;
    match tape.rest() {
        [] => {
            let is_known = (major, minor) >= (2, 8);
            let is_sound = is_known && header.payload_excess == 0;
            (builder::headed(&header, &kernel()), is_sound)
        }
        payload => (builder::headed(&header, payload), false),
    }
}

/// A kernel with any bytes behind it comes out of each codec as it was packed, or is too long.
fn packed(mut tape: Tape<'_>) {
    let codec = CODECS[usize::from(tape.below(8))];
    let repeats = usize::from(tape.byte()) + 1;
    let content = [kernel(), tape.rest().repeat(repeats)].concat();
    if content.len() as u64 > 2 * LIMITS.max_unpacked_bytes {
        return;
    }
    let file = builder::bzimage(&payload(codec, &content));
    let is_short = content.len() as u64 <= LIMITS.max_unpacked_bytes;
    match Image::from_bytes_within(file, &LIMITS) {
        Ok(image) => {
            assert!(is_short, "{codec:?}: more than the limit");
            let elf = image.bytes().expect("it was given bytes");
            assert!(elf == content, "{codec:?}: other content");
        }
        Err(error) => {
            is_printable(&error);
            assert!(!is_short, "{codec:?}: {error}");
        }
    }
}

/// A frame of Zstandard (RFC 8878): a header of any kind, a block with a kernel, and blocks that are
/// raw, of one byte many times, or said to be packed.
fn frame(mut tape: Tape<'_>) -> Vec<u8> {
    let mut out = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    // No dictionary, no reserved bit; the length of the content is stated in 0, 1, 2, 4 or 8 bytes.
    let descriptor = tape.byte() & 0b1110_0100;
    out.push(descriptor);
    let is_single = descriptor & 0x20 != 0;
    if !is_single {
        out.push(tape.byte() & 0x7f);
    }
    let stated = match (descriptor >> 6, is_single) {
        (0, false) => 0,
        (size, _) => 1 << size,
    };
    out.extend(&tape.long().to_le_bytes()[..stated]);
    let kernel = kernel();
    block(&mut out, 0, kernel.len(), false);
    out.extend(kernel);
    let count = tape.below(8);
    for index in 0..=count {
        let (kind, size) = (tape.below(3), usize::from(tape.half()));
        let is_last = index == count;
        match kind {
            1 => {
                block(&mut out, 1, size, is_last);
                out.push(tape.byte());
            }
            kind => {
                let bytes = tape.bytes(size);
                block(&mut out, kind.into(), bytes.len(), is_last);
                out.extend(bytes);
            }
        }
    }
    out
}

/// The three bytes before a block.
fn block(out: &mut Vec<u8>, kind: usize, size: usize, is_last: bool) {
    let word = size << 3 | kind << 1 | usize::from(is_last);
    out.extend(&word.to_le_bytes()[..3]);
}

/// Where the boot protocol says that the payload is.
fn where_it_is(file: &[u8]) -> (u64, u64) {
    let read = |at, size| field(file, at, size).expect("the header is there");
    let sectors = match read(0x1f1, 1) {
        0 => 4,
        sectors => sectors,
    };
    let at = (sectors + 1) * 512 + read(0x248, 4);
    (at, read(0x24c, 4))
}

fn check_payload(file: &[u8], elf: &[u8], codec: Codec) {
    assert!(field(file, 0x206, 2) >= Some(0x208), "an old protocol");
    let (at, len) = where_it_is(file);
    let packed = slice(file, at, len).expect("the payload lies in the file");
    assert_eq!(Codec::detect(packed), Some(codec));
    match codec {
        Codec::Stored => assert_eq!(packed, elf),
        Codec::Gzip => assert_eq!(gunzipped(packed), elf),
        // With the length appended by the kernel's build, or nothing: then the stream is an end by
        // itself, and the last bytes are anything.
        Codec::Lz4 => {
            let stated = field(packed, len - 4, 4);
            let blocks = lz4_blocks_end(packed);
            let is_stated = blocks == Some(len - 4) && stated == Some(elf.len() as u64);
            assert!(blocks == Some(len) || is_stated, "bytes after the blocks");
        }
        _ => {}
    }
}

/// The content of all members of a gzip file, which zeros may follow.
fn gunzipped(file: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut all = MultiGzDecoder::new(file).take(LIMITS.max_unpacked_bytes + 1);
    // The padding is not a member: it ends the content with an error.
    let _ = all.read_to_end(&mut content);
    content
}

/// Where the last block of an LZ4 legacy frame ends, if it ends where the frame does or four bytes
/// before.
fn lz4_blocks_end(packed: &[u8]) -> Option<u64> {
    let len = packed.len() as u64;
    let mut at = 4;
    loop {
        if at == len || at + 4 == len {
            return Some(at);
        }
        at += 4 + field(packed, at, 4)?;
    }
}
