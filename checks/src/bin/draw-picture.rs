//! Draws docs/architecture.svg from the workspace's dependency edges.

use std::{fs, process::ExitCode};

use pvh_checks::{
    edges,
    picture::{PICTURE, draw},
};

fn main() -> ExitCode {
    let edges = match edges::actual() {
        Ok(edges) => edges,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    match fs::write(PICTURE, draw(&edges)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{PICTURE}: {why}");
            ExitCode::FAILURE
        }
    }
}
