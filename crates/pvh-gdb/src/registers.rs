//! The registers as gdb exchanges them, and the target description that names them.
//!
//! The description is always the one of the 64-bit processor, with every register as wide as it is
//! there, whatever mode the vCPU is in. So the length of a register packet is the same on both sides
//! of the switch to long mode, and gdb never meets "Remote 'g' packet reply is too long".

use core::fmt::Write as _;
use std::sync::OnceLock;

use gdbstub::arch::{Arch, Registers};
use pvh_entry::EntryState;

/// An x86 processor with 64-bit registers.
#[derive(Debug)]
pub(crate) enum Amd64 {}

impl Arch for Amd64 {
    type Usize = u64;
    type Registers = GdbRegisters;
    type BreakpointKind = usize;
    type RegId = ();

    fn target_description_xml() -> Option<&'static str> {
        static TEXT: OnceLock<String> = OnceLock::new();
        Some(TEXT.get_or_init(description))
    }
}

/// The registers of a vCPU in the order of the description. FPU and SSE registers are described,
/// because gdb wants them, and sent as unavailable.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GdbRegisters {
    general: [u64; GENERAL.len()],
    rip: u64,
    eflags: u32,
    selectors: [u32; SELECTORS.len()],
    bases: [u64; BASES.len()],
    system: [u64; SYSTEM.len()],
}

impl GdbRegisters {
    /// The registers of a state.
    pub(crate) fn of(state: &EntryState) -> Self {
        let s = state;
        let segments = [s.cs, s.ss, s.ds, s.es, s.fs, s.gs];
        Self {
            general: [
                s.rax, s.rbx, s.rcx, s.rdx, s.rsi, s.rdi, s.rbp, s.rsp, s.r8, s.r9, s.r10, s.r11,
                s.r12, s.r13, s.r14, s.r15,
            ],
            rip: s.rip,
            eflags: low(s.rflags),
            selectors: segments.map(|segment| segment.selector.into()),
            bases: [s.fs.base, s.gs.base],
            system: [
                s.cr0,
                s.cr2,
                s.cr3,
                s.cr4,
                s.efer,
                s.cs.base,
                s.ss.base,
                s.gdtr.base,
                s.gdtr.limit.into(),
                s.idtr.base,
                s.idtr.limit.into(),
                s.tr.base,
            ],
        }
    }

    /// Writes the registers that a debugger may set into a state. Selectors and descriptor tables
    /// stay: a selector without its descriptor would be no state of a processor.
    pub(crate) fn write_to(&self, state: &mut EntryState) {
        let [
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            rsp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
        ] = self.general;
        (state.rax, state.rbx, state.rcx, state.rdx) = (rax, rbx, rcx, rdx);
        (state.rsi, state.rdi, state.rbp, state.rsp) = (rsi, rdi, rbp, rsp);
        (state.r8, state.r9, state.r10, state.r11) = (r8, r9, r10, r11);
        (state.r12, state.r13, state.r14, state.r15) = (r12, r13, r14, r15);
        state.rip = self.rip;
        state.rflags = state.rflags & !0xFFFF_FFFF | u64::from(self.eflags);
        [state.fs.base, state.gs.base] = self.bases;
        let [cr0, cr2, cr3, cr4, efer, ..] = self.system;
        (state.cr0, state.cr2, state.cr3) = (cr0, cr2, cr3);
        (state.cr4, state.efer) = (cr4, efer);
    }
}

