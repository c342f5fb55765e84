//! Exits and entries of a vCPU, as plain data.

use std::{fmt, ops::Deref};

use pvh_abi::Gpa;
use pvh_hypercall::{Caller, Registers};
use pvh_memory::PagingState;

/// The answer to the last exit, with which a vCPU is run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum VmEntry<'a> {
    /// No answer: the last exit needs none, or it was [`VmExit::MsrWrite`] and the write was
    /// accepted.
    Resume,
    /// The bytes that the guest reads, exactly as many as the last exit, [`VmExit::PortIn`] or
    /// [`VmExit::MmioRead`], asked for.
    Read(&'a [u8]),
    /// The value of the MSR of [`VmExit::MsrRead`].
    Msr(u64),
    /// Refuses the guest's [`VmExit::MsrRead`] or [`VmExit::MsrWrite`] with #GP.
    GeneralProtection,
    /// The new value of rax, all 64 bits, after [`VmExit::Hypercall`].
    Hypercall(u64),
}

/// Why a vCPU stopped running guest code.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum VmExit {
    /// The guest wrote to an I/O port.
    PortOut {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size_bytes: u8,
        /// The bytes of one access or, for a string instruction, of several in order.
        data: ExitData,
    },
    /// The guest reads from an I/O port: the next entry is [`VmEntry::Read`] with `size_bytes *
    /// count` bytes.
    PortIn {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size_bytes: u8,
        /// The number of accesses: more than 1 only for a string instruction.
        count: u32,
    },
    /// The guest wrote to an address that is not RAM.
    MmioWrite {
        /// The address.
        at: Gpa,
        /// The bytes written, 1 to 8.
        data: ExitData,
    },
    /// The guest reads from an address that is not RAM: the next entry is [`VmEntry::Read`] with
    /// `len_bytes` bytes.
    MmioRead {
        /// The address.
        at: Gpa,
        /// The number of bytes, 1 to 8.
        len_bytes: u8,
    },
    /// The guest reads the hypercall MSR: the next entry is [`VmEntry::Msr`] or
    /// [`VmEntry::GeneralProtection`].
    MsrRead {
        /// The MSR.
        index: u32,
    },
    /// The guest writes the hypercall MSR: the next entry is [`VmEntry::Resume`] or
    /// [`VmEntry::GeneralProtection`].
    MsrWrite {
        /// The MSR.
        index: u32,
        /// The value.
        value: u64,
    },
    /// The guest made a hypercall: the next entry is [`VmEntry::Hypercall`].
    ///
    /// [`pvh_hypercall::Call::decode`] reads the call from the state, and refuses a caller that may
    /// not make hypercalls.
    Hypercall(HypercallState),
    /// The guest executed HLT. Only without in-kernel interrupt controllers: with them, a halted
    /// vCPU waits in the kernel.
    Halt,
    /// The guest shut down by a triple fault. On an AMD host its registers are lost then, see
    /// [`Registers::are_after_init`](crate::Registers::are_after_init).
    Shutdown,
    /// The guest met what [`Vcpu::set_debug`](crate::Vcpu::set_debug) watches for.
    Debug {
        /// The exception: 1 for a step, a breakpoint or a watchpoint, 3 for INT3.
        vector: u32,
        /// The linear address of the instruction: of INT3 itself, or of the next one after a step
        /// or a watchpoint.
        pc: u64,
        /// DR6: bits 3:0 name the debug registers that were hit, bit 14 a step.
        dr6: u64,
    },
    /// The guest requested an action on the whole machine.
    SystemEvent {
        /// The action.
        kind: SystemEventKind,
        /// The request's data, up to 16 words.
        data: Vec<u64>,
    },
    /// A [`Kicker`](crate::Kicker) or a signal interrupted the run; the vCPU can be resumed.
    Interrupted,
    /// The processor refused the guest's state.
    FailEntry {
        /// The processor's reason, in the encoding of VMX or SVM.
        hardware_reason: u64,
        /// The host CPU that refused it.
        host_cpu: u32,
    },
    /// KVM cannot continue the guest.
    InternalError(InternalError),
    /// An exit that this crate does not know.
    Unhandled {
        /// KVM's number of the exit reason.
        reason: u32,
    },
}

