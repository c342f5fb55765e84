//! The file: a magic number, a version, and records with their lengths.

use std::io::{self, ErrorKind, Read, Write};

use super::wire::Record;

/// Why a trace ends before the last call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It cannot be written.
    #[error("the trace cannot be written")]
    Io(#[source] io::Error),
    /// The trace has reached its limit.
    #[error("the trace is longer than {limit_bytes} bytes")]
    TooLong {
        /// How long it may be.
        limit_bytes: u64,
    },
    /// A single call made a longer record than is allowed.
    #[error("record {record} is longer than {} bytes", RECORD_BYTES_MAX)]
    RecordTooLong {
        /// Its number, counted from 0.
        record: u64,
    },
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be read.
    #[error("the trace cannot be read")]
    Io(#[source] io::Error),
    /// The file does not begin with a trace's magic number.
    #[error("not a trace: the file does not begin with PVHTRACE")]
    NotATrace,
    /// It is of a version that is not known here.
    #[error("the trace has version {found}; versions 1 to {VERSION} can be read")]
    Version {
        /// Its version.
        found: u16,
    },
    /// The trace ends in the middle of a record.
    #[error("the trace ends in the middle of record {record}")]
    Truncated {
        /// Its number, counted from 0.
        record: u64,
    },
    /// The length of a record is above the limit.
    #[error(
        "record {record} has {len_bytes} bytes; the limit is {}",
        RECORD_BYTES_MAX
    )]
    RecordTooLong {
        /// Its number, counted from 0.
        record: u64,
        /// Its length.
        len_bytes: u32,
    },
    /// A record cannot be decoded.
    #[error("record {record} cannot be decoded")]
    Malformed {
        /// Its number, counted from 0.
        record: u64,
    },
}

/// What a trace holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Recorded {
    /// How many calls.
    pub records: u64,
    /// How long it is.
    pub len_bytes: u64,
}

/// Writes records.
pub(super) struct Writer {
    sink: Box<dyn Write + Send>,
    limit_bytes: u64,
    written_bytes: u64,
    records: u64,
    is_ended: bool,
}

impl Writer {
    pub(super) fn new(
        mut sink: Box<dyn Write + Send>,
        limit_bytes: u64,
    ) -> Result<Self, RecordError> {
        let header = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
        sink.write_all(&header).map_err(RecordError::Io)?;
        Ok(Self {
            sink,
            limit_bytes,
            written_bytes: header.len() as u64,
            records: 0,
            is_ended: false,
        })
    }

    /// Appends a record. The first that cannot be written is the last.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), RecordError> {
        let written = self.append(record);
        self.is_ended = written.is_err();
        written
    }

    fn append(&mut self, record: &Record) -> Result<(), RecordError> {
        let number = self.records;
        let too_long = RecordError::RecordTooLong { record: number };
        // Encoding into memory fails for nothing but its own limits.
        let Ok(bytes) = postcard::to_stdvec(record) else {
            return Err(too_long);
        };
        let len = u32::try_from(bytes.len())
            .ok()
            .filter(|&len| len <= RECORD_BYTES_MAX);
        let len = len.ok_or(too_long)?;
        let whole = u64::from(len).saturating_add(LENGTH_BYTES as u64);
        let written_bytes = self.written_bytes.saturating_add(whole);
        if written_bytes > self.limit_bytes {
            let limit_bytes = self.limit_bytes;
            return Err(RecordError::TooLong { limit_bytes });
        }
        let written = self.sink.write_all(&len.to_le_bytes());
        let written = written.and_then(|()| self.sink.write_all(&bytes));
        written.map_err(RecordError::Io)?;
        self.written_bytes = written_bytes;
        self.records = number.saturating_add(1);
        Ok(())
    }

    pub(super) const fn is_ended(&self) -> bool {
        self.is_ended
    }

    pub(super) const fn recorded(&self) -> Recorded {
        Recorded {
            records: self.records,
            len_bytes: self.written_bytes,
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), RecordError> {
        self.sink.flush().map_err(RecordError::Io)
    }
}

/// Reads records, each into a buffer of no more than [`RECORD_BYTES_MAX`] bytes.
pub(super) struct Reader<R> {
    source: R,
    version: u16,
    records: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(mut source: R) -> Result<Self, TraceError> {
        let mut header = [0; MAGIC.len() + 2];
        fill(&mut source, &mut header, TraceError::NotATrace)?;
        let (magic, version) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(TraceError::NotATrace);
        }
        let found = version.try_into().map_or(0, u16::from_le_bytes);
        if !(1..=VERSION).contains(&found) {
            return Err(TraceError::Version { found });
        }
        Ok(Self {
            source,
            version: found,
            records: 0,
        })
    }

    /// The version of the trace.
    pub(super) const fn version(&self) -> u16 {
        self.version
    }

    /// The next record, or `None` at the end of the trace.
    pub(super) fn next(&mut self) -> Result<Option<Record>, TraceError> {
        let record = self.records;
        let truncated = || TraceError::Truncated { record };
        let mut first = [0];
        match self.source.read_exact(&mut first) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(TraceError::Io)?,
        }
        let mut rest = [0; LENGTH_BYTES - 1];
        fill(&mut self.source, &mut rest, truncated())?;
        let ([a], [b, c, d]) = (first, rest);
        let len_bytes = u32::from_le_bytes([a, b, c, d]);
        if len_bytes > RECORD_BYTES_MAX {
            return Err(TraceError::RecordTooLong { record, len_bytes });
        }
        let mut bytes = vec![0; usize::try_from(len_bytes).unwrap_or(0)];
        fill(&mut self.source, &mut bytes, truncated())?;
        let malformed = TraceError::Malformed { record };
        match postcard::take_from_bytes(&bytes) {
            Ok((found, [])) => {
                self.records = record.saturating_add(1);
                Ok(Some(found))
            }
            _ => Err(malformed),
        }
    }
}

fn fill(source: &mut impl Read, buf: &mut [u8], ended: TraceError) -> Result<(), TraceError> {
    match source.read_exact(buf) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(ended),
        read => read.map_err(TraceError::Io),
    }
}

const MAGIC: &[u8; 8] = b"PVHTRACE";

/// The version that is written; all before it are read.
const VERSION: u16 = 5;

/// In traces of this version, calls do not wait for vCPUs to be observed.
pub(super) const UNOBSERVED: u16 = 1;

/// In traces up to this version, the time is not written every second.
pub(super) const UNREFRESHED: u16 = 2;

/// In traces up to this version, a call stops by the length of its lists alone.
pub(super) const UNBUDGETED: u16 = 3;

/// The length before each record.
const LENGTH_BYTES: usize = 4;

/// How long a record may be: much more than a call does.
const RECORD_BYTES_MAX: u32 = 4 << 20;
