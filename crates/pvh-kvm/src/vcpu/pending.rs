//! The answer that the last exit needs, and where KVM expects it; pure.

use kvm_bindings::KVM_SYNC_X86_REGS;

use super::{
    decode::{HYPERCALL_RESULT_AT, MMIO_DATA_AT, MSR_DATA_AT, MSR_ERROR_AT},
    error::VcpuError,
    exit::{VmEntry, VmExit},
    sync_registers::{SYNC_DIRTY_AT, SYNC_RAX_AT},
};

/// The answer that the last exit needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pending {
    /// None.
    Nothing,
    /// Bytes, at this offset in the run page.
    Bytes { offset: usize, len: usize },
    /// The value of an MSR, or #GP.
    MsrRead,
    /// Acceptance of a write to an MSR, or #GP.
    MsrWrite,
    /// The result of a hypercall, in the synchronised registers of the run page.
    Rax,
    /// The result of a hypercall, in KVM's record of the exit.
    Result,
}

/// What to copy into the run page, with its offset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer<'a> {
    Nothing,
    Bytes(usize, &'a [u8]),
    Word(usize, u64),
    TwoWords([(usize, u64); 2]),
}

impl Pending {
    /// Returns the answer that `exit` needs, if it is neither a port access nor a hypercall.
    pub(crate) fn after(exit: &VmExit) -> Self {
        match exit {
            VmExit::MmioRead { len_bytes, .. } => Self::Bytes {
                offset: MMIO_DATA_AT,
                len: usize::from(*len_bytes),
            },
            VmExit::MsrRead { .. } => Self::MsrRead,
            VmExit::MsrWrite { .. } => Self::MsrWrite,
            _ => Self::Nothing,
        }
    }

    /// Returns the answer still needed after the registers were replaced: KVM still finishes reads
    /// and MSR accesses, but the result of a hypercall is no longer needed.
    pub(crate) const fn after_new_registers(self) -> Self {
        match self {
            Self::Rax | Self::Result => Self::Nothing,
            other => other,
        }
    }

