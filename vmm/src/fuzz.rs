//! `pvh-vmm fuzz`: runs programs of the fuzz guest in another process, this program or any VMM.

use std::{
    env,
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
    path::Path,
    process,
    time::Duration,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use pvh_config::{
    FuzzArguments,
    exit::{ARGUMENTS, CRASHED, DIFFERS, HOST, SUCCESS},
};
use pvh_conformance::{
    fuzz::{Bounds, Campaign, DriveError, Outcome, Program, Template},
    fuzz_image,
};

use crate::{
    conform::MACHINE,
    exit::{complain, print, sentence},
    write_out,
};

/// Runs the campaign, prints what it found and returns the exit code.
pub(crate) fn run(arguments: &FuzzArguments) -> u8 {
    if let Some(path) = &arguments.write {
        return write_out::guest(path, fuzz_image());
    }
    let campaign = match campaign(arguments) {
        Ok(campaign) => campaign,
        Err(error) => {
            complain(&sentence(&error, None::<&str>));
            return ARGUMENTS;
        }
    };
    let image = match image() {
        Ok(image) => image,
        Err(error) => {
            complain(&format!("cannot keep the fuzz guest in memory: {error}"));
            return HOST;
        }
    };
    let path = format!("/proc/{}/fd/{}", process::id(), image.as_raw_fd());
    let mut say = |line: &str| {
        if !arguments.quiet {
            complain(line);
        }
    };
    match campaign.run(Path::new(&path), &mut say) {
        Ok(outcome) => print(&report(&outcome, arguments), code(&outcome)),
        Err(error) => {
            complain(&sentence(&error, None::<&str>));
            HOST
        }
    }
}

/// The outcome; the line that repeats a program names the VMMs too.
fn report(outcome: &Outcome, arguments: &FuzzArguments) -> String {
    let mut text = outcome.to_string();
    if !matches!(outcome, Outcome::Clean { .. }) {
        for (option, command) in [("--vmm", &arguments.vmm), ("--beside", &arguments.beside)] {
            if let Some(command) = command {
                text.push_str(&format!(" {option} '{command}'"));
            }
        }
    }
    text
}

const fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Clean { .. } => SUCCESS,
        Outcome::Differs { .. } => DIFFERS,
        _ => CRASHED,
    }
}

fn campaign(arguments: &FuzzArguments) -> Result<Campaign, DriveError> {
    let own = || {
        let program = env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let program = program.to_string_lossy().into_owned();
        let words = [program.as_str(), "run", "{image}"].into_iter();
        let words = words.chain(MACHINE).chain(GUEST);
        Template::new(words.map(str::to_owned).collect())
    };
    let vmm = arguments.vmm.as_deref().map(Template::parse);
    Ok(Campaign {
        vmm: vmm.unwrap_or_else(own)?,
        beside: arguments
            .beside
            .as_deref()
            .map(Template::parse)
            .transpose()?,
        first: Program {
            seed: arguments.seed,
            steps: arguments.steps,
            keep: arguments.keep.clone().map(|keep| keep.0),
        },
        programs: arguments.programs,
        time: Duration::from_secs(arguments.seconds.into()),
        bounds: Bounds {
            silence: Duration::from_secs(arguments.silence.into()),
            memory_bytes: arguments.memory_limit.bytes(),
            ..Bounds::default()
        },
    })
}

fn image() -> io::Result<File> {
    let mut image = File::from(memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC)?);
    image.write_all(fuzz_image())?;
    Ok(image)
}

/// What follows the options of the machine.
const GUEST: [&str; 3] = ["--no-reboot", "--cmdline", "{cmdline}"];
