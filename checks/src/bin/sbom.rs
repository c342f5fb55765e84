//! Prints the bill of materials of pvh-vmm (`CycloneDX` 1.5, JSON) on standard output.

use std::{fs, io::Write, process::ExitCode};

use pvh_checks::{chain, packages, sbom::sbom};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let metadata = packages::resolved("x86_64-unknown-linux-gnu").map_err(|error| chain(&error))?;
    let lock = fs::read_to_string("Cargo.lock").map_err(|error| format!("Cargo.lock: {error}"))?;
    let bill = sbom(&metadata, &lock).map_err(|error| chain(&error))?;
    let text = format!("{bill:#}\n");
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| format!("standard output: {error}"))
}
