//! Reads the configuration files of `run` and `create`.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::Path,
};

use pvh_config::{
    ConfigFile, CreateArguments, RunArguments, RunConfig,
    exit::{ARGUMENTS, REFUSED, SUCCESS},
};

use crate::exit::{complain, print};

/// The configuration of a `run`, with that of the file it names. `options` are the words that follow
/// `run`.
///
/// # Errors
///
/// An exit code; the reason has been printed.
pub(crate) fn run(
    arguments: RunArguments,
    options: impl IntoIterator<Item = OsString>,
) -> Result<RunConfig, u8> {
    let Some(path) = &arguments.config else {
        return Ok(RunConfig::from(arguments));
    };
    let file = read(path, &[])?;
    join(&file, path, options)
}

/// The configuration of a `create`.
///
/// # Errors
///
/// An exit code: the reason, or the command line that was asked for, has been printed.
pub(crate) fn create(arguments: CreateArguments) -> Result<RunConfig, u8> {
    let path = arguments.file.as_path();
    let file = read(path, &arguments.settings)?;
    let quiet = arguments.quiet.then(|| OsString::from("--quiet"));
    let options: Vec<_> = quiet.into_iter().chain(arguments.options).collect();
    if arguments.dryrun {
        file.arguments(options.iter().cloned()).map_err(wrong)?;
        return Err(print(&file.shell_line(&options), SUCCESS));
    }
    join(&file, path, options)
}

fn join(
    file: &ConfigFile,
    path: &Path,
    options: impl IntoIterator<Item = OsString>,
) -> Result<RunConfig, u8> {
    let config = RunConfig::from(file.arguments(options).map_err(wrong)?);
    if !config.is_quiet {
        for note in file.notes() {
            complain(&format!(
                "{}: line {}: {}",
                path.display(),
                note.line,
                note.text
            ));
        }
    }
    Ok(config)
}

fn wrong(line: String) -> u8 {
    complain(&line);
    ARGUMENTS
}

fn read(path: &Path, settings: &[String]) -> Result<ConfigFile, u8> {
    let refused = |why: &str| {
        complain(&format!("{}: {why}", path.display()));
        REFUSED
    };
    let bytes =
        bytes(path).map_err(|why| refused(&format!("cannot read the configuration: {why}")))?;
    ConfigFile::read(path, &bytes, settings).map_err(|why| refused(&why.to_string()))
}

/// Reads a little more than a configuration may have.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let most = u64::try_from(ConfigFile::LIMIT_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
