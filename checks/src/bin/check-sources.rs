//! Fails if a source file does not open with a `//!` sentence, or a module is a `mod.rs`.

use std::{path::Path, process::ExitCode};

use pvh_checks::sources::faults;

fn main() -> ExitCode {
    match faults(Path::new(".")) {
        Ok(found) if found.is_empty() => ExitCode::SUCCESS,
        Ok(found) => {
            for fault in found {
                eprintln!("{fault}");
            }
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!(
                "cannot read the source files (run this in the root of the workspace): {why}"
            );
            ExitCode::FAILURE
        }
    }
}
