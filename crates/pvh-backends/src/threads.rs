//! The threads of the devices of one machine.

use std::{
    fmt, io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use pvh_blkif::DiskError;
use pvh_xenstore::StoreError;

use crate::{
    bell::Bell,
    host::{DeviceKind, Host},
};

/// A device of a guest, whose thread is yet to be started. Dropped, it leaves the guest with a back
/// end that never connects.
pub struct Device {
    pub(crate) kind: DeviceKind,
    /// What messages call it.
    pub(crate) title: String,
    pub(crate) bell: Arc<Bell>,
    /// The body of its thread, which ends when the bell says stop.
    pub(crate) life: Box<dyn FnOnce() + Send>,
}

/// Why a guest does not get a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The host has no more descriptors.
    #[error("cannot create an eventfd for a device")]
    Event(#[source] io::Error),
    /// The image has a size that no disk has.
    #[error("the disk cannot be shown to the guest")]
    Disk(#[source] DiskError),
    /// The store refuses the device.
    #[error("the store refuses the nodes of a device")]
    Store(#[source] StoreError),
}

/// The threads of the devices of one machine, one for each device. Dropping it stops them.
#[derive(Debug, Default)]
pub struct DeviceThreads(Vec<DeviceThread>);

#[derive(Debug)]
struct DeviceThread {
    title: String,
    bell: Arc<Bell>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

/// A device whose thread still waits for the host, so that it was left behind.
#[derive(Debug)]
pub struct StuckDevice {
    title: String,
}

impl DeviceThreads {
    /// Starts a thread for each device.
    ///
    /// # Errors
    ///
    /// The host refuses a thread; those that run are stopped.
    pub fn start(devices: Vec<Device>, host: &dyn Host) -> io::Result<Self> {
        let mut started = Self::default();
        let (mut disks, mut networks) = (0..=u8::MAX, 0..=u8::MAX);
        for device in devices {
            let number = match device.kind {
                DeviceKind::Disk => disks.next(),
                DeviceKind::Network => networks.next(),
            };
            let number = number.ok_or(io::ErrorKind::QuotaExceeded)?;
            let (ending, ended) = mpsc::channel::<()>();
            let run = device.life;
            let life = move || {
                // Dropped when the thread ends, however it does.
                let _ending = ending;
                run();
            };
            let thread = host.start_thread(device.kind, number, Box::new(life))?;
            started.0.push(DeviceThread {
                title: device.title,
                bell: device.bell,
                ended,
                thread,
            });
        }
        Ok(started)
    }

    /// Stops the threads after the requests that they work on, and waits for them: for all of them
    /// together at most 5 seconds. A thread whose file does not answer for longer is left behind;
    /// it keeps the guest's memory and its image until the process ends. Returns the first such
    /// device.
    pub fn stop(&mut self) -> Option<StuckDevice> {
        self.stop_within(END_TIMEOUT)
    }

    pub(crate) fn stop_within(&mut self, limit: Duration) -> Option<StuckDevice> {
        let begun = Instant::now();
        self.0.iter().for_each(|device| device.bell.stop());
        let mut stuck = None;
        for device in self.0.drain(..) {
            let left = limit.saturating_sub(begun.elapsed());
            if device.ended.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                stuck.get_or_insert(StuckDevice {
                    title: device.title,
                });
                continue;
            }
            // A panic's message was printed, and the panic has ended the machine.
            let _ = device.thread.join();
        }
        stuck
    }
}

impl Drop for DeviceThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.title).finish()
    }
}

impl fmt::Display for StuckDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: the host has not finished a request for {} seconds",
            self.title,
            END_TIMEOUT.as_secs()
        )
    }
}

/// How long the end of a machine waits for its devices.
const END_TIMEOUT: Duration = Duration::from_secs(5);