    /// Returns what to copy into the run page of vCPU `index` for `entry`.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Answer`] for a wrong number of bytes, [`VcpuError::AnswerKind`] for an entry of
    /// a wrong kind.
    pub(crate) fn answer(self, index: u32, entry: VmEntry<'_>) -> Result<Answer<'_>, VcpuError> {
        match (self, entry) {
            (Self::Nothing, VmEntry::Resume | VmEntry::Read([])) => Ok(Answer::Nothing),
            (Self::Bytes { offset, len }, VmEntry::Read(bytes)) if bytes.len() == len => {
                Ok(Answer::Bytes(offset, bytes))
            }
            (Self::MsrRead, VmEntry::Msr(value)) => {
                Ok(Answer::TwoWords([(MSR_ERROR_AT, 0), (MSR_DATA_AT, value)]))
            }
            (Self::MsrWrite, VmEntry::Resume) => Ok(Answer::Word(MSR_ERROR_AT, 0)),
            (Self::MsrRead | Self::MsrWrite, VmEntry::GeneralProtection) => {
                Ok(Answer::Word(MSR_ERROR_AT, 1))
            }
            (Self::Rax, VmEntry::Hypercall(result)) => Ok(Answer::TwoWords([
                (SYNC_RAX_AT, result),
                (SYNC_DIRTY_AT, KVM_SYNC_X86_REGS.into()),
            ])),
            (Self::Result, VmEntry::Hypercall(result)) => {
                Ok(Answer::Word(HYPERCALL_RESULT_AT, result))
            }
            (pending, entry) => Err(pending.mismatch(index, entry)),
        }
    }

    /// Returns the error for an entry that does not fit.
    const fn mismatch(self, index: u32, entry: VmEntry<'_>) -> VcpuError {
        let (expected, given) = match (self, entry) {
            (Self::Nothing, VmEntry::Read(bytes)) => (0, bytes.len()),
            (Self::Bytes { len, .. }, VmEntry::Read(bytes)) => (len, bytes.len()),
            (Self::Bytes { len, .. }, VmEntry::Resume) => (len, 0),
            _ => {
                return VcpuError::AnswerKind {
                    index,
                    expected: self.name(),
                    given: name(entry),
                };
            }
        };
        VcpuError::Answer {
            index,
            expected,
            given,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Bytes { .. } => "bytes",
            Self::MsrRead => "the value of an MSR",
            Self::MsrWrite => "the outcome of a write to an MSR",
            Self::Rax | Self::Result => "the result of a hypercall",
        }
    }
}

const fn name(entry: VmEntry<'_>) -> &'static str {
    match entry {
        VmEntry::Resume => "nothing",
        VmEntry::Read(_) => "bytes",
        VmEntry::Msr(_) => "the value of an MSR",
        VmEntry::GeneralProtection => "#GP",
        VmEntry::Hypercall(_) => "the result of a hypercall",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: Pending = Pending::Bytes {
        offset: 0x1000,
        len: 2,
    };

    #[test]
    fn an_answer_is_copied_to_the_offset_in_the_kernel_header() {
        let answer = |pending: Pending, entry| pending.answer(0, entry).unwrap();
        // kvm_run: msr.error at 32, msr.data at 48, kvm_dirty_regs at 296, s.regs.regs.rax at 304.
        let msr = answer(Pending::MsrRead, VmEntry::Msr(7));
        assert_eq!(msr, Answer::TwoWords([(32, 0), (48, 7)]));
        for pending in [Pending::MsrRead, Pending::MsrWrite] {
            let refused = answer(pending, VmEntry::GeneralProtection);
            assert_eq!(refused, Answer::Word(32, 1));
        }
        let done = answer(Pending::MsrWrite, VmEntry::Resume);
        assert_eq!(done, Answer::Word(32, 0));
        let result = answer(Pending::Rax, VmEntry::Hypercall(9));
        assert_eq!(result, Answer::TwoWords([(304, 9), (296, 1)]));
        // kvm_run: xen.u.hcall.result at 56.
        let result = answer(Pending::Result, VmEntry::Hypercall(9));
        assert_eq!(result, Answer::Word(56, 9));
        let read = answer(BYTES, VmEntry::Read(&[1, 2]));
        assert_eq!(read, Answer::Bytes(0x1000, &[1, 2]));
        let nothing = answer(Pending::Nothing, VmEntry::Resume);
        assert_eq!(nothing, Answer::Nothing);
    }

    #[test]
    fn every_pair_of_exit_and_entry_is_as_drawn() {
        let entries = [
            VmEntry::Resume,
            VmEntry::Read(&[1, 2]),
            VmEntry::Msr(0),
            VmEntry::GeneralProtection,
            VmEntry::Hypercall(0),
        ];
        // Columns as above: y is accepted, b is a wrong number of bytes, k is a wrong kind.
        let drawn = [
            (Pending::Nothing, "ybkkk"),
            (BYTES, "bykkk"),
            (Pending::MsrRead, "kkyyk"),
            (Pending::MsrWrite, "ykkyk"),
            (Pending::Rax, "kkkky"),
            (Pending::Result, "kkkky"),
        ];
        for (pending, row) in drawn {
            for (entry, want) in entries.into_iter().zip(row.chars()) {
                let got = match pending.answer(3, entry) {
                    Ok(_) => 'y',
                    Err(VcpuError::Answer { index: 3, .. }) => 'b',
                    Err(VcpuError::AnswerKind { index: 3, .. }) => 'k',
                    Err(other) => panic!("{other}"),
                };
                assert_eq!(got, want, "{pending:?} {entry:?}");
            }
        }
    }

    #[test]
    fn an_error_names_what_is_needed_and_what_was_given() {
        let error = |entry| Pending::Rax.answer(1, entry).unwrap_err().to_string();
        assert_eq!(
            error(VmEntry::Resume),
            "vCPU 1: the last exit needs the result of a hypercall, the entry has nothing"
        );
    }

    #[test]
    fn new_registers_cancel_only_a_hypercall() {
        for pending in [Pending::Rax, Pending::Result] {
            assert_eq!(pending.after_new_registers(), Pending::Nothing);
        }
        for pending in [BYTES, Pending::MsrRead, Pending::MsrWrite] {
            assert_eq!(pending.after_new_registers(), pending);
        }
    }
}
