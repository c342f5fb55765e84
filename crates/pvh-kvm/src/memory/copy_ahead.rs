//! Gets the memory of a guest ready while it starts: huge pages for RAM, a copy of mapped files in
//! huge pages, or copies of pages ahead of a guest that writes to one page after the other.
//!
//! It copies while the first vCPU waits: both would copy the same pages, and each page fault of the
//! guest would interrupt the copying processor.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{HugeCopy, Progress, WriteAhead, ram::GuestRam};
use crate::Kicker;

/// What is done for a guest that starts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct ReadyPlan {
    /// Mapped files are copied into huge pages.
    pub copies_files: bool,
    /// The host is asked for huge pages for all RAM.
    pub wants_huge_ram: bool,
}

/// Copying for a guest that starts, shared by the threads of the vCPUs and a thread that calls the
/// first vCPU out of the guest.
#[derive(Debug)]
pub struct CopyAhead {
    ram: Arc<GuestRam>,
    /// The copy of all files, until it begins or is called off.
    files: Mutex<Option<HugeCopy>>,
    pages: Mutex<Option<WriteAhead>>,
    wants_huge_ram: bool,
    /// The vCPU's thread must look when the vCPU is out of the guest.
    is_wanted: AtomicBool,
    /// Pages were copied since the last request.
    has_copied: AtomicBool,
    /// Nothing will be copied any more.
    is_over: AtomicBool,
}

impl CopyAhead {
    /// Gets `ram` ready, over which all files have been mapped and which no other thread has yet.
    /// `None` if there is nothing to do.
    #[must_use]
    pub fn of(ram: &Arc<GuestRam>, plan: ReadyPlan) -> Option<Self> {
        let pages = WriteAhead::of(ram);
        let files = plan.copies_files.then(|| HugeCopy::of(ram)).flatten();
        let is_idle = pages.is_none() && files.is_none();
        (!is_idle || plan.wants_huge_ram).then(|| Self {
            ram: Arc::clone(ram),
            files: Mutex::new(files),
            pages: Mutex::new(pages),
            wants_huge_ram: plan.wants_huge_ram,
            is_wanted: AtomicBool::new(false),
            has_copied: AtomicBool::new(false),
            is_over: AtomicBool::new(is_idle),
        })
    }

    /// Copies pages if [`CopyAhead::request_until`] has requested it. Call it on the first vCPU's
    /// thread, out of the guest.
    pub fn copy_if_requested(&self) {
        if !self.is_wanted.load(SeqCst) || !self.is_wanted.swap(false, SeqCst) {
            return;
        }
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = self.lock_files();
        if let Some(copy) = files.take() {
            copy.run();
            // Of files that were too large.
            *pages = WriteAhead::of(&self.ram);
        }
        drop(files);
        let Some(pages) = &mut *pages else {
            return self.is_over.store(true, SeqCst);
        };
        loop {
            match pages.step() {
                Progress::Copied => self.has_copied.store(true, SeqCst),
                Progress::Nothing => return,
                _ => return self.is_over.store(true, SeqCst),
            }
        }
    }

    /// Waits until the files have been copied: call it on the thread of each vCPU but the first,
    /// before the vCPU first runs. `is_started` says whether the guest has started the vCPU.
    ///
    /// The files are copied some ms after the guest's start, which is before most guests start
    /// another vCPU. If the guest is faster, or the copy does not begin within 50 ms, it is called
    /// off, and the files stay mapped.
    pub fn wait_for_files(&self, is_started: impl Fn() -> bool) {
        let began = Instant::now();
        loop {
            let mut files = self.lock_files();
            if files.is_none() {
                return;
            }
            if is_started() || began.elapsed() >= FILES_PATIENCE {
                *files = None;
                return;
            }
            drop(files);
            thread::sleep(FILES_POLL);
        }
    }

    /// Asks for huge pages, then requests copies, and kicks the vCPU out of the guest for each, until
    /// `ended` is closed or the guest has run for 10 s: a guest writes to its image while it starts.
    /// The interval grows while there is nothing to copy.
    ///
    /// Nothing is done in the first ms: a guest that has ended by then needs none of it.
    pub fn request_until(&self, vcpu: &Kicker, ended: &Receiver<()>) {
        let started = Instant::now();
        let has_ended =
            |pause| !matches!(ended.recv_timeout(pause), Err(RecvTimeoutError::Timeout));
        let mut pause = BUSY_INTERVAL;
        if has_ended(pause) {
            return;
        }
        if self.wants_huge_ram {
            // Small pages do as well, with more page faults.
            let _ = self.ram.prefer_huge_pages();
        }
        while started.elapsed() < START_TIME && !self.is_over.load(SeqCst) {
            self.is_wanted.store(true, SeqCst);
            // If the host refuses the signal, the request waits for the vCPU's next run.
            let _ = vcpu.kick();
            pause = match self.has_copied.swap(false, SeqCst) {
                true => BUSY_INTERVAL,
                false => pause.saturating_mul(2).min(IDLE_INTERVAL),
            };
            if has_ended(pause) {
                return;
            }
        }
    }

    fn lock_files(&self) -> MutexGuard<'_, Option<HugeCopy>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long other vCPUs wait for the copy to begin, at most.
const FILES_PATIENCE: Duration = Duration::from_millis(50);
/// How often they look whether it has ended.
const FILES_POLL: Duration = Duration::from_millis(1);
/// Interval of requests while pages are copied.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);
/// Longest interval while nothing is copied.
const IDLE_INTERVAL: Duration = Duration::from_millis(256);
/// Time in which a guest starts.
const START_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
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

    const COPIES: ReadyPlan = ReadyPlan {
        copies_files: true,
        wants_huge_ram: false,
    };

    /// 8 MiB of RAM with a file of 4 MiB at 1 MiB.
    fn with_file(plan: ReadyPlan) -> (Arc<GuestRam>, CopyAhead) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 4 << 20], 0).unwrap();
        let ram = Arc::new(GuestRam::new(8 * MIB).unwrap());
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes: 4 * MIB,
        };
        ram.map_file(Gpa(MIB), range).unwrap();
        let ahead = CopyAhead::of(&ram, plan).unwrap();
        (ram, ahead)
    }

    #[test]
    fn it_copies_on_request_while_the_guest_writes_page_after_page() {
        let (ram, ahead) = with_file(ReadyPlan::default());
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

    #[test]
    fn files_are_copied_at_the_first_request_and_vcpus_that_wait_go_on() {
        let (ram, ahead) = with_file(COPIES);
        ahead.copy_if_requested();
        assert_eq!(ram.mapped_files().len(), 1, "nobody asked");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| ahead.wait_for_files(|| false));
            ahead.is_wanted.store(true, SeqCst);
            ahead.copy_if_requested();
            waiting.join().unwrap();
        });
        assert!(ram.mapped_files().is_empty());
        assert!(ahead.is_over.load(SeqCst), "nothing else is mapped");
    }

    #[test]
    fn a_vcpu_that_the_guest_has_started_calls_the_copy_off() {
        let (ram, ahead) = with_file(COPIES);
        ahead.wait_for_files(|| true);
        ahead.is_wanted.store(true, SeqCst);
        ahead.copy_if_requested();
        assert_eq!(ram.mapped_files().len(), 1);
        assert!(ram.gate().enter().is_none());
    }

    #[test]
    fn a_vcpu_does_not_wait_for_ever() {
        let (ram, ahead) = with_file(COPIES);
        let began = Instant::now();
        ahead.wait_for_files(|| false);
        assert!(began.elapsed() >= FILES_PATIENCE);
        assert!(ram.gate().enter().is_none());
    }
}
