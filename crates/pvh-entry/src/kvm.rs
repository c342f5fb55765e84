//! Converts the state to the register structures of kvm-bindings.

use kvm_bindings::{kvm_debugregs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};

use crate::{DescriptorTable, EntryState, Segment};

impl EntryState {
    /// Returns the general registers for KVM_SET_REGS.
    #[must_use]
    pub const fn to_kvm_regs(&self) -> kvm_regs {
        kvm_regs {
            rax: self.rax,
            rbx: self.rbx,
            rcx: self.rcx,
            rdx: self.rdx,
            rsi: self.rsi,
            rdi: self.rdi,
            rsp: self.rsp,
            rbp: self.rbp,
            r8: self.r8,
            r9: self.r9,
            r10: self.r10,
            r11: self.r11,
            r12: self.r12,
            r13: self.r13,
            r14: self.r14,
            r15: self.r15,
            rip: self.rip,
            rflags: self.rflags,
        }
    }

    /// Returns the system registers for KVM_SET_SREGS.
    ///
    /// `base` is the result of KVM_GET_SREGS for the vCPU. Its apic_base, cr8 and interrupt bitmap
    /// are kept, because they belong to the machine and not to the entry state.
    #[must_use]
    pub fn to_kvm_sregs(&self, base: &kvm_sregs) -> kvm_sregs {
        kvm_sregs {
            cs: self.cs.to_kvm_segment(),
            ds: self.ds.to_kvm_segment(),
            es: self.es.to_kvm_segment(),
            fs: self.fs.to_kvm_segment(),
            gs: self.gs.to_kvm_segment(),
            ss: self.ss.to_kvm_segment(),
            tr: self.tr.to_kvm_segment(),
            ldt: self.ldtr.to_kvm_segment(),
            gdt: self.gdtr.to_kvm_dtable(),
            idt: self.idtr.to_kvm_dtable(),
            cr0: self.cr0,
            cr2: self.cr2,
            cr3: self.cr3,
            cr4: self.cr4,
            cr8: base.cr8,
            efer: self.efer,
            apic_base: base.apic_base,
            interrupt_bitmap: base.interrupt_bitmap,
        }
    }

    /// Returns [`msrs`](Self::msrs) for KVM_SET_MSRS.
    #[must_use]
    pub fn to_kvm_msrs(&self) -> [kvm_msr_entry; 1] {
        self.msrs().map(|(index, data)| kvm_msr_entry {
            index,
            reserved: 0,
            data,
        })
    }

    /// Returns the debug registers for KVM_SET_DEBUGREGS; the four breakpoint addresses are 0.
    #[must_use]
    pub const fn to_kvm_debugregs(&self) -> kvm_debugregs {
        kvm_debugregs {
            db: [0; 4],
            dr6: self.dr6,
            dr7: self.dr7,
            flags: 0,
            reserved: [0; 9],
        }
    }
}

impl Segment {
    /// Returns the segment as KVM expects it: the limit in bytes, the G bit of a present segment
    /// derived from the limit (VT-x refuses to enter a guest where they disagree), and unusable
    /// unless present.
    #[must_use]
    pub fn to_kvm_segment(&self) -> kvm_segment {
        let attributes = self.with_derived_granularity().attributes;
        kvm_segment {
            base: self.base,
            limit: self.limit,
            selector: self.selector,
            type_: attributes.kind(),
            present: u8::from(attributes.is_present()),
            dpl: attributes.dpl(),
            db: u8::from(attributes.is_big()),
            s: u8::from(attributes.is_code_or_data()),
            l: u8::from(attributes.is_long()),
            g: u8::from(attributes.is_granular()),
            avl: u8::from(attributes.is_available()),
            unusable: u8::from(!attributes.is_present()),
            padding: 0,
        }
    }
}

impl DescriptorTable {
    /// Returns the table register as KVM expects it.
    #[must_use]
    pub const fn to_kvm_dtable(&self) -> kvm_dtable {
        kvm_dtable {
            base: self.base,
            limit: self.limit,
            padding: [0; 3],
        }
    }
}

#[cfg(test)]
mod tests {
    use pvh_abi::Gpa;

    use super::*;
    use crate::SegmentAttributes;

    #[test]
    fn the_msr_goes_over_by_number_and_value() {
        let [msr] = EntryState::ZERO.to_kvm_msrs();
        assert_eq!((msr.index, msr.reserved, msr.data), (0x2ff, 0, 0x806));
    }

    /// A state whose every field differs from every other.
    fn numbered() -> EntryState {
        let segment = |number: u16| Segment {
            selector: number,
            base: 0x100 + u64::from(number),
            limit: 0x200 + u32::from(number),
            attributes: SegmentAttributes::new(number).expect("a small number"),
        };
        let table = |number: u16| DescriptorTable {
            base: 0x300 + u64::from(number),
            limit: 0x400 | number,
        };
        EntryState {
            rax: 1,
            rbx: 2,
            rcx: 3,
            rdx: 4,
            rsi: 5,
            rdi: 6,
            rsp: 7,
            rbp: 8,
            r8: 9,
            r9: 10,
            r10: 11,
            r11: 12,
            r12: 13,
            r13: 14,
            r14: 15,
            r15: 16,
            rip: 17,
            rflags: 18,
            cr0: 19,
            cr2: 20,
            cr3: 21,
            cr4: 22,
            efer: 23,
            cs: segment(24),
            ds: segment(25),
            es: segment(26),
            fs: segment(27),
            gs: segment(28),
            ss: segment(29),
            tr: segment(30),
            ldtr: segment(31),
            gdtr: table(32),
            idtr: table(33),
            dr6: 34,
            dr7: 35,
        }
    }

