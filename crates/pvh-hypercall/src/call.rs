//! A hypercall as it is read from registers, by the caller's mode.

use pvh_abi::{Errno, hypercall::HypercallNumber};

/// Mode and privilege of the caller; they select the calling convention and whether the call is
/// allowed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Caller {
    /// CR0.
    pub cr0: u64,
    /// EFER.
    pub efer: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// The L bit of cs.
    pub cs_long: bool,
    /// The D bit of cs.
    pub cs_big: bool,
    /// The privilege level, 0 to 3.
    pub cpl: u8,
}

/// The mode a vCPU calls from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a processor has no others")]
pub enum Mode {
    /// CR0.PE clear.
    Real,
    /// RFLAGS.VM set.
    Virtual8086,
    /// A code segment with D clear.
    Protected16,
    /// A code segment with D set; compatibility mode too.
    Protected32,
    /// EFER.LMA and CS.L.
    Long64,
}

/// Which registers and structure layouts a call uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the ABI has these two")]
pub enum Width {
    /// A 64-bit code segment: rax, rdi, rsi, rdx, r10, r8; native layouts.
    Native,
    /// Everything else: eax, ebx, ecx, edx, esi, edi; compat layouts.
    Compat,
}

/// The registers that a hypercall reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the registers' own names")]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r10: u64,
}

/// A hypercall with its arguments, cut to the width of its caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Call {
    /// The caller's convention.
    pub width: Width,
    /// Which hypercall.
    pub number: HypercallNumber,
    /// Its arguments; unused ones hold whatever the registers held.
    pub args: [u64; 5],
}

impl Caller {
    /// Returns the mode, tested in Xen's order.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        if self.cr0 & CR0_PE == 0 {
            Mode::Real
        } else if self.rflags & RFLAGS_VM != 0 {
            Mode::Virtual8086
        } else if self.efer & EFER_LMA != 0 && self.cs_long {
            Mode::Long64
        } else if self.cs_big {
            Mode::Protected32
        } else {
            Mode::Protected16
        }
    }
}

impl Mode {
    /// Returns the convention of this mode.
    #[must_use]
    pub const fn width(self) -> Width {
        match self {
            Self::Long64 => Width::Native,
            _ => Width::Compat,
        }
    }

    /// Tells whether code at privilege level `cpl` may make hypercalls: level 0, real mode always,
    /// virtual 8086 mode never.
    #[must_use]
    pub const fn may_call(self, cpl: u8) -> bool {
        match self {
            Self::Real => true,
            Self::Virtual8086 => false,
            _ => cpl == 0,
        }
    }
}

impl Width {
    /// Cuts a value to what a register of this width holds.
    #[must_use]
    pub const fn mask(self, value: u64) -> u64 {
        match self {
            Self::Native => value,
            Self::Compat => value & 0xffff_ffff,
        }
    }

    /// Returns what rax becomes: the sign-extended result, of which a caller with eax gets 32 bits.
    #[must_use]
    pub const fn result(self, result: i64) -> u64 {
        self.mask(result.cast_unsigned())
    }
}

impl Call {
    /// Reads a call out of the registers.
    ///
    /// The high halves of a 32-bit caller's registers are cut off here, so that no later code can
    /// see them: 32-bit code cannot set them (XSA-454).
    ///
    /// # Errors
    ///
    /// EPERM for a caller that may not call; it goes into rax as any result, with the mode's width.
    pub const fn decode(registers: &Registers, caller: &Caller) -> Result<Self, Errno> {
        let mode = caller.mode();
        if !mode.may_call(caller.cpl) {
            return Err(Errno::EPERM);
        }
        let r = registers;
        let args = match mode.width() {
            Width::Native => [r.rdi, r.rsi, r.rdx, r.r10, r.r8],
            Width::Compat => [r.rbx, r.rcx, r.rdx, r.rsi, r.rdi],
        };
        Ok(Self::new(mode.width(), r.rax, args))
    }

    /// Makes a call of a number and its arguments in order, cut to the width: for a transport that
    /// has picked the registers already, and for the entries of a multicall. The caller has been
    /// allowed to call.
    #[must_use]
    pub const fn new(width: Width, number: u64, args: [u64; 5]) -> Self {
        let [a, b, c, d, e] = args;
        Self {
            width,
            number: HypercallNumber(width.mask(number)),
            args: [
                width.mask(a),
                width.mask(b),
                width.mask(c),
                width.mask(d),
                width.mask(e),
            ],
        }
    }

    /// The same call with other arguments: what is left of it.
    pub(crate) const fn with_args(self, args: [u64; 5]) -> Self {
        Self::new(self.width, self.number.0, args)
    }
}

