//! A kernel command line, split into parameters as Linux splits it.

/// One parameter: `name`, `name=value` or `name="value with spaces"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Parameter<'a> {
    name: &'a [u8],
    /// What stands after the first `=`, without quotes around it.
    value: Option<&'a [u8]>,
}

/// The kind of device that a `console=` parameter names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Console {
    /// A serial port: `ttyS0`, `0`, `uart,io,0x3f8` or `uart8250,io,0x3f8`.
    Serial,
    /// A hypervisor's console: `hvc0`.
    Hypervisor,
    /// Anything else, such as `tty0` and `ttynull`: no platform has it.
    Other,
}

/// Returns the console that Linux opens as /dev/console: the last one that some platform has.
///
/// `earlycon=` and `earlyprintk=` do not count: Linux stops using an early console once it has
/// another console.
#[must_use]
pub fn last_console(cmdline: &[u8]) -> Option<Console> {
    let consoles = parameters(cmdline).filter(|parameter| parameter.name == b"console");
    let devices = consoles.map(|parameter| device(parameter.value.unwrap_or_default()));
    devices.filter(|device| *device != Console::Other).last()
}

fn device(value: &[u8]) -> Console {
    let ends_name = |byte: &u8| byte.is_ascii_digit() || *byte == b',';
    let name = value.split(ends_name).next().unwrap_or_default();
    match name {
        // A number alone is that of a serial port. "uart8250" ends at its first digit.
        b"" if value.first().is_some_and(u8::is_ascii_digit) => Console::Serial,
        b"ttyS" | b"uart" => Console::Serial,
        b"hvc" => Console::Hypervisor,
        _ => Console::Other,
    }
}

/// Splits a command line; what follows `--` is for init, not for the kernel.
fn parameters(cmdline: &[u8]) -> impl Iterator<Item = Parameter<'_>> {
    let mut rest = cmdline;
    std::iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        let mut is_quoted = false;
        let ends = |&byte: &u8| {
            is_quoted ^= byte == b'"';
            !is_quoted && is_space(byte)
        };
        let (word, after) = rest.split_at(rest.iter().position(ends).unwrap_or(rest.len()));
        rest = after;
        (!word.is_empty() && word != b"--").then(|| parameter(word))
    })
}

/// Splits a word at its first `=`; quotes may stand around the word or around the value.
fn parameter(word: &[u8]) -> Parameter<'_> {
    let word = match word.strip_prefix(b"\"") {
        Some(word) => word.strip_suffix(b"\"").unwrap_or(word),
        None => word,
    };
    let Some(equals) = word.iter().position(|&byte| byte == b'=') else {
        return Parameter {
            name: word,
            value: None,
        };
    };
    let (name, value) = word.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    let value = match value.strip_prefix(b"\"") {
        Some(value) => value.strip_suffix(b"\"").unwrap_or(value),
        None => value,
    };
    Parameter {
        name,
        value: Some(value),
    }
}

/// What separates parameters: ASCII white space, the vertical tab included.
const fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0B
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(cmdline: &str) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        parameters(cmdline.as_bytes())
            .map(|parameter| (text(parameter.name), parameter.value.map(text)))
            .collect()
    }

    #[test]
    fn quotes_hold_spaces_and_are_taken_off() {
        let found = split("  a b=c\t\"d=e f\" g=\"h i\" j=k=l m=\"n\"o ");
        let want = [
            ("a", None),
            ("b", Some("c")),
            ("d", Some("e f")),
            ("g", Some("h i")),
            ("j", Some("k=l")),
            ("m", Some("n\"o")),
        ];
        let want = want.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(found, want);
        assert_eq!(
            split("a \"b c").len(),
            2,
            "an open quote ends with the line"
        );
    }

    #[test]
    fn words_after_two_dashes_are_for_init() {
        assert_eq!(split("a -- console=ttyS0").len(), 1);
        assert_eq!(split("a --b c").len(), 3);
    }

    #[test]
    fn the_last_console_that_some_platform_has_counts() {
        use Console::{Hypervisor, Serial};
        let cases = [
            ("", None),
            ("quiet xconsole=ttyS0", None),
            ("console=ttyS0,115200n8", Some(Serial)),
            ("console=0", Some(Serial)),
            ("console=uart8250,io,0x3f8,115200n8", Some(Serial)),
            ("console=uart,io,0x3f8", Some(Serial)),
            ("console=hvc0", Some(Hypervisor)),
            ("console=ttyS0 console=hvc0", Some(Hypervisor)),
            ("console=hvc0 console=ttyS0", Some(Serial)),
            ("console=ttyS0 console=tty0", Some(Serial)),
            ("console=ttySAC0 console= console", None),
            ("\"console=ttyS0,9600\"", Some(Serial)),
            ("console=\"ttyS0,9600\"", Some(Serial)),
            ("init=\"/x console=ttyS0\"", None),
            ("quiet -- console=ttyS0", None),
            ("earlycon=uart8250,io,0x3f8 earlyprintk=ttyS0", None),
            ("earlycon=uart8250,io,0x3f8 console=hvc0", Some(Hypervisor)),
        ];
        for (cmdline, want) in cases {
            assert_eq!(last_console(cmdline.as_bytes()), want, "{cmdline}");
        }
    }
}
