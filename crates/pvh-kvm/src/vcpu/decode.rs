//! Decodes KVM's record of an exit; pure.

use std::mem::offset_of;

use kvm_bindings::{
    KVM_EXIT_DEBUG, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR,
    KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT,
    KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, KVM_EXIT_XEN, KVM_EXIT_XEN_HCALL,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES as FLAG_INSTRUCTION, kvm_run,
};
use pvh_abi::Gpa;

use super::exit::{ExitData, InternalError, SUBERROR_EMULATION, SystemEventKind, VmExit};

/// The part of `kvm_run` whose layout depends on the exit reason.
pub(crate) type Record = [u8; RECORD_LEN];

/// A decoded record. Port data and registers lie elsewhere in the run page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Decoded {
    /// A complete exit.
    Exit(VmExit),
    /// A port access.
    Port(PortAccess),
    /// An intercepted hypercall; its state is in the synchronised registers.
    Hypercall,
}

/// A port access, one or several of the same size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PortAccess {
    pub(crate) is_out: bool,
    pub(crate) size_bytes: u8,
    pub(crate) port: u16,
    pub(crate) count: u32,
    /// The offset of the data from the start of `kvm_run`.
    pub(crate) data_offset: usize,
    /// The length of the data in bytes, at most [`PORT_DATA_MAX`].
    pub(crate) data_len: usize,
}

/// Decodes an exit from KVM's reason and record.
pub(crate) fn decode(reason: u32, record: &Record) -> Decoded {
    let exit = match reason {
        KVM_EXIT_IO => return port(record),
        KVM_EXIT_MMIO => mmio(record),
        KVM_EXIT_X86_RDMSR => VmExit::MsrRead {
            index: u32_at(record, 12),
        },
        // `{u8 error, u8 pad[7], u32 reason, u32 index, u64 data}`
        KVM_EXIT_X86_WRMSR => VmExit::MsrWrite {
            index: u32_at(record, 12),
            value: u64_at(record, 16),
        },
        KVM_EXIT_XEN if u32_at(record, 0) == KVM_EXIT_XEN_HCALL => return Decoded::Hypercall,
        KVM_EXIT_HLT => VmExit::Halt,
        KVM_EXIT_SHUTDOWN => VmExit::Shutdown,
        // `{u32 exception, u32 pad, u64 pc, u64 dr6, u64 dr7}`
        KVM_EXIT_DEBUG => VmExit::Debug {
            vector: u32_at(record, 0),
            pc: u64_at(record, 8),
            dr6: u64_at(record, 16),
        },
        KVM_EXIT_INTR => VmExit::Interrupted,
        KVM_EXIT_FAIL_ENTRY => VmExit::FailEntry {
            hardware_reason: u64_at(record, 0),
            host_cpu: u32_at(record, 8),
        },
        KVM_EXIT_INTERNAL_ERROR => VmExit::InternalError(internal_error(record)),
        KVM_EXIT_SYSTEM_EVENT => VmExit::SystemEvent {
            kind: SystemEventKind(u32_at(record, 0)),
            data: words(record, u32_at(record, 4), 8),
        },
        reason => VmExit::Unhandled { reason },
    };
    Decoded::Exit(exit)
}

/// `{u8 direction, u8 size, u16 port, u32 count, u64 data_offset}`
fn port(record: &Record) -> Decoded {
    let [direction, size_bytes, port_low, port_high] = bytes_at(record, 0);
    let count = u32_at(record, 4);
    let data_len = u64::from(count).saturating_mul(u64::from(size_bytes));
    let place = usize::try_from(data_len)
        .ok()
        .filter(|&len| len > 0 && len <= PORT_DATA_MAX)
        .zip(usize::try_from(u64_at(record, 8)).ok());
    let Some((data_len, data_offset)) = place else {
        return Decoded::Exit(VmExit::Unhandled {
            reason: KVM_EXIT_IO,
        });
    };
    Decoded::Port(PortAccess {
        is_out: u32::from(direction) == KVM_EXIT_IO_OUT,
        size_bytes,
        port: u16::from_le_bytes([port_low, port_high]),
        count,
        data_offset,
        data_len,
    })
}

/// `{u64 phys_addr, u8 data[8], u32 len, u8 is_write}`
fn mmio(record: &Record) -> VmExit {
    let at = Gpa(u64_at(record, 0));
    let data: [u8; 8] = bytes_at(record, 8);
    let [len_bytes, high @ ..] = u32_at(record, 16).to_le_bytes();
    let data = data.get(..usize::from(len_bytes));
    match (data, bytes_at(record, 20)) {
        (Some(data), [is_write]) if high == [0; 3] && len_bytes > 0 => match is_write {
            0 => VmExit::MmioRead { at, len_bytes },
            _ => VmExit::MmioWrite {
                at,
                data: ExitData::from(data),
            },
        },
        _ => VmExit::Unhandled {
            reason: KVM_EXIT_MMIO,
        },
    }
}

