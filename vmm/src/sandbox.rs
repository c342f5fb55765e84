//! The sandbox of this process: set up once, and entered by each thread before it looks at anything
//! that a guest wrote.

mod entry;
mod refused;

use std::{
    os::fd::{AsFd, AsRawFd},
    path::Path,
    sync::OnceLock,
};

use pvh_config::{RunConfig, SandboxArgument};
use pvh_kvm::end_on_refused_calls;
use pvh_sandbox::{Files, KernelLog, LandlockSupport, Limits, Mode, Sandbox, SandboxError};

use crate::{exit::complain, threads::Role};

pub(crate) use entry::{Entry, enter, take_error, wait_for_entries};

/// Set up once, before any thread is started.
static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
/// The kernel's log, with `--sandbox log`.
static LOG: OnceLock<KernelLog> = OnceLock::new();

/// Sets the sandbox up as the configuration asks. Nothing is restricted yet.
///
/// # Errors
///
/// The host has no seccomp.
pub(crate) fn set_up(config: &RunConfig) -> Result<(), SandboxError> {
    let debugs = [
        (config.gdb.is_some(), "--gdb"),
        (config.dump_on_crash.is_some(), "--dump-on-crash"),
    ];
    let debugs = debugs.into_iter().find(|(is_given, _)| *is_given);
    let mode = match config.sandbox {
        SandboxArgument::On if debugs.is_some() => Mode::Off,
        SandboxArgument::On => Mode::On,
        SandboxArgument::Log => Mode::Log,
        SandboxArgument::Off => Mode::Off,
    };
    let sandbox = Sandbox::new(mode)?;
    match mode {
        Mode::On => end_on_refused_calls(refused::report).map_err(SandboxError::Seccomp)?,
        Mode::Log => {
            // A process has one run, so this is the first call.
            let _ = LOG.set(KernelLog::open());
        }
        _ if !config.is_quiet => match debugs {
            Some((_, option)) => complain(&format!("{option} turns the {OFF}")),
            None => complain(OFF),
        },
        _ => {}
    }
    let _ = SANDBOX.set(sandbox);
    Ok(())
}

/// Takes files, network and privileges from the calling thread and all that it starts from now on,
/// and lowers the limits of the process. All files of the run are open.
///
/// # Errors
///
/// The host has these means and refuses.
pub(crate) fn confine(config: &RunConfig) -> Result<(), SandboxError> {
    let Some(sandbox) = SANDBOX.get() else {
        return Ok(());
    };
    let landlock = sandbox.confine(Files::None)?;
    sandbox.limit(Limits::new(descriptors(config)));
    entry::set_confined();
    if landlock == Some(LandlockSupport::None) && !config.is_quiet {
        complain(NO_LANDLOCK);
    }
    Ok(())
}

/// Compiles the filter of the first vCPU, whose thread has no time to lose.
pub(crate) fn prepare() {
    if let Some(sandbox) = SANDBOX.get() {
        sandbox.prepare(pvh_sandbox::Role::Vcpu);
    }
}

/// Lists the calls that were logged, with `--sandbox log`.
pub(crate) fn report_logged_calls() {
    if let Some(log) = LOG.get() {
        log.lines().iter().for_each(|line| complain(line));
    }
}

/// Restricts the calling thread to the calls of its role, and to its files if that has not been
/// done.
fn restrict(role: Role, is_confined: bool, folder: Option<&Path>) -> Result<(), SandboxError> {
    let (Some(sandbox), Some(role)) = (SANDBOX.get(), role.in_sandbox()) else {
        return Ok(());
    };
    if !is_confined {
        sandbox.confine(folder.map_or(Files::None, Files::Folder))?;
        entry::set_confined();
    }
    sandbox.enter(role)
}

