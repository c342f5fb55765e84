//! Plays traces, as `pvh-vmm run --record` writes them, and says what they held or where the domain
//! does otherwise.

use std::{env, error::Error, fs::File, io::BufReader, process::ExitCode};

use pvh_domain::{Replayed, replay};

fn main() -> ExitCode {
    let paths: Vec<_> = env::args().skip(1).collect();
    if paths.is_empty() {
        eprintln!("usage: replay TRACE...");
        return ExitCode::from(2);
    }
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        match play(&path) {
            Ok(replayed) => println!("{path}: {replayed:?}"),
            Err(error) => {
                eprintln!("{path}: {}", with_causes(&*error));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// An error and all its causes, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}

fn play(path: &str) -> Result<Replayed, Box<dyn Error>> {
    Ok(replay(BufReader::new(File::open(path)?))?)
}
