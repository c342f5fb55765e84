//! The registers that KVM copies to the run page at each exit, and the hypercall they hold.

use std::mem::offset_of;

use kvm_bindings::{KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS, kvm_run, kvm_sync_regs};

use pvh_hypercall::{Caller, Registers};
use pvh_memory::PagingState;

use super::exit::HypercallState;

/// The registers that KVM copies to the run page at each exit: `kvm_regs`, then `kvm_sregs`.
pub(crate) struct SyncArea(pub(crate) [u8; SYNC_LEN]);

impl SyncArea {
    /// Returns mode and privilege level of the guest's code.
    pub(crate) fn caller(&self) -> Caller {
        let cr0 = self.word(offset_of!(kvm_sync_regs, sregs.cr0));
        let rflags = self.word(offset_of!(kvm_sync_regs, regs.rflags));
        let cpl = match (cr0 & CR0_PE, rflags & RFLAGS_VM) {
            (0, _) => 0,
            (_, 0) => self.byte(offset_of!(kvm_sync_regs, sregs.ss.dpl)) & 3,
            _ => 3,
        };
        Caller {
            cr0,
            efer: self.word(offset_of!(kvm_sync_regs, sregs.efer)),
            rflags,
            cs_long: self.byte(offset_of!(kvm_sync_regs, sregs.cs.l)) != 0,
            cs_big: self.byte(offset_of!(kvm_sync_regs, sregs.cs.db)) != 0,
            cpl,
        }
    }

    /// Returns the state that a hypercall at this exit depends on.
    pub(crate) fn hypercall(&self) -> HypercallState {
        let caller = self.caller();
        HypercallState {
            registers: self.registers(),
            caller,
            paging: PagingState {
                cr0: caller.cr0,
                cr3: self.word(offset_of!(kvm_sync_regs, sregs.cr3)),
                cr4: self.word(offset_of!(kvm_sync_regs, sregs.cr4)),
                efer: caller.efer,
                rflags: caller.rflags,
                pkru: 0,
            },
        }
    }

    fn registers(&self) -> Registers {
        Registers {
            rax: self.word(offset_of!(kvm_sync_regs, regs.rax)),
            rbx: self.word(offset_of!(kvm_sync_regs, regs.rbx)),
            rcx: self.word(offset_of!(kvm_sync_regs, regs.rcx)),
            rdx: self.word(offset_of!(kvm_sync_regs, regs.rdx)),
            rsi: self.word(offset_of!(kvm_sync_regs, regs.rsi)),
            rdi: self.word(offset_of!(kvm_sync_regs, regs.rdi)),
            r8: self.word(offset_of!(kvm_sync_regs, regs.r8)),
            r10: self.word(offset_of!(kvm_sync_regs, regs.r10)),
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

/// The sets of registers that KVM copies.
pub(crate) const SYNC_FIELDS: u32 = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;

/// The offset in `kvm_run` where the VMM asks for them.
pub(crate) const SYNC_VALID_AT: usize = offset_of!(kvm_run, kvm_valid_regs);

/// The offset in `kvm_run` where the VMM names the sets that it has changed.
pub(crate) const SYNC_DIRTY_AT: usize = offset_of!(kvm_run, kvm_dirty_regs);

/// The offset of the registers in `kvm_run`.
pub(crate) const SYNC_AT: usize = offset_of!(kvm_run, s);

/// The offset of rax in `kvm_run`.
pub(crate) const SYNC_RAX_AT: usize = SYNC_AT + offset_of!(kvm_sync_regs, regs.rax);

pub(crate) const SYNC_LEN: usize = offset_of!(kvm_sync_regs, events);

const CR0_PE: u64 = 1;
const RFLAGS_VM: u64 = 1 << 17;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Returns an area with words given as (offset, value). General register n holds
    /// 0xAAAA_BBBB_0000_0000 + n.
    fn area(words: &[(usize, u64)]) -> SyncArea {
        let mut area = SyncArea([0; SYNC_LEN]);
        let registers = (0..16_u64).map(|n| (usize::try_from(n * 8).unwrap(), MARK + n));
        for (at, word) in registers.chain(words.iter().copied()) {
            area.0[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        area
    }

    const MARK: u64 = 0xAAAA_BBBB_0000_0000;

    // struct kvm_regs has 18 words, the last two are rip and rflags. struct kvm_segment has 24
    // bytes: dpl at 16, db at 17, l at 19. struct kvm_sregs starts with cs; ss is the sixth
    // segment; cr0 is at 224.
    const RFLAGS: usize = 136;
    const CS: usize = 144 + 16;
    const SS: usize = 144 + 5 * 24 + 16;
    const CR0: usize = 144 + 224;
    const CR3: usize = CR0 + 16;
    const CR4: usize = CR0 + 24;
    const EFER: usize = CR0 + 40;

    #[test]
    fn the_offsets_are_those_of_the_kernel_header() {
        // struct kvm_run: a union of 256 bytes at 32, then u64 valid, u64 dirty, the registers.
        assert_eq!((SYNC_VALID_AT, SYNC_DIRTY_AT, SYNC_AT), (288, 296, 304));
        assert_eq!((SYNC_RAX_AT, SYNC_LEN, SYNC_FIELDS), (304, 144 + 312, 3));
    }

    #[test]
    fn a_hypercall_is_read_field_by_field() {
        let area = area(&[
            (RFLAGS, 2),
            (CR0, 0x8000_0011),
            (CR3, 3),
            (CR4, 4),
            (EFER, 0x500),
            (CS, 1 << 24),
            (SS, 2),
        ]);
        // struct kvm_regs: rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15.
        let registers = Registers {
            rax: MARK,
            rbx: MARK + 1,
            rcx: MARK + 2,
            rdx: MARK + 3,
            rsi: MARK + 4,
            rdi: MARK + 5,
            r8: MARK + 8,
            r10: MARK + 10,
        };
        let caller = Caller {
            cr0: 0x8000_0011,
            efer: 0x500,
            rflags: 2,
            cs_long: true,
            cs_big: false,
            cpl: 2,
        };
        let paging = PagingState {
            cr0: 0x8000_0011,
            cr3: 3,
            cr4: 4,
            efer: 0x500,
            rflags: 2,
            pkru: 0,
        };
        let want = HypercallState {
            registers,
            caller,
            paging,
        };
        assert_eq!(area.hypercall(), want);
        assert_eq!(area.caller(), caller);
    }

    #[test]
    fn the_l_and_d_bits_of_cs_are_told_apart() {
        let bits = |cs| {
            let caller = area(&[(CS, cs)]).caller();
            (caller.cs_long, caller.cs_big)
        };
        assert_eq!(
            [0, 1 << 8, 1 << 24].map(bits),
            [(false, false), (false, true), (true, false)]
        );
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
}
