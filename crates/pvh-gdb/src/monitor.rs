//! The `monitor` commands: what gdb itself cannot say about a PVH guest.

use std::fmt;

use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_memory::GuestMemory;
use pvh_start_info::{Generation, StartInfo, read, read_cmdline};

use crate::{machine::Machine, view::View};

/// Runs a command line; `state` has the registers of gdb's current vCPU.
pub(crate) fn run(
    machine: &mut dyn Machine,
    state: Option<&EntryState>,
    line: &[u8],
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let line = String::from_utf8_lossy(line);
    let words: Vec<_> = line.split_whitespace().take(WORDS_MAX).collect();
    match (words.as_slice(), state) {
        ([] | ["help" | "?"], _) => write!(out, "{HELP}{}", machine.command_help()),
        (["start-info"], _) => start_info(machine, out),
        (["walk", _], None) => writeln!(out, "the vCPU has not stopped"),
        (["walk", address], Some(state)) => match parse(address) {
            Some(at) => walk(machine, state, at, out),
            None => writeln!(
                out,
                "{address}: not an address; for example 0xffffffff81000000"
            ),
        },
        (words, _) => match machine.command(words, out)? {
            true => Ok(()),
            false => writeln!(out, "no such command; monitor help lists them"),
        },
    }
}

/// Parses an address: hexadecimal with 0x, or decimal.
fn parse(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn walk(
    machine: &dyn Machine,
    state: &EntryState,
    at: u64,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let view = View::new(machine.memory(), state, machine.address_bits());
    let paging = view.paging();
    let mode = paging.mode();
    writeln!(out, "{at:#x}, paging mode {mode:?}, cr3 {:#x}", paging.cr3)?;
    writeln!(out, "{}", view.trace(at))
}

fn start_info(machine: &dyn Machine, out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(at) = machine.start_info() else {
        return writeln!(out, "this machine has no start-of-day structure");
    };
    let memory = machine.memory();
    let fetch = |at: Gpa, buf: &mut [u8]| memory.read(at, buf);
    match read(Generation::V1, at, fetch) {
        Ok(info) => describe(&info, at, memory, out),
        Err(error) => writeln!(
            out,
            "at {:#x}: {error}; the guest may have overwritten it",
            at.0
        ),
    }
}

fn describe(
    info: &StartInfo,
    at: Gpa,
    memory: &dyn GuestMemory,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let fetch = |at: Gpa, buf: &mut [u8]| memory.read(at, buf);
    let version = info.version.unwrap_or(0);
    writeln!(
        out,
        "start info at {:#x}, version {version}, flags {:#x}",
        at.0, info.flags.0
    )?;
    if let Some(rsdp) = info.rsdp {
        writeln!(out, "rsdp at {:#x}", rsdp.0)?;
    }
    if let Some(cmdline) = info.cmdline {
        let mut line = [0; LINE_MAX];
        let text = match read_cmdline(cmdline, &mut line, fetch) {
            Ok(bytes) => bytes.escape_ascii().to_string(),
            Err(error) => format!("{error}"),
        };
        writeln!(out, "command line at {:#x}: {text}", cmdline.0)?;
    }
    match info.modules(ENTRIES_MAX, fetch) {
        Ok(modules) => {
            for module in modules {
                match module {
                    Ok(module) => writeln!(
                        out,
                        "module at {:#x}, {} bytes",
                        module.paddr.0, module.size_bytes
                    )?,
                    Err(error) => writeln!(out, "module: {error}")?,
                }
            }
        }
        Err(error) => writeln!(out, "modules: {error}")?,
    }
    match info.memmap(ENTRIES_MAX, fetch) {
        Ok(ranges) => {
            for range in ranges {
                match range {
                    Ok(record) => writeln!(
                        out,
                        "memory {:#014x}, {:#x} bytes, type {}",
                        record.range.start.0, record.range.len_bytes, record.range.kind.0
                    )?,
                    Err(error) => writeln!(out, "memory map: {error}")?,
                }
            }
        }
        Err(error) => writeln!(out, "memory map: {error}")?,
    }
    Ok(())
}

const HELP: &str = "\
start-info    the start-of-day structure, as it is in guest memory now
walk ADDR     the page-table entries of a linear address on the current vCPU
help          this list
";

/// No command has more words.
const WORDS_MAX: usize = 16;
const LINE_MAX: usize = 4096;
const ENTRIES_MAX: u32 = 256;