/// `{u32 suberror, u32 ndata, u64 data[16]}`. For an emulation failure, `data` starts with
/// `{u64 flags, u8 insn_size, u8 insn_bytes[15]}`.
fn internal_error(record: &Record) -> InternalError {
    let suberror = u32_at(record, 0);
    let data = words(record, u32_at(record, 4), 8);
    let flags = data.first().copied().unwrap_or(0);
    let mut instruction = Vec::new();
    if suberror == SUBERROR_EMULATION && flags & u64::from(FLAG_INSTRUCTION) != 0 {
        let [len] = bytes_at(record, 16);
        let bytes: [u8; 15] = bytes_at(record, 17);
        instruction.extend_from_slice(bytes.get(..usize::from(len)).unwrap_or(&bytes));
    }
    InternalError {
        suberror,
        data,
        instruction,
    }
}

/// Returns `count` words at `at`, at most 16.
fn words(record: &Record, count: u32, at: usize) -> Vec<u64> {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(DATA_WORDS);
    let words = record.get(at..).unwrap_or_default();
    let words = words.as_chunks().0.iter().take(count);
    words.map(|word| u64::from_le_bytes(*word)).collect()
}

fn u32_at(record: &Record, at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(record, at))
}

fn u64_at(record: &Record, at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(record, at))
}

/// Returns `N` bytes at `at`; zeros if the record ends before.
fn bytes_at<const N: usize>(record: &Record, at: usize) -> [u8; N] {
    let rest = record.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or([0; N])
}

/// The offset of the exit reason in `kvm_run`.
pub(crate) const EXIT_REASON_AT: usize = offset_of!(kvm_run, exit_reason);

/// The offset of the record in `kvm_run`.
pub(crate) const RECORD_AT: usize = offset_of!(kvm_run, __bindgen_anon_1);

/// The offset in `kvm_run` for the data of an MMIO read.
pub(crate) const MMIO_DATA_AT: usize = RECORD_AT + 8;

/// The offset in `kvm_run` for the result of an MSR access: 0 for success, any other value for #GP.
pub(crate) const MSR_ERROR_AT: usize = RECORD_AT;

/// The offset in `kvm_run` for the value of an MSR that the guest reads.
pub(crate) const MSR_DATA_AT: usize = RECORD_AT + 16;

/// The offset in `kvm_run` for the result of an intercepted hypercall.
pub(crate) const HYPERCALL_RESULT_AT: usize = RECORD_AT + 24;

pub(crate) const RECORD_LEN: usize = 256;

/// The most bytes of port data in one exit: one page.
pub(crate) const PORT_DATA_MAX: usize = 4096;

