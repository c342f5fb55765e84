//! Draws a boot step by step: `boot-timeline OUT.svg [PERCENT]`, PERCENT of the boots that are made to find a usual one.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{self, Write},
    process::ExitCode,
};

use pvh_bench::report::{Bench, timeline::timeline};

fn main() -> ExitCode {
    match draw() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told that standard error is gone.
            let _ = writeln!(io::stderr(), "boot-timeline: {error}");
            ExitCode::from(2)
        }
    }
}

fn draw() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let usage = || io::Error::other("boot-timeline OUT.svg [PERCENT]: PERCENT is a number");
    let out = arguments.next().ok_or_else(usage)?;
    let percent = arguments.next().map_or(Ok(100), |percent| percent.parse());
    let percent = percent.map_err(|_| usage())?;
    let bench = Bench::new(env::temp_dir().join("pvh-bench"), percent)?;
    fs::write(out, timeline(&bench)?)
}
