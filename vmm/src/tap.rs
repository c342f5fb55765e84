//! `pvh-vmm tap`: judges the report of a conformance guest that any VMM ran.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use pvh_config::{
    TapArguments,
    exit::{CRASHED, DIFFERS, HOST, REFUSED, SUCCESS},
};
use pvh_conformance::{expect::Comparison, tap::Tap};

use crate::exit::{complain, print, sentence};

/// Reads the report from standard input, prints what was not expected and returns the exit code.
///
/// It reads up to [`REPORT_LIMIT_BYTES`] of either file, and waits for the end of standard input.
pub(crate) fn run(arguments: &TapArguments) -> u8 {
    let expected = match arguments.expect.as_deref().map(expectation).transpose() {
        Ok(expected) => expected,
        Err(line) => {
            complain(&line);
            return REFUSED;
        }
    };
    let text = match text(io::stdin()) {
        Ok(text) => text,
        Err(error) => {
            complain(&format!("cannot read standard input: {error}"));
            return HOST;
        }
    };
    match Tap::parse(&text) {
        Ok(report) => {
            let comparison = Comparison::of(expected.as_ref(), report);
            print(&comparison.to_string(), exit_code(&comparison))
        }
        Err(error) => {
            complain(&format!(
                "standard input: {}",
                sentence(&error, None::<&str>)
            ));
            CRASHED
        }
    }
}

fn exit_code(comparison: &Comparison) -> u8 {
    match (comparison.is_complete, comparison.is_as_expected()) {
        (false, _) => CRASHED,
        (true, false) => DIFFERS,
        (true, true) => SUCCESS,
    }
}

/// Reads the expected report. The error is a line for the user.
fn expectation(path: &Path) -> Result<Tap, String> {
    let name = path.display();
    let text = File::open(path).and_then(text);
    let text = text.map_err(|error| format!("--expect {name}: cannot be read: {error}"))?;
    let tap = Tap::parse(&text).map_err(|error| format!("--expect {name}: {error}"))?;
    match tap.is_complete() {
        true => Ok(tap),
        false => Err(format!(
            "--expect {name}: the report is incomplete; store a whole one"
        )),
    }
}

/// Reads to the end, or to the limit; bytes that are not UTF-8 are replaced.
fn text(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(REPORT_LIMIT_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A real report has about 20 KiB.
const REPORT_LIMIT_BYTES: u64 = 8 << 20;
