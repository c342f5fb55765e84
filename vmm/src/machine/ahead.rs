//! Copies pages ahead of a guest that writes to one after the other, while its first vCPU waits.
//!
//! Not while it runs: both would copy the same pages, and each of the guest's faults would interrupt the other's processor.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use pvh_kvm::{Kicker, Progress, WriteAhead};

/// What the thread of a vCPU and the one that calls it out of the guest share.
#[derive(Debug)]
pub(crate) struct Ahead {
    pages: Mutex<WriteAhead>,
    /// The vCPU is to look when it comes out.
    is_wanted: AtomicBool,
    /// It has copied pages since it was asked last.
    has_copied: AtomicBool,
    is_over: AtomicBool,
}

impl Ahead {
    pub(crate) const fn new(pages: WriteAhead) -> Self {
        Self {
            pages: Mutex::new(pages),
            is_wanted: AtomicBool::new(false),
            has_copied: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    /// Copies what is to be copied, if it is time to look: on the thread of the vCPU, out of the guest.
    pub(crate) fn look(&self) {
        if !self.is_wanted.load(SeqCst) || !self.is_wanted.swap(false, SeqCst) {
            return;
        }
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match pages.step() {
                Progress::Copied => self.has_copied.store(true, SeqCst),
                Progress::Nothing => return,
                _ => return self.is_over.store(true, SeqCst),
            }
        }
    }

    /// Has the vCPU look until the machine ends, or the guest is no longer new: an image is written to while it starts. It
    /// looks less and less often while there is nothing to copy.
    pub(super) fn call(&self, vcpu: &Kicker, ended: &Receiver<()>) {
        let started = Instant::now();
        let mut pause = SHORT_PAUSE;
        while started.elapsed() < NEW && !self.is_over.load(SeqCst) {
            if let Ok(()) | Err(RecvTimeoutError::Disconnected) = ended.recv_timeout(pause) {
                return;
            }
            pause = match self.has_copied.swap(false, SeqCst) {
                true => SHORT_PAUSE,
                false => pause.saturating_mul(2).min(LONG_PAUSE),
            };
            self.is_wanted.store(true, SeqCst);
            // A signal that the host refuses leaves the request to look at the next exit.
            let _ = vcpu.kick();
        }
    }
}

/// How often a guest is looked at that writes to pages one after the other.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
/// How often one is looked at that does not.
const LONG_PAUSE: Duration = Duration::from_millis(256);
/// How long a guest is new.
const NEW: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd, unix::fs::FileExt},
        sync::Arc,
    };

    use pvh_abi::Gpa;
    use pvh_kvm::GuestRam;
    use pvh_memory::{FileRange, GuestMemory};

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_copies_when_it_is_asked_and_the_guest_goes_through_its_image() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 4 << 20], 0).unwrap();
        let ram = Arc::new(GuestRam::new(8 * MIB).unwrap());
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes: 4 * MIB,
        };
        ram.map_file(Gpa(MIB), range).unwrap();
        let ahead = Ahead::new(WriteAhead::of(&ram).unwrap());
        let ask = || {
            ahead.is_wanted.store(true, SeqCst);
            ahead.look();
            ahead.has_copied.swap(false, SeqCst)
        };
        assert!(!ask(), "nothing was written");
        ram.write(Gpa(MIB), &[2; 1 << 20]).unwrap();
        ahead.look();
        assert!(!ahead.has_copied.load(SeqCst), "nobody asked");
        assert!(ask());
        assert!(!ask(), "it is far enough ahead");
        // The pages ahead hold what the file does.
        let mut bytes = vec![0; 3 << 20];
        ram.read(Gpa(2 * MIB), &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 1));
    }
}
