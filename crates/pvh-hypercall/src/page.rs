//! The hypercall page and its MSR.

use pvh_abi::{Gpa, hypercall::HypercallNumber};
use pvh_memory::{GuestMemory, PagingPolicy};

/// The I/O port by which a [`Stub::PortIo`] leaves the guest unless another is chosen: one that no
/// PC device has.
pub const HYPERCALL_PORT: u8 = 0xe4;

/// How a hypercall stub leaves the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "no processor has another way")]
pub enum Stub {
    /// VMCALL, for Intel's processors.
    Vmcall,
    /// VMMCALL, for AMD's.
    Vmmcall,
    /// OUT to a port, for a host that cannot hand over hypercalls.
    ///
    /// The VMM takes an exit of this port for a hypercall whatever its width and data, and reads
    /// the vCPU's registers: rax has the number. It writes the result into rax, and lets the OUT
    /// finish, which changes no register. Code with a privilege level above IOPL gets #GP instead
    /// of -EPERM, for that is what OUT does.
    PortIo {
        /// The port.
        port: u8,
    },
}

impl Stub {
    /// Returns the opcode of the guest's processor, by the vendor in its CPUID: for a host that
    /// intercepts it. `leaf` returns eax, ebx, ecx and edx of a leaf.
    pub fn from_cpuid(leaf: impl Fn(u32) -> [u32; 4]) -> Self {
        if PagingPolicy::from_cpuid(leaf).is_amd {
            Self::Vmmcall
        } else {
            Self::Vmcall
        }
    }
}

/// The frame a hypercall page goes to, and why a write is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The page index is not 0: there is one page.
    #[error("hypercall page {index} was asked for, there is only page 0")]
    Index {
        /// The index.
        index: u16,
    },
    /// The frame is not RAM that can be written.
    #[error("the hypercall page cannot be written at {at}")]
    NotRam {
        /// Where the page was to go.
        at: Gpa,
    },
}

/// What a read of the hypercall MSR answers.
pub const MSR_READ: u64 = 0;

/// Takes a value written to the hypercall MSR: the frame in bits 63 to 12, the page's index in the
/// others.
///
/// # Errors
///
/// [`PageError::Index`], which a guest reads as #GP.
pub const fn decode_msr_write(value: u64) -> Result<Gpa, PageError> {
    match value & 0xfff {
        0 => Ok(Gpa(value)),
        index => {
            let [low, high, ..] = index.to_le_bytes();
            Err(PageError::Index {
                index: u16::from_le_bytes([low, high]),
            })
        }
    }
}

/// Serves a write to the hypercall MSR: fills the page the value names.
///
/// It may come any number of times, for any frame. The caller then latches the width of shared info
/// from the vCPU's mode, and writes the wall clock again.
///
/// # Errors
///
/// [`PageError`]; the guest gets #GP, and memory is as it was.
pub fn write_msr<M: GuestMemory + ?Sized>(
    value: u64,
    stub: Stub,
    memory: &M,
) -> Result<Gpa, PageError> {
    let at = decode_msr_write(value)?;
    memory
        .write(at, &hypercall_page(stub))
        .map_err(|_| PageError::NotRam { at })?;
    Ok(at)
}

/// Returns the page: 128 entries of 32 bytes, the guest calls entry * 32.
///
/// An entry is `mov eax, number`, the instruction of `stub`, `ret`; entry 23, `iret`, is UD2; the
/// rest is 0xCC. 32- and 64-bit code read it alike; 16-bit code has to load eax and leave by
/// itself.
#[must_use]
pub fn hypercall_page(stub: Stub) -> [u8; 4096] {
    let mut page = [FILLER; 4096];
    for (number, entry) in (0_u32..).zip(page.chunks_exact_mut(ENTRY_BYTES)) {
        if u64::from(number) == HypercallNumber::IRET.0 {
            put(entry, &UD2);
            continue;
        }
        let [n0, n1, n2, n3] = number.to_le_bytes();
        let mov = [MOV_EAX, n0, n1, n2, n3];
        match stub {
            Stub::Vmcall => put(entry, &join(mov, [0x0f, 0x01, 0xc1, RET])),
            Stub::Vmmcall => put(entry, &join(mov, [0x0f, 0x01, 0xd9, RET])),
            Stub::PortIo { port } => put(entry, &join(mov, [OUT_EAX, port, RET, FILLER])),
        }
    }
    page
}

