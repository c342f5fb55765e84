//! From a `vcpu_hvm_context` to entry registers.

use pvh_abi::vcpu::{VcpuHvmContext, VcpuHvmMode, VcpuHvmX86_32, VcpuHvmX86_64};
use pvh_entry::{EntryState, Segment, SegmentAttributes};
use zerocopy::FromBytes;

use crate::{ContextError, segments::Segments};

/// The features of the guest's CPU that decide which registers it accepts: for rules 20 and 21, and
/// for the width of CR3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CpuPolicy {
    /// CR4 bits whose features the guest's CPUID shows.
    pub cr4_bits: u64,
    /// EFER bits whose features the guest's CPUID shows; LMA counts as shown where LME is.
    pub efer_bits: u64,
    /// How many bits a guest-physical address has, 32 to 52.
    pub physical_address_bits: u8,
}

impl CpuPolicy {
    /// Reads the features out of the guest's CPUID: `leaf` returns eax, ebx, ecx and edx of a leaf,
    /// subleaf 0, and zeros for one that is not there.
    ///
    /// The CR4 bits are those of Xen's `hvm_cr4_guest_valid_bits` without nested virtualisation.
    pub fn from_cpuid(leaf: impl Fn(u32) -> [u32; 4]) -> Self {
        let [_, _, basic_ecx, basic_edx] = leaf(1);
        let [_, structured_ebx, structured_ecx, _] = leaf(7);
        let [_, _, _, extended] = leaf(0x8000_0001);
        let [address, ..] = leaf(0x8000_0008);
        let [address_bits, ..] = address.to_le_bytes();
        Self {
            cr4_bits: bits(&[
                (basic_edx, 1, 0x3),           // VME: VME and PVI
                (basic_edx, 4, 1 << 2),        // TSC: TSD
                (basic_edx, 2, 1 << 3),        // DE
                (basic_edx, 3, 1 << 4),        // PSE
                (basic_edx, 6, 1 << 5),        // PAE
                (basic_edx, 7, 1 << 6),        // MCE
                (basic_edx, 13, 1 << 7),       // PGE
                (u32::MAX, 0, 1 << 8),         // PCE, always
                (basic_edx, 24, 1 << 9),       // FXSR: OSFXSR
                (basic_edx, 25, 1 << 10),      // SSE: OSXMMEXCPT
                (structured_ecx, 2, 1 << 11),  // UMIP
                (structured_ebx, 0, 1 << 16),  // FSGSBASE
                (basic_ecx, 17, 1 << 17),      // PCID
                (basic_ecx, 26, 1 << 18),      // XSAVE: OSXSAVE
                (structured_ebx, 7, 1 << 20),  // SMEP
                (structured_ebx, 20, 1 << 21), // SMAP
                (structured_ecx, 3, 1 << 22),  // PKU: PKE
            ]),
            efer_bits: bits(&[
                (extended, 11, 1),       // SYSCALL: SCE
                (extended, 29, 0x500),   // long mode: LME and LMA
                (extended, 20, 1 << 11), // NX
                (extended, 25, 1 << 14), // FFXSR
            ]),
            physical_address_bits: if address_bits == 0 { 36 } else { address_bits },
        }
    }
}

/// Joins the masks whose feature bit is set.
fn bits(shown: &[(u32, u32, u64)]) -> u64 {
    let is_set = |register: u32, bit| register.checked_shr(bit).unwrap_or(0) & 1 != 0;
    let set = shown
        .iter()
        .filter(|(register, bit, _)| is_set(*register, *bit));
    set.fold(0, |bits, (_, _, mask)| bits | mask)
}

