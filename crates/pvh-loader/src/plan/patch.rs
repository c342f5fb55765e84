//! Plans the changes to the kernel's hypercall stubs.

use pvh_abi::{Gpa, GuestRange};
use pvh_elfnote::{PF_X, ProgramHeader};

use super::{
    error::PlanError,
    placement::{Patch, Placement, WriteKind},
};
use crate::{
    layout::Span,
    stubs::{HypercallPatch, Stub},
};

/// Returns the patches that `patch` asks for, for the image that `plan` has placed.
pub(super) fn patches(
    patch: &HypercallPatch,
    segments: &[ProgramHeader],
    plan: &Placement,
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
        (code && is_in(&found, plan))
            .then_some(found)
            .ok_or(outside)
    };
    let (first, second) = (planned(first)?, planned(second)?);
    if first.range().overlaps(second.range()) {
        return Err(PlanError::StubsOverlap { at: second.at });
    }
    Ok(vec![first, second])
}

/// Tells whether one planned write copies all 3 bytes of `patch` from the file.
fn is_in(patch: &Patch, plan: &Placement) -> bool {
    let inside = |range: GuestRange| {
        let (patch, whole) = (Span::of(patch.range()), Span::of(range));
        whole.start <= patch.start && patch.end <= whole.end && patch.len() == PATCH_BYTES
    };
    plan.writes.iter().any(|write| match write.kind {
        WriteKind::Segment { index, file_offset } => {
            let from_start = patch.at.0.checked_sub(write.range.start.0);
            let offset = from_start.and_then(|from_start| file_offset.checked_add(from_start));
            index == patch.segment && offset == Some(patch.file_offset) && inside(write.range)
        }
        _ => false,
    })
}

/// Length of VMCALL and of VMMCALL.
const PATCH_BYTES: u64 = 3;