    #[test]
    fn general_registers_go_to_their_own_fields() {
        let regs = numbered().to_kvm_regs();
        let low = [regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi];
        assert_eq!(low, [1, 2, 3, 4, 5, 6]);
        assert_eq!([regs.rsp, regs.rbp, regs.rip, regs.rflags], [7, 8, 17, 18]);
        let new = [
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ];
        assert_eq!(new, [9, 10, 11, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn system_registers_go_to_their_own_fields() {
        let sregs = numbered().to_kvm_sregs(&kvm_sregs::default());
        assert_eq!(
            [sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4],
            [19, 20, 21, 22]
        );
        assert_eq!(sregs.efer, 23);
        let all = [
            sregs.cs, sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss, sregs.tr, sregs.ldt,
        ];
        for (segment, number) in all.into_iter().zip(24_u16..) {
            assert_eq!(segment.selector, number);
            assert_eq!(segment.base, 0x100 + u64::from(number));
            assert_eq!(segment.limit, 0x200 + u32::from(number));
        }
        assert_eq!((sregs.gdt.base, sregs.gdt.limit), (0x320, 0x420));
        assert_eq!((sregs.idt.base, sregs.idt.limit), (0x321, 0x421));
        assert_eq!((sregs.gdt.padding, sregs.idt.padding), ([0; 3], [0; 3]));
    }

    #[test]
    fn what_belongs_to_the_machine_is_kept_from_the_base() {
        let base = kvm_sregs {
            cr8: 3,
            apic_base: 0xfee0_0900,
            interrupt_bitmap: [1, 2, 3, 4],
            cr3: 0xdead,
            efer: 0xdead,
            ..kvm_sregs::default()
        };
        let state = EntryState::pvh(0x10_0000, Gpa(0x20_0000)).unwrap();
        let sregs = state.to_kvm_sregs(&base);
        assert_eq!((sregs.cr8, sregs.apic_base), (3, 0xfee0_0900));
        assert_eq!(sregs.interrupt_bitmap, [1, 2, 3, 4]);
        assert_eq!((sregs.cr3, sregs.efer), (0, 0), "not the base's");
    }

    #[test]
    fn debug_registers_go_to_their_own_fields() {
        let regs = numbered().to_kvm_debugregs();
        assert_eq!((regs.dr6, regs.dr7), (34, 35));
        assert_eq!((regs.db, regs.flags, regs.reserved), ([0; 4], 0, [0; 9]));
    }

    #[test]
    fn every_attribute_bit_goes_to_its_own_field() {
        for bits in 0_u16..0x1000 {
            let attributes = SegmentAttributes::new(bits).unwrap();
            // the limit needs G, so that G stays set for a present segment
            let limit = if bits & 0x800 == 0 { 0x67 } else { u32::MAX };
            let segment = Segment {
                selector: 0,
                base: 0,
                limit,
                attributes,
            };
            let kvm = segment.to_kvm_segment();
            let bit = |n: u16| u8::from(bits & (1 << n) != 0);
            assert_eq!(u16::from(kvm.type_), bits & 0xf);
            assert_eq!(kvm.s, bit(4));
            assert_eq!(u16::from(kvm.dpl), bits >> 5 & 3);
            assert_eq!(kvm.present, bit(7));
            assert_eq!(kvm.unusable, 1 - bit(7));
            assert_eq!(kvm.avl, bit(8));
            assert_eq!(kvm.l, bit(9));
            assert_eq!(kvm.db, bit(10));
            assert_eq!(kvm.g, bit(11));
            assert_eq!(kvm.limit, limit);
            assert_eq!(kvm.padding, 0);
        }
    }

    #[test]
    fn the_entry_state_is_what_vt_x_accepts() {
        let state = EntryState::pvh(0x10_0000, Gpa(0x20_0000)).unwrap();
        let sregs = state.to_kvm_sregs(&kvm_sregs::default());
        let cs = sregs.cs;
        assert_eq!(
            (cs.type_, cs.s, cs.present, cs.db, cs.g, cs.l),
            (0xb, 1, 1, 1, 1, 0)
        );
        assert_eq!((cs.limit, cs.unusable, cs.dpl), (0xffff_ffff, 0, 0));
        let ss = sregs.ss;
        assert_eq!((ss.type_, ss.s, ss.present, ss.db, ss.g), (3, 1, 1, 1, 1));
        let tr = sregs.tr;
        assert_eq!(
            (tr.type_, tr.s, tr.present, tr.g, tr.limit),
            (0xb, 0, 1, 0, 0x67)
        );
        assert_eq!(tr.unusable, 0);
        assert_eq!(
            (sregs.fs.unusable, sregs.gs.unusable, sregs.ldt.unusable),
            (1, 1, 1)
        );
    }
}
