//! `pvh-vmm`: boots PVH guests on KVM.
#![forbid(unsafe_code)]

mod acpi;
mod args;
mod cache;
mod config;
mod conform;
mod console;
mod devices;
mod events;
mod exit;
mod host_memory;
mod inspect;
mod machine;
mod mapped;
mod platform;
mod run;
mod signals;
mod size;
mod terminal;
mod timings;

use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;

use args::{Arguments, Command};
use config::RunConfig;
use exit::{complain, complain_at_length, shutdown_line};
use run::{Outcome, RunError, check_outputs, run};

fn main() -> ExitCode {
    let began = Instant::now();
    ExitCode::from(match Arguments::parse().command {
        Command::Run(arguments) => boot(&RunConfig::from(arguments), began),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Conform(arguments) => conform::run(&arguments),
    })
}

/// Runs one machine to its end and returns the exit code.
fn boot(config: &RunConfig, began: Instant) -> u8 {
    // Before anything is written, the trace of a failure included.
    if let Err(error) = check_outputs(config) {
        return end(config, Err(error));
    }
    if config.timings.is_some() || config.trace.is_some() {
        timings::begin(began);
    }
    let code = end(config, run(config));
    tell_timings(config);
    code
}

/// Tells the user how long the start took, if that was asked for.
fn tell_timings(config: &RunConfig) {
    let Some(recorded) = timings::recorded() else {
        return;
    };
    if let Some(style) = config.timings {
        // Nobody is left to be told that standard error is gone.
        let _ = write!(io::stderr(), "{}", timings::report(&recorded, style));
    }
    if let Some(path) = &config.trace
        && let Err(why) = fs::write(path, timings::trace(&recorded))
    {
        let line = format!("{}: the trace cannot be written: {why}", path.display());
        complain(&line);
    }
}

fn end(config: &RunConfig, run: Result<Outcome, RunError>) -> u8 {
    match run {
        Ok(outcome) => {
            match &outcome {
                Outcome::Crashed(crash) => {
                    complain_at_length(&format_args!("the guest has crashed: {crash}"));
                }
                Outcome::Shutdown(reason) => complain(&shutdown_line(*reason)),
                _ => {}
            }
            outcome.exit_code()
        }
        Err(error) => {
            complain(&error.line(config));
            error.exit_code()
        }
    }
}
