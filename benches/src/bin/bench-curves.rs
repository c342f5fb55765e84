//! Measures how the time to the first byte grows with vCPUs, memory and modules, and the memory of
//! many guests side by side: a part of `bench-report`. `bench-curves [PERCENT]` makes PERCENT of
//! the usual runs.
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
        Err(_) => Err(io::Error::other("PERCENT must be a number")),
    };
    if let Err(error) = done {
        // If standard error is gone, there is nobody to tell.
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