impl Registers for GdbRegisters {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        let mut bytes = Vec::with_capacity(CORE_BYTES);
        self.general
            .iter()
            .for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.extend(self.rip.to_le_bytes());
        bytes.extend(self.eflags.to_le_bytes());
        self.selectors
            .iter()
            .for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.iter().for_each(|&byte| write_byte(Some(byte)));
        (0..FLOAT_BYTES).for_each(|_| write_byte(None));
        let rest = self.bases.iter().chain(&self.system);
        for byte in rest.flat_map(|word| word.to_le_bytes()) {
            write_byte(Some(byte));
        }
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let mut rest = bytes;
        let mut new = self.clone();
        for word in new.general.iter_mut().chain([&mut new.rip]) {
            *word = u64::from_le_bytes(take(&mut rest)?);
        }
        for word in [&mut new.eflags].into_iter().chain(&mut new.selectors) {
            *word = u32::from_le_bytes(take(&mut rest)?);
        }
        rest = rest.get(FLOAT_BYTES..).ok_or(())?;
        for word in new.bases.iter_mut().chain(&mut new.system) {
            *word = u64::from_le_bytes(take(&mut rest)?);
        }
        *self = new;
        Ok(())
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ()> {
    let (first, later) = rest.split_first_chunk().ok_or(())?;
    *rest = later;
    Ok(*first)
}

fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Writes the description.
fn description() -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">\
         <target version=\"1.0\"><architecture>i386:x86-64</architecture>\
         <feature name=\"org.gnu.gdb.i386.core\">",
    );
    let mut line = |name: &str, bits: u32, kind: &str| {
        // A String accepts everything.
        let _ = write!(
            text,
            "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\"/>"
        );
    };
    for name in GENERAL {
        let kind = if name == "rbp" || name == "rsp" {
            "data_ptr"
        } else {
            "int64"
        };
        line(name, 64, kind);
    }
    line("rip", 64, "code_ptr");
    line("eflags", 32, "int32");
    SELECTORS.iter().for_each(|name| line(name, 32, "int32"));
    (0..8).for_each(|n| line(&format!("st{n}"), 80, "i387_ext"));
    for name in [
        "fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop",
    ] {
        line(name, 32, "int");
    }
    text.push_str(
        "</feature><feature name=\"org.gnu.gdb.i386.sse\">\
         <vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>\
         <vector id=\"v2i64\" type=\"int64\" count=\"2\"/>\
         <union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>\
         <field name=\"v2_int64\" type=\"v2i64\"/></union>",
    );
    let mut line = |name: &str, bits: u32, kind: &str| {
        let _ = write!(
            text,
            "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\"/>"
        );
    };
    (0..16).for_each(|n| line(&format!("xmm{n}"), 128, "vec128"));
    line("mxcsr", 32, "int");
    text.push_str("</feature><feature name=\"org.gnu.gdb.i386.segments\">");
    let mut line = |name: &str| {
        let _ = write!(text, "<reg name=\"{name}\" bitsize=\"64\" type=\"int\"/>");
    };
    BASES.iter().for_each(|name| line(name));
    text.push_str("</feature><feature name=\"org.pvh.x86.system\">");
    let mut line = |name: &str| {
        let _ = write!(text, "<reg name=\"{name}\" bitsize=\"64\" type=\"int\"/>");
    };
    SYSTEM.iter().for_each(|name| line(name));
    text.push_str("</feature></target>");
    text
}

const GENERAL: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
const SELECTORS: [&str; 6] = ["cs", "ss", "ds", "es", "fs", "gs"];
const BASES: [&str; 2] = ["fs_base", "gs_base"];
const SYSTEM: [&str; 12] = [
    "cr0",
    "cr2",
    "cr3",
    "cr4",
    "efer",
    "cs_base",
    "ss_base",
    "gdtr_base",
    "gdtr_limit",
    "idtr_base",
    "idtr_limit",
    "tr_base",
];
const CORE_BYTES: usize = 16 * 8 + 8 + 4 + 6 * 4;
/// st0 to st7, eight control registers of 4 bytes, xmm0 to xmm15, mxcsr.
const FLOAT_BYTES: usize = 8 * 10 + 8 * 4 + 16 * 16 + 4;

#[cfg(test)]
mod tests {
    use pvh_abi::Gpa;

    use super::*;

    fn state() -> EntryState {
        let mut state = EntryState::pvh(0x10_0000, Gpa(0x9000)).unwrap();
        state.r15 = 0x1234_5678_9ABC_DEF0;
        state.gs.base = 0xFFFF_8880_0000_0000;
        state.efer = 0x500;
        state
    }

    fn packet(registers: &GdbRegisters) -> Vec<u8> {
        let mut bytes = Vec::new();
        registers.gdb_serialize(|byte| bytes.push(byte.unwrap_or(0)));
        bytes
    }

    #[test]
    fn registers_survive_the_way_to_gdb_and_back() {
        let registers = GdbRegisters::of(&state());
        let mut back = GdbRegisters::default();
        back.gdb_deserialize(&packet(&registers)).unwrap();
        assert_eq!(back, registers);
        let mut other = EntryState::pvh(0x1000, Gpa(0x9000)).unwrap();
        back.write_to(&mut other);
        assert_eq!(other, state());
    }

    #[test]
    fn the_packet_has_as_many_bytes_as_the_description_has_bits() {
        let text = description();
        let sizes = text.split("bitsize=\"").skip(1);
        let bits = sizes.map(|rest| rest.split('"').next().unwrap().parse::<usize>().unwrap());
        let want = bits.sum::<usize>() / 8;
        assert_eq!(packet(&GdbRegisters::of(&state())).len(), want);
        // The same in 16, 32 and 64 bits: nothing in it depends on the mode.
        assert_eq!(packet(&GdbRegisters::default()).len(), want);
    }

    #[test]
    fn a_packet_that_is_cut_short_changes_nothing() {
        let registers = GdbRegisters::of(&state());
        let whole = packet(&registers);
        for len in [0, 7, 164, 400, whole.len() - 1] {
            let mut other = GdbRegisters::default();
            assert!(other.gdb_deserialize(&whole[..len]).is_err());
            assert_eq!(other, GdbRegisters::default());
        }
    }
}
