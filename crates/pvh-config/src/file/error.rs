//! Why a configuration file is refused.

/// Where a configuration file is wrong, and how.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}{fault}", place(*line))]
#[expect(clippy::exhaustive_structs, reason = "a place and what is wrong there")]
pub struct ConfigFileError {
    /// The line, from 1 on; `None` if the fault has no line.
    pub line: Option<usize>,
    /// What is wrong.
    pub fault: ConfigFault,
}

/// What is wrong in a configuration file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// The file is longer than [`ConfigFile::LIMIT_BYTES`](super::ConfigFile::LIMIT_BYTES).
    #[error("it has more than 65536 bytes")]
    TooLong,
    /// It is not UTF-8.
    #[error("it is not text in UTF-8")]
    NotText,
    /// It breaks the grammar of its format.
    #[error("{what}")]
    Syntax {
        /// What was expected.
        what: String,
    },
    /// A value has a type that this key does not take.
    #[error("{key} is {wanted}")]
    Type {
        /// The key.
        key: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// xl knows no such key.
    #[error("'{key}' is no key of xl.cfg{}", meant(*near))]
    Unknown {
        /// The key.
        key: String,
        /// A known key that looks like it.
        near: Option<&'static str>,
    },
    /// A key asks for what is not served, and the guest would be another one without it.
    #[error("{what}")]
    Unserved {
        /// What is asked for, and what to do instead.
        what: String,
    },
    /// The command line would refuse it.
    #[error("{why}")]
    Refused {
        /// The command line's own error.
        why: String,
    },
    /// A configuration in TOML was given settings of xl.
    #[error("KEY=VALUE follows a configuration of xl; for TOML, write options of run after --")]
    SettingsForToml,
}

impl ConfigFileError {
    pub(super) fn at(line: usize, fault: ConfigFault) -> Self {
        let line = Some(line);
        Self { line, fault }
    }

    pub(super) fn file(fault: ConfigFault) -> Self {
        Self { line: None, fault }
    }
}

fn place(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(String::new, |key| format!("; did you mean '{key}'?"))
}
