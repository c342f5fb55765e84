//! What every call of the embedder brings along.

use pvh_memory::Frames;

use super::{Effect, Now};

/// What every call of the embedder's brings along.
pub(super) struct Env<'a> {
    /// Guest memory.
    pub(super) memory: &'a dyn Frames,
    pub(super) now: Now,
    /// What the embedder has to do.
    pub(super) effects: &'a mut Vec<Effect>,
}

impl<'a> Env<'a> {
    pub(super) const fn new(
        memory: &'a dyn Frames,
        now: Now,
        effects: &'a mut Vec<Effect>,
    ) -> Self {
        Self {
            memory,
            now,
            effects,
        }
    }
}
