//! The register state of a vCPU at its start.

use pvh_abi::Gpa;

use crate::Segment;

/// The MSR that holds the default memory type, IA32_MTRR_DEF_TYPE.
#[doc(alias = "IA32_MTRR_DEF_TYPE")]
pub const MTRR_DEF_TYPE_MSR: u32 = 0x2ff;

/// The value of [`MTRR_DEF_TYPE_MSR`] at entry on every vCPU: MTRRs enabled (bit 11), fixed ranges
/// off, default type 6, write-back (pvh.pandoc, initial MTRR state of a domU).
pub const MTRR_DEF_TYPE: u64 = 0x806;

/// The GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct DescriptorTable {
    /// Linear address of the table.
    pub base: u64,
    /// Offset of its last byte.
    pub limit: u16,
}

/// The register state with which a vCPU starts, whoever starts it.
///
/// The boot vCPU gets [`EntryState::pvh`]. The fields are as wide as the architecture's registers,
/// so that the state of a secondary vCPU started in 16-, 32- or 64-bit mode fits as well. Registers
/// without a field here (FPU, TSC, local APIC, dr0 to dr3) are as after reset.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are the architecture's own register names"
)]
pub struct EntryState {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldtr: Segment,
    pub gdtr: DescriptorTable,
    pub idtr: DescriptorTable,
    pub dr6: u64,
    pub dr7: u64,
}

/// The reason why there is no entry state for a start info address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The start info structure is at 0, which the ABI reads as "absent".
    #[error("the start info structure is at address 0, which means \"absent\"")]
    StartInfoAtZero,
    /// The start info structure is at or above 4 GiB, where ebx cannot point.
    #[error(
        "the start info structure at {start_info} must be below 4 GiB, because ebx holds its address"
    )]
    StartInfoTooHigh {
        /// Its address.
        start_info: Gpa,
    },
}

impl EntryState {
    /// Returns the state of the boot vCPU: the values of pvh.pandoc, and those of Xen's toolstack
    /// for a domU where the text names none.
    ///
    /// | register | value | from |
    /// |---|---|---|
    /// | ebx | `start_info` | the text |
    /// | eip | `entry` | the PHYS32_ENTRY note |
    /// | cr0 | 0x11, PE and the read-only ET | the text, and what hardware reads back |
    /// | cr4 | 0 | the text |
    /// | cs | 32-bit, read/execute, base 0, limit 0xffffffff | the text |
    /// | ds, es, ss | 32-bit, read/write, base 0, limit 0xffffffff | the text (ss since 2020) |
    /// | tr | busy 32-bit TSS, base 0, limit 0x67 | the text |
    /// | eflags | 2: VM, IF, TF clear; DF too, because a guest relies on it | the text and Xen |
    /// | efer, cr2, cr3, other general registers | 0 | Xen |
    /// | fs, gs, ldtr | unusable | Xen |
    /// | gdtr, idtr | base 0, limit 0 | Xen |
    /// | dr6, dr7 | 0xffff0ff0, 0x400 | reset values |
    ///
    /// # Errors
    ///
    /// [`EntryError::StartInfoAtZero`] and [`EntryError::StartInfoTooHigh`] if ebx cannot point to
    /// the structure.
    pub fn pvh(entry: u32, start_info: Gpa) -> Result<Self, EntryError> {
        if start_info == Gpa(0) {
            return Err(EntryError::StartInfoAtZero);
        }
        let ebx =
            u32::try_from(start_info.0).map_err(|_| EntryError::StartInfoTooHigh { start_info })?;
        Ok(Self {
            rbx: u64::from(ebx),
            rip: u64::from(entry),
            rflags: RFLAGS_FIXED,
            cr0: CR0_PE | CR0_ET,
            cs: Segment::FLAT_CODE_32,
            ds: Segment::FLAT_DATA_32,
            es: Segment::FLAT_DATA_32,
            ss: Segment::FLAT_DATA_32,
            tr: Segment::TSS_32,
            dr6: DR6_RESET,
            dr7: DR7_RESET,
            ..Self::ZERO
        })
    }

    /// Returns the MSRs that the machine has at entry beside the registers, as number and value;
    /// every vCPU gets them, and reset values hold for all others.
    ///
    /// It is one, the default memory type: without it every access of a guest that trusts its MTRRs
    /// is uncached.
    #[must_use]
    pub const fn msrs(&self) -> [(u32, u64); 1] {
        [(MTRR_DEF_TYPE_MSR, MTRR_DEF_TYPE)]
    }

