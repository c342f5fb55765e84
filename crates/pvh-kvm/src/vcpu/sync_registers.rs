//! What KVM leaves in the run page at each exit: registers, and who makes a hypercall.

use std::mem::offset_of;

use kvm_bindings::{KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_run, kvm_sync_regs};

use super::exit::VmExit;

/// The state of a vCPU at its last exit, as far as it decides what a hypercall means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Caller {
    /// RIP: the instruction that exits or, after an OUT, perhaps the one behind it.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// The L bit of cs.
    pub cs_long: bool,
    /// The D bit of cs.
    pub cs_big: bool,
    /// The privilege level: 0 in real mode, 3 in virtual 8086 mode.
    pub cpl: u8,
}

impl Caller {
    /// Tells whether the code is 64-bit: EFER.LMA and the L bit of cs.
    #[must_use]
    pub const fn is_long_mode(&self) -> bool {
        self.efer & EFER_LMA != 0 && self.cs_long
    }
}

/// What KVM leaves in the run page at each exit: `kvm_regs`, then `kvm_sregs`.
pub(crate) struct SyncArea(pub(crate) [u8; SYNC_LEN]);

impl SyncArea {
    pub(crate) fn caller(&self) -> Caller {
        let cr0 = self.word(offset_of!(kvm_sync_regs, sregs.cr0));
        let rflags = self.word(offset_of!(kvm_sync_regs, regs.rflags));
        let cpl = match (cr0 & CR0_PE, rflags & RFLAGS_VM) {
            (0, _) => 0,
            (_, 0) => self.byte(offset_of!(kvm_sync_regs, sregs.ss.dpl)) & 3,
            _ => 3,
        };
        Caller {
            rip: self.word(offset_of!(kvm_sync_regs, regs.rip)),
            rflags,
            cr0,
            cr3: self.word(offset_of!(kvm_sync_regs, sregs.cr3)),
            cr4: self.word(offset_of!(kvm_sync_regs, sregs.cr4)),
            efer: self.word(offset_of!(kvm_sync_regs, sregs.efer)),
            cs_long: self.byte(offset_of!(kvm_sync_regs, sregs.cs.l)) != 0,
            cs_big: self.byte(offset_of!(kvm_sync_regs, sregs.cs.db)) != 0,
            cpl,
        }
    }

    /// Picks number and arguments by the caller's mode.
    pub(crate) fn hypercall(&self) -> VmExit {
        let caller = self.caller();
        let long_mode = caller.is_long_mode();
        let (places, mask) = if long_mode {
            (LONG_ARGS, u64::MAX)
        } else {
            (OTHER_ARGS, 0xFFFF_FFFF)
        };
        VmExit::Hypercall {
            long_mode,
            cpl: caller.cpl,
            number: self.word(offset_of!(kvm_sync_regs, regs.rax)) & mask,
            args: places.map(|at| self.word(at) & mask),
        }
    }

