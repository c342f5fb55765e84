//! Writes a trace.

use std::{
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    file::{RecordError, Recorded, Writer},
    live::LiveLog,
    wire::Record,
};

/// A handle on the file and the log that records go to. It can be cloned: a machine that reboots
/// continues the same trace. A record that cannot be written ends the trace, and the domain runs
/// on.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    writer: Option<Writer>,
    live: Option<LiveLog>,
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
        let writer = Writer::new(sink, limit_bytes)?;
        Ok(Self::of(Some(writer), None))
    }

    /// Gives the records to a log as lines while the domain runs, and writes no file.
    #[must_use]
    pub fn live(log: LiveLog) -> Self {
        Self::of(None, Some(log))
    }

    /// Gives the records to a log too; it replaces an earlier one.
    #[must_use]
    pub fn with_log(self, log: LiveLog) -> Self {
        self.shared().live = Some(log);
        self
    }

    fn of(writer: Option<Writer>, live: Option<LiveLog>) -> Self {
        let shared = Shared {
            writer,
            live,
            error: None,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Flushes the trace, and tells what it holds: nothing, if there is a log alone.
    ///
    /// # Errors
    ///
    /// [`RecordError`] if it ends before the last call that was made; what comes before that is
    /// whole. It is told once.
    pub fn finish(&self) -> Result<Recorded, RecordError> {
        let mut shared = self.shared();
        let Shared { writer, error, .. } = &mut *shared;
        let flushed = writer.as_mut().map_or(Ok(()), Writer::flush);
        match error.take() {
            Some(error) => Err(error),
            None => flushed.map(|()| writer.as_ref().map(Writer::recorded).unwrap_or_default()),
        }
    }

    /// Returns how many lines the log has dropped since it said so last, and forgets them.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        let mut shared = self.shared();
        shared.live.as_mut().map_or(0, LiveLog::take_dropped)
    }

    /// Tells whether the trace has ended and there is no log, so that no record has to be made.
    pub(crate) fn is_ended(&self) -> bool {
        let shared = self.shared();
        shared.live.is_none() && shared.writer.as_ref().is_none_or(Writer::is_ended)
    }

    pub(super) fn write(&self, record: &Record) {
        let mut shared = self.shared();
        let Shared {
            writer,
            live,
            error,
        } = &mut *shared;
        if let Some(live) = live {
            live.take(record);
        }
        if let Some(writer) = writer.as_mut().filter(|writer| !writer.is_ended()) {
            *error = error.take().or(writer.write(record).err());
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