const DATA_WORDS: usize = 16;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Returns a record with fields given as (offset, bytes).
    fn record(fields: &[(usize, &[u8])]) -> Record {
        let mut record = [0; RECORD_LEN];
        for (at, bytes) in fields {
            record[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        record
    }

    fn exit(reason: u32, fields: &[(usize, &[u8])]) -> VmExit {
        match decode(reason, &record(fields)) {
            Decoded::Exit(exit) => exit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_offsets_are_those_of_the_kernel_header() {
        // struct kvm_run: u32 exit_reason at 8, the union at 32, its mmio.data at 40.
        assert_eq!((EXIT_REASON_AT, RECORD_AT, MMIO_DATA_AT), (8, 32, 40));
        assert_eq!(
            size_of_val(&kvm_bindings::kvm_run::default().__bindgen_anon_1),
            256
        );
    }

    #[test]
    fn a_port_access_has_direction_size_port_count_and_data() {
        let fields: &[(usize, &[u8])] = &[(0, &[1, 2, 0xF8, 0x03]), (4, &[3]), (8, &[0, 0x10])];
        let want = PortAccess {
            is_out: true,
            size_bytes: 2,
            port: 0x3F8,
            count: 3,
            data_offset: 0x1000,
            data_len: 6,
        };
        assert_eq!(decode(2, &record(fields)), Decoded::Port(want));
    }

    #[test]
    fn a_debug_exit_has_the_exception_its_place_and_dr6() {
        let fields: &[(usize, &[u8])] = &[(0, &[3]), (8, &[0, 0x10]), (16, &[2, 0x40])];
        let want = VmExit::Debug {
            vector: 3,
            pc: 0x1000,
            dr6: 0x4002,
        };
        assert_eq!(exit(4, fields), want);
    }

    #[test]
    fn a_port_access_of_no_bytes_or_more_than_a_page_is_unhandled() {
        let none = exit(2, &[(0, &[1, 1]), (4, &[0])]);
        assert_eq!(none, VmExit::Unhandled { reason: 2 });
        let most = record(&[(0, &[0, 4]), (4, &[0, 4])]);
        assert!(matches!(decode(2, &most), Decoded::Port(access) if access.data_len == 4096));
        let more = exit(2, &[(0, &[0, 4]), (4, &[1, 4])]);
        assert_eq!(more, VmExit::Unhandled { reason: 2 });
        let wrapping = exit(2, &[(0, &[0, 0xFF]), (4, &[0xFF; 4])]);
        assert_eq!(wrapping, VmExit::Unhandled { reason: 2 });
    }

    #[test]
    fn an_mmio_write_has_its_bytes_and_a_read_their_number() {
        let fields: &[(usize, &[u8])] = &[(2, &[0xE0, 0xFE]), (8, &[1, 2, 3, 4, 5]), (16, &[4])];
        assert_eq!(
            exit(6, fields),
            VmExit::MmioRead {
                at: Gpa(0xFEE0_0000),
                len_bytes: 4
            }
        );
        let fields = [fields, &[(20, &[1])]].concat();
        assert_eq!(
            exit(6, &fields),
            VmExit::MmioWrite {
                at: Gpa(0xFEE0_0000),
                data: ExitData::from(&[1, 2, 3, 4][..])
            }
        );
    }

    #[test]
    fn an_mmio_access_of_no_bytes_or_more_than_8_is_unhandled() {
        for len in [[0, 0, 0, 0], [9, 0, 0, 0], [8, 1, 0, 0], [0xFF; 4]] {
            assert_eq!(exit(6, &[(16, &len)]), VmExit::Unhandled { reason: 6 });
        }
    }

    #[test]
    fn an_msr_access_has_index_and_value() {
        // struct { u8 error; u8 pad[7]; u32 reason; u32 index; u64 data; }
        let fields: &[(usize, &[u8])] = &[(8, &[4]), (12, &[1, 0, 0, 0x40]), (16, &[9, 0, 7])];
        assert_eq!(exit(29, fields), VmExit::MsrRead { index: 0x4000_0001 });
        assert_eq!(
            exit(30, fields),
            VmExit::MsrWrite {
                index: 0x4000_0001,
                value: 0x7_0009
            }
        );
        assert_eq!((MSR_ERROR_AT, MSR_DATA_AT), (32, 48));
    }

    #[test]
    fn an_intercepted_hypercall_has_type_1() {
        // struct kvm_xen_exit { u32 type; union { struct { u32 longmode, cpl; u64 input, result,
        // params[6]; } } }
        assert_eq!(decode(34, &record(&[(0, &[1])])), Decoded::Hypercall);
        assert_eq!(HYPERCALL_RESULT_AT, 56);
    }

    #[test]
    fn a_xen_exit_of_another_type_is_unhandled() {
        for kind in [0, 2] {
            assert_eq!(exit(34, &[(0, &[kind])]), VmExit::Unhandled { reason: 34 });
        }
    }

    #[test]
    fn exits_without_a_record_are_decoded_by_their_reason() {
        assert_eq!(exit(5, &[]), VmExit::Halt);
        assert_eq!(exit(8, &[]), VmExit::Shutdown);
        assert_eq!(exit(10, &[]), VmExit::Interrupted);
        assert_eq!(exit(34, &[]), VmExit::Unhandled { reason: 34 });
        assert_eq!(
            exit(u32::MAX, &[(0, &[0xFF; 256])]),
            VmExit::Unhandled { reason: u32::MAX }
        );
    }

    #[test]
    fn a_refused_entry_keeps_the_hardware_reason() {
        assert_eq!(
            exit(9, &[(0, &[0x21, 0, 0, 0x80]), (8, &[3])]),
            VmExit::FailEntry {
                hardware_reason: 0x8000_0021,
                host_cpu: 3
            }
        );
    }

    #[test]
    fn a_system_event_has_at_most_16_words() {
        assert_eq!(
            exit(24, &[(0, &[2]), (4, &[1]), (8, &[7])]),
            VmExit::SystemEvent {
                kind: SystemEventKind::RESET,
                data: vec![7]
            }
        );
        let VmExit::SystemEvent { data, .. } = exit(24, &[(4, &[0xFF; 4])]) else {
            panic!("not a system event");
        };
        assert_eq!(data.len(), 16);
    }

    #[test]
    fn an_emulation_failure_has_the_instruction_if_kvm_gives_it() {
        let bytes: &[u8] = &[3, 0x0F, 0x57, 0xC0, 0x90];
        let with = exit(17, &[(0, &[1]), (4, &[4]), (8, &[1]), (16, bytes)]);
        let VmExit::InternalError(error) = with else {
            panic!("{with:?}");
        };
        assert_eq!(error.instruction, [0x0F, 0x57, 0xC0]);
        assert_eq!(
            error.to_string(),
            "KVM cannot emulate an instruction, bytes [0f, 57, c0]"
        );
        let without = exit(17, &[(0, &[1]), (4, &[4]), (16, bytes)]);
        assert!(matches!(without, VmExit::InternalError(error) if error.instruction.is_empty()));
    }

    #[test]
    fn an_instruction_longer_than_15_bytes_is_cut() {
        let exit = exit(17, &[(0, &[1]), (4, &[4]), (8, &[1]), (16, &[0xFF; 24])]);
        assert!(matches!(exit, VmExit::InternalError(error) if error.instruction == [0xFF; 15]));
    }

    #[test]
    fn an_internal_error_shows_its_words() {
        let exit = exit(17, &[(0, &[3]), (4, &[2]), (8, &[0x30, 0x80]), (16, &[1])]);
        let VmExit::InternalError(error) = exit else {
            panic!("{exit:?}");
        };
        assert_eq!(
            error.to_string(),
            "KVM failed to deliver an event, data 0x8030 0x1"
        );
    }
}