    /// Returns every register of 64 bits with its name, for a VMM that copies them by a loop.
    #[must_use]
    pub const fn registers(&self) -> [(&'static str, u64); 25] {
        [
            ("rax", self.rax),
            ("rbx", self.rbx),
            ("rcx", self.rcx),
            ("rdx", self.rdx),
            ("rsi", self.rsi),
            ("rdi", self.rdi),
            ("rsp", self.rsp),
            ("rbp", self.rbp),
            ("r8", self.r8),
            ("r9", self.r9),
            ("r10", self.r10),
            ("r11", self.r11),
            ("r12", self.r12),
            ("r13", self.r13),
            ("r14", self.r14),
            ("r15", self.r15),
            ("rip", self.rip),
            ("rflags", self.rflags),
            ("cr0", self.cr0),
            ("cr2", self.cr2),
            ("cr3", self.cr3),
            ("cr4", self.cr4),
            ("efer", self.efer),
            ("dr6", self.dr6),
            ("dr7", self.dr7),
        ]
    }

    /// Returns every segment register with its name.
    #[must_use]
    pub const fn segments(&self) -> [(&'static str, Segment); 8] {
        [
            ("cs", self.cs),
            ("ds", self.ds),
            ("es", self.es),
            ("fs", self.fs),
            ("gs", self.gs),
            ("ss", self.ss),
            ("tr", self.tr),
            ("ldtr", self.ldtr),
        ]
    }

    /// Every field is 0. States are built from it, so that they name only the fields that differ.
    /// No vCPU can run with it.
    pub const ZERO: Self = Self {
        rax: 0,
        rbx: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        rsp: 0,
        rbp: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rip: 0,
        rflags: 0,
        cr0: 0,
        cr2: 0,
        cr3: 0,
        cr4: 0,
        efer: 0,
        cs: Segment::UNUSABLE,
        ds: Segment::UNUSABLE,
        es: Segment::UNUSABLE,
        fs: Segment::UNUSABLE,
        gs: Segment::UNUSABLE,
        ss: Segment::UNUSABLE,
        tr: Segment::UNUSABLE,
        ldtr: Segment::UNUSABLE,
        gdtr: DescriptorTable { base: 0, limit: 0 },
        idtr: DescriptorTable { base: 0, limit: 0 },
        dr6: 0,
        dr7: 0,
    };
}

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
/// Bit 1 of the flags, which always reads 1.
const RFLAGS_FIXED: u64 = 1 << 1;
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SegmentAttributes;

    const ENTRY: u32 = 0x0100_0123;
    const START_INFO: Gpa = Gpa(0x0234_5000);

    fn at_entry() -> EntryState {
        EntryState::pvh(ENTRY, START_INFO).expect("the address is below 4 GiB")
    }

    /// "a 32-bit data/code segment (...) base of '0' and limit of '0xFFFFFFFF'": selector is free.
    fn assert_flat(segment: Segment, attributes: u16) {
        assert_eq!(segment.base, 0);
        assert_eq!(segment.limit, 0xffff_ffff);
        assert_eq!(segment.attributes.bits(), attributes);
    }

    #[test]
    fn the_msr_at_entry_is_mtrr_def_type_with_write_back() {
        assert_eq!(at_entry().msrs(), [(0x2ff, 0x806)]);
    }

    #[test]
    fn the_lists_have_every_register_once_and_by_its_value() {
        let state = at_entry();
        let registers = state.registers();
        let of = |name| registers.iter().find(|one| one.0 == name).unwrap().1;
        assert_eq!(
            (of("rip"), of("rbx"), of("cr0")),
            (0x0100_0123, 0x0234_5000, 0x11)
        );
        assert_eq!(of("rflags"), 2);
        let segments = state.segments();
        assert_eq!(segments[0], ("cs", Segment::FLAT_CODE_32));
        assert_eq!(segments[6], ("tr", Segment::TSS_32));
        for (index, (name, _)) in registers.iter().enumerate() {
            assert!(
                registers[..index].iter().all(|other| other.0 != *name),
                "{name}"
            );
        }
    }

    #[test]
    fn ebx_holds_the_address_of_start_info() {
        assert_eq!(at_entry().rbx, 0x0234_5000);
    }

    #[test]
    fn eip_is_the_entry_of_the_note() {
        assert_eq!(at_entry().rip, 0x0100_0123);
        let highest = EntryState::pvh(0xffff_ffff, START_INFO).unwrap();
        assert_eq!(highest.rip, 0xffff_ffff);
    }

    #[test]
    fn cr0_has_pe_and_no_other_writable_bit() {
        const ET_READ_ONLY: u64 = 0x10;
        assert_eq!(at_entry().cr0 & !ET_READ_ONLY, 0x1);
    }

    #[test]
    fn cr0_et_reads_as_one() {
        assert_eq!(at_entry().cr0, 0x11);
    }

    #[test]
    fn cr4_is_clear() {
        assert_eq!(at_entry().cr4, 0);
    }

    #[test]
    fn efer_is_clear_for_guests_only_or_bits_into_it() {
        assert_eq!(at_entry().efer, 0);
    }

    #[test]
    fn cs_is_32_bit_read_execute_over_4_gib() {
        let cs = at_entry().cs;
        assert_flat(cs, 0xc9b);
        let readable_code = 0b1010;
        assert_eq!(cs.attributes.kind() & readable_code, readable_code);
        assert!(cs.attributes.is_big() && !cs.attributes.is_long());
    }

    #[test]
    fn ds_is_32_bit_read_write_over_4_gib() {
        assert_flat(at_entry().ds, 0xc93);
    }

    #[test]
    fn es_is_32_bit_read_write_over_4_gib() {
        assert_flat(at_entry().es, 0xc93);
    }

    #[test]
    fn ss_is_32_bit_read_write_over_4_gib() {
        assert_flat(at_entry().ss, 0xc93);
    }

    #[test]
    fn tr_is_an_active_32_bit_tss_of_limit_0x67() {
        let tr = at_entry().tr;
        assert_eq!((tr.base, tr.limit), (0, 0x67));
        assert_eq!(tr.attributes.bits(), 0x8b);
        assert_eq!(tr.attributes.kind(), 0xb, "busy, 32 bits");
        assert!(!tr.attributes.is_code_or_data() && tr.attributes.is_present());
        assert_eq!(tr.selector & 4, 0, "TI must be clear");
    }

    #[test]
    fn eflags_has_vm_if_and_tf_clear() {
        assert_eq!(at_entry().rflags & (1 << 17 | 1 << 9 | 1 << 8), 0);
    }

    #[test]
    fn df_is_clear_for_a_guest_that_stores_a_string_before_any_cld() {
        assert_eq!(at_entry().rflags & (1 << 10), 0);
    }

    #[test]
    fn eflags_is_what_hardware_reads_back() {
        assert_eq!(at_entry().rflags, 0x2);
    }

    #[test]
    fn what_the_text_leaves_open_is_what_xen_gives() {
        let state = at_entry();
        assert_eq!([state.rax, state.rcx, state.rdx], [0; 3]);
        assert_eq!([state.rsp, state.rbp, state.rsi, state.rdi], [0; 4]);
        assert_eq!([state.r8, state.r9, state.r10, state.r11], [0; 4]);
        assert_eq!([state.r12, state.r13, state.r14, state.r15], [0; 4]);
        assert_eq!([state.cr2, state.cr3], [0; 2]);
        for unusable in [state.fs, state.gs, state.ldtr] {
            assert_eq!((unusable.base, unusable.limit), (0, 0));
            assert_eq!(unusable.attributes.bits(), 0);
        }
        for table in [state.gdtr, state.idtr] {
            assert_eq!((table.base, table.limit), (0, 0));
        }
    }

    #[test]
    fn the_debug_registers_hold_their_reset_values() {
        assert_eq!(at_entry().dr6, 0xffff_0ff0);
        assert_eq!(at_entry().dr7, 0x400);
    }

    #[test]
    fn the_default_memory_type_is_write_back_with_mtrrs_on() {
        assert_eq!(MTRR_DEF_TYPE_MSR, 0x2ff);
        assert_eq!(MTRR_DEF_TYPE, 0x806);
        assert_eq!(MTRR_DEF_TYPE & 0xff, 6, "write-back");
        assert_ne!(MTRR_DEF_TYPE & (1 << 11), 0, "enabled");
        assert_eq!(MTRR_DEF_TYPE & (1 << 10), 0, "no fixed ranges");
    }

    #[test]
    fn a_start_info_at_zero_is_refused() {
        assert_eq!(
            EntryState::pvh(ENTRY, Gpa(0)),
            Err(EntryError::StartInfoAtZero)
        );
    }

    #[test]
    fn a_start_info_above_4_gib_is_refused() {
        let start_info = Gpa(0x1_0000_0000);
        assert_eq!(
            EntryState::pvh(ENTRY, start_info),
            Err(EntryError::StartInfoTooHigh { start_info })
        );
        assert!(EntryState::pvh(ENTRY, Gpa(0xffff_fff8)).is_ok());
    }

    #[test]
    fn a_state_in_64_bit_mode_can_be_held() {
        let state = EntryState {
            rip: 0xffff_ffff_8100_0000,
            cr0: 0x8000_0011,
            cr3: 0x12_3456_7000,
            cr4: 0x20,
            efer: 0x500,
            cs: Segment::FLAT_CODE_64,
            ..at_entry()
        };
        assert_eq!(state.cs.attributes, SegmentAttributes::CODE_64);
        assert_eq!(state.cs.descriptor(), Ok(0x00af_9b00_0000_ffff));
    }
}
