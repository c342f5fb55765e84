//! The structures of an ELF core, as bytes.

use pvh_entry::{DescriptorTable, EntryState, Segment};

/// Bytes that grow field by field.
#[derive(Debug, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    fn pad_to(&mut self, len: usize) {
        self.0.resize(len.max(self.0.len()), 0);
    }
}

/// The ELF header of a core with this many program headers, which follow it.
pub(crate) fn elf_header(segments: u16) -> Bytes {
    let mut b = Bytes(b"\x7FELF\x02\x01\x01".to_vec());
    b.pad_to(16);
    b.u16(4); // ET_CORE
    b.u16(62); // EM_X86_64
    b.u32(1);
    b.u64(0);
    b.u64(HEADER_BYTES);
    b.u64(0);
    b.u32(0);
    b.u16(64);
    b.u16(56);
    b.u16(segments);
    b.u16(0);
    b.u16(0);
    b.u16(0);
    b
}

/// A program header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ProgramHeader {
    pub(crate) kind: u32,
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) paddr: u64,
    pub(crate) len_bytes: u64,
}

impl ProgramHeader {
    pub(crate) fn write_to(&self, b: &mut Bytes) {
        b.u32(self.kind);
        b.u32(if self.kind == PT_LOAD { 7 } else { 0 });
        b.u64(self.offset);
        b.u64(self.vaddr);
        b.u64(self.paddr);
        b.u64(self.len_bytes);
        b.u64(self.len_bytes);
        b.u64(0);
    }
}

/// A note: name, type and content, each padded to 4 bytes.
fn note(b: &mut Bytes, name: &[u8], kind: u32, content: &[u8]) {
    let with_nul = [name, &[0]].concat();
    let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    b.u32(size(&with_nul));
    b.u32(size(content));
    b.u32(kind);
    for part in [with_nul.as_slice(), content] {
        b.0.extend_from_slice(part);
        b.pad_to(b.0.len().next_multiple_of(4));
    }
}

/// NT_PRSTATUS of a vCPU: `struct elf_prstatus` of Linux on x86-64.
pub(crate) fn prstatus(b: &mut Bytes, vcpu: u32, signal: u16, s: &EntryState) {
    let mut p = Bytes::default();
    p.u32(signal.into());
    p.pad_to(12);
    p.u16(signal);
    p.pad_to(32);
    p.u32(vcpu.saturating_add(1));
    p.pad_to(112);
    for word in [
        s.r15, s.r14, s.r13, s.r12, s.rbp, s.rbx, s.r11, s.r10, s.r9, s.r8, s.rax, s.rcx, s.rdx,
        s.rsi, s.rdi, s.rax, s.rip,
    ] {
        p.u64(word);
    }
    p.u64(s.cs.selector.into());
    p.u64(s.rflags);
    p.u64(s.rsp);
    p.u64(s.ss.selector.into());
    p.u64(s.fs.base);
    p.u64(s.gs.base);
    for segment in [s.ds, s.es, s.fs, s.gs] {
        p.u64(segment.selector.into());
    }
    p.pad_to(PRSTATUS_BYTES);
    note(b, b"CORE", 1, &p.0);
}

/// QEMU's note of a vCPU, which has the control registers: `crash` reads it.
pub(crate) fn qemu_cpu(b: &mut Bytes, s: &EntryState) {
    let mut q = Bytes::default();
    q.u32(1);
    q.u32(QEMU_CPU_BYTES);
    for word in [
        s.rax, s.rbx, s.rcx, s.rdx, s.rsi, s.rdi, s.rsp, s.rbp, s.r8, s.r9, s.r10, s.r11, s.r12,
        s.r13, s.r14, s.r15, s.rip, s.rflags,
    ] {
        q.u64(word);
    }
    for segment in [s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.ldtr, s.tr] {
        qemu_segment(&mut q, &segment);
    }
    for table in [s.gdtr, s.idtr] {
        qemu_table(&mut q, table);
    }
    for word in [s.cr0, 0, s.cr2, s.cr3, s.cr4, 0] {
        q.u64(word);
    }
    note(b, b"QEMU", 0, &q.0);
}

fn qemu_segment(q: &mut Bytes, segment: &Segment) {
    q.u32(segment.selector.into());
    q.u32(segment.limit);
    // QEMU keeps the attributes where a descriptor has them.
    let bits = u32::from(segment.attributes.bits());
    q.u32((bits & 0xFF) << 8 | (bits & 0xF00) << 12);
    q.u32(0);
    q.u64(segment.base);
}

fn qemu_table(q: &mut Bytes, table: DescriptorTable) {
    q.u32(0);
    q.u32(table.limit.into());
    q.u32(0);
    q.u32(0);
    q.u64(table.base);
}

pub(crate) const PT_LOAD: u32 = 1;
pub(crate) const PT_NOTE: u32 = 4;
pub(crate) const HEADER_BYTES: u64 = 64;
pub(crate) const PROGRAM_HEADER_BYTES: u64 = 56;
const PRSTATUS_BYTES: usize = 336;
const QEMU_CPU_BYTES: u32 = 440;

#[cfg(test)]
mod tests {
    use pvh_abi::Gpa;

    use super::*;

    #[test]
    fn the_notes_have_the_sizes_of_linux_and_qemu() {
        let state = EntryState::pvh(0x10_0000, Gpa(0x9000)).unwrap();
        let mut b = Bytes::default();
        prstatus(&mut b, 0, 11, &state);
        assert_eq!(b.0.len(), 12 + 8 + 336);
        let mut b = Bytes::default();
        qemu_cpu(&mut b, &state);
        assert_eq!(b.0.len(), 12 + 8 + 440);
    }

    #[test]
    fn attributes_lie_where_a_descriptor_has_them() {
        let mut q = Bytes::default();
        qemu_segment(&mut q, &Segment::FLAT_CODE_32);
        // Type 0xB, S, P; D and G: 0x00C0_9B00.
        assert_eq!(&q.0[8..12], 0x00C0_9B00_u32.to_le_bytes());
    }
}
