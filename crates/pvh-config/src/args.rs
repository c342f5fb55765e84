//! The command line, as clap parses it.

mod choices;
pub(crate) mod console;
pub(crate) mod cpus;
mod disk;
mod error;
mod help;
mod log;
mod module;
mod net;

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use clap::{
    ArgAction, Args, CommandFactory, Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser},
    error::ErrorKind,
    parser::ValueSource,
};

use pvh_conformance::fuzz::{MAX_STEPS, Program};
use pvh_gdb::Address;
use pvh_hypercall::XenVersion;

use crate::size::Size;

pub use choices::{
    BackingArgument, LoadArgument, OnCrash, PlatformArgument, ReportStyle, SandboxArgument,
    StartInfoArgument,
};
pub use console::{ConsoleArgument, ConsoleArgumentError};
pub use disk::{CacheMode, DiskArgument, DiskArgumentError};
pub use log::{LogArgument, LogArgumentError};
pub use module::ModuleArgument;
pub use net::{LinkArgument, NetArgument, NetArgumentError};

/// What the words of a command line mean.
#[derive(Debug)]
pub enum CommandLine {
    /// A command with its arguments.
    Command(Box<Command>),
    /// A page that was asked for: the help or the version. It goes to standard output.
    Page(String),
    /// The words are wrong: one line says what and, often, what to write.
    Wrong(String),
}

impl CommandLine {
    /// Reads the words of a command line, of which the first is the program. `is_file` says whether
    /// a path names a file: a kernel in place of the command is told with the right command.
    pub fn read<W: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = W>,
        is_file: impl FnOnce(&Path) -> bool,
    ) -> Self {
        match Arguments::try_parse_from(words) {
            Ok(arguments) => match arguments.command.fault() {
                None => Self::Command(Box::new(arguments.command)),
                Some(line) => Self::Wrong(line.to_owned()),
            },
            Err(page) if !page.use_stderr() => Self::Page(page.render().to_string()),
            Err(error) => Self::Wrong(error::line(&error, is_file)),
        }
    }
}

/// The definition of the command line, from which pages are made.
#[cfg(feature = "pages")]
pub(crate) fn definition() -> clap::Command {
    Arguments::command()
}

/// Reads the words that follow `run`.
pub(crate) fn run<W: Into<OsString> + Clone>(
    options: impl IntoIterator<Item = W>,
) -> Result<RunArguments, String> {
    let options = options.into_iter().map(Into::into);
    let words = ["pvh-vmm", "run"].map(OsString::from).into_iter();
    let read = Arguments::try_parse_from(words.chain(options));
    match read
        .map_err(|error| error::line(&error, |_| false))?
        .command
    {
        Command::Run(run) => run.fault().map_or(Ok(run), |line| Err(line.to_owned())),
        _ => Err(error::NOT_RUN.to_owned()),
    }
}

/// The options of `run` among `options` that may be given once, by their names, of which KERNEL's is
/// `kernel`. Words that are wrong are left out: [`run`] says what is wrong with them.
pub(crate) fn given_once(options: &[OsString]) -> Vec<String> {
    let mut definition = Arguments::command();
    definition.build();
    let words = ["pvh-vmm", "run"].map(OsString::from).into_iter();
    let read = Arguments::command().ignore_errors(true);
    let read = read.try_get_matches_from(words.chain(options.iter().cloned()));
    let matches = read.ok().and_then(|mut read| read.remove_subcommand());
    let (Some((_, matches)), Some(run)) = (matches, definition.find_subcommand("run")) else {
        return Vec::new();
    };
    let is_given = |option: &&clap::Arg| {
        let source = matches.value_source(option.get_id().as_str());
        source == Some(ValueSource::CommandLine)
    };
    let once = run
        .get_arguments()
        .filter(|option| !matches!(option.get_action(), ArgAction::Append));
    once.filter(is_given)
        .map(|option| option.get_long().unwrap_or("kernel").to_owned())
        .collect()
}

/// Checks one option of `run`.
pub(crate) fn check_word(word: &OsStr) -> Result<(), String> {
    let words = [OsStr::new("pvh-vmm"), OsStr::new("run"), word];
    match Arguments::try_parse_from(words) {
        // Options that belong together are judged when all are there.
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
            Err(error::line(&error, |_| false))
        }
        _ => Ok(()),
    }
}

