//! `pvh-vmm`: boots PVH guests on KVM.
#![forbid(unsafe_code)]

mod cache;
mod config_file;
mod conform;
mod console;
mod events;
mod exit;
mod exits;
mod fuzz;
mod inspect;
mod machine;
mod outlets;
mod platform;
mod run;
mod sandbox;
mod signals;
mod tap;
mod threads;
mod trace;
mod write_out;

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    os::fd::AsFd,
    path::Path,
    process::ExitCode,
    time::Instant,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use pvh_config::{
    Command, CommandLine, OnHalt, ReportStyle, RunConfig,
    exit::{ARGUMENTS, HOST, SUCCESS},
};
use pvh_terminal::SCREEN;

use exit::{complain, complain_at_length};
use run::{HALTED, Outcome, RunError, check_outputs, open_trace, run, shutdown_line};

fn main() -> ExitCode {
    let began = Instant::now();
    signals::survive_file_size_limits();
    let is_file = |path: &Path| fs::metadata(path).is_ok_and(|found| !found.is_dir());
    ExitCode::from(match CommandLine::read(env::args_os(), is_file) {
        CommandLine::Command(command) => match *command {
            Command::Run(arguments) => {
                boot_as(config_file::run(arguments, env::args_os().skip(2)), began)
            }
            Command::Create(arguments) => boot_as(config_file::create(arguments), began),
            Command::Inspect(arguments) => inspect::run(&arguments),
            Command::Conform(arguments) => conform::run(&arguments),
            Command::Tap(arguments) => tap::run(&arguments),
            Command::Fuzz(arguments) => fuzz::run(&arguments),
            Command::Trace(arguments) => trace::run(&arguments),
            Command::Demo(arguments) => {
                write_out::guest(&arguments.write, demo_image(arguments.draft))
            }
            Command::Cache(arguments) => cache::run(arguments),
        },
        CommandLine::Page(page) => {
            // If standard output is closed, there is nobody to tell.
            let _ = io::stdout().write_all(page.as_bytes());
            SUCCESS
        }
        CommandLine::Wrong(line) => {
            complain(&line);
            ARGUMENTS
        }
    })
}

/// The demo guest, for the draft of the structure or for its later versions.
fn demo_image(is_draft: bool) -> &'static [u8] {
    match is_draft {
        true => pvh_conformance::draft_demo_image(),
        false => pvh_conformance::demo_image(),
    }
}

/// Runs the machine of a configuration, if there is one; else returns the exit code in its place.
fn boot_as(config: Result<RunConfig, u8>, began: Instant) -> u8 {
    config.map_or_else(|code| code, |config| boot(&config, began))
}

/// Runs one machine to its end and returns the exit code.
fn boot(config: &RunConfig, began: Instant) -> u8 {
    // Check and open outputs first: even the trace of a failure must not overwrite a wrong file.
    let trace = match check_outputs(config).and_then(|()| open_trace(config)) {
        Ok(trace) => trace,
        Err(error) => return end(config, Err(error)),
    };
    if config.timings.is_some() || config.trace.is_some() {
        pvh_timeline::begin(began);
    }
    if config.exits.is_some() {
        exits::begin();
    }
    let code = end(config, run(config));
    if let Some(report) = config.exits.and_then(exits::report) {
        print_at_end(&report);
    }
    sandbox::report_logged_calls();
    match report_timings(config, trace) {
        false if code == SUCCESS => HOST,
        _ => code,
    }
}

/// Reports how long the start took, if wanted; returns `false` if the trace could not be written.
fn report_timings(config: &RunConfig, trace: Option<File>) -> bool {
    let Some(recorded) = pvh_timeline::recorded() else {
        return true;
    };
    let written =
        trace.map(|mut file| file.write_all(pvh_timeline::trace(&recorded, "pvh-vmm").as_bytes()));
    if let Some(style) = config.timings {
        print_at_end(&match style {
            ReportStyle::Text => pvh_timeline::text(&recorded),
            ReportStyle::Json => pvh_timeline::json(&recorded),
        });
    }
    if let (Some(path), Some(Err(why))) = (&config.trace, written) {
        let line = format!("{}: cannot write the trace: {why}", path.display());
        complain(&line);
        return false;
    }
    true
}

/// Writes to standard error. If the write may block, signals are unblocked so that one can end it.
fn print_at_end(text: &str) {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    let is_ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    if !is_ready || text.len() > libc::PIPE_BUF {
        signals::unblock();
    }
    // If standard error is closed, there is nobody to tell.
    let text = format!("{}{text}", SCREEN.before_line());
    let _ = stderr.lock().write_all(text.as_bytes());
}

fn end(config: &RunConfig, run: Result<Outcome, RunError>) -> u8 {
    match run {
        Ok(outcome) => {
            match &outcome {
                Outcome::Crashed(crash) => {
                    complain_at_length(&format_args!("the guest crashed: {crash}"));
                }
                Outcome::Reset(crash) => {
                    complain_at_length(&format_args!("a triple fault reset the guest: {crash}"));
                }
                Outcome::Shutdown(reason) => complain(&shutdown_line(*reason)),
                // Who had the choice of a key has read the line.
                Outcome::Halted if config.on_halt == OnHalt::Exit => complain(HALTED),
                Outcome::RebootRequested if !config.is_quiet => {
                    complain("the guest asked to reboot; --no-reboot ends it");
                }
                Outcome::Quit if !config.is_quiet => complain("Ctrl-A X ended the guest"),
                _ => {}
            }
            if let Outcome::Crashed(crash) | Outcome::Reset(crash) = &outcome
                && crash.registers.is_none()
                && !config.debug_faults
            {
                complain("--debug-faults keeps the registers; the guest is much slower then");
            }
            outcome.exit_code()
        }
        Err(error) => {
            complain(&error.line(config));
            error.exit_code()
        }
    }
}