/// How many descriptors the process may have: those that are open, and a bounded number for the
/// machines to come.
fn descriptors(config: &RunConfig) -> u64 {
    // The lowest free number: what this process was started with is below it, or may be above.
    let lowest = std::io::stderr().as_fd().try_clone_to_owned();
    let lowest = lowest.map_or(0, |copy| u64::from(copy.as_raw_fd().unsigned_abs()));
    let disks = u64::try_from(config.disks.len()).unwrap_or(u64::MAX);
    let machine = u64::from(config.cpus).saturating_mul(4);
    let networks = u64::try_from(config.networks.len()).unwrap_or(u64::MAX);
    let devices = disks.saturating_add(networks).saturating_mul(16);
    [lowest, machine, devices]
        .into_iter()
        .fold(SPARE_DESCRIPTORS, u64::saturating_add)
}

/// Descriptors beyond those that are counted.
const SPARE_DESCRIPTORS: u64 = 1024;

const OFF: &str = "sandbox off: a guest that takes over this process can do all that this user can";

const NO_LANDLOCK: &str = "this kernel has no Landlock, or a container refuses it: system calls alone \
    keep the guest from files and network";

#[cfg(test)]
mod tests {
    use std::{
        env,
        fs::File,
        net::TcpListener,
        process::{Command, Output, Stdio},
    };

    use nix::{
        pty::openpty,
        sys::{
            signal::{Signal, raise},
            termios::tcgetattr,
        },
    };
    use pvh_config::CommandLine;
    use pvh_terminal::RawTerminal;

    use super::*;

    const CHILD: &str = "PVH_VMM_TEST_SANDBOX";

    fn config(mode: &str) -> RunConfig {
        match CommandLine::read(["pvh-vmm", "run", "--sandbox", mode], |_| false) {
            CommandLine::Command(command) => match *command {
                pvh_config::Command::Run(arguments) => arguments.into(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    /// Does nothing, unless it was started by another test: enters the sandbox as a vCPU's thread,
    /// with the terminal raw, and makes a call.
    #[test]
    fn child() {
        let Ok(action) = env::var(CHILD) else { return };
        let (mode, action) = action.split_once(' ').unwrap();
        let config = config(mode);
        set_up(&config).unwrap();
        let guard = RawTerminal::enter()
            .unwrap()
            .expect("a terminal of our own");
        std::mem::forget(guard);
        confine(&config).unwrap();
        enter(Role::Vcpu(0));
        assert!(wait_for_entries());
        match action {
            "socket" => drop(TcpListener::bind("127.0.0.1:0")),
            "create" => drop(File::create("/tmp/pvh-vmm-test")),
            "signal" => drop(raise(Signal::SIGSYS)),
            "none" => {}
            other => panic!("{other}"),
        }
        crate::exit::complain("alive");
        std::process::exit(33);
    }

    /// Runs `child` on a terminal of its own, and returns what it did and whether it restored the
    /// terminal.
    fn run(action: &str) -> (Output, bool) {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "sandbox::tests::child"])
            .env(CHILD, action)
            .stdin(pty.slave.try_clone().unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let is_restored = tcgetattr(&pty.slave).unwrap() == before;
        (output, is_restored)
    }

    #[test]
    fn a_call_of_no_use_ends_the_process_with_a_line_and_the_terminal_restored() {
        for (action, name) in [("socket", "socket"), ("create", "openat")] {
            let (output, is_restored) = run(&format!("on {action}"));
            let line = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(7), "{line}");
            let expected = format!("pvh-vmm: sandbox: thread vcpu0 called {name}, which");
            assert!(line.contains(&expected), "{line}");
            assert!(is_restored && !line.contains("alive"), "{line}");
        }
    }

    #[test]
    fn without_such_a_call_the_thread_lives() {
        for action in ["on none", "off socket", "log socket"] {
            let (output, is_restored) = run(action);
            assert_eq!(output.status.code(), Some(33), "{action}");
            assert!(!is_restored, "{action}: this child leaves the terminal raw");
        }
    }

    #[test]
    fn a_sigsys_that_somebody_sends_ends_the_process_as_such() {
        let (output, is_restored) = run("on signal");
        assert_eq!(output.status.code(), Some(128 + 31));
        assert!(is_restored && !String::from_utf8_lossy(&output.stderr).contains("sandbox:"));
    }

    #[test]
    fn off_says_what_is_lost() {
        let (output, _) = run("off none");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(OFF), "{text}");
    }
}
