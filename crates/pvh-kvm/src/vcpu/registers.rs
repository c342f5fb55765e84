//! The registers of a stopped vCPU, for crash reports.

use std::fmt;

use kvm_bindings::{kvm_debugregs, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use pvh_entry::{DescriptorTable, EntryState, Segment, SegmentAttributes};

/// The registers of a stopped vCPU. `Display` writes eleven lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Registers {
    /// The registers that an entry state has.
    pub state: EntryState,
    /// IA32_APIC_BASE.
    pub apic_base: u64,
}

impl Registers {
    /// Tells whether these are the registers of a processor after INIT.
    ///
    /// On an AMD host they are so after a triple fault, and tell nothing about the guest: the
    /// processor loses its state, and KVM resets the vCPU.
    #[must_use]
    pub const fn are_after_init(&self) -> bool {
        self.state.rip == 0xFFF0 && self.state.cs.base == 0xFFFF_0000 && self.state.cr0 & 1 == 0
    }

    pub(crate) fn new(regs: &kvm_regs, sregs: &kvm_sregs, debug: &kvm_debugregs) -> Self {
        let state = EntryState {
            rax: regs.rax,
            rbx: regs.rbx,
            rcx: regs.rcx,
            rdx: regs.rdx,
            rsi: regs.rsi,
            rdi: regs.rdi,
            rsp: regs.rsp,
            rbp: regs.rbp,
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rip: regs.rip,
            rflags: regs.rflags,
            cr0: sregs.cr0,
            cr2: sregs.cr2,
            cr3: sregs.cr3,
            cr4: sregs.cr4,
            efer: sregs.efer,
            cs: segment(&sregs.cs),
            ds: segment(&sregs.ds),
            es: segment(&sregs.es),
            fs: segment(&sregs.fs),
            gs: segment(&sregs.gs),
            ss: segment(&sregs.ss),
            tr: segment(&sregs.tr),
            ldtr: segment(&sregs.ldt),
            gdtr: table(&sregs.gdt),
            idtr: table(&sregs.idt),
            dr6: debug.dr6,
            dr7: debug.dr7,
        };
        Self {
            state,
            apic_base: sregs.apic_base,
        }
    }
}

fn segment(segment: &kvm_segment) -> Segment {
    let bit = |value: u8, at: u32| u16::from(value & 1) << at;
    let attributes = u16::from(segment.type_ & 0xf)
        | bit(segment.s, 4)
        | u16::from(segment.dpl & 3) << 5
        | bit(segment.present, 7)
        | bit(segment.avl, 8)
        | bit(segment.l, 9)
        | bit(segment.db, 10)
        | bit(segment.g, 11);
    let attributes = if segment.unusable == 0 { attributes } else { 0 };
    Segment {
        selector: segment.selector,
        base: segment.base,
        limit: segment.limit,
        attributes: SegmentAttributes::new(attributes).unwrap_or(SegmentAttributes::UNUSABLE),
    }
}

const fn table(table: &kvm_dtable) -> DescriptorTable {
    DescriptorTable {
        base: table.base,
        limit: table.limit,
    }
}

