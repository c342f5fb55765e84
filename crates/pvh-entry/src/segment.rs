//! Segment registers, attribute words and descriptors.

use core::fmt;

/// The attribute word of a segment: the 12 bits of a descriptor that are neither base nor limit.
///
/// | bits | field |
/// |---|---|
/// | 0-3 | type |
/// | 4 | S, set for code and data |
/// | 5-6 | DPL |
/// | 7 | P |
/// | 8 | AVL |
/// | 9 | L |
/// | 10 | D/B |
/// | 11 | G |
///
/// This is the form of the `_ar` fields of `vcpu_hvm_context` (xen/include/public/hvm/hvm_vcpu.h).
/// Bits 12 to 15 are always 0.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct SegmentAttributes(u16);

impl SegmentAttributes {
    /// No attribute: an unusable segment.
    pub const UNUSABLE: Self = Self(0);
    /// 32-bit code: execute, read, accessed, page granularity.
    pub const CODE_32: Self = Self(0xc9b);
    /// 32-bit data: read, write, accessed, page granularity.
    pub const DATA_32: Self = Self(0xc93);
    /// 64-bit code: execute, read, accessed, page granularity.
    pub const CODE_64: Self = Self(0xa9b);
    /// 16-bit code: execute, read, accessed, byte granularity.
    pub const CODE_16: Self = Self(0x09b);
    /// 16-bit data: read, write, accessed, byte granularity.
    pub const DATA_16: Self = Self(0x093);
    /// A busy 32- or 64-bit TSS, byte granularity.
    pub const TSS_BUSY: Self = Self(0x08b);
    /// A local descriptor table, byte granularity.
    pub const LDT: Self = Self(0x082);

    /// Converts an attribute word; `None` if one of bits 12 to 15 is set.
    #[must_use]
    pub const fn new(bits: u16) -> Option<Self> {
        if bits & !ALL_BITS != 0 {
            return None;
        }
        Some(Self(bits))
    }

    /// Returns the word; bits 12 to 15 are 0.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns the 4-bit type.
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.low_byte() & 0xf
    }

    /// Returns the descriptor privilege level, 0 to 3.
    #[must_use]
    pub const fn dpl(self) -> u8 {
        (self.low_byte() >> 5) & 3
    }

    /// Tells whether the segment holds code or data (S); a system segment does not.
    #[must_use]
    pub const fn is_code_or_data(self) -> bool {
        self.0 & CODE_OR_DATA != 0
    }

    /// Tells whether the segment is present (P).
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Returns the bit left to software (AVL).
    #[must_use]
    pub const fn is_available(self) -> bool {
        self.0 & AVAILABLE != 0
    }

    /// Tells whether the segment holds 64-bit code (L).
    #[must_use]
    pub const fn is_long(self) -> bool {
        self.0 & LONG != 0
    }

    /// Tells whether operands or the stack default to 32 bits (D/B).
    #[must_use]
    pub const fn is_big(self) -> bool {
        self.0 & BIG != 0
    }

    /// Tells whether the limit is counted in pages (G).
    #[must_use]
    pub const fn is_granular(self) -> bool {
        self.0 & GRANULAR != 0
    }

    /// Returns the attributes with G set or clear.
    #[must_use]
    pub const fn with_granular(self, granular: bool) -> Self {
        if granular {
            Self(self.0 | GRANULAR)
        } else {
            Self(self.0 & !GRANULAR)
        }
    }

    /// Returns type, S, DPL and P.
    const fn low_byte(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

impl fmt::Debug for SegmentAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SegmentAttributes({:#05x})", self.0)
    }
}

/// A segment register with its hidden part.
///
/// `limit` is the last valid offset in bytes, whatever the granularity, as in Xen's
/// `vcpu_hvm_context` and in `kvm_segment`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Segment {
    /// The visible selector.
    pub selector: u16,
    /// Linear address of offset 0.
    pub base: u64,
    /// The last valid offset in bytes.
    pub limit: u32,
    /// The attribute word.
    pub attributes: SegmentAttributes,
}

