//! The registers of a new vCPU: Xen's rules, written a second time.

use pvh_abi::{Errno, vcpu::VcpuHvmContext};
use pvh_entry::{EntryState, Segment};
use pvh_vcpu::{CpuPolicy, decode_context};
use zerocopy::FromBytes;

use crate::{
    bytes::{field, is_printable},
    tape::Tape,
};

/// Checks a context that was valid and then changed in places.
///
/// # Panics
///
/// If the crate accepts a context that the model refuses, or the other way round, if it names
/// another rule, or if registers differ from the given ones.
pub fn vcpu_context(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let policy = policy(&mut tape);
    let mut context = template(tape.below(8));
    while !tape.is_empty() {
        let (at, how) = (usize::from(tape.byte() & 127), tape.byte());
        let len = [1, 2, 4, 8][usize::from(how & 3)];
        let value = match how >> 2 & 3 {
            0 => u64::from(tape.byte()),
            1 => 1 << tape.below(64),
            2 => u64::from(tape.half()),
            _ => tape.long(),
        };
        let value = value.to_le_bytes();
        let room = &mut context[at..];
        for (to, from) in room.iter_mut().zip(&value[..len]) {
            *to = if how & 0x10 == 0 { *from } else { *to ^ from };
        }
    }
    check(&context, &policy);
}

pub(super) fn check(context: &[u8; 128], policy: &CpuPolicy) {
    let given = VcpuHvmContext::read_from_bytes(context).expect("128 bytes");
    let model = Model { context, policy };
    match decode_context(&given, policy) {
        Ok(state) => {
            assert_eq!(model.refused_by(), None, "{state:?}");
            model.check(&state);
        }
        Err(error) => {
            is_printable(&error);
            assert_eq!(error.errno(), Errno::EINVAL);
            let rule = error.rule();
            assert_eq!(model.refused_by(), Some(rule), "{error}");
        }
    }
}

fn policy(tape: &mut Tape<'_>) -> CpuPolicy {
    let shape = tape.byte();
    CpuPolicy {
        cr4_bits: match shape & 3 {
            0 | 1 => 0x7_67ff,
            2 => u64::MAX,
            _ => tape.long(),
        },
        efer_bits: match shape >> 2 & 3 {
            0 | 1 => 0x0901,
            2 => 0,
            _ => u64::from(tape.half()),
        },
        physical_address_bits: 32 + (shape >> 4) * 2,
    }
}

/// 32-bit, 16-bit, real, PAE, compatibility, 64-bit, and two with nothing but a mode.
pub(crate) fn template(which: u8) -> [u8; 128] {
    let mut context = [0; 128];
    let mut put = |at: usize, bytes: &[u8]| context[at..at + bytes.len()].copy_from_slice(bytes);
    if which == 5 || which == 7 {
        put(0, &1_u32.to_le_bytes());
        if which == 5 {
            for (at, value) in [
                (72, 0xffff_8000_0010_0000_u64),
                (80, 2),
                (88, 0x8000_0011),
                (96, 0x3000),
                (104, 0x20),
                (112, 0x100),
            ] {
                put(at, &value.to_le_bytes());
            }
        }
        return context;
    }
    if which == 6 {
        return context;
    }
    let (cr0, cr4, efer) = match which {
        2 => (0x10_u32, 0, 0),
        3 => (0x8000_0011, 0x20_u32, 0),
        4 => (0x8000_0011, 0x20, 0x100_u64),
        _ => (0x11, 0, 0),
    };
    let cs = match which {
        1 | 2 => 0x9b_u16,
        _ => 0xc9b,
    };
    let limit = match which {
        1 | 2 => 0xffff_u32,
        _ => 0xffff_ffff,
    };
    for (at, value) in [
        (40, 0x1000_u32),
        (44, 2),
        (48, cr0),
        (52, 0x3000),
        (56, cr4),
    ] {
        put(at, &value.to_le_bytes());
    }
    put(64, &efer.to_le_bytes());
    for at in [92, 96, 100, 104] {
        put(at, &limit.to_le_bytes());
    }
    put(108, &0x67_u32.to_le_bytes());
    let data = cs & 0xf00 | 0x93;
    for (at, value) in [
        (112, cs),
        (114, data),
        (116, data),
        (118, data),
        (120, 0x8b),
    ] {
        put(at, &value.to_le_bytes());
    }
    context
}

