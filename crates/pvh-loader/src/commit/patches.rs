//! Whether the patches of a plan may be made.

use super::CommitError;
use crate::{
    Image,
    plan::{Boot, LoadPlan, Patch, is_in},
    stubs::Stub,
};

/// Checks that the patches are those of `boot`, in bytes that the plan writes from the image, and that these bytes are
/// still what was found.
pub(super) fn check(plan: &LoadPlan, image: &Image, boot: &Boot) -> Result<(), CommitError> {
    let Some(asked) = boot.patch else {
        let patch = plan.patches.first();
        return patch.map_or(Ok(()), |&patch| Err(CommitError::PatchMismatch { patch }));
    };
    let stubs = asked.stubs.in_order();
    if plan.patches.len() != stubs.len() {
        return Err(CommitError::Incomplete);
    }
    for (&patch, stub) in plan.patches.iter().zip(stubs) {
        if patch.port != asked.port || !is_for(patch, stub) || !is_in(&patch, plan) {
            return Err(CommitError::PatchMismatch { patch });
        }
        let mut found = [0; 3];
        let read = image.read_at(patch.file_offset, &mut found);
        read.map_err(CommitError::ImageChanged)?;
        if found != patch.call.bytes() {
            return Err(CommitError::StubChanged { patch, found });
        }
    }
    Ok(())
}

fn is_for(patch: Patch, stub: Stub) -> bool {
    (patch.call, patch.file_offset, patch.segment) == (stub.call, stub.file_offset, stub.segment)
}
