//! The grammar of xl.cfg: `KEY = VALUE` on a line or between semicolons, where a value is a text in
//! quotes, a number, or a list of texts in brackets. `#` begins a comment.

use super::super::{ConfigFault, ConfigFileError};

/// One setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Setting {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) value: Value,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    /// Each text with its line.
    List(Vec<(usize, String)>),
}

/// Reads all settings of `text`, whose first line has the number `line`. Lists do not nest, so time
/// and memory grow with the text alone.
pub(super) fn parse(text: &str, line: usize) -> Result<Vec<Setting>, ConfigFileError> {
    let mut reader = Reader { rest: text, line };
    let mut settings = Vec::new();
    loop {
        reader.skip(|c| c.is_whitespace() || c == ';');
        if reader.rest.is_empty() {
            return Ok(settings);
        }
        let line = reader.line;
        let key = reader.word();
        if key.is_empty() {
            return Err(reader.wrong("a line is KEY = VALUE"));
        }
        reader.skip(is_space);
        if !reader.take('=') {
            return Err(reader.wrong("'=' must follow the key"));
        }
        reader.skip(is_space);
        let value = reader.value()?;
        settings.push(Setting { line, key, value });
        reader.skip(is_space);
        if !reader.rest.is_empty() && !reader.rest.starts_with(['\n', ';']) {
            return Err(reader.wrong("a line ends after the value"));
        }
    }
}

/// A number in decimal, in hexadecimal after `0x`, or in octal after `0`.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    };
    let is_digits = digits.chars().all(|c| c.is_digit(radix));
    let number = u64::from_str_radix(digits, radix).ok();
    number.filter(|_| is_digits)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value, ConfigFileError> {
        if self.rest.starts_with(['"', '\'']) {
            return self.text().map(Value::Text);
        }
        if self.take('[') {
            return self.list().map(Value::List);
        }
        let word = self.word();
        number(&word).map(Value::Number).ok_or_else(|| {
            self.wrong("a value is a text in quotes, a number, or a list in brackets")
        })
    }

    fn list(&mut self) -> Result<Vec<(usize, String)>, ConfigFileError> {
        let mut texts = Vec::new();
        loop {
            self.skip(char::is_whitespace);
            if self.take(']') {
                return Ok(texts);
            }
            if !self.rest.starts_with(['"', '\'']) {
                return Err(self
                    .wrong("a list has texts in quotes, with commas between, and ends with ']'"));
            }
            texts.push((self.line, self.text()?));
            self.skip(char::is_whitespace);
            if !self.take(',') && !self.rest.starts_with(']') {
                return Err(self.wrong("',' or ']' must follow a text of a list"));
            }
        }
    }

    /// A text in quotes, which may hold everything but the end of a line.
    fn text(&mut self) -> Result<String, ConfigFileError> {
        let mut chars = self.rest.chars();
        let quote = chars.next();
        let mut text = String::new();
        loop {
            match chars.next() {
                None | Some('\n') => return Err(self.wrong("a text has no closing quote")),
                Some('\\') => {
                    let Some((taken, rest)) = escaped(chars.as_str()) else {
                        return Err(self.wrong(
                            "a backslash stands before a quote, a backslash, n, r, t, or xHH",
                        ));
                    };
                    text.push(taken);
                    chars = rest.chars();
                }
                end if end == quote => break,
                Some(other) => text.push(other),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    /// Letters, digits, `_`, `.` and `-`.
    fn word(&mut self) -> String {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }

    /// Skips what `is_skipped` says, and comments, which end before the end of their line.
    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) {
        let mut is_comment = false;
        while let Some(c) = self.rest.chars().next() {
            is_comment = c != '\n' && (is_comment || c == '#');
            if !is_comment && !is_skipped(c) {
                return;
            }
            if c == '\n' {
                self.line = self.line.saturating_add(1);
            }
            self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }

    fn wrong(&self, what: &str) -> ConfigFileError {
        let what = what.to_owned();
        ConfigFileError::at(self.line, ConfigFault::Syntax { what })
    }
}

/// The character that the text after a backslash stands for, and what follows it.
fn escaped(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    let taken = match chars.next()? {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'x' => {
            let digits = chars.as_str().get(..2)?;
            let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?;
            return Some((char::from(byte), chars.as_str().get(2..)?));
        }
        same @ ('"' | '\'' | '\\') => same,
        _ => return None,
    };
    Some((taken, chars.as_str()))
}

fn is_space(c: char) -> bool {
    c.is_whitespace() && c != '\n'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Value, String> {
        let read = parse(text, 1).map_err(|error| error.to_string())?;
        assert_eq!(read.len(), 1, "{text}");
        Ok(read[0].value.clone())
    }

    #[test]
    fn values_are_texts_numbers_and_lists() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (line, want) in [
            ("a=''", text("")),
            ("a = \"b'c\" # d", text("b'c")),
            (r#"a='b\'c\\d\n\x41'"#, text("b'c\\d\nA")),
            ("a='#;'", text("#;")),
            ("a=12", Value::Number(12)),
            ("a=0x1f", Value::Number(31)),
            ("a=017", Value::Number(15)),
            ("a=0", Value::Number(0)),
            ("a=[]", Value::List(vec![])),
            (
                "a=['b',\n# c\n'd',]",
                Value::List(vec![(1, "b".into()), (3, "d".into())]),
            ),
        ] {
            assert_eq!(one(line), Ok(want), "{line}");
        }
    }

    #[test]
    fn settings_stand_on_lines_or_between_semicolons() {
        let read = parse("\n# x\na=1;b=2;\r\nc.d-e='f'\n", 1).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|set| (set.line, set.key.as_str()))
            .collect();
        assert_eq!(read, [(3, "a"), (3, "b"), (4, "c.d-e")]);
        assert_eq!(parse("", 1).unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, want) in [
            ("\n= 1", "line 2: a line is KEY = VALUE"),
            ("a 1", "line 1: '=' must follow the key"),
            ("a\n=1", "line 1: '=' must follow the key"),
            ("a=", "line 1: a value is"),
            ("a=b", "line 1: a value is"),
            ("a=0x", "line 1: a value is"),
            ("a=08", "line 1: a value is"),
            ("a=18446744073709551616", "line 1: a value is"),
            ("a='b", "line 1: a text has no closing quote"),
            ("a='b\n'", "line 1: a text has no closing quote"),
            (r"a='\q'", "line 1: a backslash"),
            (r"a='\x4'", "line 1: a backslash"),
            (r"a='\xff'", "line 1: a backslash"),
            ("a='b' c", "line 1: a line ends after the value"),
            ("a=['b'\n'c']", "line 2: ',' or ']'"),
            ("a=['b',", "line 1: a list has texts"),
            ("a=[[1]]", "line 1: a list has texts"),
            ("a=[,]", "line 1: a list has texts"),
        ] {
            let refused = one(text).unwrap_err();
            assert!(refused.starts_with(want), "{text}: {refused}");
        }
    }
}