struct Model<'a> {
    context: &'a [u8; 128],
    policy: &'a CpuPolicy,
}

/// What both parts of the union come to.
struct Registers {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    flags: u64,
}

impl Model<'_> {
    fn get(&self, at: u64, size: usize) -> u64 {
        field(self.context, at, size).expect("inside of 128 bytes")
    }

    fn is_64(&self) -> bool {
        self.get(0, 4) == 1
    }

    fn registers(&self) -> Registers {
        let [cr0, cr3, cr4, efer, flags] = match self.is_64() {
            true => [88, 96, 104, 112, 80].map(|at| self.get(at, 8)),
            false => [48, 52, 56, 64, 44].map(|at| self.get(at, if at == 64 { 8 } else { 4 })),
        };
        Registers {
            cr0,
            cr3,
            cr4,
            efer,
            flags,
        }
    }

    /// cs, ds, ss, es, tr: attributes as given, and limit.
    fn segment(&self, index: u64) -> (u64, u64) {
        (self.get(112 + 2 * index, 2), self.get(92 + 4 * index, 4))
    }

    /// The rule that refuses it; `Some(None)` for what Xen lets pass and no processor enters.
    fn refused_by(&self) -> Option<Option<u8>> {
        if self.get(4, 4) != 0 {
            return Some(Some(1));
        }
        let rule = match self.get(0, 4) {
            0 => self.refused_32(),
            1 => self.refused_64(),
            _ => Some(2),
        };
        let Registers { cr4, efer, .. } = self.registers();
        let lma = if self.policy.efer_bits & 0x100 != 0 {
            0x400
        } else {
            0
        };
        rule.or((cr4 & !self.policy.cr4_bits != 0).then_some(20))
            .or((efer & !(self.policy.efer_bits | lma) != 0).then_some(21))
            .map(Some)
            .or(self.cannot_be_entered().then_some(None))
    }

    fn refused_32(&self) -> Option<u8> {
        let pads = [(60, 4), (122, 2), (124, 2), (126, 2)];
        if pads.iter().any(|&(at, size)| self.get(at, size) != 0) {
            return Some(3);
        }
        // cs, ds, ss, es, tr in this order, the first refusal counts
        for index in 0..5 {
            let (ar, _) = self.segment(index);
            let is_tr = index == 4;
            let rule = |rule: u8| Some(if is_tr { 11 } else { rule });
            let (is_code, is_rw) = (ar & 8 != 0, ar & 2 != 0);
            if ar & 0xf000 != 0 {
                return rule(4);
            }
            if ar == 0 {
                if index == 1 || index == 3 {
                    continue;
                }
                return rule(5);
            }
            if is_tr {
                let is_busy_tss = ar & 0x1d == 0x09 && ar & 0x80 != 0;
                if !is_busy_tss {
                    return Some(11);
                }
                continue;
            }
            if ar & 0x10 == 0 {
                return Some(6);
            }
            if ar & 0x80 == 0 {
                return Some(7);
            }
            match index {
                0 if !is_code => return Some(8),
                2 if is_code || !is_rw => return Some(9),
                1 | 3 if is_code && !is_rw => return Some(10),
                _ => {}
            }
        }
        let (cs, limit) = self.segment(0);
        let last = match cs & 0x800 {
            0 => limit,
            _ => (limit << 12 | 0xfff) & 0xffff_ffff,
        };
        if self.get(40, 4) > last {
            return Some(12);
        }
        let dpl = |index| self.segment(index).0 >> 5 & 3;
        if dpl(2) != dpl(0) {
            return Some(13);
        }
        let is_above = |index| self.segment(index).0 & 0x80 != 0 && dpl(index) > dpl(0);
        if is_above(1) || is_above(3) {
            return Some(14);
        }
        let efer = self.get(64, 8);
        (efer & 0x500 == 0x400).then_some(15)
    }

    fn refused_64(&self) -> Option<u8> {
        let rip = self.get(72, 8).cast_signed();
        if rip << 16 >> 16 != rip {
            return Some(16);
        }
        let registers = self.registers();
        if registers.cr0 & 1 << 31 == 0 {
            return Some(17);
        }
        if registers.cr4 & 0x20 == 0 {
            return Some(18);
        }
        (registers.efer & 0x100 == 0).then_some(19)
    }

    fn cannot_be_entered(&self) -> bool {
        let Registers {
            cr0,
            cr3,
            cr4,
            efer,
            flags,
        } = self.registers();
        let bit = |value: u64, bit: u32| value >> bit & 1 == 1;
        let (pe, pg) = (bit(cr0, 0), bit(cr0, 31));
        let is_long = pg && efer & 0x100 != 0;
        let is_bad = (pg && !pe)
            || (bit(cr0, 29) && !bit(cr0, 30))
            || cr0 > 0xffff_ffff
            || (is_long && !bit(cr4, 5))
            || (!is_long && bit(cr4, 17))
            || cr3 >> self.policy.physical_address_bits.clamp(32, 52) != 0
            || bit(flags, 17);
        if self.is_64() {
            return is_bad;
        }
        let (cs, _) = self.segment(0);
        let bad_limit = (0..5).any(|index| {
            let (ar, limit) = self.segment(index);
            ar & 0x80 != 0 && limit > 0xf_ffff && limit & 0xfff != 0xfff
        });
        let both = is_long && cs & 0x600 == 0x600;
        let ss_dpl = self.segment(2).0 >> 5 & 3;
        is_bad || bad_limit || both || (!pe && ss_dpl != 0)
    }

    fn check(&self, state: &EntryState) {
        let given = self.registers();
        let general = [
            state.rax, state.rcx, state.rdx, state.rbx, state.rsp, state.rbp, state.rsi, state.rdi,
            state.rip,
        ];
        let size = if self.is_64() { 8 } else { 4 };
        for (is, at) in general.into_iter().zip(0_u64..) {
            assert_eq!(is, self.get(8 + at * size as u64, size), "register {at}");
        }
        assert_eq!((state.cr3, state.cr4), (given.cr3, given.cr4));
        assert_eq!(state.cr0, given.cr0 & 0xe005_003f | 0x10);
        assert_eq!(state.rflags, given.flags & 0x3f_7fd5 | 2);
        assert_eq!([state.r8, state.r15, state.cr2], [0; 3]);
        let is_long = given.efer & 0x100 != 0 && given.cr0 & 1 << 31 != 0;
        let lma = if is_long { 0x400 } else { 0 };
        assert_eq!(state.efer, given.efer & !0x400 | lma);
        if self.is_64() {
            assert_eq!(state.cs.attributes.bits(), 0xa9b);
            return;
        }
        let segments = [state.cs, state.ds, state.ss, state.es, state.tr];
        for (segment, index) in segments.into_iter().zip(0_u64..) {
            let (ar, limit) = self.segment(index);
            let base = self.get(72 + 4 * index, 4);
            assert_eq!((segment.selector, segment.base), (0, base));
            assert_eq!(u64::from(segment.limit), limit);
            let mut want = ar;
            if ar & 0x80 != 0 {
                want |= if index == 4 { 2 } else { 1 };
                want = want & !0x800 | u64::from(limit > 0xf_ffff) << 11;
            }
            if index == 0 && !is_long {
                want &= !0x200;
            }
            assert_eq!(
                u64::from(segment.attributes.bits()),
                want,
                "segment {index}"
            );
            check_descriptor(segment, ar & 0x80 != 0);
        }
    }
}

/// What is present has a descriptor, which says the same; a higher base has none.
fn check_descriptor(segment: Segment, is_present: bool) {
    match segment.descriptor() {
        Ok(packed) => {
            let again = Segment::from_descriptor(0, packed);
            assert!(!is_present || again == segment, "{segment:?}, {again:?}");
        }
        Err(error) => {
            is_printable(&error);
            assert!(!is_present, "{segment:?}: {error}");
        }
    }
    let base = segment.base | 1 << 32;
    assert!(Segment { base, ..segment }.descriptor().is_err());
}
