//! Plays traces, as `pvh-vmm run --record` writes them, and says what they held or where the domain
//! does otherwise.

use std::{env, error::Error, fs::File, io::BufReader, process::ExitCode};

use pvh_domain::{Replayed, replay};

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in env::args().skip(1) {
        match play(&path) {
            Ok(replayed) => println!("{path}: {replayed:?}"),
            Err(error) => {
                let cause = error.source().map(|cause| format!(": {cause}"));
                eprintln!("{path}: {error}{}", cause.unwrap_or_default());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn play(path: &str) -> Result<Replayed, Box<dyn Error>> {
    Ok(replay(BufReader::new(File::open(path)?))?)
}
