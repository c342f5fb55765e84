//! Changes in the kernel's code.

use core::fmt;

use pvh_abi::Gpa;
use pvh_elfnote::{PF_X, ProgramHeader};

use super::{LoadPlan, PlanError, WriteKind};
use crate::{
    layout::GuestRange,
    stubs::{CallInstruction, HypercallPatch, Stub},
};

/// One instruction that is changed after its segment has been written: three bytes of code become three others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patch {
    /// Where the instruction is, as planned.
    pub at: Gpa,
    /// The instruction that is there.
    pub call: CallInstruction,
    /// Where the image's file has it.
    pub file_offset: u64,
    /// Which of the image's loadable segments it is in.
    pub segment: usize,
    /// The port that the guest writes `eax` to instead.
    pub port: u8,
}

impl Patch {
    /// Returns the range that changes: three bytes.
    #[must_use]
    pub const fn range(&self) -> GuestRange {
        GuestRange::new(self.at, self.call.bytes().len() as u64)
    }

    /// Returns the bytes it becomes: `out %eax, $port`, and a NOP for the third byte.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 3] {
        [0xE7, self.port, 0x90]
    }

    /// Tells whether its three bytes all come from the file, by the write that is planned for them.
    pub(crate) fn is_in(&self, plan: &LoadPlan) -> bool {
        let inside = |range: GuestRange| {
            let (patch, whole) = (self.range().span(), range.span());
            whole.start <= patch.start && patch.end <= whole.end && patch.len() == PATCH_BYTES
        };
        plan.writes.iter().any(|write| match write.kind {
            WriteKind::Segment { index, file_offset } => {
                let from_start = self.at.0.checked_sub(write.range.start.0);
                let offset = from_start.and_then(|from_start| file_offset.checked_add(from_start));
                index == self.segment && offset == Some(self.file_offset) && inside(write.range)
            }
            _ => false,
        })
    }
}

impl fmt::Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.call.name(), self.at)
    }
}

/// The patches that `patch` asks for, in the image as `plan` has placed it.
pub(super) fn patches(
    patch: &HypercallPatch,
    segments: &[ProgramHeader],
    plan: &LoadPlan,
) -> Result<Vec<Patch>, PlanError> {
    let [first, second] = patch.stubs.in_order();
    let planned = |stub: Stub| {
        let outside = PlanError::StubOutside {
            call: stub.call,
            at: stub.at,
        };
        let is_code = |segment: &ProgramHeader| segment.flags & PF_X != 0;
        let moved = stub.at.0.checked_add_signed(plan.moved_by);
        let found = Patch {
            at: Gpa(moved.ok_or(outside)?),
            call: stub.call,
            file_offset: stub.file_offset,
            segment: stub.segment,
            port: patch.port,
        };
        let code = segments.get(stub.segment).is_some_and(is_code);
        (code && found.is_in(plan)).then_some(found).ok_or(outside)
    };
    let (first, second) = (planned(first)?, planned(second)?);
    if first.range().overlaps(second.range()) {
        return Err(PlanError::StubsOverlap { at: second.at });
    }
    Ok(vec![first, second])
}

/// The length of either instruction.
const PATCH_BYTES: u64 = 3;
