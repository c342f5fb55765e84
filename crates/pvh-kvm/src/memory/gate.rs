//! Keeps the threads of this process out of guest memory while pages of it are replaced.

use std::{
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// A lock of guest memory. An access takes it only while a replacement is expected; before and
/// afterwards, an access costs one look at a flag.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_guarded: AtomicBool,
    lock: RwLock<()>,
}

impl Gate {
    /// Makes accesses take the lock from now on. Call it before other threads share the memory.
    pub(crate) fn guard(&self) {
        self.is_guarded.store(true, SeqCst);
    }

    /// Begins an access, which must begin no other one. It waits while pages are replaced.
    pub(crate) fn enter(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let is_guarded = self.is_guarded.load(SeqCst);
        is_guarded.then(|| self.lock.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until no access is under way, and holds further ones up. `None` if that takes longer
    /// than `patience`.
    pub(crate) fn close(&self, patience: Duration) -> Option<RwLockWriteGuard<'_, ()>> {
        let end = Instant::now().checked_add(patience)?;
        loop {
            match self.lock.try_write() {
                Ok(closed) => return Some(closed),
                Err(TryLockError::Poisoned(closed)) => return Some(closed.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => return None,
                Err(TryLockError::WouldBlock) => thread::yield_now(),
            }
        }
    }

    /// Says that no page will be replaced any more. Call it after the last replacement.
    pub(crate) fn leave_open(&self) {
        self.is_guarded.store(false, SeqCst);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use super::*;

    #[test]
    fn an_access_takes_the_lock_only_while_a_replacement_is_expected() {
        let gate = Gate::default();
        assert!(gate.enter().is_none());
        gate.guard();
        let access = gate.enter();
        assert!(access.is_some() && gate.close(Duration::ZERO).is_none());
        drop(access);
        let closed = gate.close(Duration::ZERO);
        assert!(closed.is_some());
        gate.leave_open();
        assert!(gate.enter().is_none());
    }

    #[test]
    fn an_access_waits_for_the_end_of_a_replacement() {
        let gate = Gate::default();
        gate.guard();
        let closed = gate.close(Duration::ZERO).unwrap();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let access = scope.spawn(|| {
                let _access = gate.enter();
                is_done.load(SeqCst)
            });
            thread::sleep(Duration::from_millis(20));
            is_done.store(true, SeqCst);
            drop(closed);
            assert!(access.join().unwrap());
        });
    }
}
