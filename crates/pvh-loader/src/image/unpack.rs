//! Finds the ELF in a file.

use super::{
    bzimage,
    codec::{self, Codec},
    error::ImageError,
    format::Format,
    limits::Limits,
    lookalike::{EMPTY, lookalike},
    source::{Backing, Head},
};

/// What was found in a file.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The ELF that was packed; `None` if the file itself is the ELF.
    pub(crate) elf: Option<Backing>,
    pub(crate) format: Format,
    /// Length of the file.
    pub(crate) file_bytes: u64,
    /// The payload, if the file is a bzImage.
    pub(crate) payload: Option<bzimage::Payload>,
}

/// Finds the ELF in `file`.
///
/// The order is libxenguest's: a gzipped file is unpacked once; it is then an ELF or a bzImage,
/// whose payload is unpacked once. Anything that is packed more often is refused, as libxenguest
/// refuses it.
pub(crate) fn unpack(file: &Backing, limits: &Limits) -> Result<Unpacked, ImageError> {
    let file_bytes = file.len_bytes();
    if file_bytes == 0 {
        return Err(ImageError::Empty);
    }
    let head = head(file)?;
    if !head.as_slice().starts_with(GZIP) {
        return elf_or_bzimage(file, limits);
    }
    let offset = 0;
    let inner = unpack_range(file, (offset, file_bytes), Codec::Gzip, limits)?;
    let inner = Backing::Bytes(inner);
    let mut unpacked = elf_or_bzimage(&inner, limits).map_err(in_gzip)?;
    if unpacked.elf.is_none() {
        unpacked.elf = Some(inner);
    }
    unpacked.file_bytes = file_bytes;
    unpacked.format = match unpacked.format {
        Format::BzImage { codec } => Format::GzippedBzImage { codec },
        _ => Format::GzippedElf,
    };
    Ok(unpacked)
}

fn elf_or_bzimage(file: &Backing, limits: &Limits) -> Result<Unpacked, ImageError> {
    let file_bytes = file.len_bytes();
    let head = head(file)?;
    let head = head.as_slice();
    if head.starts_with(ELF) {
        return Ok(Unpacked {
            elf: None,
            format: Format::Elf,
            file_bytes,
            payload: None,
        });
    }
    if !bzimage::detect(head) {
        return Err(not_a_kernel(file, head));
    }
    let payload = bzimage::payload(head, file_bytes)?;
    let mut magic = [0; 6];
    let magic_len = usize::try_from(payload.len_bytes).map_or(magic.len(), |len| len.min(6));
    let start = magic.get_mut(..magic_len).unwrap_or_default();
    file.read(payload.offset, start)
        .map_err(|source| ImageError::Read {
            offset: payload.offset,
            len_bytes: 6,
            source,
        })?;
    let Some(codec) = Codec::detect(&magic) else {
        return Err(ImageError::UnknownCodec {
            offset: payload.offset,
            magic,
        });
    };
    let elf = unpack_range(file, (payload.offset, payload.len_bytes), codec, limits)?;
    let elf = Backing::Bytes(elf);
    let head = self::head(&elf)?;
    if !head.as_slice().starts_with(ELF) {
        return Err(ImageError::UnpackedNotElf {
            codec,
            looks_like: lookalike(&elf),
            head: first_four(head.as_slice()),
        });
    }
    let format = Format::BzImage { codec };
    Ok(Unpacked {
        elf: Some(elf),
        format,
        file_bytes,
        payload: Some(payload),
    })
}

/// Unpacks a range (offset, length) of `file`.
fn unpack_range(
    file: &Backing,
    range: (u64, u64),
    codec: Codec,
    limits: &Limits,
) -> Result<Vec<u8>, ImageError> {
    let (offset, len_bytes) = range;
    if len_bytes > limits.max_file_bytes {
        return Err(ImageError::FileTooLarge {
            limit_bytes: limits.max_file_bytes,
        });
    }
    let copied;
    let packed = match file {
        Backing::Bytes(bytes) => slice(bytes, offset, len_bytes),
        Backing::File { .. } => {
            copied = file.range(offset, len_bytes)?;
            &copied
        }
    };
    codec::unpack(codec, packed, limits).map_err(|source| ImageError::Unpack {
        codec,
        offset,
        source,
    })
}

/// Returns a range; the caller has checked it against the length of `bytes`.
fn slice(bytes: &[u8], offset: u64, len_bytes: u64) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
    bytes
        .get(start..)
        .and_then(|tail| tail.get(..len))
        .unwrap_or_default()
}

fn head(file: &Backing) -> Result<Head<{ bzimage::HEAD_LEN }>, ImageError> {
    file.head()
}

fn not_a_kernel(file: &Backing, head: &[u8]) -> ImageError {
    let len_bytes = file.len_bytes();
    match lookalike(file) {
        None if len_bytes < SHORTEST => ImageError::TooShort { len_bytes },
        looks_like => ImageError::UnknownFormat {
            looks_like,
            head: first_four(head),
        },
    }
}

/// Makes an error about the content of a gzipped file name gzip.
fn in_gzip(error: ImageError) -> ImageError {
    let (looks_like, head) = match error {
        ImageError::UnknownFormat { looks_like, head } => (looks_like, head),
        ImageError::Empty | ImageError::TooShort { .. } => (Some(EMPTY), [0; 4]),
        other => return other,
    };
    ImageError::UnpackedNotElf {
        codec: Codec::Gzip,
        looks_like,
        head,
    }
}

fn first_four(head: &[u8]) -> [u8; 4] {
    let mut four = [0; 4];
    for (to, from) in four.iter_mut().zip(head) {
        *to = *from;
    }
    four
}

const ELF: &[u8] = b"\x7fELF";
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Length of an ELF32 header: no kernel is shorter.
const SHORTEST: u64 = 52;
