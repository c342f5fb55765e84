//! Configuration files: the options of `run` in TOML, or a domain's configuration as xl takes it.
//!
//! A file becomes words of the command line, so that each value is judged by the one parser of
//! options. Nothing is opened here: the caller reads the file and passes its name and its bytes.

mod error;
mod toml;
mod xl;

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use crate::args::{self, RunArguments};

pub use error::{ConfigFault, ConfigFileError};

/// The options that a configuration file stands for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigFile {
    /// The kernel, if the file names one.
    pub(crate) kernel: Option<PathBuf>,
    /// Options of `run`, each one word.
    pub(crate) words: Vec<OsString>,
    notes: Vec<Note>,
}

/// What a file asks for and a run does not do.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a place and what is said about it"
)]
pub struct Note {
    /// The line of the file, from 1 on.
    pub line: usize,
    /// One line for the user.
    pub text: String,
}

impl ConfigFile {
    /// The longest file that is read: 64 KiB.
    pub const LIMIT_BYTES: usize = 64 << 10;

    /// Reads the file called `name`. A name that ends in `.toml` is TOML: each key is an option of
    /// `run` without its dashes, and files that it names lie beside it. Any other name is a
    /// configuration of xl, whose files are named from the current folder, as xl does.
    ///
    /// `more` are settings from the command line, as xl takes them: they follow the file's own and
    /// override them.
    ///
    /// # Errors
    ///
    /// [`ConfigFileError`]: the line, and what is wrong in it.
    pub fn read(name: &Path, bytes: &[u8], more: &[String]) -> Result<Self, ConfigFileError> {
        if bytes.len() > Self::LIMIT_BYTES {
            return Err(ConfigFileError::file(ConfigFault::TooLong));
        }
        let text = std::str::from_utf8(bytes).map_err(|wrong| {
            let good = bytes.get(..wrong.valid_up_to()).unwrap_or_default();
            ConfigFileError::at(lines_in(good), ConfigFault::NotText)
        })?;
        if !is_toml(name) {
            return xl::read(text, more);
        }
        match more.first() {
            None => toml::read(text, name.parent().unwrap_or(Path::new(""))),
            Some(_) => Err(ConfigFileError::file(ConfigFault::SettingsForToml)),
        }
    }

    /// What the file asks for and a run does not do, in the order of its lines.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The command line of `run`, for a shell, that does what the file and `options` say.
    #[must_use]
    pub fn shell_line(&self, options: &[OsString]) -> String {
        let mut line = "pvh-vmm run".to_owned();
        for word in self.with(options) {
            let word = word.to_string_lossy();
            line.push(' ');
            // No file holds a NUL in a word, and no argument of a program does.
            line.push_str(&shlex::try_quote(&word).unwrap_or_default());
        }
        line
    }

    /// The arguments of a run: the file's, and `options`, the words of a command line that follow
    /// `run`. An option overrides the file's; one that may be repeated is added to it.
    ///
    /// # Errors
    ///
    /// One line that says which option is wrong, or which two exclude each other.
    pub fn arguments(
        &self,
        options: impl IntoIterator<Item = OsString>,
    ) -> Result<RunArguments, String> {
        let options: Vec<_> = options.into_iter().collect();
        args::run(self.with(&options))
    }

    /// The words of the file that `options` do not override, and `options`.
    fn with(&self, options: &[OsString]) -> Vec<OsString> {
        let given = args::given_once(options);
        let is_kept = |word: &&OsString| {
            let name = word.as_bytes().strip_prefix(b"--").unwrap_or_default();
            let name = name.split(|byte| *byte == b'=').next().unwrap_or_default();
            !given.iter().any(|given| given.as_bytes() == name)
        };
        let has_kernel = given.iter().any(|given| given == "kernel");
        let kernel = self.kernel.iter().filter(|_| !has_kernel);
        kernel
            .map(|path| path.as_os_str().to_owned())
            .chain(self.words.iter().filter(is_kept).cloned())
            .chain(options.iter().cloned())
            .collect()
    }

    /// Adds an option, if the parser of the command line takes it.
    fn add(&mut self, line: usize, option: &str, value: &OsStr) -> Result<(), ConfigFileError> {
        let mut word = format!("--{option}=").into_bytes();
        word.extend(value.as_bytes());
        self.add_word(line, OsString::from_vec(word))
    }

    fn add_word(&mut self, line: usize, word: OsString) -> Result<(), ConfigFileError> {
        check(line, &word)?;
        self.words.push(word);
        Ok(())
    }

    fn note(&mut self, line: usize, text: impl Into<String>) {
        let text = text.into();
        self.notes.push(Note { line, text });
    }
}

