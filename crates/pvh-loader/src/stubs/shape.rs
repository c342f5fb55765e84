//! Recognises a hypercall stub by its instructions.

/// The instruction of a stub, 3 bytes long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "x86 has these two")]
pub enum CallInstruction {
    /// The instruction of AMD's CPUs.
    Vmmcall,
    /// The instruction of Intel's CPUs.
    Vmcall,
}

impl CallInstruction {
    /// Returns its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 3] {
        match self {
            Self::Vmmcall => [0x0F, 0x01, 0xD9],
            Self::Vmcall => [0x0F, 0x01, 0xC1],
        }
    }

    /// Returns its mnemonic.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmmcall => "VMMCALL",
            Self::Vmcall => "VMCALL",
        }
    }
}

/// Alignment of stubs in bytes.
pub(super) const STUB_ALIGN: usize = 16;

/// How many bytes [`pair_at`] reads.
pub(super) const WINDOW_BYTES: usize = 128;

/// A stub, by offsets from its first byte.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shape {
    call: CallInstruction,
    /// Offset of the instruction: the length of ENDBR64, or 0.
    before: usize,
    leaves: Leaves,
    len: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leaves {
    Ret,
    /// A jump; the target is this far from the stub's first byte.
    Jump(i64),
}

/// Returns the stub that `bytes` begin with.
pub(super) fn stub_at(bytes: &[u8]) -> Option<Shape> {
    let (before, rest) = match bytes.strip_prefix(&ENDBR64) {
        Some(rest) => (ENDBR64.len(), rest),
        None => (0, bytes),
    };
    let (call, rest) = match rest.split_first_chunk()? {
        (&VMMCALL, rest) => (CallInstruction::Vmmcall, rest),
        (&VMCALL, rest) => (CallInstruction::Vmcall, rest),
        _ => return None,
    };
    let called = before.saturating_add(VMCALL.len());
    let (leaves, len) = match rest {
        [0xC3, ..] => (Leaves::Ret, called.saturating_add(1)),
        [0xE9, a, b, c, d, ..] => {
            let len = called.saturating_add(5);
            let far = i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
            (Leaves::Jump(far.saturating_add(to_i64(len))), len)
        }
        _ => return None,
    };
    Some(Shape {
        call,
        before,
        leaves,
        len,
    })
}

/// Returns the pair of stubs that `bytes` begin with: the instruction of each, and its offset.
pub(super) fn pair_at(bytes: &[u8]) -> Option<[(CallInstruction, usize); 2]> {
    let first = stub_at(bytes)?;
    let starts = (0..=FARTHEST).step_by(STUB_ALIGN);
    let mut starts = starts.filter(|&start| start >= first.len);
    let (start, second) = starts.find_map(|start| Some((start, stub_at(bytes.get(start..)?)?)))?;
    let leaves = match second.leaves {
        Leaves::Ret => Leaves::Ret,
        Leaves::Jump(far) => Leaves::Jump(far.saturating_add(to_i64(start))),
    };
    let is_pair = first.call != second.call
        && first.before == second.before
        && first.leaves == leaves
        && is_padding(bytes.get(first.len..start)?);
    let second_at = start.saturating_add(second.before);
    is_pair.then_some([(first.call, first.before), (second.call, second_at)])
}

/// Tells whether `bytes` are padding of assemblers: INT3, and NOPs of any length.
fn is_padding(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(rest) = without_filler(bytes) else {
            return false;
        };
        bytes = rest;
    }
    true
}

/// Returns the bytes after the padding instruction that `bytes` begin with.
fn without_filler(bytes: &[u8]) -> Option<&[u8]> {
    if let [0xCC, rest @ ..] = bytes {
        return Some(rest);
    }
    let prefixes = bytes.iter().take_while(|byte| matches!(byte, 0x66 | 0x2E));
    let (_, rest) = bytes.split_at_checked(prefixes.count())?;
    match rest {
        [0x90, rest @ ..] => Some(rest),
        // NOP with an operand that is not used: (%rax), and with 8 or 32 bits of displacement, with
        // an index or not.
        [0x0F, 0x1F, 0x00, rest @ ..] => Some(rest),
        [0x0F, 0x1F, 0x40, rest @ ..] => rest.get(1..),
        [0x0F, 0x1F, 0x44, rest @ ..] => rest.get(2..),
        [0x0F, 0x1F, 0x80, rest @ ..] => rest.get(4..),
        [0x0F, 0x1F, 0x84, rest @ ..] => rest.get(5..),
        _ => None,
    }
}

fn to_i64(offset: usize) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

const ENDBR64: [u8; 4] = [0xF3, 0x0F, 0x1E, 0xFA];
const VMMCALL: [u8; 3] = CallInstruction::Vmmcall.bytes();
const VMCALL: [u8; 3] = CallInstruction::Vmcall.bytes();

