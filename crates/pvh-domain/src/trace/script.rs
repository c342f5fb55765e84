//! Guest memory that answers from a trace, and refuses any access that the trace does not have
//! next.

use core::{cell::RefCell, ops::Range};

use pvh_abi::Gpa;
use pvh_hypercall::{Fault, GuestIo};
use pvh_memory::{FrameError, FrameStep, Frames, GuestMemory, MemoryError, WordOp};

use super::wire::{Access, Found, Request};

/// The accesses of one record, each to be asked for in turn.
pub(super) struct Script {
    state: RefCell<State>,
}

struct State {
    accesses: std::vec::IntoIter<Access>,
    /// The first request that was not the recorded one.
    unlike: Option<Unlike>,
}

/// Two requests, or one and none.
pub(super) struct Unlike {
    pub(super) recorded: Option<Request>,
    pub(super) replayed: Option<Request>,
}

impl Script {
    pub(super) fn new(accesses: Vec<Access>) -> Self {
        let state = RefCell::new(State {
            accesses: accesses.into_iter(),
            unlike: None,
        });
        Self { state }
    }

    /// Tells where the replay left the record, be it that something was not asked for at all.
    pub(super) fn end(self) -> Option<Unlike> {
        let State {
            mut accesses,
            unlike,
        } = self.state.into_inner();
        let left = || {
            Some(Unlike {
                recorded: Some(accesses.next()?.request),
                replayed: None,
            })
        };
        unlike.or_else(left)
    }

    /// Tells whether something else was asked for than the trace has.
    pub(super) fn is_lost(&self) -> bool {
        self.state.borrow().unlike.is_some()
    }

    /// What was found for `request`, as `wanted` takes it; `None` from the first unlike request on.
    fn ask<T>(&self, request: Request, wanted: impl FnOnce(Found) -> Option<T>) -> Option<T> {
        let mut state = self.state.borrow_mut();
        if state.unlike.is_some() {
            return None;
        }
        let recorded = state.accesses.next();
        let (recorded, found) = match recorded {
            Some(Access { request, found }) => (Some(request), Some(found)),
            None => (None, None),
        };
        let answer = found.filter(|_| recorded.as_ref() == Some(&request));
        let answer = answer.and_then(wanted);
        if answer.is_none() {
            state.unlike = Some(Unlike {
                recorded,
                replayed: Some(request),
            });
        }
        answer
    }

    fn done(&self, request: Request, at: Gpa) -> Result<(), MemoryError> {
        let wanted = |found| match found {
            Found::Done => Some(Ok(())),
            Found::Memory(error) => Some(Err(error.into())),
            _ => None,
        };
        self.ask(request, wanted).unwrap_or(Err(lost(at)))
    }

    fn word(&self, request: Request, at: Gpa) -> Result<u64, MemoryError> {
        let wanted = |found| match found {
            Found::Word(word) => Some(Ok(word)),
            Found::Memory(error) => Some(Err(error.into())),
            _ => None,
        };
        self.ask(request, wanted).unwrap_or(Err(lost(at)))
    }

    fn frames(&self, request: Request, gfn: u64) -> Result<(), FrameError> {
        let wanted = |found| match found {
            Found::Done => Some(Ok(())),
            Found::Frame(error) => Some(Err(error.into())),
            _ => None,
        };
        let lost = FrameError::Backend { gfn };
        self.ask(request, wanted).unwrap_or(Err(lost))
    }
}

impl GuestMemory for Script {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        let request = Request::IsRam {
            at: at.0,
            len_bytes,
        };
        let wanted = |found| match found {
            Found::Is(is_ram) => Some(is_ram),
            _ => None,
        };
        self.ask(request, wanted).unwrap_or(false)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let request = Request::Read {
            at: at.0,
            len_bytes: buf.len() as u64,
        };
        let wanted = |found| match found {
            Found::Bytes(bytes) => copy(&bytes, buf).map(Ok),
            Found::Memory(error) => Some(Err(error.into())),
            _ => None,
        };
        self.ask(request, wanted).unwrap_or(Err(lost(at)))
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        let request = Request::Write {
            at: at.0,
            bytes: bytes.to_vec(),
        };
        self.done(request, at)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        let request = Request::Word32 {
            at: at.0,
            op: op.into(),
        };
        let word = self.word(request, at)?;
        u32::try_from(word).map_err(|_| lost(at))
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        let request = Request::Word64 {
            at: at.0,
            op: op.into(),
        };
        self.word(request, at)
    }

    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        let request = Request::Zero {
            at: at.0,
            len_bytes,
        };
        self.done(request, at)
    }
}

impl Frames for Script {
    fn add_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let Range { start, end } = gfns;
        self.frames(Request::AddFrames { start, end }, start)
    }

    fn remove_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let Range { start, end } = gfns;
        self.frames(Request::RemoveFrames { start, end }, start)
    }

    fn check_add(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let Range { start, end } = gfns;
        self.frames(Request::CheckAdd { start, end }, start)
    }

    fn next_step(&self, gfns: Range<u64>) -> FrameStep {
        let Range { start, end } = gfns;
        let wanted = |found| match found {
            Found::Step { frames, takes_slot } => Some(FrameStep { frames, takes_slot }),
            _ => None,
        };
        let lost = FrameStep {
            frames: end.saturating_sub(start),
            takes_slot: false,
        };
        self.ask(Request::NextStep { start, end }, wanted)
            .unwrap_or(lost)
    }
}

impl GuestIo for Script {
    fn copy_from_guest(&self, linear: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let request = Request::CopyIn {
            linear,
            len_bytes: buf.len() as u64,
        };
        let wanted = |found| match found {
            Found::Bytes(bytes) => copy(&bytes, buf).map(Ok),
            Found::Fault => Some(Err(Fault)),
            _ => None,
        };
        self.ask(request, wanted).unwrap_or(Err(Fault))
    }

    fn copy_to_guest(&self, linear: u64, bytes: &[u8]) -> Result<(), Fault> {
        let request = Request::CopyOut {
            linear,
            bytes: bytes.to_vec(),
        };
        let wanted = |found| match found {
            Found::Done => Some(Ok(())),
            Found::Fault => Some(Err(Fault)),
            _ => None,
        };
        self.ask(request, wanted).unwrap_or(Err(Fault))
    }

    fn translate(&self, linear: u64) -> Option<Gpa> {
        let wanted = |found| match found {
            Found::Word(gpa) => Some(Some(Gpa(gpa))),
            Found::Fault => Some(None),
            _ => None,
        };
        self.ask(Request::Translate { linear }, wanted).flatten()
    }
}

/// Fills `buf`, if there are exactly as many bytes.
fn copy(bytes: &[u8], buf: &mut [u8]) -> Option<()> {
    (bytes.len() == buf.len()).then(|| buf.copy_from_slice(bytes))
}

/// The answer to every access after the first difference; the result is not compared any more.
const fn lost(at: Gpa) -> MemoryError {
    MemoryError::Backend { at }
}

#[cfg(test)]
mod tests;
