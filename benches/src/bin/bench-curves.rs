//! How the time to the first byte grows with vCPUs, memory and modules, and what guests cost beside each other: the part of
//! `bench-report` that tells of it, alone. `bench-curves [PERCENT]` makes so many of the usual runs.
#![forbid(unsafe_code)]

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use pvh_bench::report::{Bench, curves::curves, memory, starts};

fn main() -> ExitCode {
    let percent = env::args()
        .nth(1)
        .map_or(Ok(100), |percent| percent.parse());
    let done = match percent {
        Ok(percent) => measure(percent),
        Err(_) => Err(io::Error::other("PERCENT is a number")),
    };
    if let Err(error) = done {
        // Nobody is left to be told that standard error is gone.
        let _ = writeln!(io::stderr(), "bench-curves: {error}");
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

fn measure(percent: usize) -> io::Result<()> {
    let bench = Bench::new(env::temp_dir().join("pvh-bench"), percent)?;
    let (curves, _) = curves(&bench)?;
    let parts = [curves, starts::huge(&bench)?, memory::crowd(&bench)?];
    io::stdout().write_all(parts.join("\n").as_bytes())
}
