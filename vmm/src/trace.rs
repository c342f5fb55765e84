//! `pvh-vmm trace FILE`: prints a record as strace does, or replays it without KVM.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::Path,
};

use pvh_config::{
    TraceArguments,
    exit::{ARGUMENTS, HOST, REFUSED, SUCCESS},
};
use pvh_domain::{ReplayError, TraceError, TraceLine, TraceLines, replay};
use pvh_terminal::Printable;

use crate::{
    exit::{complain, print, sentence},
    run::LOG_NAMES,
};

/// Why a record is not printed to its end.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The record cannot be read further.
    #[error("{read} records were read")]
    Trace {
        /// How many.
        read: u64,
        /// Why no more.
        #[source]
        source: TraceError,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

/// Prints or replays the record, and returns the exit code.
pub(crate) fn run(arguments: &TraceArguments) -> u8 {
    let name = arguments.file.display();
    if let Some(word) = unknown_word(&arguments.only) {
        let word = Printable(word);
        complain(&format!(
            "--only: there is no call or kind of call named '{word}': {LOG_NAMES}"
        ));
        return ARGUMENTS;
    }
    let file = match File::open(&arguments.file) {
        Ok(file) => BufReader::new(file),
        Err(error) => {
            complain(&format!("{name}: {error}"));
            return REFUSED;
        }
    };
    if arguments.replay {
        return replayed(&arguments.file, replay(file));
    }
    let lines = TraceLines::new(file).map_err(|source| Stop::Trace { read: 0, source });
    match lines.and_then(|lines| print_lines(lines, arguments)) {
        Ok(()) => SUCCESS,
        // A reader that has closed its pipe wants no more.
        Err(Stop::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => SUCCESS,
        Err(stop) => {
            complain(&format!("{name}: {}", sentence(&stop, None::<&str>)));
            match stop {
                Stop::Trace { .. } => REFUSED,
                Stop::Output(_) => HOST,
            }
        }
    }
}

fn print_lines(
    mut lines: TraceLines<BufReader<File>>,
    arguments: &TraceArguments,
) -> Result<(), Stop> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    while left > 0
        && let Some(line) = lines.next()
    {
        let read = lines.records();
        let line = match line {
            Ok(line) => line,
            Err(source) => {
                out.flush().map_err(Stop::Output)?;
                return Err(Stop::Trace { read, source });
            }
        };
        if is_wanted(&line, &arguments.only) {
            left = left.saturating_sub(1);
            write_line(&mut out, &line, arguments.json).map_err(Stop::Output)?;
        }
    }
    out.flush().map_err(Stop::Output)
}

fn write_line(out: &mut impl Write, line: &TraceLine, as_json: bool) -> io::Result<()> {
    if as_json {
        serde_json::to_writer(&mut *out, line)?;
        return writeln!(out);
    }
    writeln!(out, "{line}")
}

fn unknown_word(words: &[String]) -> Option<&String> {
    words.iter().find(|word| !TraceLine::is_word(word))
}

fn is_wanted(line: &TraceLine, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|word| line.matches(word))
}

fn replayed(file: &Path, replayed: Result<pvh_domain::Replayed, ReplayError>) -> u8 {
    let name = file.display();
    match replayed {
        Ok(found) => print(
            &format!(
                "{name}: {} records, {} hypercalls, {} accesses to memory and {} effects, all as recorded",
                found.records, found.hypercalls, found.accesses, found.effects
            ),
            SUCCESS,
        ),
        Err(error) => {
            complain(&format!("{name}: {}", sentence(&error, None::<&str>)));
            REFUSED
        }
    }
}
