//! LZO in the file format of `lzop`.

use super::{error::UnpackError, target::Target};

/// Unpacks what `lzop` writes: a header, then blocks with both their lengths, then a length of 0.
pub(super) fn unpack<'a>(target: &Target<'a>) -> Result<(Vec<u8>, &'a [u8]), UnpackError> {
    let mut reader = Reader {
        target,
        rest: target.packed,
    };
    let flags = reader.header()?;
    let mut out = Vec::new();
    target.reserve(&mut out, target.within_limit(target.expected_bytes))?;
    loop {
        let unpacked_len = reader.word()?;
        if unpacked_len == 0 {
            return Ok((out, reader.rest));
        }
        reader.block(flags, unpacked_len, &mut out)?;
    }
}

struct Reader<'t, 'a> {
    target: &'t Target<'a>,
    rest: &'a [u8],
}

impl<'a> Reader<'_, 'a> {
    /// Steps over the header and returns its flags.
    fn header(&mut self) -> Result<u32, UnpackError> {
        self.take(MAGIC.len())?;
        let version = self.half()?;
        self.take(2)?; // version of the library
        if version >= VERSION_WITH_LEVEL {
            self.take(2)?; // version needed to unpack
        }
        let method = self.byte()?;
        if version >= VERSION_WITH_LEVEL {
            self.take(1)?; // level
        }
        if !METHODS.contains(&method) {
            return Err(self.target.corrupt(self.rest, "the method is not LZO1X"));
        }
        let flags = self.word()?;
        if flags & FLAG_FILTER != 0 {
            return Err(self.target.corrupt(self.rest, "it needs a filter"));
        }
        self.take(8)?; // mode, low half of the time
        if version >= VERSION_WITH_LEVEL {
            self.take(4)?; // high half of the time
        }
        let name_len = self.byte()?;
        self.take(usize::from(name_len))?;
        self.take(4)?; // checksum of the header
        if flags & FLAG_EXTRA != 0 {
            let extra_len = self.len()?;
            self.take(extra_len)?;
            self.take(4)?; // its checksum
        }
        Ok(flags)
    }

    fn block(
        &mut self,
        flags: u32,
        unpacked_len: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), UnpackError> {
        let packed_len = self.word()?;
        if packed_len == 0 || packed_len > unpacked_len || unpacked_len > MAX_BLOCK {
            return Err(self
                .target
                .corrupt(self.rest, "a block's length is out of range"));
        }
        let sums = flags & FLAGS_UNPACKED_SUM;
        self.take(4_usize.saturating_mul(to_usize(sums.count_ones())))?;
        if packed_len < unpacked_len {
            let sums = flags & FLAGS_PACKED_SUM;
            self.take(4_usize.saturating_mul(to_usize(sums.count_ones())))?;
        }
        let packed = self.take(to_usize(packed_len))?;
        let start = out.len();
        self.target.reserve(out, to_usize(unpacked_len))?;
        if packed_len == unpacked_len {
            out.extend_from_slice(packed);
            return Ok(());
        }
        out.resize(start.saturating_add(to_usize(unpacked_len)), 0);
        let into = out.get_mut(start..).unwrap_or_default();
        match lzokay::decompress::decompress(packed, into) {
            Ok(len) if len == to_usize(unpacked_len) => Ok(()),
            Ok(_) => Err(self
                .target
                .corrupt(self.rest, "a block is shorter than it says")),
            Err(refused) => Err(self.target.corrupt(self.rest, refused)),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], UnpackError> {
        let cut = self.rest.split_at_checked(len);
        let (taken, rest) = cut.ok_or_else(|| self.target.truncated())?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, UnpackError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn half(&mut self) -> Result<u16, UnpackError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn word(&mut self) -> Result<u32, UnpackError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn len(&mut self) -> Result<usize, UnpackError> {
        self.word().map(to_usize)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], UnpackError> {
        let cut = self.rest.split_first_chunk::<N>();
        let (taken, rest) = cut.ok_or_else(|| self.target.truncated())?;
        self.rest = rest;
        Ok(*taken)
    }
}

fn to_usize(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

/// The first bytes of every `lzop` file; the first four have told the codec.
const MAGIC: &[u8] = &[0x89, b'L', b'Z', b'O', 0x00, 0x0d, 0x0a, 0x1a, 0x0a];

/// From this version on the header has a level and a 64-bit time.
const VERSION_WITH_LEVEL: u16 = 0x0940;

/// LZO1X-1, LZO1X-1(15), LZO1X-999.
const METHODS: [u8; 3] = [1, 2, 3];

const FLAG_EXTRA: u32 = 0x0000_0040;
const FLAG_FILTER: u32 = 0x0000_0800;

/// Adler-32 and CRC-32 of a block's content. They are skipped: the ELF is checked anyway.
const FLAGS_UNPACKED_SUM: u32 = 0x0000_0101;

/// The same of a block's packed bytes.
const FLAGS_PACKED_SUM: u32 = 0x0000_0202;

/// The longest block that the kernel's own decoder allows.
const MAX_BLOCK: u32 = 256 << 10;