/// The state of a vCPU that a hypercall depends on, as KVM copied it at the exit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct HypercallState {
    /// The registers that hold the call's number and arguments.
    pub registers: Registers,
    /// Mode and privilege level of the caller; they select the calling convention.
    pub caller: Caller,
    /// The registers that translate the linear addresses in the arguments. PKRU reads as 0.
    pub paging: PagingState,
}

/// The bytes of one exit: up to 8 are stored inline; a string instruction's, up to 4096, on the
/// heap.
#[derive(Clone, Eq, PartialEq)]
pub struct ExitData(Storage);

#[derive(Clone, Eq, PartialEq)]
enum Storage {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl ExitData {
    /// Returns the bytes in the order of the guest's writes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Storage::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Storage::Heap(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for ExitData {
    fn from(data: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..data.len()), u8::try_from(data.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(data);
                Self(Storage::Inline { len, bytes })
            }
            _ => Self(Storage::Heap(data.into())),
        }
    }
}

impl Deref for ExitData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for ExitData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", self.as_bytes())
    }
}

/// The action that a guest requests (`KVM_SYSTEM_EVENT_*`). Other numbers are possible.
#[doc(alias = "KVM_SYSTEM_EVENT")]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a number with names")]
pub struct SystemEventKind(pub u32);

impl SystemEventKind {
    /// Power the machine off.
    pub const SHUTDOWN: Self = Self(1);
    /// Reset the machine.
    pub const RESET: Self = Self(2);
    /// The guest reports a crash.
    pub const CRASH: Self = Self(3);
}

/// Why KVM cannot continue a guest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct InternalError {
    /// KVM's number: 1 emulation, 2 two exceptions at once, 3 event delivery, 4 unexpected exit.
    pub suberror: u32,
    /// What KVM gave with it, up to 16 words whose meaning depends on `suberror`.
    pub data: Vec<u64>,
    /// The bytes at the instruction that could not be emulated, where KVM gave them: up to 15.
    pub instruction: Vec<u8>,
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.suberror {
            SUBERROR_EMULATION => f.write_str("KVM cannot emulate an instruction")?,
            SUBERROR_SIMULTANEOUS => f.write_str("KVM found two simultaneous exceptions")?,
            SUBERROR_DELIVERY => f.write_str("KVM failed to deliver an event")?,
            SUBERROR_UNEXPECTED => f.write_str("KVM got an unexpected exit of the processor")?,
            other => write!(f, "KVM failed with internal error {other}")?,
        }
        if !self.instruction.is_empty() {
            write!(f, ", bytes {:02x?}", self.instruction)?;
        } else if !self.data.is_empty() {
            write!(f, ", data {:#x?}", DataList(&self.data))?;
        }
        Ok(())
    }
}

/// Shows words in one line.
struct DataList<'a>(&'a [u64]);

impl fmt::Debug for DataList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for word in self.0 {
            write!(f, "{separator}{word:#x}")?;
            separator = " ";
        }
        Ok(())
    }
}

pub(crate) const SUBERROR_EMULATION: u32 = 1;
const SUBERROR_SIMULTANEOUS: u32 = 2;
const SUBERROR_DELIVERY: u32 = 3;
const SUBERROR_UNEXPECTED: u32 = 4;

const INLINE: usize = 8;

#[cfg(test)]
mod tests {
    use super::ExitData;

    #[test]
    fn data_of_every_length_is_stored_unchanged() {
        let bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
        for len in [0, 1, 2, 4, 7, 8, 9, 255, 256, 257, 4096] {
            let data = ExitData::from(&bytes[..len]);
            assert_eq!(data.as_bytes(), &bytes[..len]);
            assert_eq!(data.len(), len);
        }
    }
}
