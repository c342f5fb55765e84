//! The record of a domain's calls and events, which can be replayed.

use std::{
    io::BufWriter,
    path::{Path, PathBuf},
};

use pvh_domain::{RecordError, Recorder};

use super::{error::RunError, outputs::create};
use crate::exit::{complain, sentence};

/// A record in progress.
pub(super) struct Record {
    path: PathBuf,
    recorder: Recorder,
}

impl Record {
    /// Starts a record in a new or truncated file.
    ///
    /// # Errors
    ///
    /// [`RunError::Record`].
    pub(super) fn begin(path: &Path) -> Result<Self, RunError> {
        let file = create(path).map_err(RecordError::Io);
        let recorder = file.and_then(|file| {
            let sink = BufWriter::with_capacity(BUFFER_BYTES, file);
            Recorder::new(Box::new(sink), LIMIT_BYTES)
        });
        let path = path.to_owned();
        match recorder {
            Ok(recorder) => Ok(Self { path, recorder }),
            Err(source) => Err(RunError::Record { path, source }),
        }
    }

    pub(super) fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// Writes the rest; returns whether the record is complete, and reports it if not.
    pub(super) fn finish(&self) -> bool {
        let finished = self.recorder.finish();
        if let Err(error) = &finished {
            let path = self.path.display();
            let what = sentence(error, Some("the part recorded before can be replayed"));
            complain(&format!("{path}: {what}"));
        }
        finished.is_ok()
    }
}

const BUFFER_BYTES: usize = 256 << 10;

/// A guest can make any number of calls, so the record has a limit.
const LIMIT_BYTES: u64 = 1 << 30;