/// Decodes the argument of `VCPUOP_initialise`, with Xen's rules in Xen's order, into the state the
/// vCPU starts with.
///
/// The guest's structure is to be copied once, all 128 bytes; this judges the copy. What is not in
/// the structure gets what Xen gives it: selectors 0, fs and gs flat data, r8 to r15 and cr2 0, an
/// LDT with limit 0, and in mode 64B flat segments. EFLAGS keeps its architectural bits, and bit 1
/// is set.
///
/// Xen does not look at CR0 in mode 32B, at EFLAGS, at limits, or at CR3; what a processor would
/// then refuse to enter is refused here, after Xen's own rules, so that the guest reads an error
/// where it would have crashed:
///
/// | given | Xen | here |
/// |---|---|---|
/// | CR0.PG without PE, NW without CD, bits above 31 | stored | [`ContextError::Cr0`] |
/// | other reserved CR0 bits, ET | stored | as hardware: reserved bits 0, ET 1 |
/// | LME and PG without PAE (mode 32B) | stored | [`ContextError::LongModeWithoutPae`] |
/// | LME with PG clear | LMA is set | LMA stays clear, as hardware has it |
/// | CR4.PCIDE outside long mode | stored | [`ContextError::PcidOutsideLongMode`] |
/// | CR3 above the guest's physical addresses | stored | [`ContextError::Cr3`] |
/// | EFLAGS.VM | stored | [`ContextError::Virtual8086`] |
/// | CS.L outside long mode | stored | cleared, as hardware ignores it |
/// | CS.L with CS.D in long mode | stored | [`ContextError::LongAndBig`] |
/// | a limit of 1 MiB or more that does not end a page | stored | [`ContextError::Limit`] |
/// | real mode with SS.DPL above 0 | stored | [`ContextError::RealModePrivilege`] |
/// | privilege level 1 to 3, rsp not canonical, IF or TF set, page tables that are not there | stored | stored: it can be entered, and what follows is the guest's |
///
/// # Errors
///
/// [`ContextError`], whose [`rule`](ContextError::rule) is Xen's number.
pub fn decode_context(
    context: &VcpuHvmContext,
    policy: &CpuPolicy,
) -> Result<EntryState, ContextError> {
    let pad = context.pad.get();
    if pad != 0 {
        return Err(ContextError::Pad { pad });
    }
    let mut state = match VcpuHvmMode(context.mode.get()) {
        VcpuHvmMode::MODE_32B => from_32(&part(&context.cpu_regs))?,
        VcpuHvmMode::MODE_64B => from_64(&part(&context.cpu_regs))?,
        VcpuHvmMode(mode) => return Err(ContextError::Mode { mode }),
    };
    check_policy(&state, policy)?;
    check_enterable(&state, policy)?;
    settle(&mut state);
    Ok(state)
}

/// The part of the union that the mode names, from its start.
fn part<T: FromBytes + Copy>(union: &[u8; 120]) -> T {
    // Both parts are at most 120 bytes (asserted in pvh-abi), so the prefix is always there.
    match T::read_from_prefix(union) {
        Ok((part, _)) => part,
        Err(_) => T::new_zeroed(),
    }
}

/// Rules 3 to 15.
fn from_32(regs: &VcpuHvmX86_32) -> Result<EntryState, ContextError> {
    if regs.pad1.get() != 0 || regs.pad2.iter().any(|pad| pad.get() != 0) {
        return Err(ContextError::PadOf32);
    }
    let segments = Segments::read(regs)?;
    segments.check_eip_and_privileges(regs.eip.get())?;
    let efer = regs.efer.get();
    if efer & EFER_LMA != 0 && efer & EFER_LME == 0 {
        return Err(ContextError::LmaWithoutLme { efer });
    }
    Ok(EntryState {
        rax: u64::from(regs.eax),
        rcx: u64::from(regs.ecx),
        rdx: u64::from(regs.edx),
        rbx: u64::from(regs.ebx),
        rsp: u64::from(regs.esp),
        rbp: u64::from(regs.ebp),
        rsi: u64::from(regs.esi),
        rdi: u64::from(regs.edi),
        rip: u64::from(regs.eip),
        rflags: u64::from(regs.eflags),
        cr0: u64::from(regs.cr0),
        cr3: u64::from(regs.cr3),
        cr4: u64::from(regs.cr4),
        efer,
        cs: segments.cs,
        ds: segments.ds,
        ss: segments.ss,
        es: segments.es,
        tr: segments.tr,
        ..CREATED
    })
}

/// Rules 16 to 19.
fn from_64(regs: &VcpuHvmX86_64) -> Result<EntryState, ContextError> {
    let (rip, cr0) = (regs.rip.get(), regs.cr0.get());
    let (cr4, efer) = (regs.cr4.get(), regs.efer.get());
    if !is_canonical(rip) {
        return Err(ContextError::RipNotCanonical { rip });
    }
    if cr0 & CR0_PG == 0 {
        return Err(ContextError::PagingOff { cr0 });
    }
    if cr4 & CR4_PAE == 0 {
        return Err(ContextError::PaeOff { cr4 });
    }
    if efer & EFER_LME == 0 {
        return Err(ContextError::LongModeOff { efer });
    }
    Ok(EntryState {
        rax: regs.rax.get(),
        rcx: regs.rcx.get(),
        rdx: regs.rdx.get(),
        rbx: regs.rbx.get(),
        rsp: regs.rsp.get(),
        rbp: regs.rbp.get(),
        rsi: regs.rsi.get(),
        rdi: regs.rdi.get(),
        rip,
        rflags: regs.rflags.get(),
        cr0,
        cr3: regs.cr3.get(),
        cr4,
        efer,
        cs: Segment::FLAT_CODE_64,
        ..CREATED
    })
}

