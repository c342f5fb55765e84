//! Compares the workspace's dependency edges with the list in docs/architecture.md and with the
//! picture of them.

use std::{fs, io, process::ExitCode};

use pvh_checks::{
    edges::{self, EdgesError, LIST},
    picture::{PICTURE, draw},
};

fn main() -> ExitCode {
    let found = match faults() {
        Ok(found) => found,
        Err(why) => vec![why],
    };
    for fault in &found {
        eprintln!("{fault}");
    }
    if found.is_empty() {
        println!("dependency edges: as in {LIST} and {PICTURE}");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

fn faults() -> Result<Vec<String>, String> {
    let edges_failed = |why: EdgesError| why.to_string();
    let list = read(LIST).map_err(|why| format!("{LIST}: {why}"))?;
    let listed = edges::listed(&list).map_err(edges_failed)?;
    let actual = edges::actual().map_err(edges_failed)?;
    let mut found = edges::differences(&listed, &actual);
    if read(PICTURE).ok().as_deref() != Some(&draw(&actual)) {
        found.push(format!("{PICTURE} is not up to date: run `make picture`"));
    }
    Ok(found)
}

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(path)
}
