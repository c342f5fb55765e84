//! Plays traces, as `pvh-vmm run --record` writes them, and says what they held or where the domain
//! does otherwise.

use std::{env, error::Error, fs::File, io::BufReader, process::ExitCode};

use pvh_abi::ErrorLine;
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
                eprintln!("{path}: {}", ErrorLine(&*error));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn play(path: &str) -> Result<Replayed, Box<dyn Error>> {
    Ok(replay(BufReader::new(File::open(path)?))?)
}
