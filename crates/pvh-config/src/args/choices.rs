//! The values of options that are one word of a few.

use clap::ValueEnum;

/// The version of the start-of-day structure.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum StartInfoArgument {
    /// The 20-byte structure of 2015; it has no ACPI pointer, so the guest cannot power off through
    /// ACPI
    Draft,
    /// Version 0, without a memory map
    #[value(name = "0")]
    V0,
    /// Version 1, with a memory map
    #[value(name = "1")]
    V1,
}

/// What the guest runs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PlatformArgument {
    /// xen where this host can run the image that way, else none; prints which and why
    Auto,
    /// A Xen PVH domain: hypercalls, event channels, xenstore, console hvc0; a serial port that
    /// only prints
    Xen,
    /// A plain PC: local APIC, I/O APIC, serial port, ACPI
    None,
}

/// The size of the host pages that guest RAM is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum BackingArgument {
    /// 2 MiB pages where the host has them, once the guest has run for some ms: a guest that ends
    /// earlier is not delayed
    Auto,
    /// 4 KiB pages, unless the host prefers 2 MiB for every program: the host spends memory only on
    /// what the guest touches
    Small,
    /// 2 MiB pages where the host has them, from the start
    Huge,
}

/// How kernel and modules get into guest memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LoadArgument {
    /// Map the files, so that the guest starts at once, and copy up to 256 MiB of them into 2 MiB
    /// pages some ms later; do not change a file in place while the guest runs
    Auto,
    /// Map the files privately and leave them so: guests of one kernel share its memory, but each
    /// 4 KiB page costs an exit when it is first touched, and a stock Linux takes up to half as long
    /// again to boot; do not change a file in place while the guest runs
    Map,
    /// Read the files completely before the guest starts; later changes to them do not matter
    Copy,
}

/// The format of a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ReportStyle {
    /// A table for people
    Text,
    /// One line with a JSON object; times are in microseconds
    Json,
}

/// What the sandbox of a run does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SandboxArgument {
    /// Nothing but its work: no file, program, socket or other process; a system call that a thread
    /// does not need ends the run with code 7
    On,
    /// Everything; the kernel logs the system calls that 'on' would refuse, and they are listed at
    /// the end
    Log,
    /// Everything that this user can do
    Off,
}

impl SandboxArgument {
    /// The word on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Log => "log",
            Self::Off => "off",
        }
    }
}

/// What an early triple fault means.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OnCrash {
    /// A crash: report it and end with code 5
    Report,
    /// A reboot, as any other triple fault; the third in a row is a crash
    Reboot,
}
