//! `pvh-vmm`: boots PVH guests on KVM.
#![forbid(unsafe_code)]

mod acpi;
mod args;
mod cache;
mod config;
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

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};
use config::RunConfig;
use exit::{complain, complain_at_length, shutdown_line};
use run::{Outcome, run};

fn main() -> ExitCode {
    ExitCode::from(match Arguments::parse().command {
        Command::Run(arguments) => boot(&RunConfig::from(arguments)),
        Command::Inspect(arguments) => inspect::run(&arguments),
    })
}

/// Runs one machine to its end and returns the exit code.
fn boot(config: &RunConfig) -> u8 {
    match run(config) {
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
