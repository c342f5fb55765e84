//! Draws the steps of a boot: `boot-timeline OUT.svg [PERCENT]`. It makes PERCENT of the usual
//! boots, and draws the middle one.
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
            // If standard error is gone, there is nobody to tell.
            let _ = writeln!(io::stderr(), "boot-timeline: {error}");
            ExitCode::from(2)
        }
    }
}

fn draw() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let usage = || io::Error::other("boot-timeline OUT.svg [PERCENT]: PERCENT must be a number");
    let out = arguments.next().ok_or_else(usage)?;
    let percent = arguments.next().map_or(Ok(100), |percent| percent.parse());
    let percent = percent.map_err(|_| usage())?;
    let bench = Bench::new(env::temp_dir().join("pvh-bench"), percent)?;
    fs::write(out, timeline(&bench)?)
}
