//! What is said at the end: one line for a failure, or a page.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
};

use pvh_abi::ErrorLine;
use pvh_config::exit::HOST;

use crate::console::SCREEN;

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

/// Text with escaped control characters and other characters without a shape of their own, which
/// file names may contain: marks that change the direction of text make a line read as another.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match is_shown(character) {
                true => write!(f, "{character}")?,
                false => write!(f, "{}", character.escape_default())?,
            }
        }
        Ok(())
    }
}

/// Tells whether a terminal shows a character as itself. The standard library knows which do not:
/// it escapes them for debugging, and quotes and backslashes, which are shown here. A combining mark
/// is shown behind another character.
fn is_shown(character: char) -> bool {
    let text = String::from_iter(['x', character]);
    matches!(character, '\'' | '"' | '\\') || text.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_name_stays_in_its_line() {
        assert_eq!(Printable("a\n\x1b[31mé").to_string(), "a\\n\\u{1b}[31mé");
        let plain = "it's \"a\" \\ e\u{301} 漢字 🦀";
        assert_eq!(Printable(plain).to_string(), plain);
    }

    #[test]
    fn marks_that_would_reorder_or_hide_text_are_escaped() {
        for mark in [
            '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{ad}', '\u{2028}',
        ] {
            let shown = Printable(&format!("kernel{mark}fle.")).to_string();
            let code = u32::from(mark);
            assert_eq!(shown, format!("kernel\\u{{{code:x}}}fle."));
        }
    }
}
