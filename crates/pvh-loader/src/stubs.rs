//! The two hypercall stubs of a kernel that makes hypercalls without a hypercall page.
//!
//! Newer Linux has no hypercall page. It has one stub with VMMCALL and one with VMCALL, and chooses
//! at boot by the CPU's vendor. If the host cannot intercept these instructions, both can be
//! replaced in guest memory by an OUT to a port of the VMM. [`StubPair::find`] finds the stubs;
//! [`Boot::patch`](crate::plan::Boot::patch) has them replaced.

mod error;
mod shape;

pub use error::StubError;
pub use shape::CallInstruction;

use pvh_abi::Gpa;
use pvh_elfnote::{PF_X, ProgramHeader};

use crate::image::{Image, ImageError};
use shape::{STUB_ALIGN, WINDOW_BYTES, pair_at, stub_at};

/// The hypercall stubs of an image: one for each instruction, next to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StubPair {
    /// The stub for CPUs of AMD and Hygon.
    pub vmmcall: Stub,
    /// The stub for all other CPUs.
    pub vmcall: Stub,
}

/// One hypercall stub: where its 3-byte instruction is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stub {
    /// Its instruction.
    pub call: CallInstruction,
    /// Where the instruction is in guest memory, if the image is not moved.
    pub at: Gpa,
    /// Where it is in the unpacked ELF.
    pub file_offset: u64,
    /// The index of its loadable segment, counted from 0.
    pub segment: usize,
}

/// How the stubs of an image are patched to use a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HypercallPatch {
    /// The stubs; both are patched.
    pub stubs: StubPair,
    /// The I/O port that the guest then writes `eax` to.
    pub port: u8,
}

impl StubPair {
    /// Finds the stubs of `image`.
    ///
    /// A stub begins at a multiple of 16 with an optional ENDBR64. VMMCALL or VMCALL follows, then
    /// RET or JMP. Two stubs are a pair if they have different instructions, both or neither have
    /// ENDBR64, both return in the same way (RET, or JMP to the same address), and only padding
    /// lies between them. All bytes of executable segments are read once, through a buffer of 256
    /// KiB: about 10 ms for a kernel of 60 MB, and at most
    /// [`StubError::LIMIT_BYTES`].
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

/// Finds the only pair in the executable segments, whose bytes `read` returns.
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

/// What the search has found so far.
#[derive(Default)]
struct Search {
    pair: Option<StubPair>,
    /// The first stub, in a pair or alone.
    first: Option<Gpa>,
}

impl Search {
    /// Searches one segment, one buffer at a time. Buffers overlap, so a pair may lie across two.
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
        // Stubs are aligned in memory, not in the file.
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

    /// Records the stub that is `before` bytes into `segment`, and the pair if it is the first of
    /// one.
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

/// Length of one step of the search; a multiple of the stubs' alignment.
const CHUNK_BYTES: usize = 256 << 10;
