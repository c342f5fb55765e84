//! Explains why a vCPU cannot continue: what happened, where, and the likely cause.

use std::fmt;

use pvh_abi::ErrorLine;
use pvh_entry::EntryState;

use super::{
    cpu::Vcpu,
    error::VcpuError,
    exit::{InternalError, VmExit},
    registers::Registers,
};

/// A vCPU that cannot continue. `Display` writes several lines: what happened and where, the likely
/// cause, the registers.
#[derive(Debug)]
#[non_exhaustive]
pub struct Crash {
    /// The index of the vCPU.
    pub vcpu: u32,
    /// What happened.
    pub failure: Failure,
    /// Its registers. `None` if KVM cannot read them, or after a triple fault on an AMD host, where
    /// the processor loses them.
    pub registers: Option<Registers>,
    /// What the embedder has found out from memory; it comes last in the report.
    pub explanation: Option<String>,
}

/// What happened to a vCPU.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// An exception could not be delivered, nor the double fault after it.
    TripleFault,
    /// The processor refused to run the guest's state.
    EntryRefused {
        /// The processor's reason, as hardware encodes it.
        hardware_reason: u64,
    },
    /// KVM had an internal error.
    Internal(InternalError),
    /// An exit that the VMM does not handle.
    Exit(Box<VmExit>),
    /// KVM refused to run the vCPU.
    Host(VcpuError),
}

impl Vcpu {
    /// Describes why this vCPU cannot continue, with its registers if the host has them.
    #[must_use]
    pub fn crash(&self, failure: Failure) -> Crash {
        let registers = self.registers().ok();
        // After a triple fault, an AMD host has only the registers of a processor after INIT.
        let is_lost = |registers: &Registers| {
            matches!(failure, Failure::TripleFault) && registers.are_after_init()
        };
        Crash {
            vcpu: self.index,
            registers: registers.filter(|registers| !is_lost(registers)),
            explanation: None,
            failure,
        }
    }
}

impl From<VmExit> for Failure {
    /// Returns the failure for an exit that the VMM does not handle.
    fn from(exit: VmExit) -> Self {
        match exit {
            VmExit::Shutdown => Self::TripleFault,
            VmExit::FailEntry {
                hardware_reason, ..
            } => Self::EntryRefused { hardware_reason },
            VmExit::InternalError(error) => Self::Internal(error),
            other => Self::Exit(Box::new(other)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TripleFault => f.write_str("triple fault"),
            Self::EntryRefused { hardware_reason } => {
                write!(
                    f,
                    "the processor refused the guest's state (hardware reason {hardware_reason:#x})"
                )
            }
            Self::Internal(error) => error.fmt(f),
            Self::Exit(exit) => write!(f, "unexpected exit {exit:?}"),
            Self::Host(error) => ErrorLine(error).fmt(f),
        }
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            // The error itself names the vCPU.
            Failure::Host(_) => self.failure.fmt(f)?,
            _ => write!(f, "vCPU {}: {}", self.vcpu, self.failure)?,
        }
        let Some(registers) = &self.registers else {
            return match self.failure {
                Failure::TripleFault => f.write_str(
                    " (registers are lost: AMD processors do not keep them after a triple fault)",
                ),
                _ => f.write_str(" (KVM does not report the registers)"),
            };
        };
        let state = &registers.state;
        write!(f, " at rip {:#x} ({})", state.rip, mode(state))?;
        if let Some(cause) = likely_cause(&self.failure, state) {
            write!(f, "\nlikely cause: {cause}")?;
        }
        write!(f, "\n{registers}")?;
        match &self.explanation {
            Some(explanation) => write!(f, "\n{explanation}"),
            None => Ok(()),
        }
    }
}

/// Returns the likely cause, if the registers show it.
fn likely_cause(failure: &Failure, state: &EntryState) -> Option<Cause> {
    match failure {
        Failure::TripleFault if state.idtr.limit == 0 => Some(Cause::NoInterruptTable),
        Failure::TripleFault if state.cr0 & CR0_PG != 0 => Some(Cause::Paging {
            cr2: state.cr2,
            cr3: state.cr3,
        }),
        Failure::TripleFault => Some(Cause::BadInterruptTable {
            at: state.idtr.base,
        }),
        Failure::Internal(error) if error.suberror == KVM_INTERNAL_ERROR_EMULATION => {
            Some(if error.instruction.is_empty() {
                Cause::NothingRead
            } else if looks_like_memory_not_there(&error.instruction) {
                Cause::NoCode
            } else {
                Cause::NotEmulated
            })
        }
        Failure::EntryRefused { .. } => Some(Cause::BadState),
        _ => None,
    }
}

