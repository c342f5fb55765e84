//! Compares the walk through a guest's page tables with a second walk.

use pvh_abi::Gpa;
use pvh_memory::{
    Access, GuestMemory, LinearAddress, LinearFault, LinearMemory, PagingMode, PagingPolicy,
    PagingState,
};

use self::model::Model;
use crate::{bytes::is_printable, memory::SparseMemory, tape::Tape};

mod model;

/// Sixteen pages at 0, two at 4 GiB.
const RAM: [(u64, u64); 2] = [(0, 0x1_0000), (1 << 32, 0x2000)];

/// Fills page tables, then reads, writes and translates through them.
///
/// # Panics
///
/// If bytes, faults, accessed or dirty bits differ from the model's, or anything else in memory has
/// changed.
pub fn linear(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let (state, policy) = registers(&mut tape);
    let [real, modelled] = [(); 2].map(|()| SparseMemory::new(&RAM, 0));
    let count = tape.below(40);
    for _ in 0..count {
        poke(&mut tape, state.mode(), [&real, &modelled]);
    }
    let linear = LinearMemory::new(&real, &state, &policy);
    let model = Model::new(&modelled, &state, &policy);
    for _ in 0..16 {
        if tape.is_empty() {
            break;
        }
        let at = address(&mut tape, state.mode());
        let what = tape.byte();
        let len = usize::from(what & 0x3f) << (what >> 6 & 1);
        if what < 128 {
            let mut bufs = [vec![0; len], vec![0; len]];
            let [buf, want] = &mut bufs;
            let is = linear.read(LinearAddress(at), buf);
            let wanted = model.copy(at, len, Access::Read, |gpa, from, to| {
                modelled.read(gpa, &mut want[from..to])
            });
            assert_eq!(is, wanted);
            is.as_ref()
                .map_or_else(|fault| check_fault(fault, at, len), |()| {});
            assert!(is.is_err() || bufs[0] == bufs[1], "other bytes were read");
        } else if what < 224 {
            let data: Vec<u8> = (0..len).map(|at| what ^ at.to_le_bytes()[0]).collect();
            let is = linear.write(LinearAddress(at), &data);
            let wanted = model.copy(at, len, Access::Write, |gpa, from, to| {
                modelled.write(gpa, &data[from..to])
            });
            assert_eq!(is, wanted);
        } else {
            let access = match what & 1 {
                0 => Access::Read,
                _ => Access::Write,
            };
            let is = linear.translate(LinearAddress(at), access);
            assert_eq!(is, model.translate(at, access));
        }
    }
    let written = real.written();
    assert_eq!(written, modelled.written(), "other bytes were written");
    for (start, end) in written {
        let len = usize::try_from(end - start).expect("RAM is small");
        assert!(real.peek(start, len) == modelled.peek(start, len));
    }
}

/// A fault names an address that was asked for.
fn check_fault(fault: &LinearFault, at: u64, len: usize) {
    is_printable(fault);
    let LinearAddress(failed) = fault.at();
    assert!(failed.wrapping_sub(at) <= len as u64, "{fault}");
}

/// One byte of switches, one of features, then CR3's page and the rights of the protection keys.
fn registers(tape: &mut Tape<'_>) -> (PagingState, PagingPolicy) {
    let (mode, more, extra) = (tape.byte(), tape.byte(), tape.byte());
    let bit = |byte: u8, from: u32, to: u32| u64::from(byte >> from & 1) << to;
    let (pg, pae, lma) = match mode & 3 {
        0 => (1, 1_u8, 1),
        1 => (1, 1, 0),
        2 => (1, 0, 0),
        _ => (extra >> 7, 1, extra >> 6 & 1),
    };
    let cr3 = match extra & 7 {
        0..=5 => u64::from(tape.byte() & 0x1f) << 12 | u64::from(extra & 1) << 5,
        6 => 1 << 32 | u64::from(tape.byte() & 1) << 12,
        _ => tape.long(),
    };
    let state = PagingState {
        cr0: u64::from(pg) << 31 | bit(mode, 2, 16) | 1,
        cr3,
        cr4: u64::from(pae) << 5 | bit(mode, 3, 4) | bit(mode, 4, 21) | bit(mode, 5, 22),
        efer: u64::from(lma) << 10 | bit(mode, 6, 11) | u64::from(lma) << 8,
        rflags: bit(mode, 7, 18) | 2,
        pkru: match more & 0x10 {
            0 => 0,
            _ => tape.word(),
        },
    };
    let policy = PagingPolicy {
        address_bits: 32 + (more >> 5) * 2 + (more >> 3 & 1) * 6,
        is_amd: more & 1 != 0,
        has_gib_pages: more & 2 != 0,
        has_pse36: more & 4 != 0,
    };
    (state, policy)
}

/// Writes one entry of a table: four bytes say where, where to, and which bits.
fn poke(tape: &mut Tape<'_>, mode: PagingMode, memories: [&SparseMemory; 2]) {
    let (page, index) = (tape.byte(), tape.byte());
    let (target, flags, high) = (tape.byte(), tape.half(), tape.byte());
    let table = match page & 0x1f {
        page @ 0..=15 => u64::from(page) << 12,
        page => 1 << 32 | u64::from(page & 1) << 12,
    };
    let frame = match target {
        0..=0x7f => u64::from(target & 0x1f) << 12,
        0x80..=0x9f => 1 << 32 | u64::from(target & 1) << 12,
        0xa0..=0xbf => u64::from(target & 0x1f) << 21,
        0xc0..=0xdf => u64::from(target & 0x1f) << 30,
        _ => u64::from(target & 0x1f) << 40,
    };
    let high = match high {
        0..=0x7f => 0,
        0x80..=0xbf => 1 << (high & 0x3f),
        0xc0..=0xdf => u64::from(high & 0x1f) << 59,
        _ => u64::from(high) << 13,
    };
    let entry = frame ^ u64::from(flags) ^ high;
    let index = index_of(index);
    for memory in memories {
        let done = match mode {
            PagingMode::TwoLevel => {
                let entry = u32::try_from(entry & 0xffff_ffff).unwrap_or(0);
                memory.write(Gpa(table + (index & 1023) * 4), &entry.to_le_bytes())
            }
            _ => memory.write(Gpa(table + (index & 511) * 8), &entry.to_le_bytes()),
        };
        done.expect("it is RAM");
    }
}

/// Few indices, so that addresses meet entries.
fn index_of(byte: u8) -> u64 {
    match byte {
        0..=200 => u64::from(byte & 3),
        201..=225 => 508 + u64::from(byte & 3),
        _ => 1020 + u64::from(byte & 3),
    }
}

fn address(tape: &mut Tape<'_>, mode: PagingMode) -> u64 {
    let [a, b, c, d] = [(); 4].map(|()| index_of(tape.byte()));
    let offset = u64::from(tape.half());
    match mode {
        PagingMode::FourLevel => a << 39 | (b & 511) << 30 | (c & 511) << 21 | (d & 511) << 12,
        PagingMode::Pae => (a & 7) << 30 | (c & 511) << 21 | (d & 511) << 12,
        PagingMode::TwoLevel => (c & 1023) << 22 | (d & 1023) << 12 | (a & 4) << 30,
        _ => a << 12 | (b & 512) << 23,
    }
    .wrapping_add(offset & 0xfff)
    .wrapping_sub(u64::from(offset & 0x8000 != 0) << 4)
}