/// Asks the parser of the command line about one word.
fn check(line: usize, word: &OsStr) -> Result<(), ConfigFileError> {
    args::check_word(word).map_err(|why| ConfigFileError::at(line, ConfigFault::Refused { why }))
}

fn is_toml(name: &Path) -> bool {
    name.extension().is_some_and(|ending| ending == "toml")
}

/// The number of the line that follows `before`.
fn lines_in(before: &[u8]) -> usize {
    let ends = before.iter().filter(|byte| **byte == b'\n').count();
    ends.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PlatformArgument, RunConfig};

    fn read(name: &str, text: &[u8]) -> Result<ConfigFile, String> {
        let read = ConfigFile::read(Path::new(name), text, &[]);
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn the_name_says_which_format_it_is() {
        let text = b"memory = 512";
        let refused = read("a.toml", text).unwrap_err();
        assert!(refused.contains("did you mean 512M?"), "{refused}");
        let text = b"kernel = 'k'\nmemory = 512";
        let taken = read("a.cfg", text).unwrap();
        assert!(taken.words.contains(&"--memory=512M".into()));
        assert_eq!(read("toml", text).unwrap(), taken);
    }

    #[test]
    fn the_command_line_can_be_given_to_a_shell() {
        let text = b"type='pvh'\nkernel='a b'\nextra='console=hvc0 quiet'";
        let file = read("a.cfg", text).unwrap();
        assert_eq!(
            file.shell_line(&["--quiet".into()]),
            "pvh-vmm run 'a b' '--platform=xen' '--cmdline=console=hvc0 quiet' --quiet"
        );
        let options = ["--cmdline", "x", "c", "--platform=auto"].map(OsString::from);
        let line = file.shell_line(&options);
        assert_eq!(line, "pvh-vmm run --cmdline x c '--platform=auto'");
    }

    #[test]
    fn the_command_line_overrides_the_file_and_adds_devices() {
        let text = b"kernel = 'a'\nmemory = '1G'\nquiet = true\ndisk = ['d']";
        let file = read("a.toml", text).unwrap();
        let with = |options: &[&str]| file.arguments(options.iter().map(OsString::from)).unwrap();
        let run = with(&["--config", "a.toml"]);
        assert_eq!(run.kernel, Some("a".into()));
        assert_eq!((run.memory.bytes(), run.quiet), (1 << 30, true));
        let run = with(&["b", "--memory=64M", "--quiet", "--disk", "e"]);
        assert_eq!(run.kernel, Some("b".into()));
        assert_eq!((run.memory.bytes(), run.disks.len()), (64 << 20, 2));
        let twice = file.arguments(["--cpus=1".into(), "--cpus=2".into()]);
        assert!(twice.unwrap_err().contains("multiple times"));
        let gdb = read("a.toml", b"gdb = 1234").unwrap();
        let refused = gdb.arguments(["--debug-faults".into()]).unwrap_err();
        assert!(refused.contains("cannot be used with"), "{refused}");
    }

    #[test]
    fn a_pv_guest_runs_under_a_shim() {
        let text =
            b"type='pv'\nkernel='vmlinuz'\nramdisk='rd'\nextra='quiet'\npvshim_extra='loglvl=all'";
        let file = read("a.cfg", text).unwrap();
        let refused = file.arguments([]).unwrap_err();
        assert!(refused.contains("--shim <FILE>"), "{refused}");
        let run = RunConfig::from(file.arguments(["--shim=s".into()]).unwrap());
        assert_eq!(run.kernel, Some("s".into()));
        assert_eq!(run.cmdline, b"pv-shim console=xen,pv loglvl=all");
        assert_eq!(run.platform, PlatformArgument::Xen);
        let modules: Vec<_> = run
            .modules
            .iter()
            .map(|module| (module.path.to_str().unwrap(), module.cmdline.as_deref()))
            .collect();
        assert_eq!(modules, [("vmlinuz", Some(&b"quiet"[..])), ("rd", None)]);
        let plain = read("a.toml", b"kernel='k'\npv=true\nshim='s'\nplatform='none'").unwrap();
        let refused = plain.arguments([]).unwrap_err();
        assert!(refused.contains("--pv needs the Xen platform"), "{refused}");
    }

    #[test]
    fn a_file_of_more_than_64_kib_is_refused() {
        let mut text = b"kernel = 'k' #".to_vec();
        text.resize(65536, b'#');
        for name in ["a.toml", "a.cfg"] {
            assert!(read(name, &text).is_ok());
        }
        text.push(b'#');
        for name in ["a.toml", "a.cfg"] {
            let refused = read(name, &text).unwrap_err();
            assert_eq!(refused, "it has more than 65536 bytes");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told_by_their_line() {
        let refused = read("a.cfg", b"#\n#\n\xFF").unwrap_err();
        assert_eq!(refused, "line 3: it is not text in UTF-8");
    }
}
