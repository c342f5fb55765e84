//! From the bytes KVM leaves behind to an exit; pure.

use std::mem::offset_of;

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO,
    KVM_EXIT_IO_OUT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES as FLAG_INSTRUCTION, kvm_run,
};
use pvh_abi::Gpa;

use crate::{ExitData, InternalError, SystemEventKind, VmExit, exit::SUBERROR_EMULATION};

/// The part of `kvm_run` that depends on the exit reason.
pub(crate) type Record = [u8; RECORD_LEN];

/// An exit; port data is elsewhere and has to be fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Decoded {
    /// Complete as it is.
    Exit(VmExit),
    /// A port access.
    Port(PortAccess),
}

/// A port access, one or several of the same size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PortAccess {
    pub(crate) is_out: bool,
    pub(crate) size_bytes: u8,
    pub(crate) port: u16,
    pub(crate) count: u32,
    /// Where the data is, from the start of `kvm_run`.
    pub(crate) data_offset: usize,
    /// Its length, at most [`PORT_DATA_MAX`].
    pub(crate) data_len: usize,
}

/// Names an exit by KVM's reason and record.
pub(crate) fn decode(reason: u32, record: &Record) -> Decoded {
    let exit = match reason {
        KVM_EXIT_IO => return port(record),
        KVM_EXIT_MMIO => mmio(record),
        KVM_EXIT_HLT => VmExit::Halt,
        KVM_EXIT_SHUTDOWN => VmExit::Shutdown,
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

/// `{u32 suberror, u32 ndata, u64 data[16]}`; of an emulation failure, `data` begins with
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

/// Returns up to 16 words at `at`.
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

/// Returns `N` bytes at `at`; 0 where the record has ended.
fn bytes_at<const N: usize>(record: &Record, at: usize) -> [u8; N] {
    let rest = record.get(at..).unwrap_or_default();
    rest.first_chunk().copied().unwrap_or([0; N])
}

/// Where the exit reason is in `kvm_run`.
pub(crate) const EXIT_REASON_AT: usize = offset_of!(kvm_run, exit_reason);

/// Where the record is in `kvm_run`.
pub(crate) const RECORD_AT: usize = offset_of!(kvm_run, __bindgen_anon_1);

/// Where the data of an MMIO read belongs in `kvm_run`.
pub(crate) const MMIO_DATA_AT: usize = RECORD_AT + 8;

const RECORD_LEN: usize = 256;

/// KVM moves at most one page of port data in one exit.
pub(crate) const PORT_DATA_MAX: usize = 4096;

const DATA_WORDS: usize = 16;