    fn word(&self, at: usize) -> u64 {
        let rest = self.0.get(at..).unwrap_or_default();
        u64::from_le_bytes(rest.first_chunk().copied().unwrap_or_default())
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// Which registers KVM leaves in the run page.
pub(crate) const SYNC_FIELDS: u32 = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;

/// Where KVM is told so.
pub(crate) const SYNC_VALID_AT: usize = offset_of!(kvm_run, kvm_valid_regs);

/// Where KVM is told which of them it shall take over.
pub(crate) const SYNC_DIRTY_AT: usize = offset_of!(kvm_run, kvm_dirty_regs);

/// Where they are.
pub(crate) const SYNC_AT: usize = offset_of!(kvm_run, s);

/// Where rax is.
pub(crate) const SYNC_RAX_AT: usize = SYNC_AT + offset_of!(kvm_sync_regs, regs.rax);

pub(crate) const SYNC_LEN: usize = offset_of!(kvm_sync_regs, events);

/// The order of KVM's own exit record, too.
const LONG_ARGS: [usize; 6] = [
    offset_of!(kvm_sync_regs, regs.rdi),
    offset_of!(kvm_sync_regs, regs.rsi),
    offset_of!(kvm_sync_regs, regs.rdx),
    offset_of!(kvm_sync_regs, regs.r10),
    offset_of!(kvm_sync_regs, regs.r8),
    offset_of!(kvm_sync_regs, regs.r9),
];

const OTHER_ARGS: [usize; 6] = [
    offset_of!(kvm_sync_regs, regs.rbx),
    offset_of!(kvm_sync_regs, regs.rcx),
    offset_of!(kvm_sync_regs, regs.rdx),
    offset_of!(kvm_sync_regs, regs.rsi),
    offset_of!(kvm_sync_regs, regs.rdi),
    offset_of!(kvm_sync_regs, regs.rbp),
];

const CR0_PE: u64 = 1;
const RFLAGS_VM: u64 = 1 << 17;
const EFER_LMA: u64 = 1 << 10;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    /// An area whose words are given as (offset, value); general register n holds 0xAAAA_BBBB_0000_0000 + n.
    fn area(words: &[(usize, u64)]) -> SyncArea {
        let mut area = SyncArea([0; SYNC_LEN]);
        let registers = (0..16_u64).map(|n| (usize::try_from(n * 8).unwrap(), MARK + n));
        for (at, word) in registers.chain(words.iter().copied()) {
            area.0[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        area
    }

    const MARK: u64 = 0xAAAA_BBBB_0000_0000;

    // struct kvm_regs is 18 words, rip and rflags last; struct kvm_segment is 24 bytes, dpl at 16, db at 17, l at
    // 19; struct kvm_sregs begins with cs, ss is the sixth; cr0 is at 224.
    const RIP: usize = 128;
    const RFLAGS: usize = 136;
    const CS: usize = 144 + 16;
    const SS: usize = 144 + 5 * 24 + 16;
    const CR0: usize = 144 + 224;
    const CR3: usize = CR0 + 16;
    const CR4: usize = CR0 + 24;
    const EFER: usize = CR0 + 40;

    #[test]
    fn the_places_are_those_of_the_kernel_header() {
        // struct kvm_run: the union at 32 is 256 bytes long, then u64 valid, u64 dirty, the registers.
        assert_eq!((SYNC_VALID_AT, SYNC_DIRTY_AT, SYNC_AT), (288, 296, 304));
        assert_eq!((SYNC_RAX_AT, SYNC_LEN, SYNC_FIELDS), (304, 144 + 312, 3));
    }

    #[test]
    fn a_caller_is_read_field_by_field() {
        let area = area(&[
            (RIP, 1),
            (RFLAGS, 2),
            (CR0, 0x8000_0011),
            (CR3, 3),
            (CR4, 4),
            (EFER, 0x500),
            (CS, 1 << 24),
            (SS, 2),
        ]);
        let want = Caller {
            rip: 1,
            rflags: 2,
            cr0: 0x8000_0011,
            cr3: 3,
            cr4: 4,
            efer: 0x500,
            cs_long: true,
            cs_big: false,
            cpl: 2,
        };
        assert_eq!(area.caller(), want);
        assert!(want.is_long_mode());
    }

    #[test]
    fn the_level_is_0_in_real_mode_and_3_in_virtual_8086_mode() {
        let cpl = |cr0, rflags| {
            let area = area(&[(CR0, cr0), (RFLAGS, rflags), (SS, 1)]);
            area.caller().cpl
        };
        assert_eq!(cpl(0x10, 2), 0);
        assert_eq!(cpl(0x11, 2), 1);
        assert_eq!(cpl(0x11, 0x2_0002), 3);
    }

    #[test]
    fn a_64_bit_caller_gives_rdi_rsi_rdx_r10_r8_r9_in_full() {
        let area = area(&[(CR0, 0x8000_0011), (EFER, 0x500), (CS, 1 << 24), (SS, 0)]);
        let want = VmExit::Hypercall {
            long_mode: true,
            cpl: 0,
            number: MARK,
            args: [5, 4, 3, 10, 8, 9].map(|n| MARK + n),
        };
        assert_eq!(area.hypercall(), want);
    }

    #[test]
    fn any_other_caller_gives_ebx_ecx_edx_esi_edi_ebp_and_no_high_half() {
        // In order: 32-bit; compatibility mode; the L bit without long mode; 16-bit; real mode.
        let modes = [
            (0x11, 0, 1 << 8),
            (0x8000_0011, 0x500, 1 << 8),
            (0x11, 0, 1 << 24),
            (0x11, 0, 0),
            (0x10, 0, 0),
        ];
        for (cr0, efer, cs) in modes {
            let area = area(&[(CR0, cr0), (EFER, efer), (CS, cs), (SS, 0)]);
            let want = VmExit::Hypercall {
                long_mode: false,
                cpl: 0,
                number: 0,
                args: [1, 2, 3, 4, 5, 7],
            };
            assert_eq!(area.hypercall(), want, "{:?}", area.caller());
        }
    }
}
