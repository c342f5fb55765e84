//! What leaves a vCPU and what goes back in, as plain data.

use std::{fmt, ops::Deref};

use pvh_abi::Gpa;
use pvh_hypercall::{Caller, Registers};
use pvh_memory::PagingState;

/// With what a vCPU is entered.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum VmEntry<'a> {
    /// Nothing: the last exit asked for no answer, or it was [`VmExit::MsrWrite`] and the write is done.
    Resume,
    /// The bytes that the last exit, [`VmExit::PortIn`] or [`VmExit::MmioRead`], asked for: exactly as
    /// many.
    Read(&'a [u8]),
    /// What the MSR of [`VmExit::MsrRead`] holds.
    Msr(u64),
    /// #GP for the guest, whose [`VmExit::MsrRead`] or [`VmExit::MsrWrite`] is refused.
    GeneralProtection,
    /// What rax becomes, high half included, after [`VmExit::Hypercall`].
    Hypercall(u64),
}

/// Why a vCPU stopped running guest code.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum VmExit {
    /// The guest wrote to a port.
    PortOut {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size_bytes: u8,
        /// What was written: one access, or several in order for a string instruction.
        data: ExitData,
    },
    /// The guest reads from a port: the next entry is [`VmEntry::Read`] with `size_bytes * count` bytes.
    PortIn {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        size_bytes: u8,
        /// How many accesses: more than 1 for a string instruction.
        count: u32,
    },
    /// The guest wrote to an address that is not RAM.
    MmioWrite {
        /// The address.
        at: Gpa,
        /// What was written, 1 to 8 bytes.
        data: ExitData,
    },
    /// The guest reads from an address that is not RAM: the next entry is [`VmEntry::Read`] with
    /// `len_bytes` bytes.
    MmioRead {
        /// The address.
        at: Gpa,
        /// How many bytes, 1 to 8.
        len_bytes: u8,
    },
    /// The guest reads an MSR that is ours: the next entry is [`VmEntry::Msr`] or [`VmEntry::GeneralProtection`].
    MsrRead {
        /// The MSR.
        index: u32,
    },
    /// The guest writes to an MSR that is ours: the next entry is [`VmEntry::Resume`] or
    /// [`VmEntry::GeneralProtection`].
    MsrWrite {
        /// The MSR.
        index: u32,
        /// The value.
        value: u64,
    },
    /// The guest made a hypercall: the next entry is [`VmEntry::Hypercall`].
    ///
    /// [`pvh_hypercall::Call::decode`] reads the call from the state, and refuses a caller that may not
    /// make hypercalls.
    Hypercall(HypercallState),
    /// The guest halted; only without in-kernel interrupt controllers, which wait in the kernel.
    Halt,
    /// The guest shut down by a triple fault. An AMD host has lost its registers then, see
    /// [`Registers::are_after_init`](crate::Registers::are_after_init).
    Shutdown,
    /// The guest asked its hypervisor for something that concerns the whole machine.
    SystemEvent {
        /// What it asked for.
        kind: SystemEventKind,
        /// What came with it, up to 16 words.
        data: Vec<u64>,
    },
    /// A [`Kicker`](crate::Kicker) or a signal stopped the vCPU; it can be resumed.
    Interrupted,
    /// The processor refused the guest's state.
    FailEntry {
        /// The processor's reason, as hardware encodes it.
        hardware_reason: u64,
        /// The host CPU on which it happened.
        host_cpu: u32,
    },
    /// KVM itself gave up.
    InternalError(InternalError),
    /// An exit this crate knows nothing of.
    Unhandled {
        /// KVM's number for it.
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

/// The bytes of one exit: up to 8 in place, a string instruction's up to a page on the heap.
#[derive(Clone, Eq, PartialEq)]
pub struct ExitData(Storage);

#[derive(Clone, Eq, PartialEq)]
enum Storage {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl ExitData {
    /// Returns the bytes in the order in which the guest wrote them.
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

/// What a guest asked for (`KVM_SYSTEM_EVENT_*`). The set is open.
#[doc(alias = "KVM_SYSTEM_EVENT")]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a number with names")]
pub struct SystemEventKind(pub u32);

impl SystemEventKind {
    /// The machine is to be switched off.
    pub const SHUTDOWN: Self = Self(1);
    /// The machine is to be reset.
    pub const RESET: Self = Self(2);
    /// The guest has crashed.
    pub const CRASH: Self = Self(3);
}

/// Why KVM gave up on a guest.
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
            SUBERROR_SIMULTANEOUS => f.write_str("KVM met two exceptions at once")?,
            SUBERROR_DELIVERY => f.write_str("KVM failed to deliver an event")?,
            SUBERROR_UNEXPECTED => f.write_str("KVM met an exit it does not expect")?,
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

/// Words in one line.
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
    fn data_of_every_length_comes_back_as_it_was() {
        let bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
        for len in [0, 1, 2, 4, 7, 8, 9, 255, 256, 257, 4096] {
            let data = ExitData::from(&bytes[..len]);
            assert_eq!(data.as_bytes(), &bytes[..len]);
            assert_eq!(data.len(), len);
        }
    }
}