/// Boots PVH guests on KVM: kernels, unikernels and firmware with a Xen PVH entry point.
#[derive(Debug, Parser)]
#[command(name = "pvh-vmm", version = VERSION, after_help = help::EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// A command of pvh-vmm.
#[derive(Debug, Subcommand)]
// clap shows a variant's comment in the list of commands, and that of its structure in the command's
// own help: they are the same. It builds a command's arguments only when that command is used: building all of them takes
// longer than some commands run.
#[command(defer = true)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one in a run, and it is boxed"
)]
pub enum Command {
    /// Boot a kernel on this terminal; without KERNEL, the built-in demo guest
    #[command(after_help = help::RUN)]
    Run(RunArguments),
    /// Boot the guest of a configuration file, as xl does: `run --config FILE`
    #[command(after_help = help::CREATE)]
    Create(CreateArguments),
    /// Describe a kernel file: format, entry point and, if it cannot boot, why
    Inspect(InspectArguments),
    /// Run the conformance guest on the Xen platform and report differences from real Xen
    Conform(ConformArguments),
    /// Read the report of a conformance guest from standard input, and judge it
    #[command(after_help = help::TAP)]
    Tap(TapArguments),
    /// Run programs of the fuzz guest in a VMM, and shrink one that makes it crash, hang or grow
    #[command(after_help = help::FUZZ)]
    Fuzz(FuzzArguments),
    /// Print a record of `run --record` as strace does: hypercalls, events, store, console; or replay
    /// it
    #[command(after_help = help::TRACE)]
    Trace(TraceArguments),
    /// Write the built-in demo guest to a file, for other VMMs
    Demo(DemoArguments),
    /// List the cache of unpacked kernels, or clear it
    Cache(CacheArguments),
}

