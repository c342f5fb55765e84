//! The machine that a debugger stops, examines and runs: a trait of plain data.

use std::{fmt, os::fd::BorrowedFd, sync::Arc};

use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_memory::GuestMemory;

/// A machine whose vCPUs can be stopped together.
///
/// All methods are called on the server's thread. None waits for the guest: each returns within the
/// time that a vCPU's thread needs to leave the guest.
pub trait Machine {
    /// Returns how many vCPUs the machine has. Some may not have been started yet.
    fn vcpus(&self) -> u32;

    /// Returns the registers of a stopped vCPU.
    ///
    /// # Errors
    ///
    /// [`MachineError`]: the vCPU has not stopped, or the host cannot read its registers.
    fn registers(&mut self, vcpu: u32) -> Result<EntryState, MachineError>;

    /// Sets the registers of a stopped vCPU.
    ///
    /// # Errors
    ///
    /// [`MachineError`]: the vCPU has not stopped, or the host refuses the values.
    fn set_registers(&mut self, vcpu: u32, state: &EntryState) -> Result<(), MachineError>;

    /// Returns what a vCPU does, for `info threads`; `None` if it has not stopped, so that it has no
    /// registers to show.
    fn activity(&self, vcpu: u32) -> Option<&'static str>;

    /// Returns guest memory by guest-physical address.
    fn memory(&self) -> &dyn GuestMemory;

    /// Returns the width of the guest's physical addresses in bits, for page walks.
    fn address_bits(&self) -> u8 {
        52
    }

    /// Returns where the start-of-day structure is.
    fn start_info(&self) -> Option<Gpa> {
        None
    }

    /// Sets the breakpoints of every vCPU, from its next run on.
    fn set_traps(&mut self, traps: Arc<Traps>);

    /// Runs the vCPUs.
    fn resume(&mut self, motion: &dyn Fn(u32) -> Motion);

    /// Asks every vCPU to stop. A vCPU that does not leave its thread's work in time is stopped
    /// before it enters the guest again. [`Event::Stopped`] reports the stop.
    fn stop(&mut self);

    /// Returns the next event, if there is one.
    fn event(&mut self) -> Option<Event>;

    /// Returns a descriptor that is readable while there may be an event.
    fn events_fd(&self) -> BorrowedFd<'_>;

    /// Ends the machine: the debugger's `kill`.
    fn kill(&mut self);

    /// Runs a `monitor` command of the machine's own; returns `false` if it has no such command.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    fn command(&mut self, words: &[&str], out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        let _ = (words, out);
        Ok(false)
    }

    /// Returns the lines of `monitor help` for the machine's own commands.
    fn command_help(&self) -> &'static str {
        ""
    }
}

/// Why the registers of a vCPU cannot be read or set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The machine has no such vCPU.
    #[error("there is no vCPU {vcpu}")]
    NoVcpu {
        /// Its index.
        vcpu: u32,
    },
    /// The vCPU has not stopped: it waits for its start, or its thread has other work.
    #[error("vCPU {vcpu} has not stopped")]
    NotStopped {
        /// Its index.
        vcpu: u32,
    },
    /// The host refuses.
    #[error("vCPU {vcpu}: {what}")]
    Host {
        /// The vCPU.
        vcpu: u32,
        /// What the host said.
        what: String,
    },
}

/// How a vCPU moves on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "gdb knows these")]
pub enum Motion {
    /// It runs.
    #[default]
    Run,
    /// It executes one instruction.
    Step,
    /// It stays stopped.
    Stay,
}

/// What happened to the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// All vCPUs have stopped, or will before they enter the guest again.
    Stopped {
        /// The vCPU that was the cause.
        vcpu: u32,
        /// The cause.
        cause: Cause,
    },
    /// The machine has ended, with this exit code.
    Ended(u8),
}

/// Why a machine stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// The debugger asked for it.
    Request,
    /// A step is done.
    Step,
    /// A software breakpoint of the debugger.
    Software,
    /// The hardware breakpoint or watchpoint with this number.
    Hardware(usize),
    /// The vCPU cannot go on: a triple fault, or an error of the hypervisor.
    Crash,
}

/// The breakpoints of a machine, the same for every vCPU.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Traps {
    /// Those of the debug registers.
    pub hardware: [Option<HardwareTrap>; HARDWARE_TRAPS],
    /// The linear addresses at which the debugger has written INT3.
    pub software: Vec<u64>,
}

/// What one debug register watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a debug register has no more than these"
)]
pub struct HardwareTrap {
    /// The linear address, a multiple of the length.
    pub at: u64,
    /// The length in bytes: 1, 2, 4 or 8; 1 for execution.
    pub len_bytes: u8,
    /// The access that traps.
    pub access: TrapAccess,
}

/// The access that a debug register watches for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the processor has no others")]
pub enum TrapAccess {
    /// An instruction is executed.
    Execute,
    /// Bytes are written.
    Write,
    /// Bytes are read or written; the processor does not watch for reads alone.
    ReadWrite,
}

/// A processor has four debug registers for addresses.
pub const HARDWARE_TRAPS: usize = 4;

impl HardwareTrap {
    /// Returns the bits of DR7 for debug register `number`: enabled, kind and length.
    #[must_use]
    pub fn dr7_bits(&self, number: usize) -> u64 {
        let kind = match self.access {
            TrapAccess::Execute => 0_u64,
            TrapAccess::Write => 1,
            TrapAccess::ReadWrite => 3,
        };
        let len = match self.len_bytes {
            2 => 1_u64,
            8 => 2,
            4 => 3,
            _ => 0,
        };
        let number = u32::try_from(number).unwrap_or(0) & 3;
        let global_enable = 2_u64.wrapping_shl(number.wrapping_mul(2));
        let control = (len << 2 | kind).wrapping_shl(number.wrapping_mul(4).wrapping_add(16));
        global_enable | control
    }

    /// Tells whether a debug register can watch this.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let is_length = match self.access {
            TrapAccess::Execute => self.len_bytes == 1,
            _ => matches!(self.len_bytes, 1 | 2 | 4 | 8),
        };
        is_length && self.at.checked_rem(self.len_bytes.into()) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SDM volume 3, figure "debug registers": G0 is bit 1, R/W0 bits 17:16, LEN0 bits 19:18.
    #[test]
    fn dr7_has_the_bits_of_the_manual() {
        let trap = |access, len_bytes| HardwareTrap {
            at: 0x1000,
            len_bytes,
            access,
        };
        assert_eq!(trap(TrapAccess::Execute, 1).dr7_bits(0), 0x2);
        assert_eq!(trap(TrapAccess::Write, 4).dr7_bits(0), 0xD_0002);
        assert_eq!(trap(TrapAccess::ReadWrite, 8).dr7_bits(3), 0xB000_0080);
        assert_eq!(trap(TrapAccess::Write, 2).dr7_bits(1), 0x50_0008);
    }

    #[test]
    fn a_watchpoint_is_aligned_to_its_length() {
        let watch = |at, len_bytes| {
            HardwareTrap {
                at,
                len_bytes,
                access: TrapAccess::Write,
            }
            .is_possible()
        };
        assert!(watch(0x1001, 1) && watch(0x1008, 8));
        assert!(!watch(0x1001, 2) && !watch(0x1000, 3) && !watch(0, 0));
    }
}
