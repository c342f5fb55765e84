//! Copies pages ahead of a guest that writes to one page after the other, while its first vCPU
//! waits.
//!
//! It does not copy while the vCPU runs: both would copy the same pages, and each page fault of the
//! guest would interrupt the copying processor.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Progress, WriteAhead};
use crate::Kicker;

/// Copying ahead, shared by the thread of a vCPU and a thread that calls the vCPU out of the guest.
#[derive(Debug)]
pub struct CopyAhead {
    pages: Mutex<WriteAhead>,
    /// The vCPU's thread must look when the vCPU is out of the guest.
    is_wanted: AtomicBool,
    /// Pages were copied since the last request.
    has_copied: AtomicBool,
    /// Nothing will be copied any more.
    is_over: AtomicBool,
}

impl CopyAhead {
    /// Copies these pages.
    #[must_use]
    pub const fn new(pages: WriteAhead) -> Self {
        Self {
            pages: Mutex::new(pages),
            is_wanted: AtomicBool::new(false),
            has_copied: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    /// Copies pages if [`CopyAhead::request_until`] has requested it. Call it on the vCPU's thread,
    /// out of the guest.
    pub fn copy_if_requested(&self) {
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

    /// Requests copies, and kicks the vCPU out of the guest for each, until `ended` is closed or
    /// the guest has run for 10 s: a guest writes to its image while it starts. The interval grows
    /// while there is nothing to copy.
    pub fn request_until(&self, vcpu: &Kicker, ended: &Receiver<()>) {
        let started = Instant::now();
        let mut pause = BUSY_INTERVAL;
        while started.elapsed() < START_TIME && !self.is_over.load(SeqCst) {
            if let Ok(()) | Err(RecvTimeoutError::Disconnected) = ended.recv_timeout(pause) {
                return;
            }
            pause = match self.has_copied.swap(false, SeqCst) {
                true => BUSY_INTERVAL,
                false => pause.saturating_mul(2).min(IDLE_INTERVAL),
            };
            self.is_wanted.store(true, SeqCst);
            // If the host refuses the signal, the request waits for the vCPU's next exit.
            let _ = vcpu.kick();
        }
    }
}

/// Interval of requests while pages are copied.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);
/// Longest interval while nothing is copied.
const IDLE_INTERVAL: Duration = Duration::from_millis(256);
/// Time in which a guest starts.
const START_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{
        os::{fd::AsFd, unix::fs::FileExt},
        sync::Arc,
    };

    use pvh_abi::Gpa;
    use pvh_memory::{FileRange, GuestMemory};

    use super::*;
    use crate::GuestRam;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_copies_on_request_while_the_guest_writes_page_after_page() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 4 << 20], 0).unwrap();
        let ram = Arc::new(GuestRam::new(8 * MIB).unwrap());
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes: 4 * MIB,
        };
        ram.map_file(Gpa(MIB), range).unwrap();
        let ahead = CopyAhead::new(WriteAhead::of(&ram).unwrap());
        let ask = || {
            ahead.is_wanted.store(true, SeqCst);
            ahead.copy_if_requested();
            ahead.has_copied.swap(false, SeqCst)
        };
        assert!(!ask(), "nothing was written");
        ram.write(Gpa(MIB), &[2; 1 << 20]).unwrap();
        ahead.copy_if_requested();
        assert!(!ahead.has_copied.load(SeqCst), "nobody asked");
        assert!(ask());
        assert!(!ask(), "it is far enough ahead");
        // The pages ahead hold what the file does.
        let mut bytes = vec![0; 3 << 20];
        ram.read(Gpa(2 * MIB), &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 1));
    }
}