/// Boot a kernel on this terminal; without KERNEL, the built-in demo guest
#[derive(Args, Debug)]
pub struct RunArguments {
    /// Kernel file: ELF, gzipped ELF or bzImage, with a PVH entry point; '-' is standard input
    pub kernel: Option<PathBuf>,
    /// Read options from FILE: TOML if its name ends in .toml, else a domain's configuration as xl
    /// takes it; options on the command line override those of the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Initial RAM disk, a file or pipe; the guest gets it as its first module
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Module file and its command line, after the first '=' (so the file name cannot contain '=');
    /// may be repeated
    #[arg(long = "module", value_name = "FILE[=CMDLINE]", value_parser = OsStringValueParser::new().try_map(ModuleArgument::parse))]
    pub modules: Vec<ModuleArgument>,
    /// Raw image or block device, as the guest's disk xvda, xvdb and so on (the Xen platform only);
    /// options: ro, dev=NAME, format=raw, cache=none|writeback|unsafe, discard=on|off; may be repeated
    #[arg(long = "disk", value_name = "FILE[,OPTION...]", value_parser = OsStringValueParser::new().try_map(DiskArgument::parse))]
    pub disks: Vec<DiskArgument>,
    /// Network device of the guest (the Xen platform only): tap=NAME, passt, passt=ARGUMENTS or
    /// socket=PATH; option: mac=ADDRESS; may be repeated
    #[arg(long = "net", value_name = "LINK[,mac=ADDRESS]", value_parser = OsStringValueParser::new().try_map(NetArgument::parse))]
    pub networks: Vec<NetArgument>,
    /// Kernel command line
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub cmdline: OsString,
    /// Where the guest's console is: stdio; pty, a new pseudo-terminal, whose name is printed; or
    /// file:PATH, which takes the output and gives no input
    #[arg(long, value_name = "stdio|pty|file:PATH", default_value = "stdio", value_parser = OsStringValueParser::new().try_map(|text| ConsoleArgument::parse(&text)))]
    pub console: ConsoleArgument,
    /// Guest RAM: a number with K, M, G or T (powers of 1024; MB and MiB are the same), or in bytes
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = Size::of_memory)]
    pub memory: Size,
    /// Number of virtual CPUs, 1 to 255
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = cpus::parse)]
    pub cpus: u32,
    /// Version of the start-of-day structure
    #[arg(long, value_name = "GENERATION", value_enum, default_value_t = StartInfoArgument::V1)]
    pub start_info: StartInfoArgument,
    /// What the guest runs on: a Xen domain or a plain PC
    #[arg(long, value_name = "PLATFORM", value_enum, default_value_t = PlatformArgument::Auto)]
    pub platform: PlatformArgument,
    /// The Xen whose answers the guest gets (the Xen platform only): 4.17 or 4.20
    #[arg(long, value_name = "VERSION", default_value_t = XenVersion::V4_17)]
    pub xen_version: XenVersion,
    /// Run KERNEL as a PV guest of Xen's shim, which --shim names: the shim is the PVH guest, KERNEL
    /// and the initial RAM disk are its modules, and --cmdline is KERNEL's
    #[arg(long, requires = "shim")]
    pub pv: bool,
    /// The shim of --pv; Debian has one in /usr/lib/xen-4.17/boot/xen-shim (apt install
    /// xen-utils-4.17)
    #[arg(long, value_name = "FILE", requires = "pv")]
    pub shim: Option<PathBuf>,
    /// Command line of the shim
    #[arg(
        long,
        value_name = "TEXT",
        default_value = SHIM_CMDLINE,
        requires = "pv",
        allow_hyphen_values = true
    )]
    pub shim_cmdline: OsString,
    /// Patch the kernel's VMCALL/VMMCALL in guest memory to use an I/O port: the Xen platform for
    /// Linux where KVM cannot intercept them
    #[arg(long)]
    pub patch_hypercalls: bool,
    /// Record every hypercall and its answer, and all other events of the Xen platform, to replay
    /// without KVM; FILE must be a regular file or /dev/null, not a pipe
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// How kernel and modules get into guest memory
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = LoadArgument::Auto)]
    pub load: LoadArgument,
    /// Folder for unpacked kernels, so that the next start skips unpacking; 'none' turns the cache
    /// off
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Size of the host pages that guest RAM is made of
    #[arg(long, value_name = "PAGES", value_enum, default_value_t = BackingArgument::Auto)]
    pub memory_backing: BackingArgument,
    /// Print to standard error, at the end, how long each step to the first instruction and first
    /// output took
    #[arg(long, value_name = "STYLE", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub timings: Option<ReportStyle>,
    /// Print to standard error, at the end, how often and why the vCPUs left the guest, as KVM
    /// counts it (Linux 5.14 and newer)
    #[arg(long, value_name = "STYLE", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub exits: Option<ReportStyle>,
    /// Stop before the first instruction and wait for gdb, at a port of 127.0.0.1 or at a socket
    /// file: gdb vmlinux -ex 'target remote localhost:PORT'
    #[arg(long, value_name = "PORT|unix:PATH", value_parser = OsStringValueParser::new().try_map(|text| Address::parse(&text)))]
    pub gdb: Option<Address>,
    /// Write all of the guest's memory and registers to FILE when it crashes: an ELF core, for gdb
    #[arg(long, value_name = "FILE")]
    pub dump_on_crash: Option<PathBuf>,
    /// Execute one instruction at a time, so that the registers before a triple fault are known on
    /// AMD processors too: a hundred times slower or more
    #[arg(long, conflicts_with = "gdb")]
    pub debug_faults: bool,
    /// Write the duration of the steps of --timings to FILE, for Perfetto (ui.perfetto.dev) or
    /// chrome://tracing
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// What standard error gets while the guest runs; may be given several times. on (the default) or
    /// off: what the guest writes to its hypervisor (port 0xE9 of the Xen platform).
    /// hypercalls[=NAMES]: each hypercall and event with arguments and answer, as strace shows system
    /// calls; NAMES as for 'pvh-vmm trace --only'; what comes too fast is dropped and counted
    #[arg(long, value_name = "WHAT", value_parser = LogArgument::parse)]
    pub log: Vec<LogArgument>,
    /// Print only what the guest prints on its console, and errors: no log of the guest, no
    /// platform line, no hints
    #[arg(long, short)]
    pub quiet: bool,
    /// KVM device
    #[arg(long, value_name = "PATH", default_value = KVM_DEVICE)]
    pub kvm_device: PathBuf,
    /// What a guest that takes over this process can still do
    #[arg(long, value_name = "MODE", value_enum, default_value_t = SandboxArgument::On)]
    pub sandbox: SandboxArgument,
    /// End with code 6 when the guest asks to reboot or has a triple fault that is no crash (see
    /// --on-crash), instead of starting it again
    #[arg(long)]
    pub no_reboot: bool,
    /// End with code 5 when every vCPU has halted with interrupts off, which otherwise is only
    /// reported (platform none; on xen it powers off)
    #[arg(long)]
    pub exit_on_halt: bool,
    /// What a triple fault means within 10 seconds of the start and before any output; other ones
    /// are reboots (code 6 with --no-reboot)
    #[arg(long, value_name = "ACTION", value_enum, default_value_t = OnCrash::Report)]
    pub on_crash: OnCrash,
}

impl Command {
    /// What is wrong with options that are right by themselves.
    fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Run(run) => run.fault(),
            _ => None,
        }
    }
}

impl RunArguments {
    fn fault(&self) -> Option<&'static str> {
        match self.platform {
            PlatformArgument::None if self.pv => Some(PV_PLATFORM),
            _ if self.pv && self.kernel.is_none() && self.config.is_none() => Some(PV_KERNEL),
            _ => None,
        }
    }
}

