//! Boots the same guests in every VMM that is found, and compares them: `bench-peers [RUNS] [OUT]`.
//!
//! Prints a table in markdown; with OUT, also writes OUT.json and OUT.svg.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use pvh_bench::{
    compare::{compare, json, markdown, plot},
    peers::{peers, variants},
};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let runs = arguments.next().map_or(Ok(25), |runs| runs.parse());
    let out = arguments.next().map(PathBuf::from);
    let Ok(runs) = runs else {
        return complain("bench-peers [RUNS] [OUT]: RUNS must be a number");
    };
    match measure(runs, out.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("bench-peers: {error}")),
    }
}

fn complain(line: &str) -> ExitCode {
    // If standard error is gone, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(2)
}

fn measure(runs: usize, out: Option<&Path>) -> io::Result<()> {
    let dir = env::temp_dir().join("pvh-bench");
    let rows = compare(runs, &variants(&dir)?, &peers(), &dir)?;
    io::stdout().write_all(markdown(&rows).as_bytes())?;
    if let Some(out) = out {
        fs::write(out.with_extension("json"), json(&rows))?;
        fs::write(out.with_extension("svg"), plot(&rows))?;
    }
    Ok(())
}
