//! Files of traces: their ends, their limits, and devices that fail.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::io::{self, BufReader, Read, Write};

use flate2::read::GzDecoder;
use pvh_domain::{RecordError, Recorder, ReplayError, TraceError, replay};

/// A trace of a guest whose vCPUs go up and down.
fn trace() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/soak.trace.gz");
    let packed = BufReader::new(std::fs::File::open(path).unwrap());
    let mut trace = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut trace).unwrap();
    trace
}

/// A file on a device that fails behind its first bytes.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 => Err(io::ErrorKind::StaleNetworkFileHandle.into()),
            len => Ok(len),
        }
    }
}

/// A sink that takes everything and keeps nothing.
struct Leaking;

impl Write for Leaking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_device_that_fails_is_not_taken_for_the_end_of_the_trace() {
    let trace = trace();
    let first = u32::from_le_bytes(trace[10..14].try_into().unwrap());
    let border = 14 + usize::try_from(first).unwrap();
    // In the header, before a record, in a length, and in a record.
    for len in [0, 5, border, border + 2, border + 5] {
        let failed = replay(Failing(&trace[..len]));
        assert!(
            matches!(failed, Err(ReplayError::Trace(TraceError::Io(_)))),
            "{len}: {failed:?}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_once_and_with_its_cause() {
    let folder = std::fs::File::open(std::env::temp_dir()).unwrap();
    let failed = replay(folder).unwrap_err();
    assert_eq!(failed.to_string(), "the trace cannot be read");
    let cause = std::error::Error::source(&failed).unwrap().to_string();
    assert!(cause.contains("Is a directory"), "{cause}");
}

#[test]
fn a_record_may_say_4_mib_and_not_a_byte_more() {
    for (len, is_too_long) in [(4 << 20, false), ((4 << 20) + 1, true)] {
        let mut trace = trace();
        trace.truncate(10);
        trace.extend(u32::to_le_bytes(len));
        match replay(&trace[..]).unwrap_err() {
            ReplayError::Trace(TraceError::RecordTooLong { len_bytes, .. }) => {
                assert!(is_too_long && len_bytes == len);
            }
            ReplayError::Trace(TraceError::Truncated { record: 0 }) => assert!(!is_too_long),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_trace_that_cannot_be_flushed_is_not_finished() {
    let recorder = Recorder::new(Box::new(Leaking), u64::MAX).unwrap();
    assert!(matches!(recorder.finish(), Err(RecordError::Io(_))));
    assert_eq!(format!("{recorder:?}"), "Recorder { .. }");
}
