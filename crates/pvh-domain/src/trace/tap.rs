//! Guest memory that records every access.

use core::{cell::RefCell, ops::Range};

use pvh_abi::Gpa;
use pvh_hypercall::{Fault, GuestIo};
use pvh_memory::{FrameError, FrameStep, Frames, GuestMemory, MemoryError, WordOp};

use super::wire::{Access, Found, Request};

/// What was done, in order.
#[derive(Default)]
pub(super) struct Accesses(RefCell<Vec<Access>>);

impl Accesses {
    fn note(&self, request: Request, found: impl Into<Found>) {
        let found = found.into();
        self.0.borrow_mut().push(Access { request, found });
    }

    pub(super) fn into_inner(self) -> Vec<Access> {
        self.0.into_inner()
    }
}

/// Guest memory of an embedder, with a note of each access.
pub(super) struct MemoryTap<'a> {
    pub(super) memory: &'a dyn Frames,
    pub(super) accesses: &'a Accesses,
}

impl GuestMemory for MemoryTap<'_> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        let is_ram = self.memory.is_ram(at, len_bytes);
        let request = Request::IsRam {
            at: at.0,
            len_bytes,
        };
        self.accesses.note(request, Found::Is(is_ram));
        is_ram
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        let read = self.memory.read(at, buf);
        let request = Request::Read {
            at: at.0,
            len_bytes: buf.len() as u64,
        };
        let found = read.map_or_else(Found::from, |()| Found::Bytes(buf.to_vec()));
        self.accesses.note(request, found);
        read
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        let written = self.memory.write(at, bytes);
        let request = Request::Write {
            at: at.0,
            bytes: bytes.to_vec(),
        };
        self.accesses.note(request, written);
        written
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        let word = self.memory.atomic_u32(at, op);
        let request = Request::Word32 {
            at: at.0,
            op: op.into(),
        };
        let found = word.map_or_else(Found::from, |word| Found::Word(word.into()));
        self.accesses.note(request, found);
        word
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        let word = self.memory.atomic_u64(at, op);
        let request = Request::Word64 {
            at: at.0,
            op: op.into(),
        };
        let found = word.map_or_else(Found::from, Found::Word);
        self.accesses.note(request, found);
        word
    }

    fn zero(&self, at: Gpa, len_bytes: u64) -> Result<(), MemoryError> {
        let zeroed = self.memory.zero(at, len_bytes);
        let request = Request::Zero {
            at: at.0,
            len_bytes,
        };
        self.accesses.note(request, zeroed);
        zeroed
    }
}

impl Frames for MemoryTap<'_> {
    fn add_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let Range { start, end } = gfns;
        let added = self.memory.add_frames(gfns);
        self.accesses.note(Request::AddFrames { start, end }, added);
        added
    }

    fn remove_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let Range { start, end } = gfns;
        let removed = self.memory.remove_frames(gfns);
        self.accesses
            .note(Request::RemoveFrames { start, end }, removed);
        removed
    }

    fn check_add(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        let Range { start, end } = gfns;
        let checked = self.memory.check_add(gfns);
        self.accesses
            .note(Request::CheckAdd { start, end }, checked);
        checked
    }

    fn next_step(&self, gfns: Range<u64>) -> FrameStep {
        let Range { start, end } = gfns;
        let step = self.memory.next_step(gfns);
        let found = Found::Step {
            frames: step.frames,
            takes_slot: step.takes_slot,
        };
        self.accesses.note(Request::NextStep { start, end }, found);
        step
    }
}

/// A caller's view of guest memory, with a note of each access.
pub(super) struct IoTap<'a> {
    pub(super) io: &'a dyn GuestIo,
    pub(super) accesses: &'a Accesses,
}

impl GuestIo for IoTap<'_> {
    fn copy_from_guest(&self, linear: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let copied = self.io.copy_from_guest(linear, buf);
        let request = Request::CopyIn {
            linear,
            len_bytes: buf.len() as u64,
        };
        let found = copied.map_or(Found::Fault, |()| Found::Bytes(buf.to_vec()));
        self.accesses.note(request, found);
        copied
    }

    fn copy_to_guest(&self, linear: u64, bytes: &[u8]) -> Result<(), Fault> {
        let copied = self.io.copy_to_guest(linear, bytes);
        let request = Request::CopyOut {
            linear,
            bytes: bytes.to_vec(),
        };
        let found = copied.map_or(Found::Fault, |()| Found::Done);
        self.accesses.note(request, found);
        copied
    }

    fn translate(&self, linear: u64) -> Option<Gpa> {
        let gpa = self.io.translate(linear);
        let found = gpa.map_or(Found::Fault, |gpa| Found::Word(gpa.0));
        self.accesses.note(Request::Translate { linear }, found);
        gpa
    }
}