fn join(mov: [u8; 5], rest: [u8; 4]) -> [u8; 9] {
    let [m0, m1, m2, m3, m4] = mov;
    let [r0, r1, r2, r3] = rest;
    [m0, m1, m2, m3, m4, r0, r1, r2, r3]
}

fn put(entry: &mut [u8], code: &[u8]) {
    for (byte, code) in entry.iter_mut().zip(code) {
        *byte = *code;
    }
}

const ENTRY_BYTES: usize = 32;
/// INT3.
const FILLER: u8 = 0xcc;
const MOV_EAX: u8 = 0xb8;
/// OUT imm8, eAX.
const OUT_EAX: u8 = 0xe7;
const RET: u8 = 0xc3;
const UD2: [u8; 2] = [0x0f, 0x0b];

#[cfg(test)]
mod tests {
    use pvh_memory::SliceMemory;

    use super::*;

    fn entry(stub: Stub, number: usize) -> [u8; 32] {
        let page = hypercall_page(stub);
        page.chunks(32).nth(number).unwrap().try_into().unwrap()
    }

    /// What follows a stub is the filler.
    fn filled(code: &[u8]) -> [u8; 32] {
        core::array::from_fn(|at| code.get(at).copied().unwrap_or(0xcc))
    }

    #[test]
    fn an_entry_loads_its_number_leaves_and_returns() {
        let vmcall = filled(&[0xb8, 12, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3]);
        assert_eq!(entry(Stub::Vmcall, 12), vmcall);
        let vmmcall = filled(&[0xb8, 34, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3]);
        assert_eq!(entry(Stub::Vmmcall, 34), vmmcall);
        let out = filled(&[0xb8, 127, 0, 0, 0, 0xe7, 0xe4, 0xc3]);
        let port = HYPERCALL_PORT;
        assert_eq!(entry(Stub::PortIo { port }, 127), out);
    }

    #[test]
    fn entry_23_is_ud2_whatever_the_stub() {
        for stub in [Stub::Vmcall, Stub::Vmmcall, Stub::PortIo { port: 1 }] {
            assert_eq!(entry(stub, 23), filled(&[0x0f, 0x0b]));
        }
    }

    #[test]
    fn every_other_entry_has_its_own_number() {
        for number in (0..128).filter(|number| *number != 23) {
            let entry = entry(Stub::Vmmcall, number);
            assert_eq!((entry[0], usize::from(entry[1])), (0xb8, number));
        }
    }

    #[test]
    fn page_index_0_is_the_only_one() {
        assert_eq!(decode_msr_write(0x12_3000), Ok(Gpa(0x12_3000)));
        assert_eq!(
            decode_msr_write(0x12_3001),
            Err(PageError::Index { index: 1 })
        );
        assert_eq!(
            decode_msr_write(0xfff),
            Err(PageError::Index { index: 0xfff })
        );
        assert_eq!(MSR_READ, 0);
    }

    #[test]
    fn a_write_fills_the_frame_any_number_of_times() {
        let mut bytes = [0; 0x3000];
        let memory = SliceMemory::new(Gpa(0), &mut bytes);
        for at in [0x1000, 0x2000, 0x1000] {
            assert_eq!(write_msr(at, Stub::Vmcall, &memory), Ok(Gpa(at)));
        }
        assert_eq!(bytes[0x1000..0x2000], hypercall_page(Stub::Vmcall));
        assert_eq!(bytes[0x2000..], hypercall_page(Stub::Vmcall));
        assert_eq!(bytes[..0x1000], [0; 0x1000]);
    }

    #[test]
    fn a_frame_that_is_not_ram_is_refused() {
        let mut bytes = [0; 0x1800];
        let memory = SliceMemory::new(Gpa(0), &mut bytes);
        for at in [0x1000, 0xffff_ffff_ffff_f000] {
            let refused = Err(PageError::NotRam { at: Gpa(at) });
            assert_eq!(write_msr(at, Stub::Vmcall, &memory), refused);
        }
        assert_eq!(bytes, [0; 0x1800]);
    }
}
