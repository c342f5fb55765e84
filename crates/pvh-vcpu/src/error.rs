//! Why a call about a vCPU is refused.

use pvh_abi::Errno;

/// A segment register that a context describes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the five that the structure has, in its order"
)]
#[expect(missing_docs, reason = "the registers' own names")]
pub enum Register {
    Cs,
    Ds,
    Ss,
    Es,
    Tr,
}

impl core::fmt::Display for Register {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Cs => "cs",
            Self::Ds => "ds",
            Self::Ss => "ss",
            Self::Es => "es",
            Self::Tr => "tr",
        })
    }
}

/// Why a `vcpu_hvm_context` is refused. The guest reads -EINVAL for every variant.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// Rule 1: the padding behind the mode is not 0.
    #[error("pad is {pad:#x}, not 0")]
    Pad {
        /// What it is.
        pad: u32,
    },
    /// Rule 2: the mode is neither 0 (32B) nor 1 (64B).
    #[error("mode {mode} is neither 0 (32B) nor 1 (64B)")]
    Mode {
        /// What it is.
        mode: u32,
    },
    /// Rule 3: pad1 or pad2 of the 32-bit part is not 0.
    #[error("pad1 or pad2 of the 32-bit part is not 0")]
    PadOf32,
    /// Rule 4 (rule 11 for tr): bits 12 to 15 of an attribute word are not 0.
    #[error("{register}: bits 12 to 15 of the attributes {attributes:#06x} are not 0")]
    AttributeBits {
        /// Which segment.
        register: Register,
        /// Its attribute word as given.
        attributes: u16,
    },
    /// Rule 5 (rule 11 for tr): only ds and es may be null.
    #[error("{register} is a null segment")]
    NullSegment {
        /// Which segment.
        register: Register,
    },
    /// Rule 6: a system segment where code or data has to be.
    #[error("{register} is a system segment")]
    SystemSegment {
        /// Which segment.
        register: Register,
    },
    /// Rule 7 (rule 11 for tr): the segment is not present.
    #[error("{register} is not present")]
    NotPresent {
        /// Which segment.
        register: Register,
    },
    /// Rule 8: cs is not code.
    #[error("cs is not a code segment")]
    NotCode,
    /// Rule 9: ss is not writable data.
    #[error("ss is not a writable data segment")]
    StackNotWritable,
    /// Rule 10: ds or es is code that cannot be read.
    #[error("{register} is execute-only code")]
    NotReadable {
        /// Which segment.
        register: Register,
    },
    /// Rule 11: tr is code or data, or not a 32-bit task state segment.
    #[error("tr with attributes {attributes:#06x} is not a 32-bit task state segment")]
    NotTss {
        /// Its attribute word as given.
        attributes: u16,
    },
    /// Rule 12: eip is outside of cs.
    #[error("eip {eip:#x} is above the limit {limit:#x} of cs")]
    EipOutsideCs {
        /// The instruction pointer.
        eip: u32,
        /// The last offset of cs.
        limit: u32,
    },
    /// Rule 13: ss and cs have different privilege levels.
    #[error("ss has privilege level {ss}, but cs has {cs}")]
    StackPrivilege {
        /// Level of ss.
        ss: u8,
        /// Level of cs.
        cs: u8,
    },
    /// Rule 14: ds or es has a higher level number than cs.
    #[error("{register} has privilege level {dpl}, but cs has {cs}")]
    DataPrivilege {
        /// Which segment.
        register: Register,
        /// Its level.
        dpl: u8,
        /// Level of cs.
        cs: u8,
    },
    /// Rule 15: EFER.LMA without EFER.LME.
    #[error("efer {efer:#x} has LMA without LME")]
    LmaWithoutLme {
        /// Its value.
        efer: u64,
    },
    /// Rule 16: rip is not canonical.
    #[error("rip {rip:#x} is not canonical")]
    RipNotCanonical {
        /// The instruction pointer.
        rip: u64,
    },
    /// Rule 17: 64-bit mode without CR0.PG.
    #[error("64-bit mode needs PG, which is clear in cr0 {cr0:#x}")]
    PagingOff {
        /// Its value.
        cr0: u64,
    },
    /// Rule 18: 64-bit mode without CR4.PAE.
    #[error("64-bit mode needs PAE, which is clear in cr4 {cr4:#x}")]
    PaeOff {
        /// Its value.
        cr4: u64,
    },
    /// Rule 19: 64-bit mode without EFER.LME.
    #[error("64-bit mode needs LME, which is clear in efer {efer:#x}")]
    LongModeOff {
        /// Its value.
        efer: u64,
    },
    /// Rule 20: CR4 bits that the CPU policy does not permit.
    #[error("cr4 bits {bits:#x} are not permitted")]
    Cr4Bits {
        /// Those bits.
        bits: u64,
    },
    /// Rule 21: EFER bits that the CPU policy does not permit.
    #[error("efer bits {bits:#x} are not permitted")]
    EferBits {
        /// Those bits.
        bits: u64,
    },
    /// Beyond Xen: a CR0 that no processor accepts (PG without PE, NW without CD, bits 32 to 63).
    #[error("cr0 {cr0:#x} cannot be entered")]
    Cr0 {
        /// Its value.
        cr0: u64,
    },
    /// Beyond Xen: long mode (LME with paging) without CR4.PAE.
    #[error("long mode needs PAE, which is clear in cr4 {cr4:#x}")]
    LongModeWithoutPae {
        /// Its value.
        cr4: u64,
    },
    /// Beyond Xen: CR4.PCIDE outside long mode.
    #[error("cr4 {cr4:#x} has PCIDE outside of long mode")]
    PcidOutsideLongMode {
        /// Its value.
        cr4: u64,
    },
    /// Beyond Xen: CR3 above the guest's physical addresses.
    #[error("cr3 {cr3:#x} is above the guest's physical addresses")]
    Cr3 {
        /// Its value.
        cr3: u64,
    },
    /// Beyond Xen: EFLAGS.VM, whose segments the structure cannot describe.
    #[error("eflags {eflags:#x} has VM set")]
    Virtual8086 {
        /// Its value.
        eflags: u64,
    },
    /// Beyond Xen: 64-bit code (CS.L) that also says 32 bits (CS.D), in long mode.
    #[error("cs is both 64-bit and 32-bit code")]
    LongAndBig,
    /// Beyond Xen: a limit of 1 MiB or more that does not end a page, which no descriptor can
    /// encode.
    #[error("{register}: limit {limit:#x} is above 1 MiB and does not end a page")]
    Limit {
        /// Which segment.
        register: Register,
        /// Its limit in bytes.
        limit: u32,
    },
    /// Beyond Xen: real mode at a privilege level other than 0.
    #[error("real mode needs privilege level 0, not {dpl}")]
    RealModePrivilege {
        /// Level of ss.
        dpl: u8,
    },
}

