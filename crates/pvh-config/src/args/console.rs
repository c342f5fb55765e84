//! The value of `--console`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// Where the guest's console is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConsoleArgument {
    /// Standard input and standard output.
    Stdio,
    /// This file takes the output; the guest gets no input.
    File(PathBuf),
    /// A new pseudo-terminal of the host.
    Pty,
}

/// Why a value of `--console` is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a console is stdio, pty or file:PATH")]
#[non_exhaustive]
pub struct ConsoleArgumentError;

impl ConsoleArgument {
    /// Reads a value of `--console`.
    ///
    /// # Errors
    ///
    /// [`ConsoleArgumentError`]: it is neither of the three.
    pub fn parse(text: &OsStr) -> Result<Self, ConsoleArgumentError> {
        match text.as_bytes() {
            b"stdio" => Ok(Self::Stdio),
            b"pty" => Ok(Self::Pty),
            bytes => match bytes.strip_prefix(b"file:") {
                Some(path) if !path.is_empty() => {
                    Ok(Self::File(OsString::from(OsStr::from_bytes(path)).into()))
                }
                _ => Err(ConsoleArgumentError),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_one_of_three() {
        let parse = |text: &str| ConsoleArgument::parse(OsStr::new(text));
        assert_eq!(parse("stdio"), Ok(ConsoleArgument::Stdio));
        assert_eq!(parse("pty"), Ok(ConsoleArgument::Pty));
        let file = ConsoleArgument::File("a:b,c".into());
        assert_eq!(parse("file:a:b,c"), Ok(file));
        for wrong in ["", "file:", "file", "tty", "console.log", "unix:x"] {
            assert_eq!(parse(wrong), Err(ConsoleArgumentError), "{wrong}");
        }
    }
}
