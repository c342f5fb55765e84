//! The threads of the disks of one machine.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{back_end::DiskBackEnd, bell::Bell, guest::GuestSide, names::NamedDisk};
use crate::{
    machine::Board,
    threads::{self, OnPanic, Role},
};

/// The threads of the disks of one machine, one for each disk. Dropping it stops them.
#[derive(Debug, Default)]
pub(crate) struct DiskThreads(Vec<DiskThread>);

#[derive(Debug)]
struct DiskThread {
    named: NamedDisk,
    bell: Arc<Bell>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

/// A disk whose thread still waits for the host, so that it was left behind.
#[derive(Debug)]
pub(crate) struct StuckDisk {
    name: String,
    path: PathBuf,
}

impl DiskThreads {
    /// Starts a thread for each disk. A panic of one ends the machine.
    ///
    /// # Errors
    ///
    /// The host refuses a thread; those that run are stopped.
    pub(crate) fn start<G: GuestSide>(
        disks: Vec<DiskBackEnd<G>>,
        board: &Arc<Board>,
    ) -> io::Result<Self> {
        let mut started = Self::default();
        for (index, disk) in (0..).zip(disks) {
            let (named, bell) = (disk.named().clone(), disk.stopper());
            let (ending, ended) = mpsc::channel::<()>();
            let on_panic = OnPanic::End(Arc::clone(board));
            let thread = threads::start(Role::Disk(index), on_panic, move || {
                // Dropped when the thread ends, however it does.
                let _ending = ending;
                disk.run();
            })?;
            started.0.push(DiskThread {
                named,
                bell,
                ended,
                thread,
            });
        }
        Ok(started)
    }

    /// Stops the threads after the requests that they work on, and waits for them: for all of them
    /// together at most [`END_TIMEOUT`]. A thread whose file does not answer for longer is left
    /// behind; it keeps the guest's memory and its image until the process ends. Returns the first
    /// such disk.
    pub(crate) fn stop(&mut self) -> Option<StuckDisk> {
        self.stop_within(END_TIMEOUT)
    }

    pub(super) fn stop_within(&mut self, limit: Duration) -> Option<StuckDisk> {
        let begun = Instant::now();
        self.0.iter().for_each(|disk| disk.bell.stop());
        let mut stuck = None;
        for disk in self.0.drain(..) {
            let left = limit.saturating_sub(begun.elapsed());
            if disk.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                stuck.get_or_insert(StuckDisk {
                    name: disk.named.name,
                    path: disk.named.image.path().to_owned(),
                });
                continue;
            }
            // A panic's message was printed, and the panic has ended the machine.
            let _ = disk.thread.join();
        }
        stuck
    }
}

impl Drop for DiskThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Display for StuckDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, path) = (&self.name, self.path.display());
        write!(
            f,
            "disk {name} ({path}): the host has not finished a request for {} seconds",
            END_TIMEOUT.as_secs()
        )
    }
}

/// How long the end of a machine waits for its disks.
const END_TIMEOUT: Duration = Duration::from_secs(5);