/// Tells whether the bytes look like no code: an address without memory reads as all ones,
/// unwritten RAM as zeros.
fn looks_like_memory_not_there(instruction: &[u8]) -> bool {
    let all = |value| instruction.iter().all(|&byte| byte == value);
    !instruction.is_empty() && (all(0xFF) || all(0))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    NoInterruptTable,
    BadInterruptTable { at: u64 },
    Paging { cr2: u64, cr3: u64 },
    NoCode,
    NothingRead,
    NotEmulated,
    BadState,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterruptTable => f.write_str(
                "an exception before the guest loaded an interrupt table (IDTR limit 0)",
            ),
            Self::BadInterruptTable { at } => {
                write!(
                    f,
                    "an exception whose entry in the interrupt table at {at:#x} is not usable"
                )
            }
            Self::Paging { cr2, cr3 } => write!(
                f,
                "an exception that could not be delivered; the last page fault was at {cr2:#x}, \
                 page tables at {cr3:#x}"
            ),
            Self::NoCode => f.write_str("the guest jumped to an address without code"),
            Self::NothingRead => f.write_str(
                "KVM could not read an instruction; usually the guest jumped to an address without memory",
            ),
            Self::NotEmulated => f.write_str(
                "this host's KVM cannot emulate this instruction: try another host, or a guest that does not use it",
            ),
            Self::BadState => {
                f.write_str("the guest set up a state that the processor does not allow")
            }
        }
    }
}

/// Returns the mode of the vCPU.
fn mode(state: &EntryState) -> &'static str {
    let paging = state.cr0 & CR0_PG != 0;
    let wide = state.cs.attributes.is_big();
    match (state.cr0 & CR0_PE != 0, state.efer & EFER_LMA != 0) {
        (false, _) => "real mode",
        (true, true) if state.cs.attributes.is_long() => "64-bit mode",
        (true, true) => "compatibility mode",
        (true, false) if !wide => "16-bit protected mode",
        (true, false) if paging => "32-bit protected mode, paged",
        (true, false) => "32-bit protected mode, not paged",
    }
}

const CR0_PE: u64 = 1;
const CR0_PG: u64 = 1 << 31;
const EFER_LMA: u64 = 1 << 10;
/// KVM's suberror for an instruction that it could not emulate.
const KVM_INTERNAL_ERROR_EMULATION: u32 = 1;

#[cfg(test)]
mod tests {
    use pvh_abi::Gpa;
    use pvh_entry::{Segment, SegmentAttributes};

    use super::*;

    fn at_entry() -> EntryState {
        EntryState::pvh(0x10_0000, Gpa(0x9000)).unwrap()
    }

    fn internal(instruction: &[u8]) -> Failure {
        Failure::Internal(InternalError {
            suberror: 1,
            instruction: instruction.to_vec(),
            ..InternalError::default()
        })
    }

    #[test]
    fn a_triple_fault_without_an_interrupt_table_says_so() {
        let cause = likely_cause(&Failure::TripleFault, &at_entry()).unwrap();
        assert_eq!(cause, Cause::NoInterruptTable);
        assert!(cause.to_string().contains("IDTR limit 0"));
    }

    #[test]
    fn a_triple_fault_with_paging_names_the_page_fault() {
        let mut state = at_entry();
        state.idtr.limit = 0xFFF;
        state.cr0 |= 1 << 31;
        (state.cr2, state.cr3) = (0xDEAD_B000, 0x7000);
        let cause = likely_cause(&Failure::TripleFault, &state)
            .unwrap()
            .to_string();
        assert!(
            cause.contains("0xdeadb000") && cause.contains("0x7000"),
            "{cause}"
        );
    }

    #[test]
    fn an_instruction_that_cannot_be_emulated_and_missing_code_have_different_causes() {
        let xorps = likely_cause(&internal(&[0x0F, 0x57, 0xC0]), &at_entry());
        assert_eq!(xorps, Some(Cause::NotEmulated));
        for nothing in [[0xFF; 15], [0; 15]] {
            let cause = likely_cause(&internal(&nothing), &at_entry());
            assert_eq!(cause, Some(Cause::NoCode));
        }
        assert_eq!(
            likely_cause(&internal(&[]), &at_entry()),
            Some(Cause::NothingRead)
        );
    }

    #[test]
    fn the_mode_is_named_from_cr0_efer_and_cs() {
        let mut state = at_entry();
        assert_eq!(mode(&state), "32-bit protected mode, not paged");
        state.cr0 |= 1 << 31;
        assert_eq!(mode(&state), "32-bit protected mode, paged");
        state.efer = 0x500;
        assert_eq!(mode(&state), "compatibility mode");
        state.cs = Segment::FLAT_CODE_64;
        assert_eq!(mode(&state), "64-bit mode");
        state.efer = 0;
        state.cs.attributes = SegmentAttributes::CODE_16;
        assert_eq!(mode(&state), "16-bit protected mode");
        state.cr0 = 0x10;
        assert_eq!(mode(&state), "real mode");
    }

    #[test]
    fn a_report_names_the_vcpu_and_what_happened() {
        let crash = Crash {
            vcpu: 3,
            failure: Failure::TripleFault,
            registers: None,
            explanation: None,
        };
        let report = crash.to_string();
        assert!(
            report.starts_with("vCPU 3: triple fault (registers are lost"),
            "{report}"
        );
        let at = Gpa(0x5000);
        let crash = Crash {
            vcpu: 3,
            failure: Failure::Host(VcpuError::LostRam { index: 3, at }),
            registers: None,
            explanation: None,
        };
        let report = crash.to_string();
        assert_eq!(report.matches("vCPU 3").count(), 1, "{report}");
        assert!(!report.contains("triple fault"), "{report}");
        let failure = Failure::EntryRefused {
            hardware_reason: 0x8000_0021,
        };
        assert!(failure.to_string().contains("0x80000021"));
    }
}
