//! What is said at the end: one line for a failure, or a page.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

use pvh_abi::ErrorLine;
use pvh_config::exit::HOST;
use pvh_terminal::{Printable, SCREEN};

/// An error, its causes and what to do, in one line.
pub(crate) fn sentence(error: &dyn Error, fix: Option<impl fmt::Display>) -> String {
    let fix = fix.map(|fix| format!("; {fix}")).unwrap_or_default();
    format!("{}{fix}", ErrorLine(error))
}

/// Prints one line to standard error.
pub(crate) fn complain(line: &str) {
    complain_at_length(&Printable(line));
}

/// Prints text of one or more lines to standard error.
pub(crate) fn complain_at_length(text: &dyn fmt::Display) {
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}pvh-vmm: {text}", SCREEN.before_line());
}

/// Prints to standard output and returns `code`. A closed pipe is no error, other lost output is.
pub(crate) fn print(page: &str, code: u8) -> u8 {
    match writeln!(io::stdout(), "{}", page.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {error}"));
            HOST
        }
        _ => code,
    }
}
