//! The command line, as clap reads it.

mod help;

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};

use crate::{size::Size, timings};

/// Boots PVH guests on KVM: kernels, unikernels and firmware with a Xen PVH entry point.
#[derive(Debug, Parser)]
#[command(name = "pvh-vmm", version, after_help = help::EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
// Built when it is asked for: the arguments of all commands would take longer than what some of them do.
#[command(defer = true)]
pub(crate) enum Command {
    /// Boot a kernel on this terminal; without one, the built-in demo guest
    #[command(after_help = help::RUN)]
    Run(RunArguments),
    /// Say what a kernel file is, where it would enter, and why not
    Inspect(InspectArguments),
    /// Run the conformance guest on the Xen platform, and say what does not come out as on Xen
    Conform(ConformArguments),
}

#[derive(Args, Debug)]
pub(crate) struct RunArguments {
    /// ELF, gzipped ELF or bzImage with a PVH entry point
    pub(crate) kernel: Option<PathBuf>,
    /// Initial RAM disk: handed over as the first module
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Option<PathBuf>,
    /// A module, with its command line behind the first '=' (so its name has none); may be repeated
    #[arg(long = "module", value_name = "FILE[=CMDLINE]", value_parser = OsStringValueParser::new().try_map(ModuleArgument::parse))]
    pub(crate) modules: Vec<ModuleArgument>,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) cmdline: OsString,
    /// Guest RAM: bytes, or a number with K, M, G or T, also written MB or MiB (powers of 1024 all)
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub(crate) memory: Size,
    /// Number of virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) cpus: u32,
    /// Which start-of-day structure the guest gets
    #[arg(long, value_name = "GENERATION", value_enum, default_value_t = StartInfoArgument::V1)]
    pub(crate) start_info: StartInfoArgument,
    /// What the guest finds around its CPUs
    #[arg(long, value_name = "PLATFORM", value_enum, default_value_t = PlatformArgument::Auto)]
    pub(crate) platform: PlatformArgument,
    /// Have a Linux kernel's two bare hypercalls leave by a port, by a change of its code in guest memory: the Xen platform on
    /// a host whose KVM cannot hand them over
    #[arg(long)]
    pub(crate) patch_hypercalls: bool,
    /// Record every hypercall with its answer, and what else happens to the Xen platform, to be replayed without KVM; needs a file
    /// that can be created, not a pipe
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// How kernel and modules get into memory; a mapped file must not be changed in place while the guest runs
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = LoadArgument::Map)]
    pub(crate) load: LoadArgument,
    /// Where unpacked kernels are kept, so that the next start need not unpack; 'none' keeps none
    #[arg(long, value_name = "DIR")]
    pub(crate) cache: Option<PathBuf>,
    /// Which pages of the host's guest RAM is made of
    #[arg(long, value_name = "PAGES", value_enum, default_value_t = BackingArgument::Small)]
    pub(crate) memory_backing: BackingArgument,
    /// At the end, say on standard error how long each step to the first instruction and to the first output took
    #[arg(long, value_name = "STYLE", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub(crate) timings: Option<timings::Style>,
    /// Write the steps to a file that Perfetto (ui.perfetto.dev) and chrome://tracing open
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// The KVM device
    #[arg(long, value_name = "PATH", default_value = "/dev/kvm")]
    pub(crate) kvm_device: PathBuf,
    /// End with code 6 when the guest asks to reboot, instead of building the machine anew
    #[arg(long)]
    pub(crate) no_reboot: bool,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArguments {
    /// The file to explain
    pub(crate) file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
// Here and not at the command, so that it is put together for that command alone.
#[command(after_help = help::conform())]
pub(crate) struct ConformArguments {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// The guest's command line: 'only=' or 'no=' and names of sections, with commas between them
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) cmdline: OsString,
    /// The KVM device
    #[arg(long, value_name = "PATH", default_value = "/dev/kvm")]
    pub(crate) kvm_device: PathBuf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum StartInfoArgument {
    /// The 20-byte structure of the first text (2015); it names no ACPI, so the guest cannot power off by it
    Draft,
    /// Version 0: no memory map
    #[value(name = "0")]
    V0,
    /// Version 1: with a memory map
    #[value(name = "1")]
    V1,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum PlatformArgument {
    /// Xen where this host can serve the image, else none; says which, and why
    Auto,
    /// A Xen PVH domain: hypercalls, event channels, xenstore, console hvc0; a serial port that only prints
    Xen,
    /// A plain PC: local APIC, I/O APIC, serial port, ACPI
    None,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum BackingArgument {
    /// Of 4 KiB: a guest costs what it touches
    Small,
    /// Of 2 MiB where the host has them: faster for a guest that uses most of its memory, dearer for one that does not
    Huge,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LoadArgument {
    /// Map whole pages of the files, private; nothing is read before the guest touches it
    Map,
    /// Read the files to their end; what happens to them later does not matter
    Copy,
}

/// `FILE` or `FILE=CMDLINE`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ModuleArgument {
    pub(crate) path: PathBuf,
    pub(crate) cmdline: Option<OsString>,
}

impl ModuleArgument {
    fn parse(text: OsString) -> Result<Self, &'static str> {
        let bytes = text.as_bytes();
        let mut parts = bytes.splitn(2, |&byte| byte == b'=');
        let part = |part: &[u8]| OsStr::from_bytes(part).to_owned();
        let path = parts.next().map(part).unwrap_or_default();
        if path.is_empty() {
            return Err("a module needs a file: FILE or FILE=CMDLINE");
        }
        Ok(Self {
            path: path.into(),
            cmdline: parts.next().map(part),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(arguments: &[&str]) -> Result<RunArguments, clap::Error> {
        let words = ["pvh-vmm", "run"].iter().chain(arguments);
        match Arguments::try_parse_from(words)?.command {
            Command::Run(run) => Ok(run),
            Command::Inspect(_) | Command::Conform(_) => unreachable!("the words say run"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn nothing_given_is_the_demo_guest_with_512_mib_and_one_cpu() {
        let run = run(&[]).unwrap();
        assert_eq!(run.kernel, None);
        assert_eq!((run.memory.bytes(), run.cpus), (512 << 20, 1));
        assert_eq!(run.start_info, StartInfoArgument::V1);
        assert!(!run.no_reboot);
    }

    #[test]
    fn a_module_is_split_at_its_first_equals_sign() {
        let modules = run(&["--module", "a=b=c", "--module", "d", "--module", "e="])
            .unwrap()
            .modules;
        assert_eq!(
            modules[0],
            ModuleArgument {
                path: "a".into(),
                cmdline: Some("b=c".into())
            }
        );
        assert_eq!(
            modules[1],
            ModuleArgument {
                path: "d".into(),
                cmdline: None
            }
        );
        assert_eq!(modules[2].cmdline.as_deref(), Some(OsStr::new("")));
        assert!(run(&["--module", "=c"]).is_err());
    }

    #[test]
    fn a_start_info_generation_is_one_of_three() {
        assert_eq!(
            run(&["--start-info", "draft"]).unwrap().start_info,
            StartInfoArgument::Draft
        );
        assert_eq!(
            run(&["--start-info", "0"]).unwrap().start_info,
            StartInfoArgument::V0
        );
        assert!(run(&["--start-info", "2"]).is_err());
    }
}
