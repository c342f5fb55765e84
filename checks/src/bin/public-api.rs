//! Writes the public items of each library that is published into docs/public-api; with `--check`,
//! fails if a text there is not up to date.

use std::{collections::BTreeSet, fs, path::Path, process::ExitCode};

use pvh_checks::{api, chain, packages};

/// The folder of the texts, one file for each crate.
const FOLDER: &str = "docs/public-api";

fn main() -> ExitCode {
    let is_check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => {
            eprintln!("unknown option {other}; usage: public-api [--check]");
            return ExitCode::from(2);
        }
    };
    match run(is_check) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(is_check: bool) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    let mut names = BTreeSet::new();
    let folder = Path::new(FOLDER);
    fs::create_dir_all(folder).map_err(|error| format!("{FOLDER}: {error}"))?;
    for package in packages::packages().map_err(|error| chain(&error))? {
        if !package.is_published || package.root.is_none() {
            continue;
        }
        let text = api::public_items(Path::new(&package.folder)).map_err(|error| chain(&error))?;
        let name = format!("{}.txt", package.name);
        let path = folder.join(&name);
        let is_same = fs::read_to_string(&path).is_ok_and(|there| there == text);
        if is_check && !is_same {
            faults.push(format!(
                "{}: the public items of {} are others: `make public-api`, and look at the diff",
                path.display(),
                package.name
            ));
        } else if !is_same {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        names.insert(name);
    }
    for entry in fs::read_dir(folder).map_err(|error| format!("{FOLDER}: {error}"))? {
        let name = entry
            .map_err(|error| format!("{FOLDER}: {error}"))?
            .file_name();
        let name = name.to_string_lossy().into_owned();
        if !names.contains(&name) {
            faults.push(format!("{FOLDER}/{name}: no such crate is published"));
        }
    }
    Ok(faults)
}
