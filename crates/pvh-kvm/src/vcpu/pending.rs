//! What the last exit asked for, and where its answer goes; pure.

use kvm_bindings::KVM_SYNC_X86_REGS;

use super::{
    decode::{HYPERCALL_RESULT_AT, MMIO_DATA_AT, MSR_DATA_AT, MSR_ERROR_AT},
    error::VcpuError,
    exit::{VmEntry, VmExit},
    sync_registers::{SYNC_DIRTY_AT, SYNC_RAX_AT},
};

/// What the last exit asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pending {
    Nothing,
    /// So many bytes, at this place in the run page.
    Bytes {
        offset: usize,
        len: usize,
    },
    /// The value of an MSR, or its refusal.
    MsrRead,
    /// That the write to an MSR is done, or its refusal.
    MsrWrite,
    /// The result of a hypercall, in the registers that KVM left in the run page.
    Rax,
    /// The same, in KVM's record of the exit.
    Result,
}

/// What goes into the run page, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer<'a> {
    Nothing,
    Bytes(usize, &'a [u8]),
    Word(usize, u64),
    TwoWords([(usize, u64); 2]),
}

impl Pending {
    /// Returns what `exit` asks for, if it is neither a port access nor a hypercall.
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

    /// Returns what is still asked for once the registers are set anew: KVM finishes reads and MSR accesses all
    /// the same, but nobody waits for the result of a hypercall any more.
    pub(crate) const fn after_new_registers(self) -> Self {
        match self {
            Self::Rax | Self::Result => Self::Nothing,
            other => other,
        }
    }
    /// Returns what `entry` puts into the run page of vCPU `index`.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Answer`] for the wrong number of bytes, [`VcpuError::AnswerKind`] for anything else that was
    /// not asked for.
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

    /// Says what was asked for and what came.
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
            Self::MsrWrite => "the end of a write to an MSR",
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
    fn an_answer_goes_where_the_kernel_header_has_it() {
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
    fn every_exit_has_its_answers_and_no_others() {
        let entries = [
            VmEntry::Resume,
            VmEntry::Read(&[1, 2]),
            VmEntry::Msr(0),
            VmEntry::GeneralProtection,
            VmEntry::Hypercall(0),
        ];
        // Columns as above: y is an answer, b an error in the number of bytes, k one in the kind.
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
    fn an_error_says_what_was_asked_for_and_what_came() {
        let error = |entry| Pending::Rax.answer(1, entry).unwrap_err().to_string();
        assert_eq!(
            error(VmEntry::Resume),
            "vCPU 1: the last exit asked for the result of a hypercall, the entry brings nothing"
        );
    }

    #[test]
    fn new_registers_end_a_hypercall_and_nothing_else() {
        for pending in [Pending::Rax, Pending::Result] {
            assert_eq!(pending.after_new_registers(), Pending::Nothing);
        }
        for pending in [BYTES, Pending::MsrRead, Pending::MsrWrite] {
            assert_eq!(pending.after_new_registers(), pending);
        }
    }
}
