//! The codecs whose crates offer a reader: gzip, bzip2, lzma, xz.

use std::io;
#[cfg(feature = "gzip")]
use std::io::Read;

#[cfg(feature = "gzip")]
use flate2::bufread::GzDecoder;

use super::{
    error::UnpackError,
    target::{Drained, Target},
};

/// The content of a stream and the bytes after it.
type Unpacked<'a> = Result<(Vec<u8>, &'a [u8]), UnpackError>;

#[cfg(feature = "gzip")]
pub(super) fn gzip<'a>(target: &Target<'a>) -> Unpacked<'a> {
    let mut members = Members {
        decoder: Some(GzDecoder::new(target.packed)),
        rest: target.packed,
    };
    let out = target.drain(&mut members);
    let rest = members
        .decoder
        .map_or(members.rest, |decoder| decoder.into_inner());
    finish(target, rest, out)
}

/// Reads all members of a gzip file, one after the other. Zeros after the last one are padding.
/// gunzip does the same.
#[cfg(feature = "gzip")]
struct Members<'a> {
    /// The member that is being read; `None` after the last one.
    decoder: Option<GzDecoder<&'a [u8]>>,
    /// The bytes after the last member.
    rest: &'a [u8],
}

#[cfg(feature = "gzip")]
impl Read for Members<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let len = decoder.read(buf)?;
            if len > 0 || buf.is_empty() {
                return Ok(len);
            }
            let rest = *decoder.get_ref();
            self.decoder = rest.starts_with(GZIP).then(|| GzDecoder::new(rest));
            let is_padding = rest.iter().all(|&byte| byte == 0);
            self.rest = if is_padding { &[] } else { rest };
        }
        Ok(0)
    }
}

#[cfg(feature = "bzip2")]
pub(super) fn bzip2<'a>(target: &Target<'a>) -> Unpacked<'a> {
    let mut rest = target.packed;
    let out = target.drain(&mut bzip2::bufread::BzDecoder::new(&mut rest));
    finish(target, rest, out)
}

#[cfg(feature = "xz")]
pub(super) fn xz<'a>(target: &Target<'a>, max_window_bytes: u64) -> Unpacked<'a> {
    let mut rest = target.packed;
    let mut decoder =
        lzma_rust2::XzReader::new_mem_limit(&mut rest, false, to_kib(max_window_bytes));
    let out = target.drain(&mut decoder);
    drop(decoder);
    finish(target, rest, out)
}

#[cfg(feature = "xz")]
pub(super) fn lzma<'a>(target: &Target<'a>, max_window_bytes: u64) -> Unpacked<'a> {
    let mut source = target.packed;
    let decoder =
        lzma_rust2::LzmaReader::new_mem_limit(&mut source, to_kib(max_window_bytes), None);
    let (out, unused) = match decoder {
        Ok(mut decoder) => {
            decoder.set_relaxed_end_condition(false);
            let out = target.drain(&mut decoder);
            let (_, unused) = decoder.into_parts();
            (out, unused.len())
        }
        Err(refused) => (Err(Drained::Decoder(refused)), 0),
    };
    let read = target
        .packed
        .len()
        .saturating_sub(source.len())
        .saturating_sub(unused);
    finish(target, target.packed.get(read..).unwrap_or_default(), out)
}

/// Turns the decoder's result into ours.
fn finish<'a>(target: &Target<'a>, rest: &'a [u8], out: Result<Vec<u8>, Drained>) -> Unpacked<'a> {
    match out {
        Ok(out) => Ok((out, rest)),
        Err(Drained::Bound(bound)) => Err(bound),
        Err(Drained::Decoder(cause)) if is_end(&cause) => Err(target.truncated()),
        Err(Drained::Decoder(cause)) => Err(target.corrupt(rest, cause)),
    }
}

/// Tells whether the decoder ran out of bytes. Some decoders say so only in a cause of their error.
fn is_end(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return true;
    }
    let mut cause = error
        .get_ref()
        .map(|inner| inner as &(dyn std::error::Error + 'static));
    while let Some(inner) = cause {
        if inner.downcast_ref::<io::Error>().is_some_and(is_end) {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Begins each member of a gzip file.
#[cfg(feature = "gzip")]
const GZIP: &[u8] = &[0x1F, 0x8B];

#[cfg(feature = "xz")]
fn to_kib(bytes: u64) -> u32 {
    // The decoder reads the largest value as "no limit".
    u32::try_from(bytes >> 10)
        .unwrap_or(u32::MAX)
        .min(u32::MAX.saturating_sub(1))
}