/// The largest distance between two stubs of a pair: kernels align functions to 64 bytes at most.
const FARTHEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Debian's 6.1.192, as it is in the file.
    const BARE: &[u8] = b"\x0f\x01\xd9\xe9\xa8\xe0\x3b\x00\x0f\x1f\x84\x00\x00\x00\x00\x00\
        \x0f\x01\xc1\xe9\x98\xe0\x3b\x00\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc";

    /// Debian's 6.12.117, as it is in the file.
    const WITH_ENDBR: &[u8] = b"\xf3\x0f\x1e\xfa\x0f\x01\xd9\xe9\xe4\x42\x01\x00\x0f\x1f\x40\x00\
        \x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\
        \xf3\x0f\x1e\xfa\x0f\x01\xc1\xe9\xc4\x42\x01\x00\x0f\x1f\x40\x00";

    /// A kernel built without return thunks.
    const WITH_RET: &[u8] = b"\x0f\x01\xc1\xc3\xcc\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00\
        \x0f\x01\xd9\xc3\xcc\xcc";

    use CallInstruction::{Vmcall, Vmmcall};

    #[test]
    fn the_pairs_of_real_kernels_are_pairs() {
        assert_eq!(pair_at(BARE), Some([(Vmmcall, 0), (Vmcall, 16)]));
        assert_eq!(pair_at(WITH_ENDBR), Some([(Vmmcall, 4), (Vmcall, 36)]));
        assert_eq!(pair_at(WITH_RET), Some([(Vmcall, 0), (Vmmcall, 16)]));
    }

    /// `BARE` with one byte changed is no pair.
    fn refuses(offset: usize, byte: u8) {
        let mut bytes = BARE.to_vec();
        assert_ne!(bytes[offset], byte);
        bytes[offset] = byte;
        assert_eq!(pair_at(&bytes), None, "{offset} = {byte:#x}");
    }

    #[test]
    fn two_stubs_with_one_instruction_are_no_pair() {
        refuses(18, 0xD9);
    }

    #[test]
    fn two_stubs_that_jump_to_unlike_places_are_no_pair() {
        refuses(20, 0x99);
    }

    #[test]
    fn two_stubs_of_which_one_returns_by_ret_are_no_pair() {
        refuses(19, 0xC3);
    }

    #[test]
    fn two_stubs_of_which_one_has_endbr64_are_no_pair() {
        let second = &WITH_ENDBR[32..];
        let mut bytes = BARE[..16].to_vec();
        bytes.extend(second);
        let far = 0x3b_e0a8 + 8 - (16 + 12); // to where the first one jumps
        bytes[16 + 8..16 + 12].copy_from_slice(&i32::to_le_bytes(far));
        assert_eq!(pair_at(&bytes), None);
    }

    #[test]
    fn code_between_two_stubs_makes_them_no_pair() {
        refuses(8, 0x50); // PUSH
        refuses(9, 0x0B); // UD2
    }

    #[test]
    fn a_stub_more_than_64_bytes_away_is_not_part_of_the_pair() {
        let apart = |far: usize| {
            let mut bytes = b"\x0f\x01\xd9\xc3".to_vec();
            bytes.resize(far, 0xCC);
            bytes.extend(b"\x0f\x01\xc1\xc3");
            bytes
        };
        assert_eq!(pair_at(&apart(64)), Some([(Vmmcall, 0), (Vmcall, 64)]));
        assert_eq!(pair_at(&apart(80)), None);
    }

    #[test]
    fn a_pair_cut_anywhere_before_its_end_is_no_pair() {
        for len in 0..24 {
            assert_eq!(pair_at(&BARE[..len]), None, "{len}");
        }
        assert!(pair_at(&BARE[..24]).is_some());
    }

    #[test]
    fn padding_is_int3_and_nops_of_every_length() {
        // The manuals' recommended NOPs of 1 to 9 bytes, and two longer ones of gas.
        let nops: [&[u8]; 11] = [
            b"\x90",
            b"\x66\x90",
            b"\x0f\x1f\x00",
            b"\x0f\x1f\x40\x00",
            b"\x0f\x1f\x44\x00\x00",
            b"\x66\x0f\x1f\x44\x00\x00",
            b"\x0f\x1f\x80\x00\x00\x00\x00",
            b"\x0f\x1f\x84\x00\x00\x00\x00\x00",
            b"\x66\x0f\x1f\x84\x00\x00\x00\x00\x00",
            b"\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
            b"\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
        ];
        for nop in nops {
            assert!(is_padding(nop), "{nop:x?}");
            assert!(is_padding(&[nop, b"\xcc"].concat()), "{nop:x?}");
            for cut in 1..nop.len() {
                assert!(!is_padding(&nop[..cut]), "{nop:x?} cut to {cut}");
            }
        }
        assert!(!is_padding(b"\x0f\x1f\xc0"));
        assert!(!is_padding(b"\x00"));
    }
}
