//! Segments as descriptors, both ways, and the registers of the boot vCPU.

use pvh_abi::Gpa;
use pvh_entry::{DescriptorError, EntryState, Segment, SegmentAttributes};

use crate::{bytes::is_printable, tape::Tape};

/// Reads eight bytes of a GDT, writes a segment as a descriptor, and makes the state of a boot
/// vCPU.
///
/// # Panics
///
/// If a field is not where the manuals have it, if a written value is not read back, if a valid
/// value is refused, or if a register differs from the ABI text and from Xen.
pub fn descriptor(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let selector = tape.half();
    read(selector, tape.long());
    let (limit, attributes) = (limit(&mut tape), tape.half());
    write(selector, tape.address(), limit, attributes);
    enter(tape.word(), tape.address());
}

/// Often the last byte of a page, or a byte next to 1 MiB.
fn limit(tape: &mut Tape<'_>) -> u32 {
    let word = tape.word();
    match tape.byte() {
        0..=0x5f => word,
        0x60..=0xbf => word | 0xfff,
        near => (0xf_ff80_u32).wrapping_add(near.into()),
    }
}

/// Returns base, 20-bit limit and attributes as a processor reads them, by shifts of the whole
/// word.
const fn fields(word: u64) -> (u64, u64, u64) {
    let base = word >> 16 & 0xff_ffff | word >> 56 << 24;
    let limit = word & 0xffff | word >> 32 & 0xf_0000;
    (base, limit, word >> 40 & 0xff | word >> 44 & 0xf00)
}

fn read(selector: u16, word: u64) {
    let segment = Segment::from_descriptor(selector, word);
    let (base, field, attributes) = fields(word);
    let limit = match attributes >> 11 {
        0 => field,
        _ => field * 4096 + 4095,
    };
    assert_eq!((segment.selector, segment.base), (selector, base));
    assert_eq!(u64::from(segment.limit), limit);
    let is_present = attributes & 0x80 != 0;
    let wanted = match is_present {
        true => attributes & 0x7ff | u64::from(limit > 0xf_ffff) << 11,
        false => attributes,
    };
    check_attributes(segment.attributes, wanted);
    let again = segment.descriptor().expect("it was a descriptor");
    if wanted == attributes {
        assert_eq!(again, word);
    }
    assert_eq!(Segment::from_descriptor(selector, again), segment);
}

fn check_attributes(attributes: SegmentAttributes, wanted: u64) {
    let bit = |is_set: bool, at: u32| u64::from(is_set) << at;
    let sum = u64::from(attributes.kind())
        | u64::from(attributes.dpl()) << 5
        | bit(attributes.is_code_or_data(), 4)
        | bit(attributes.is_present(), 7)
        | bit(attributes.is_available(), 8)
        | bit(attributes.is_long(), 9)
        | bit(attributes.is_big(), 10)
        | bit(attributes.is_granular(), 11);
    assert_eq!((sum, u64::from(attributes.bits())), (wanted, wanted));
    assert_eq!(
        format!("{attributes:?}"),
        format!("SegmentAttributes(0x{wanted:03x})")
    );
}

fn write(selector: u16, base: u64, limit: u32, bits: u16) {
    let attributes = SegmentAttributes::new(bits);
    assert_eq!(attributes.is_some(), bits < 0x1000);
    let attributes = attributes
        .or_else(|| SegmentAttributes::new(bits & 0xfff))
        .expect("12 bits");
    let segment = Segment {
        selector,
        base,
        limit,
        attributes,
    };
    let is_granular = match attributes.is_present() {
        true => limit > 0xf_ffff,
        false => bits & 0x800 != 0,
    };
    let is_sayable = match is_granular {
        true => limit % 4096 == 4095,
        false => limit <= 0xf_ffff,
    };
    match segment.descriptor() {
        Ok(word) => {
            assert!(base <= 0xffff_ffff && is_sayable, "{segment:?}");
            let field = if is_granular { limit / 4096 } else { limit };
            let attributes = u64::from(bits & 0x7ff) | u64::from(is_granular) << 11;
            assert_eq!(fields(word), (base, field.into(), attributes));
        }
        Err(error) => {
            is_printable(&error);
            match error {
                DescriptorError::Base { base: named } => {
                    assert!(named == base && base > 0xffff_ffff);
                }
                DescriptorError::Limit { limit: named } => {
                    assert!(named == limit && !is_sayable && base <= 0xffff_ffff);
                }
                _ => panic!("a refusal without a rule: {error}"),
            }
        }
    }
}

fn enter(entry: u32, start_info: u64) {
    let state = match EntryState::pvh(entry, Gpa(start_info)) {
        Ok(state) => state,
        Err(error) => {
            is_printable(&error);
            assert!(start_info == 0 || start_info > 0xffff_ffff, "{error}");
            return;
        }
    };
    assert!((1..=0xffff_ffff).contains(&start_info));
    assert_eq!((state.rbx, state.rip), (start_info, u64::from(entry)));
    assert_eq!((state.rflags, state.cr0, state.cr4), (2, 0x11, 0));
    let descriptor = |segment: Segment| segment.descriptor().expect("it has one");
    assert_eq!(descriptor(state.cs), 0x00cf_9b00_0000_ffff);
    for data in [state.ds, state.es, state.ss] {
        assert_eq!(descriptor(data), 0x00cf_9300_0000_ffff);
    }
    assert_eq!(descriptor(state.tr), 0x0000_8b00_0000_0067);
    for unusable in [state.fs, state.gs, state.ldtr] {
        assert_eq!((descriptor(unusable), unusable.selector), (0, 0));
    }
    assert_eq!((state.dr6, state.dr7), (0xffff_0ff0, 0x400));
    let rest = [
        state.rax,
        state.rcx,
        state.rdx,
        state.rsi,
        state.rdi,
        state.rsp,
        state.rbp,
        state.r8,
        state.r9,
        state.r10,
        state.r11,
        state.r12,
        state.r13,
        state.r14,
        state.r15,
        state.cr2,
        state.cr3,
        state.efer,
        state.gdtr.base,
        state.idtr.base,
    ];
    assert_eq!(rest, [0; 20]);
}