/// The reason why a segment has no 8-byte descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// The base has more than the 32 bits of an 8-byte descriptor.
    #[error("segment base {base:#x} does not fit the 32 bits of a descriptor")]
    Base {
        /// The base.
        base: u64,
    },
    /// The limit is neither below 1 MiB nor the last byte of a page, or contradicts the G bit of a
    /// segment that is not present.
    #[error("segment limit {limit:#x} does not fit the 20 bits of a descriptor")]
    Limit {
        /// The limit in bytes.
        limit: u32,
    },
}

impl Segment {
    /// A segment that cannot be used: everything is 0.
    pub const UNUSABLE: Self = Self {
        selector: 0,
        base: 0,
        limit: 0,
        attributes: SegmentAttributes::UNUSABLE,
    };
    /// 32-bit code over the whole 4 GiB, selector 0.
    pub const FLAT_CODE_32: Self = Self {
        limit: u32::MAX,
        attributes: SegmentAttributes::CODE_32,
        ..Self::UNUSABLE
    };
    /// 32-bit data over the whole 4 GiB, selector 0.
    pub const FLAT_DATA_32: Self = Self {
        attributes: SegmentAttributes::DATA_32,
        ..Self::FLAT_CODE_32
    };
    /// 64-bit code, selector 0.
    pub const FLAT_CODE_64: Self = Self {
        attributes: SegmentAttributes::CODE_64,
        ..Self::FLAT_CODE_32
    };
    /// The busy 32-bit TSS of the ABI: base 0, limit 0x67, selector 0.
    pub const TSS_32: Self = Self {
        limit: 0x67,
        attributes: SegmentAttributes::TSS_BUSY,
        ..Self::UNUSABLE
    };

    /// Derives the G bit of a present segment from its limit, as Xen does when it loads a segment:
    /// set from 1 MiB on, clear below. A segment that is not present is unchanged.
    #[must_use]
    pub const fn with_derived_granularity(mut self) -> Self {
        if self.attributes.is_present() {
            let granular = self.limit > MAX_BYTE_LIMIT;
            self.attributes = self.attributes.with_granular(granular);
        }
        self
    }

    /// Returns the access rights as VT-x has them in its guest state (Intel SDM, volume 3, 26.4.1):
    /// the attributes with their upper four at bits 12 to 15, bit 16 for a segment that is not
    /// present, and the G bit that the limit demands.
    #[must_use]
    pub const fn vmx_access_rights(&self) -> u32 {
        let attributes = self.with_derived_granularity().attributes;
        if !attributes.is_present() {
            return VMX_UNUSABLE;
        }
        // Widening in a constant function.
        let bits = attributes.bits() as u32;
        bits & 0xff | (bits & 0xf00) << 4
    }

    /// Returns the 8-byte descriptor of this segment for a GDT. Its G bit is derived as in
    /// [`with_derived_granularity`](Self::with_derived_granularity).
    ///
    /// # Errors
    ///
    /// [`DescriptorError::Base`] for a base of 4 GiB or more, [`DescriptorError::Limit`] for a
    /// limit that does not fit 20 bits and the G bit.
    pub const fn descriptor(&self) -> Result<u64, DescriptorError> {
        if self.base > MAX_BASE {
            return Err(DescriptorError::Base { base: self.base });
        }
        let attributes = self.with_derived_granularity().attributes;
        let limit = self.limit;
        let field = if !attributes.is_granular() {
            limit
        } else if limit & PAGE_MASK == PAGE_MASK {
            limit >> PAGE_SHIFT
        } else {
            return Err(DescriptorError::Limit { limit });
        };
        if field > MAX_BYTE_LIMIT {
            return Err(DescriptorError::Limit { limit });
        }
        Ok(pack(self.base, field, attributes.bits()))
    }

    /// Converts a selector and its 8-byte descriptor. The limit is expanded to bytes, and the G bit
    /// of a present segment is then derived from the limit.
    #[must_use]
    pub const fn from_descriptor(selector: u16, descriptor: u64) -> Self {
        let [l0, l1, b0, b1, b2, access, flags, b3] = descriptor.to_le_bytes();
        let field = u32::from_le_bytes([l0, l1, flags & 0xf, 0]);
        let attributes = SegmentAttributes(u16::from_le_bytes([access, flags >> 4]));
        let limit = if attributes.is_granular() {
            (field << PAGE_SHIFT) | PAGE_MASK
        } else {
            field
        };
        let segment = Self {
            selector,
            base: u64::from_le_bytes([b0, b1, b2, b3, 0, 0, 0, 0]),
            limit,
            attributes,
        };
        segment.with_derived_granularity()
    }
}

