//! The entry registers of a start-up interrupt.

use pvh_entry::{DescriptorTable, EntryState, Segment, SegmentAttributes};

use crate::context::CREATED;

/// Returns the real-mode state of a vCPU that a start-up interrupt with `vector` starts.
///
/// It begins at `vector` * 4096: selector vector << 8, base vector << 12, ip 0. The FPU is to be
/// reset as well, and the TSC set to that of vCPU 0, which this state does not hold.
#[must_use]
pub fn sipi_state(vector: u8) -> EntryState {
    let selector = u16::from(vector) << 8;
    EntryState {
        cs: Segment {
            selector,
            base: u64::from(selector) << 4,
            ..segment(SegmentAttributes::CODE_16)
        },
        ds: segment(SegmentAttributes::DATA_16),
        es: segment(SegmentAttributes::DATA_16),
        fs: segment(SegmentAttributes::DATA_16),
        gs: segment(SegmentAttributes::DATA_16),
        ss: segment(SegmentAttributes::DATA_16),
        tr: segment(SegmentAttributes::TSS_BUSY),
        ldtr: segment(SegmentAttributes::LDT),
        gdtr: TABLE,
        idtr: TABLE,
        ..CREATED
    }
}

const fn segment(attributes: SegmentAttributes) -> Segment {
    Segment {
        selector: 0,
        base: 0,
        limit: 0xffff,
        attributes,
    }
}

const TABLE: DescriptorTable = DescriptorTable {
    base: 0,
    limit: 0xffff,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sipi_starts_in_real_mode_at_its_page() {
        let state = sipi_state(0x9a);
        assert_eq!((state.cs.selector, state.cs.base), (0x9a00, 0x9_a000));
        assert_eq!((state.cs.limit, state.cs.attributes.bits()), (0xffff, 0x9b));
        assert_eq!((state.rip, state.rflags), (0, 2));
        assert_eq!(state.cr0, 0x10, "ET and nothing else");
        assert_eq!([state.cr2, state.cr3, state.cr4, state.efer], [0; 4]);
    }

    #[test]
    fn the_other_segments_are_16_bit_data_the_ldt_0x82_tr_0x8b() {
        let state = sipi_state(1);
        for data in [state.ds, state.es, state.fs, state.gs, state.ss] {
            assert_eq!((data.selector, data.base, data.limit), (0, 0, 0xffff));
            assert_eq!(data.attributes.bits(), 0x93);
        }
        assert_eq!(state.ldtr.attributes.bits(), 0x82);
        assert_eq!(state.tr.attributes.bits(), 0x8b);
        assert_eq!((state.ldtr.limit, state.tr.limit), (0xffff, 0xffff));
        assert_eq!((state.gdtr.limit, state.idtr.limit), (0xffff, 0xffff));
    }

    #[test]
    fn every_vector_names_its_page() {
        for vector in 0..=u8::MAX {
            assert_eq!(sipi_state(vector).cs.base, u64::from(vector) * 4096);
        }
    }
}
