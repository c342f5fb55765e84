//! The back ends' interface to the program that they are part of.

use std::{fmt, io, thread::JoinHandle};

/// The program around the back ends.
pub trait Host: fmt::Debug + Send + Sync {
    /// Starts the thread of the device with this kind and number, from 0 in each kind. The host
    /// decides about its name, its signal mask and its rights; a panic of `life` has to end the
    /// machine, because the guest would wait for the device without end.
    ///
    /// # Errors
    ///
    /// The host has no more threads.
    fn start_thread(
        &self,
        kind: DeviceKind,
        number: u8,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle<()>>;

    /// Tells the user one line, without waiting for anybody to read it. The names of files are in
    /// it as they are, so control characters have to be escaped.
    fn report(&self, line: &str);
}

/// A kind of device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a host decides about the thread of each kind"
)]
pub enum DeviceKind {
    /// A block device.
    Disk,
    /// A network device.
    Network,
}