/// Puts base, 20-bit limit and attributes where the descriptor format has them.
const fn pack(base: u64, limit: u32, attributes: u16) -> u64 {
    let [b0, b1, b2, b3, ..] = base.to_le_bytes();
    let [l0, l1, l2, _] = limit.to_le_bytes();
    let [access, flags] = attributes.to_le_bytes();
    u64::from_le_bytes([l0, l1, b0, b1, b2, access, (flags << 4) | l2, b3])
}

const ALL_BITS: u16 = 0xfff;
const CODE_OR_DATA: u16 = 1 << 4;
const PRESENT: u16 = 1 << 7;
const AVAILABLE: u16 = 1 << 8;
const LONG: u16 = 1 << 9;
const BIG: u16 = 1 << 10;
const GRANULAR: u16 = 1 << 11;

const PAGE_SHIFT: u32 = 12;
const PAGE_MASK: u32 = 0xfff;
/// The largest limit of 20 bits.
const MAX_BYTE_LIMIT: u32 = 0xf_ffff;
const MAX_BASE: u64 = 0xffff_ffff;

/// Bit 16 of VT-x's access rights.
const VMX_UNUSABLE: u32 = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn flat(limit: u32, attributes: SegmentAttributes) -> Segment {
        Segment {
            limit,
            attributes,
            ..Segment::UNUSABLE
        }
    }

    fn attributes(bits: u16) -> SegmentAttributes {
        SegmentAttributes::new(bits).expect("12 bits")
    }

    /// Packs by arithmetic on the whole word, in another way than `pack`.
    fn packed_by_shifts(base: u64, field: u64, bits: u64) -> u64 {
        field & 0xffff
            | (base & 0xff_ffff) << 16
            | (bits & 0xff) << 40
            | (field >> 16) << 48
            | (bits >> 8) << 52
            | (base >> 24) << 56
    }

    #[test]
    fn attributes_are_shown_as_the_number_they_are() {
        extern crate std;
        let shown = std::format!("{:?}", attributes(0x9b));
        assert_eq!(shown, "SegmentAttributes(0x09b)");
    }

    #[test]
    fn the_named_attributes_are_those_of_xen() {
        assert_eq!(SegmentAttributes::CODE_32.bits(), 0xc9b);
        assert_eq!(SegmentAttributes::DATA_32.bits(), 0xc93);
        assert_eq!(SegmentAttributes::CODE_64.bits(), 0xa9b);
        assert_eq!(SegmentAttributes::CODE_16.bits(), 0x9b);
        assert_eq!(SegmentAttributes::DATA_16.bits(), 0x93);
        assert_eq!(SegmentAttributes::TSS_BUSY.bits(), 0x8b);
        assert_eq!(SegmentAttributes::LDT.bits(), 0x82);
    }

    #[test]
    fn an_attribute_word_is_taken_unless_one_of_its_high_four_bits_is_set() {
        for bits in 0..=u16::MAX {
            let taken = SegmentAttributes::new(bits).map(SegmentAttributes::bits);
            assert_eq!(taken, (bits < 0x1000).then_some(bits));
        }
    }

    #[test]
    fn every_attribute_word_is_the_sum_of_its_fields() {
        for bits in 0..0x1000 {
            let a = attributes(bits);
            let sum = u16::from(a.kind())
                + 0x010 * u16::from(a.is_code_or_data())
                + 0x020 * u16::from(a.dpl())
                + 0x080 * u16::from(a.is_present())
                + 0x100 * u16::from(a.is_available())
                + 0x200 * u16::from(a.is_long())
                + 0x400 * u16::from(a.is_big())
                + 0x800 * u16::from(a.is_granular());
            assert_eq!(sum, bits);
            assert_eq!(a.with_granular(true).bits(), bits | 0x800);
            assert_eq!(a.with_granular(false).bits(), bits & 0x7ff);
        }
    }

    #[test]
    fn the_flat_segments_have_the_descriptors_of_the_manuals() {
        assert_eq!(
            Segment::FLAT_CODE_32.descriptor(),
            Ok(0x00cf_9b00_0000_ffff)
        );
        assert_eq!(
            Segment::FLAT_DATA_32.descriptor(),
            Ok(0x00cf_9300_0000_ffff)
        );
        assert_eq!(Segment::TSS_32.descriptor(), Ok(0x0000_8b00_0000_0067));
        assert_eq!(Segment::UNUSABLE.descriptor(), Ok(0));
    }

    #[test]
    fn every_attribute_word_survives_the_descriptor_of_a_small_and_of_a_flat_segment() {
        for bits in 0..0x1000 {
            for limit in [0_u32, 0x67, 0xfff, 0xf_ffff, 0x10_0fff, u32::MAX] {
                let segment = Segment {
                    selector: 8,
                    base: 0x1234_5678,
                    limit,
                    attributes: attributes(bits),
                }
                .with_derived_granularity();
                let granular = segment.attributes.is_granular();
                let sayable = granular == (limit > 0xf_ffff) || granular && limit & 0xfff == 0xfff;
                match segment.descriptor() {
                    Ok(packed) => assert_eq!(Segment::from_descriptor(8, packed), segment),
                    Err(error) => {
                        assert!(!sayable, "{bits:#x} {limit:#x}");
                        assert_eq!(error, DescriptorError::Limit { limit });
                    }
                }
            }
        }
    }

    #[test]
    fn granularity_of_a_present_segment_follows_its_limit() {
        for (limit, granular) in [
            (0, false),
            (0xf_ffff, false),
            (0x10_0000, true),
            (u32::MAX, true),
        ] {
            for bits in [0x093, 0x893] {
                let segment = flat(limit, attributes(bits)).with_derived_granularity();
                assert_eq!(segment.attributes.is_granular(), granular, "{limit:#x}");
            }
        }
        let absent = flat(u32::MAX, SegmentAttributes::UNUSABLE);
        assert_eq!(absent.with_derived_granularity(), absent);
    }

    #[test]
    fn a_limit_in_the_middle_of_a_page_above_1_mib_is_refused() {
        let limit = 0x10_0000;
        let segment = flat(limit, SegmentAttributes::DATA_32);
        assert_eq!(segment.descriptor(), Err(DescriptorError::Limit { limit }));
        let whole_pages = flat(0x10_0fff, SegmentAttributes::DATA_32);
        assert_eq!(whole_pages.descriptor(), Ok(0x00c0_9300_0000_0100));
    }

    #[test]
    fn the_last_base_below_4_gib_is_taken() {
        let segment = Segment {
            base: 0xffff_ffff,
            ..flat(0xf_ffff, attributes(0x93))
        };
        assert_eq!(segment.descriptor(), Ok(0xff0f_93ff_ffff_ffff));
    }

    #[test]
    fn a_base_above_4_gib_is_refused() {
        let base = 0x1_0000_0000;
        let segment = Segment {
            base,
            ..Segment::FLAT_DATA_32
        };
        assert_eq!(segment.descriptor(), Err(DescriptorError::Base { base }));
    }

    proptest! {
        #[test]
        fn packing_agrees_with_shifts_and_comes_back(
            selector: u16, base: u32, field in 0_u32..0x10_0000, bits in 0_u16..0x1000,
        ) {
            let base = u64::from(base);
            let packed = packed_by_shifts(base, field.into(), bits.into());
            let segment = Segment::from_descriptor(selector, packed);
            let limit = if bits & 0x800 == 0 { field } else { field << 12 | 0xfff };
            prop_assert_eq!((segment.selector, segment.base, segment.limit), (selector, base, limit));
            prop_assert_eq!(segment.attributes.bits() & 0x7ff, bits & 0x7ff);

            let derived = segment.attributes.bits();
            let field = if derived & 0x800 == 0 { limit } else { limit / 0x1000 };
            let again = packed_by_shifts(base, field.into(), derived.into());
            prop_assert_eq!(segment.descriptor(), Ok(again));
            prop_assert_eq!(Segment::from_descriptor(selector, again), segment);
        }

        #[test]
        fn any_descriptor_can_be_read_and_written_again(descriptor: u64) {
            let segment = Segment::from_descriptor(0, descriptor);
            let again = segment.descriptor();
            prop_assert!(again.is_ok());
            prop_assert_eq!(again.map(|again| Segment::from_descriptor(0, again)), Ok(segment));
        }
    }
}