const PV_PLATFORM: &str = "--pv needs the Xen platform; leave --platform none out";
const PV_KERNEL: &str = "--pv needs KERNEL, the kernel that runs under the shim";

/// Boot the guest of a configuration file, as xl does: `run --config FILE`
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// A domain's configuration as xl takes it (xl.cfg(5)), or options of 'run' in TOML if its name
    /// ends in .toml
    pub file: PathBuf,
    /// Settings that override the file's, as xl takes them: memory=1024
    #[arg(value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Attach to the console, which is always done: the guest runs in this process
    #[arg(short = 'c')]
    pub console: bool,
    /// Print the command line of 'run' that does the same, and run nothing
    #[arg(long, short = 'n')]
    pub dryrun: bool,
    /// Print only what the guest prints on its console, and errors
    #[arg(long, short)]
    pub quiet: bool,
    /// Options of 'run', after '--'; they override the file's
    #[arg(last = true, value_name = "OPTION")]
    pub options: Vec<OsString>,
}

/// Describe a kernel file: format, entry point and, if it cannot boot, why
#[derive(Args, Debug)]
#[command(after_help = help::INSPECT)]
pub struct InspectArguments {
    /// Kernel file; '-' is standard input
    pub file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write the ELF to FILE, unpacked, instead of a report; FILE must not exist yet
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub extract: Option<PathBuf>,
}

/// Run the conformance guest on the Xen platform and report differences from real Xen
#[derive(Args, Debug)]
// Not at the variant: there every command would build this text.
#[command(after_help = help::conform())]
pub struct ConformArguments {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write the guest to FILE, for other VMMs, instead of running it; FILE must not exist yet
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub write: Option<PathBuf>,
    /// Which checks run: 'only=' or 'no=' and section names, separated by commas
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub cmdline: OsString,
    /// KVM device
    #[arg(long, value_name = "PATH", default_value = KVM_DEVICE)]
    pub kvm_device: PathBuf,
    /// The Xen that answers, and whose report is compared: 4.17 or 4.20
    #[arg(long, value_name = "VERSION", default_value_t = XenVersion::V4_17)]
    pub xen_version: XenVersion,
    /// The sandbox of the process that runs the guest, as for 'run'
    #[arg(long, value_name = "MODE", value_enum, default_value_t = SandboxArgument::On)]
    pub sandbox: SandboxArgument,
}

/// Read the report of a conformance guest from standard input, and judge it
#[derive(Args, Debug)]
pub struct TapArguments {
    /// An earlier report: each check must have the same result as in it; without FILE, each check
    /// must pass or be skipped
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
}

/// Run programs of the fuzz guest in a VMM, and shrink one that makes it crash, hang or grow
#[derive(Args, Debug)]
pub struct FuzzArguments {
    /// The seed of the first program; each next one has the next seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u32,
    /// Steps of a program
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_STEPS)))]
    pub steps: u32,
    /// Carry out these steps alone: numbers and ranges, separated by commas, as in 3,5-9
    #[arg(long, value_name = "LIST", value_parser = KeepArgument::parse)]
    pub keep: Option<KeepArgument>,
    /// The number of programs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub programs: u32,
    /// Begin no program after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub seconds: u32,
    /// The VMM, as a command with {image} and {cmdline}, split at spaces; without it, `pvh-vmm run` on
    /// the Xen platform
    #[arg(long, value_name = "COMMAND")]
    pub vmm: Option<String>,
    /// Run each program in this VMM too, and compare the answers
    #[arg(long, value_name = "COMMAND")]
    pub beside: Option<String>,
    /// A guest that prints nothing for this time hangs
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub silence: u32,
    /// The most memory that the VMM's process may use
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = Size::of_memory)]
    pub memory_limit: Size,
    /// Do not print a line for each program
    #[arg(long)]
    pub quiet: bool,
    /// Write the guest to FILE, for other VMMs, instead of running it; FILE must not exist yet
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

/// The steps of `--keep`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct KeepArgument(pub Vec<u32>);

impl KeepArgument {
    fn parse(text: &str) -> Result<Self, String> {
        match Program::parse_keep(text) {
            Ok(keep) => Ok(Self(keep)),
            Err(part) => Err(format!(
                "'{part}' is no number or range below {MAX_STEPS}, as in 3,5-9"
            )),
        }
    }
}

