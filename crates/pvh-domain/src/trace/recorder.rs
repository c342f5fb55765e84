//! Writes a trace.

use std::{
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    file::{RecordError, Recorded, Writer},
    wire::Record,
};

/// A handle on the file that records go to. It can be cloned: a machine that reboots continues the
/// same trace. A record that cannot be written ends the trace, and the domain runs on.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    writer: Writer,
    error: Option<RecordError>,
}

impl Recorder {
    /// Begins a trace of at most `limit_bytes`: a guest may make as many calls as it likes.
    ///
    /// Each record is one or two writes to `sink`; give a buffered one.
    ///
    /// # Errors
    ///
    /// [`RecordError::Io`] if its first bytes cannot be written.
    pub fn new(sink: Box<dyn Write + Send>, limit_bytes: u64) -> Result<Self, RecordError> {
        let shared = Shared {
            writer: Writer::new(sink, limit_bytes)?,
            error: None,
        };
        Ok(Self {
            shared: Arc::new(Mutex::new(shared)),
        })
    }

    /// Flushes the trace, and tells what it holds.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if it ends before the last call that was made; what comes before that is
    /// whole. It is told once.
    pub fn finish(&self) -> Result<Recorded, RecordError> {
        let mut shared = self.shared();
        let flushed = shared.writer.flush();
        match shared.error.take() {
            Some(error) => Err(error),
            None => flushed.map(|()| shared.writer.recorded()),
        }
    }

    /// Tells whether the trace has ended, so that no record has to be made.
    pub(crate) fn is_ended(&self) -> bool {
        self.shared().writer.is_ended()
    }

    pub(super) fn write(&self, record: &Record) {
        let mut shared = self.shared();
        if shared.error.is_none() && !shared.writer.is_ended() {
            shared.error = shared.writer.write(record).err();
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A thread that panicked left no half-written state: a record is whole, or the trace has
        // ended.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl core::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