/// Rules 20 and 21; LMA counts as set with LME by now.
fn check_policy(state: &EntryState, policy: &CpuPolicy) -> Result<(), ContextError> {
    let bits = state.cr4 & !policy.cr4_bits;
    if bits != 0 {
        return Err(ContextError::Cr4Bits { bits });
    }
    let with_lma = policy.efer_bits & EFER_LME != 0;
    let allowed = policy.efer_bits | if with_lma { EFER_LMA } else { 0 };
    let bits = state.efer & !allowed;
    if bits != 0 {
        return Err(ContextError::EferBits { bits });
    }
    Ok(())
}

/// Refuses what Xen accepts and no processor enters.
fn check_enterable(state: &EntryState, policy: &CpuPolicy) -> Result<(), ContextError> {
    let (cr0, cr3, cr4) = (state.cr0, state.cr3, state.cr4);
    let paged = cr0 & CR0_PG != 0;
    let protected = cr0 & CR0_PE != 0;
    let unlocked = cr0 & CR0_NW != 0 && cr0 & CR0_CD == 0;
    if (paged && !protected) || unlocked || cr0 > u64::from(u32::MAX) {
        return Err(ContextError::Cr0 { cr0 });
    }
    let long = in_long_mode(state);
    if long && cr4 & CR4_PAE == 0 {
        return Err(ContextError::LongModeWithoutPae { cr4 });
    }
    if !long && cr4 & CR4_PCIDE != 0 {
        return Err(ContextError::PcidOutsideLongMode { cr4 });
    }
    if cr3 >> policy.physical_address_bits.clamp(32, 52) != 0 {
        return Err(ContextError::Cr3 { cr3 });
    }
    if state.rflags & RFLAGS_VM != 0 {
        return Err(ContextError::Virtual8086 {
            eflags: state.rflags,
        });
    }
    let cs = state.cs.attributes;
    if long && cs.is_long() && cs.is_big() {
        return Err(ContextError::LongAndBig);
    }
    let dpl = state.ss.attributes.dpl();
    if !protected && dpl != 0 {
        return Err(ContextError::RealModePrivilege { dpl });
    }
    Segments::of(state).check_limits()
}

/// Replaces the bits that hardware fixes by what it would read back.
fn settle(state: &mut EntryState) {
    state.cr0 = (state.cr0 & CR0_BITS) | CR0_ET;
    state.rflags = (state.rflags & RFLAGS_BITS) | RFLAGS_FIXED;
    if in_long_mode(state) {
        state.efer |= EFER_LMA;
    } else {
        state.efer &= !EFER_LMA;
        state.cs.attributes = without_long(state.cs.attributes);
    }
    for segment in [
        &mut state.cs,
        &mut state.ds,
        &mut state.ss,
        &mut state.es,
        &mut state.tr,
    ] {
        *segment = segment.with_derived_granularity();
    }
}

fn without_long(attributes: SegmentAttributes) -> SegmentAttributes {
    SegmentAttributes::new(attributes.bits() & !ATTRIBUTE_LONG).unwrap_or(attributes)
}

fn in_long_mode(state: &EntryState) -> bool {
    state.efer & EFER_LME != 0 && state.cr0 & CR0_PG != 0
}

/// Whether bits 47 to 63 are equal, as 4-level paging asks.
fn is_canonical(address: u64) -> bool {
    let top = address >> 47;
    top == 0 || top == 0x1_ffff
}

/// The registers of a vCPU as Xen creates it; the structure's fields are then put over it.
pub(crate) const CREATED: EntryState = EntryState {
    rflags: RFLAGS_FIXED,
    cr0: CR0_ET,
    cs: Segment::FLAT_CODE_32,
    ds: Segment::FLAT_DATA_32,
    es: Segment::FLAT_DATA_32,
    fs: Segment::FLAT_DATA_32,
    gs: Segment::FLAT_DATA_32,
    ss: Segment::FLAT_DATA_32,
    tr: Segment::TSS_32,
    ldtr: Segment {
        attributes: SegmentAttributes::LDT,
        ..Segment::UNUSABLE
    },
    dr6: 0xffff_0ff0,
    dr7: 0x400,
    ..EntryState::ZERO
};

const CR0_PE: u64 = 1;
pub(crate) const CR0_ET: u64 = 1 << 4;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
/// PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0_BITS: u64 = 0xe005_003f;
const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
pub(crate) const RFLAGS_FIXED: u64 = 1 << 1;
const RFLAGS_VM: u64 = 1 << 17;
/// CF, PF, AF, ZF, SF, TF, IF, DF, OF, IOPL, NT, RF, VM, AC, VIF, VIP, ID.
const RFLAGS_BITS: u64 = 0x3f_7fd5;
const ATTRIBUTE_LONG: u16 = 1 << 9;

#[cfg(test)]
mod tests;
