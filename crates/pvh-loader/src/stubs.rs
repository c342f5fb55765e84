//! The two hypercall stubs of a kernel that makes hypercalls without a hypercall page.
//!
//! Linux has dropped the page and calls bare: one stub with VMMCALL, one with VMCALL, and the CPU's vendor says at boot
//! which is used. Where the host cannot catch these instructions, each can become an OUT to a port of the VMM's, in guest memory:
//! [`StubPair::find`] finds them, [`Boot::patch`](crate::plan::Boot::patch) has them rewritten.

mod error;
mod shape;

pub use error::StubError;
pub use shape::CallInstruction;

use pvh_abi::Gpa;
use pvh_elfnote::{PF_X, ProgramHeader};

use crate::image::{Image, ImageError};
use shape::{STUB_ALIGN, WINDOW_BYTES, pair_at, stub_at};

/// The hypercall stubs of an image: one of each instruction, next to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StubPair {
    /// The one for CPUs of AMD and Hygon.
    pub vmmcall: Stub,
    /// The one for all others.
    pub vmcall: Stub,
}

/// One hypercall stub: where its 3-byte instruction is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stub {
    /// Its instruction.
    pub call: CallInstruction,
    /// Where the instruction lies in guest memory, if the image is not moved.
    pub at: Gpa,
    /// Where it lies in the image's ELF, unpacked.
    pub file_offset: u64,
    /// Which of the image's loadable segments it is in, counted from 0.
    pub segment: usize,
}

/// What turns the stubs of an image into calls through a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HypercallPatch {
    /// The stubs, both of which are rewritten.
    pub stubs: StubPair,
    /// The port that the guest then writes `eax` to.
    pub port: u8,
}

impl StubPair {
    /// Finds the stubs of `image`.
    ///
    /// A stub begins at a multiple of 16: ENDBR64 or not, VMMCALL or VMCALL, then RET or a JMP. Two are a pair when they
    /// differ in that instruction, are alike in ENDBR64 and in how they return (by a JMP to the same address), and have
    /// nothing but padding between them. All bytes of executable segments are looked at, once, through a buffer of 256 KiB:
    /// some 10 ms for a kernel of 60 MB, and at most [`StubError::LIMIT_BYTES`].
    ///
    /// # Errors
    ///
    /// [`StubError`] unless there is exactly one pair.
    pub fn find(image: &Image) -> Result<Self, StubError> {
        find(image.segments(), |offset, buf| image.read_at(offset, buf))
    }

    /// Returns both stubs, the lower first.
    #[must_use]
    pub fn in_order(self) -> [Stub; 2] {
        let Self { vmmcall, vmcall } = self;
        if vmmcall.at <= vmcall.at {
            [vmmcall, vmcall]
        } else {
            [vmcall, vmmcall]
        }
    }
}

/// Looks for the one pair in the executable ones of `segments`, whose bytes `read` gives.
pub(crate) fn find(
    segments: &[ProgramHeader],
    read: impl Fn(u64, &mut [u8]) -> Result<(), ImageError>,
) -> Result<StubPair, StubError> {
    let code = || {
        let numbered = segments.iter().enumerate();
        numbered.filter(|(_, segment)| segment.flags & PF_X != 0 && segment.file_size > 0)
    };
    let sizes = code().map(|(_, segment)| segment.file_size);
    let code_bytes = sizes.fold(0, u64::saturating_add);
    if code_bytes == 0 {
        return Err(StubError::NoCode);
    }
    if code_bytes > StubError::LIMIT_BYTES {
        return Err(StubError::TooMuchCode { code_bytes });
    }
    let mut search = Search::default();
    let mut buffer = vec![0; CHUNK_BYTES.saturating_add(WINDOW_BYTES)];
    for (index, segment) in code() {
        search.segment(index, segment, &mut buffer, &read)?;
    }
    search.lone(code_bytes)
}

/// What has been found so far.
#[derive(Default)]
struct Search {
    pair: Option<StubPair>,
    /// The first thing that looks like a stub, in a pair or not.
    first: Option<Gpa>,
}

impl Search {
    /// Looks through the file's bytes of one segment, a buffer at a time; the last bytes of each are those the next begins with.
    fn segment(
        &mut self,
        index: usize,
        segment: &ProgramHeader,
        buffer: &mut [u8],
        read: &impl Fn(u64, &mut [u8]) -> Result<(), ImageError>,
    ) -> Result<(), StubError> {
        let wraps = || StubError::Wraps { segment: index };
        let end = segment.paddr.checked_add(segment.file_size);
        let file_end = segment.offset.checked_add(segment.file_size);
        end.and(file_end).ok_or_else(wraps)?;
        // Stubs are aligned in memory; where in the file their segment begins does not matter.
        let aligned = segment.paddr.checked_next_multiple_of(STUB_ALIGN as u64);
        let mut done = aligned.unwrap_or(u64::MAX).saturating_sub(segment.paddr);
        while let Some(left) = segment.file_size.checked_sub(done).filter(|&left| left > 0) {
            let len = usize::try_from(left).unwrap_or(usize::MAX);
            let (bytes, _) = buffer.split_at_mut(len.min(buffer.len()));
            read(segment.offset.saturating_add(done), bytes).map_err(StubError::Read)?;
            let starts = (0..bytes.len().min(CHUNK_BYTES)).step_by(STUB_ALIGN);
            for start in starts {
                let window = bytes.get(start..).unwrap_or_default();
                if stub_at(window).is_none() {
                    continue;
                }
                let before = done.saturating_add(start as u64);
                self.stub(index, segment, before, window)?;
            }
            done = done.saturating_add(CHUNK_BYTES as u64);
        }
        Ok(())
    }

    /// Takes note of a stub, `before` bytes into `segment`, and of the pair if it is the first of one.
    fn stub(
        &mut self,
        index: usize,
        segment: &ProgramHeader,
        before: u64,
        window: &[u8],
    ) -> Result<(), StubError> {
        let start = Gpa(segment.paddr.saturating_add(before));
        self.first.get_or_insert(start);
        let Some(found) = pair_at(window) else {
            return Ok(());
        };
        let stub = |(call, offset): (CallInstruction, usize)| {
            let within = before.saturating_add(offset as u64);
            Stub {
                call,
                at: Gpa(segment.paddr.saturating_add(within)),
                file_offset: segment.offset.saturating_add(within),
                segment: index,
            }
        };
        let [first, second] = found.map(stub);
        let pair = match first.call {
            CallInstruction::Vmmcall => StubPair {
                vmmcall: first,
                vmcall: second,
            },
            CallInstruction::Vmcall => StubPair {
                vmmcall: second,
                vmcall: first,
            },
        };
        if let Some(earlier) = self.pair.replace(pair) {
            let [earlier, _] = earlier.in_order();
            return Err(StubError::Several {
                first: earlier.at,
                second: first.at,
            });
        }
        Ok(())
    }

    fn lone(self, code_bytes: u64) -> Result<StubPair, StubError> {
        let none = match self.first {
            Some(at) => StubError::NoPair { at },
            None => StubError::NoStub { code_bytes },
        };
        self.pair.ok_or(none)
    }
}

/// How much of a segment is looked at at a time; a multiple of the stubs' alignment.
const CHUNK_BYTES: usize = 256 << 10;