impl fmt::Display for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.state;
        words(
            f,
            [
                ("rip", s.rip),
                ("flags", s.rflags),
                ("rsp", s.rsp),
                ("rbp", s.rbp),
            ],
        )?;
        words(
            f,
            [
                ("rax", s.rax),
                ("rbx", s.rbx),
                ("rcx", s.rcx),
                ("rdx", s.rdx),
            ],
        )?;
        words(
            f,
            [("rsi", s.rsi), ("rdi", s.rdi), ("r8", s.r8), ("r9", s.r9)],
        )?;
        words(
            f,
            [
                ("r10", s.r10),
                ("r11", s.r11),
                ("r12", s.r12),
                ("r13", s.r13),
            ],
        )?;
        words(
            f,
            [
                ("r14", s.r14),
                ("r15", s.r15),
                ("cr0", s.cr0),
                ("cr2", s.cr2),
            ],
        )?;
        words(
            f,
            [
                ("cr3", s.cr3),
                ("cr4", s.cr4),
                ("efer", s.efer),
                ("apic", self.apic_base),
            ],
        )?;
        segments(f, ("cs", s.cs), ("ss", s.ss))?;
        segments(f, ("ds", s.ds), ("es", s.es))?;
        segments(f, ("fs", s.fs), ("gs", s.gs))?;
        segments(f, ("tr", s.tr), ("ldtr", s.ldtr))?;
        let [gdt, idt] = [s.gdtr, s.idtr].map(|table| (table.base, table.limit));
        write!(f, "gdtr  {:016x} limit {:04x}  ", gdt.0, gdt.1)?;
        write!(f, "idtr  {:016x} limit {:04x}  ", idt.0, idt.1)?;
        write!(f, "dr6 {:08x}  dr7 {:08x}", s.dr6, s.dr7)
    }
}

/// Writes one line of registers.
fn words(f: &mut fmt::Formatter<'_>, registers: [(&str, u64); 4]) -> fmt::Result {
    let [a, b, c, d] = registers.map(|(name, value)| format!("{name:<5} {value:016x}"));
    writeln!(f, "{a}  {b}  {c}  {d}")
}

/// Writes one line of segments.
fn segments(f: &mut fmt::Formatter<'_>, a: (&str, Segment), b: (&str, Segment)) -> fmt::Result {
    let [a, b] = [a, b].map(|(name, segment)| {
        let Segment {
            selector,
            base,
            limit,
            attributes,
        } = segment;
        let attributes = attributes.bits();
        format!("{name:<5} {selector:04x} base {base:016x} limit {limit:08x} attr {attributes:03x}")
    });
    writeln!(f, "{a}  {b}")
}

#[cfg(test)]
mod tests {
    use pvh_abi::Gpa;

    use super::*;

    #[test]
    fn a_dump_of_an_entry_state_is_that_state() {
        let mut state = EntryState::pvh(0x10_0000, Gpa(0x9000)).unwrap();
        state.r15 = 0x1234_5678_9ABC_DEF0;
        state.fs = Segment {
            selector: 0x28,
            base: 0x7000,
            limit: 0xFFF,
            attributes: SegmentAttributes::new(0x0F3).unwrap(),
        };
        state.gdtr = DescriptorTable {
            base: 0x4000,
            limit: 0x17,
        };
        let sregs = state.to_kvm_sregs(&kvm_sregs::default());
        let dump = Registers::new(&state.to_kvm_regs(), &sregs, &state.to_kvm_debugregs());
        assert_eq!(dump.state, state);
    }

    #[test]
    fn registers_after_init_have_the_reset_vector_in_real_mode() {
        let mut state = EntryState::pvh(0xFFF0, Gpa(0x9000)).unwrap();
        let is_reset = |state: &EntryState| {
            let sregs = state.to_kvm_sregs(&kvm_sregs::default());
            let debug = state.to_kvm_debugregs();
            Registers::new(&state.to_kvm_regs(), &sregs, &debug).are_after_init()
        };
        assert!(!is_reset(&state));
        state.cs.base = 0xFFFF_0000;
        assert!(!is_reset(&state));
        state.cr0 = 0x6000_0010;
        assert!(is_reset(&state));
    }

    #[test]
    fn a_dump_is_eleven_lines() {
        let dump = Registers::new(
            &kvm_regs::default(),
            &kvm_sregs::default(),
            &kvm_debugregs::default(),
        );
        let text = dump.to_string();
        assert_eq!(text.lines().count(), 11);
        assert!(text.starts_with("rip   0000000000000000  flags "));
        assert!(
            text.lines()
                .all(|line| line.len() <= 120 && line.trim_end() == line)
        );
    }
}
