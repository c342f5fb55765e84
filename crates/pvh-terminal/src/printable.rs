//! Text that does to a terminal what it shows.

use std::fmt;

/// Text with escaped control characters and other characters without a shape of their own, which
/// file names may contain: marks that change the direction of text make a line read as another.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

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