/// Print a record of `run --record` as strace does: hypercalls, events, store, console; or replay it
#[derive(Args, Debug)]
pub struct TraceArguments {
    /// The record
    pub file: PathBuf,
    /// Make every call again without KVM, and compare the answers
    #[arg(long, conflicts_with_all = ["json", "only", "limit"])]
    pub replay: bool,
    /// Print one JSON object for each record
    #[arg(long)]
    pub json: bool,
    /// Print only these, separated by commas: kinds (hypercall, store, console, event, vcpu, time,
    /// domain), hypercalls (sched_op) and sub-operations (poll)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Print at most this many lines
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// Write the built-in demo guest to a file, for other VMMs
#[derive(Args, Debug)]
pub struct DemoArguments {
    /// The file, an ELF with a PVH entry point; it must not exist yet
    #[arg(long, value_name = "FILE")]
    pub write: PathBuf,
    /// The guest for the 20-byte structure of 2015
    #[arg(long)]
    pub draft: bool,
}

/// List the cache of unpacked kernels, or clear it
#[derive(Args, Debug)]
#[command(after_help = help::CACHE)]
pub struct CacheArguments {
    /// Folder of the cache, as for 'run' (but not 'none'); default: the user's cache folder
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Remove all unpacked kernels; guests that run from them are not affected
    #[arg(long)]
    pub clear: bool,
}

/// The version and the commit it was built from, which `build.rs` finds.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("PVH_VMM_COMMIT"), ")");

/// The command line of a shim: its messages go to the hypervisor's log, its guest's to the console.
pub const SHIM_CMDLINE: &str = "pv-shim console=xen,pv";

/// The usual KVM device.
pub const KVM_DEVICE: &str = "/dev/kvm";

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<RunArguments, clap::Error> {
        let words = ["pvh-vmm", "run"].iter().chain(arguments);
        match Arguments::try_parse_from(words)?.command {
            Command::Run(run) => Ok(run),
            _ => unreachable!("the words say run"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_version_has_the_commit_of_a_release_build() {
        let CommandLine::Page(page) = CommandLine::read(["pvh-vmm", "--version"], |_| false) else {
            panic!("no page");
        };
        let commit = page
            .strip_prefix(concat!("pvh-vmm ", env!("CARGO_PKG_VERSION"), " ("))
            .and_then(|rest| rest.strip_suffix(")\n"));
        let commit = commit.unwrap_or_else(|| panic!("{page:?}"));
        let is_id = commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_debug = cfg!(debug_assertions);
        assert_eq!(is_debug, commit == "debug build", "{commit}");
        assert!(is_debug || is_id || commit == "unknown", "{commit}");
    }

    #[test]
    fn the_help_of_a_command_begins_with_its_line_in_the_list() {
        let page = |words: &[&str]| match CommandLine::read(words, |_| false) {
            CommandLine::Page(page) => page,
            other => panic!("{other:?}"),
        };
        let list = page(&["pvh-vmm", "--help"]);
        let definition = Arguments::command();
        for command in definition.get_subcommands().map(clap::Command::get_name) {
            let help = page(&["pvh-vmm", command, "--help"]);
            let first = help.lines().next().unwrap();
            let line = list
                .lines()
                .find_map(|line| line.trim_start().strip_prefix(command));
            assert_eq!(line.map(str::trim), Some(first), "{command}");
        }
    }

    #[test]
    fn nothing_given_is_the_demo_guest_with_512_mib_and_one_cpu() {
        let run = run(&[]).unwrap();
        assert_eq!(run.kernel, None);
        assert_eq!((run.memory.bytes(), run.cpus), (512 << 20, 1));
        assert_eq!(run.start_info, StartInfoArgument::V1);
        assert!(!run.no_reboot && !run.exit_on_halt);
    }

    #[test]
    fn a_command_line_may_begin_with_a_dash() {
        for text in ["--verbose /x", "-v", "--memory", "--", "-"] {
            let run = run(&["--cmdline", text, "--cpus", "2"]).unwrap();
            assert_eq!((run.cmdline.to_str(), run.cpus), (Some(text), 2));
        }
    }

    #[test]
    fn memory_without_a_unit_is_probably_meant_in_mib() {
        let refused = run(&["--memory", "512"]).unwrap_err().to_string();
        assert!(
            refused.contains("512 bytes; did you mean 512M?"),
            "{refused}"
        );
        assert_eq!(
            run(&["--memory", "1048576"]).unwrap().memory.bytes(),
            1 << 20
        );
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

    #[test]
    fn each_version_of_xen_has_a_report_to_compare_with() {
        for version in XenVersion::ALL {
            let release = version.answers().release;
            let reference = pvh_conformance::reference::Reference::of(release);
            let reference = reference.unwrap_or_else(|| panic!("{version} has none"));
            assert!(reference.name.contains(&version.to_string()));
        }
    }
}
