//! Traces of a domain: a recorded trace replays, and a file of any bytes is refused or replays.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use pvh_domain::{Recorder, ReplayError, TraceError, replay};

use crate::{
    bytes::{field, is_printable},
    hypercall::history,
    tape::Tape,
};

/// Replays a file as it is, or a recorded one after a change of up to three bytes.
///
/// # Panics
///
/// If a file replays that is not a chain of records, if a recorded trace diverges, if a refusal
/// names a record that does not exist, or if its message is not one line.
pub fn trace(bytes: &[u8]) {
    if bytes.first() == MAGIC.first() {
        check(bytes);
        return;
    }
    let mut tape = Tape::new(bytes);
    let edits = [(); 3].map(|()| (tape.word(), tape.byte()));
    let count = edits[0].1 & 3;
    let mut file = record(tape.rest());
    if count == 0 {
        let records = check(&file).expect("it was recorded just now");
        assert!(records > 1);
        return;
    }
    for (at, how) in edits.into_iter().take(count.into()) {
        let at = usize::try_from(at).unwrap_or(0) % file.len();
        file[at] ^= how >> 2 | 1;
    }
    check(&file);
}

/// Records a sequence; see the target `hypercall`.
pub(crate) fn recorded(bytes: &[u8]) -> Vec<u8> {
    record(bytes)
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let sink = Sink::default();
    let recorder = Recorder::new(Box::new(sink.clone()), LIMIT_BYTES).expect("it is memory");
    history(Tape::new(bytes), 12, Some(recorder.clone()));
    let told = recorder.finish().expect("it is short");
    let file = sink.take();
    assert_eq!(told.len_bytes, file.len() as u64);
    assert_eq!(chain(&file), Some(told.records));
    file
}

/// Replays a file, and returns the number of records if it replays to its end.
fn check(file: &[u8]) -> Option<u64> {
    let chain = chain(file);
    let played = replay(file);
    match played {
        Ok(replayed) => {
            assert_eq!(Some(replayed.records), chain);
            let len = file.len() as u64;
            assert!(replayed.hypercalls <= replayed.records && replayed.accesses <= len);
            assert!(replayed.effects <= len);
            Some(replayed.records)
        }
        Err(error) => {
            is_printable(&error);
            let shown = error.to_string().len();
            assert!(shown < 200, "{shown} bytes of error");
            check_refusal(file, &error, chain);
            None
        }
    }
}

fn check_refusal(file: &[u8], error: &ReplayError, chain: Option<u64>) {
    let is_trace = file.starts_with(MAGIC);
    let record = match error {
        ReplayError::Trace(error) => match error {
            TraceError::NotATrace => return assert!(!is_trace || file.len() < 10),
            TraceError::Version { found } => {
                assert!(is_trace && !matches!(found, 1..=5));
                return assert_eq!(field(file, 8, 2), Some((*found).into()));
            }
            // no chain: the length of a record leads out of the file, or is more than a record may
            // have
            TraceError::Truncated { record } | TraceError::RecordTooLong { record, .. } => {
                assert_eq!(chain, None);
                record
            }
            TraceError::Malformed { record } => record,
            _ => panic!("memory can be read: {error}"),
        },
        ReplayError::NoDomain { record }
        | ReplayError::Config { record }
        | ReplayError::Domain { record, .. } => record,
        ReplayError::Divergence(divergence) => {
            is_printable(divergence.as_ref());
            &divergence.record()
        }
        _ => panic!("a refusal without a rule: {error}"),
    };
    // each record before it has a length of four bytes, and something behind that
    assert!(is_trace && *record <= (file.len() as u64) / 4);
}

/// Returns the number of records, if the lengths lead from record to record and to the end of the
/// file.
fn chain(file: &[u8]) -> Option<u64> {
    let rest = file.strip_prefix(MAGIC)?;
    let [1..=5, 0, ..] = rest else {
        return None;
    };
    let mut rest = rest.get(2..)?;
    let mut records = 0;
    while !rest.is_empty() {
        let len = field(rest, 0, 4).filter(|&len| len <= 4 << 20)?;
        rest = rest.get(4 + usize::try_from(len).ok()?..)?;
        records += 1;
    }
    Some(records)
}

/// Bytes that can be read while they are written.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().expect("nobody has panicked"))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody has panicked").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const MAGIC: &[u8] = b"PVHTRACE";

/// Much more than the trace of a few steps needs.
const LIMIT_BYTES: u64 = 16 << 20;
