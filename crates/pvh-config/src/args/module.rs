//! The value of `--module`: a file and its command line.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// `FILE` or `FILE=CMDLINE`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModuleArgument {
    /// The file.
    pub path: PathBuf,
    /// The module's command line.
    pub cmdline: Option<OsString>,
}

impl ModuleArgument {
    pub(super) fn parse(text: OsString) -> Result<Self, &'static str> {
        let bytes = text.as_bytes();
        let mut parts = bytes.splitn(2, |&byte| byte == b'=');
        let part = |part: &[u8]| OsStr::from_bytes(part).to_owned();
        let path = parts.next().map(part).unwrap_or_default();
        if path.is_empty() {
            return Err("a module needs a file: FILE or FILE=CMDLINE");
        }
        Ok(Self {
            path: path.into(),
            cmdline: parts.next().map(part),
        })
    }
}