impl ContextError {
    /// Returns the error number a guest reads: Xen has only this one.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        Errno::EINVAL
    }

    /// Returns the number of Xen's rule, counted in its order of tests; `None` for what Xen lets
    /// pass and no processor enters.
    #[must_use]
    pub const fn rule(&self) -> Option<u8> {
        Some(match self {
            Self::Pad { .. } => 1,
            Self::Mode { .. } => 2,
            Self::PadOf32 => 3,
            Self::AttributeBits { register, .. } => by_register(*register, 4),
            Self::NullSegment { register } => by_register(*register, 5),
            Self::SystemSegment { .. } => 6,
            Self::NotPresent { register } => by_register(*register, 7),
            Self::NotCode => 8,
            Self::StackNotWritable => 9,
            Self::NotReadable { .. } => 10,
            Self::NotTss { .. } => 11,
            Self::EipOutsideCs { .. } => 12,
            Self::StackPrivilege { .. } => 13,
            Self::DataPrivilege { .. } => 14,
            Self::LmaWithoutLme { .. } => 15,
            Self::RipNotCanonical { .. } => 16,
            Self::PagingOff { .. } => 17,
            Self::PaeOff { .. } => 18,
            Self::LongModeOff { .. } => 19,
            Self::Cr4Bits { .. } => 20,
            Self::EferBits { .. } => 21,
            Self::Cr0 { .. }
            | Self::LongModeWithoutPae { .. }
            | Self::PcidOutsideLongMode { .. }
            | Self::Cr3 { .. }
            | Self::Virtual8086 { .. }
            | Self::LongAndBig
            | Self::Limit { .. }
            | Self::RealModePrivilege { .. } => return None,
        })
    }
}

/// All that concerns tr is rule 11.
const fn by_register(register: Register, rule: u8) -> u8 {
    if matches!(register, Register::Tr) {
        return 11;
    }
    rule
}

/// Why a lifecycle call is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VcpuError {
    /// There is no such vCPU.
    #[error("there is no vCPU {vcpu}")]
    NoSuchVcpu {
        /// Its id.
        vcpu: u32,
    },
    /// `initialise` of a vCPU that has a state.
    #[error("the vCPU has been initialised")]
    AlreadyInitialised,
    /// `up` of a vCPU that has no state yet.
    #[error("the vCPU was never initialised")]
    NotInitialised,
    /// `initialise` with a context that is refused.
    #[error("the context is refused")]
    Context(#[source] ContextError),
}

impl VcpuError {
    /// Returns the error number a guest reads.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::NoSuchVcpu { .. } => Errno::ENOENT,
            Self::AlreadyInitialised => Errno::EEXIST,
            Self::NotInitialised => Errno::EINVAL,
            Self::Context(refused) => refused.errno(),
        }
    }
}