const CR0_PE: u64 = 1;
const RFLAGS_VM: u64 = 1 << 17;
const EFER_LMA: u64 = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const PROTECTED: Caller = Caller {
        cr0: 0x11,
        efer: 0,
        rflags: 2,
        cs_long: false,
        cs_big: true,
        cpl: 0,
    };
    const LONG: Caller = Caller {
        cr0: 0x8000_0011,
        efer: 0x500,
        cs_long: true,
        cs_big: false,
        ..PROTECTED
    };

    /// Registers whose value tells their name.
    const MARKED: Registers = Registers {
        rax: 0xaaaa_0000_0000_000c,
        rbx: 0xbbbb_0000_0000_000b,
        rcx: 0xcccc_0000_ffff_000c,
        rdx: 0xdddd_0000_0000_000d,
        rsi: 0x5555_0000_8000_0051,
        rdi: 0x6666_0000_0000_0061,
        r8: 8,
        r10: 10,
    };

    #[test]
    fn a_64_bit_caller_uses_rax_rdi_rsi_rdx_r10_r8_in_full() {
        let call = Call::decode(&MARKED, &LONG).unwrap();
        assert_eq!(call.width, Width::Native);
        assert_eq!(call.number.0, 0xaaaa_0000_0000_000c);
        let rdx = 0xdddd_0000_0000_000d;
        assert_eq!(
            call.args,
            [0x6666_0000_0000_0061, 0x5555_0000_8000_0051, rdx, 10, 8]
        );
    }

    #[test]
    fn a_32_bit_caller_uses_eax_ebx_ecx_edx_esi_edi_and_no_high_half() {
        // XSA-454: the high halves are dirty, and nothing of them may be seen.
        let compatibility = Caller {
            cs_long: false,
            cs_big: true,
            ..LONG
        };
        for caller in [PROTECTED, compatibility] {
            let call = Call::decode(&MARKED, &caller).unwrap();
            assert_eq!((call.width, call.number.0), (Width::Compat, 0xc));
            assert_eq!(call.args, [0xb, 0xffff_000c, 0xd, 0x8000_0051, 0x61]);
        }
    }

    #[test]
    fn sixteen_bit_and_real_mode_use_the_32_bit_convention() {
        let sixteen = Caller {
            cs_big: false,
            ..PROTECTED
        };
        let real = Caller {
            cr0: 0x10,
            cs_big: false,
            ..PROTECTED
        };
        for (caller, mode) in [(sixteen, Mode::Protected16), (real, Mode::Real)] {
            assert_eq!(caller.mode(), mode);
            let call = Call::decode(&MARKED, &caller).unwrap();
            assert_eq!(call, Call::decode(&MARKED, &PROTECTED).unwrap());
        }
    }

    #[test]
    fn sixty_four_bit_needs_both_lma_and_the_l_bit() {
        assert_eq!(LONG.mode(), Mode::Long64);
        assert_eq!(
            Caller {
                efer: 0x100,
                ..LONG
            }
            .mode(),
            Mode::Protected16
        );
        assert_eq!(
            Caller {
                cs_long: false,
                ..LONG
            }
            .mode(),
            Mode::Protected16
        );
    }

    #[test]
    fn a_level_other_than_0_is_eperm_but_in_real_mode() {
        for caller in [PROTECTED, LONG] {
            for cpl in 1..4 {
                let refused = Call::decode(&MARKED, &Caller { cpl, ..caller });
                assert_eq!(refused, Err(Errno(1)));
            }
        }
        let real = Caller {
            cr0: 0x10,
            cpl: 3,
            ..PROTECTED
        };
        assert!(
            Call::decode(&MARKED, &real).is_ok(),
            "no check in real mode"
        );
    }

    #[test]
    fn virtual_8086_mode_is_never_allowed() {
        let v86 = Caller {
            rflags: 0x2_0002,
            ..PROTECTED
        };
        assert_eq!(v86.mode(), Mode::Virtual8086);
        assert_eq!(Call::decode(&MARKED, &v86), Err(Errno(1)));
    }

    #[test]
    fn a_result_is_sign_extended_for_64_bits_and_cut_to_eax_for_32() {
        assert_eq!(Width::Native.result(-38), 0xffff_ffff_ffff_ffda);
        assert_eq!(Width::Compat.result(-38), 0xffff_ffda);
        assert_eq!(Width::Native.result(0x1_0000_0001), 0x1_0000_0001);
        assert_eq!(Width::Compat.result(0x1_0000_0001), 1);
    }
}
