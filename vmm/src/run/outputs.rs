//! Files that a run writes, which must not be those that it reads.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use super::error::RunError;
use crate::config::RunConfig;

/// Refuses to write over the kernel, a module or another file that is written.
///
/// # Errors
///
/// [`RunError::Overwrites`].
pub(crate) fn check_outputs(config: &RunConfig) -> Result<(), RunError> {
    let modules = config.modules.iter().map(|module| module.path.as_path());
    let mut others: Vec<&Path> = config
        .kernel
        .as_deref()
        .into_iter()
        .chain(modules)
        .collect();
    let outputs = [("--record", &config.record), ("--trace", &config.trace)];
    for (option, path) in outputs {
        let Some(path) = path.as_deref() else {
            continue;
        };
        if others.iter().any(|other| are_one_file(path, other)) {
            let path = path.to_owned();
            return Err(RunError::Overwrites { option, path });
        }
        others.push(path);
    }
    Ok(())
}

/// Whether two names are one file. Devices and pipes may be written to twice.
fn are_one_file(first: &Path, second: &Path) -> bool {
    match (fs::metadata(first), fs::metadata(second)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        (Err(_), Err(_)) => first == second,
        _ => false,
    }
}
