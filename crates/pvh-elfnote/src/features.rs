//! The FEATURES string and the feature bits of a guest.

use crate::{Note, ReadError, Source, Text};

/// Features of a Xen guest: bits numbered by XENFEAT_* (xen/include/public/features.h), first word.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Features(pub u32);

impl Features {
    /// The guest can write to its page tables.
    #[doc(alias = "XENFEAT_writable_page_tables")]
    pub const WRITABLE_PAGE_TABLES: Self = Self(1);
    /// The guest can write to its descriptor tables.
    #[doc(alias = "XENFEAT_writable_descriptor_tables")]
    pub const WRITABLE_DESCRIPTOR_TABLES: Self = Self(1 << 1);
    /// Guest-physical addresses are translated for the guest.
    #[doc(alias = "XENFEAT_auto_translated_physmap")]
    pub const AUTO_TRANSLATED_PHYSMAP: Self = Self(1 << 2);
    /// The guest's kernel runs in supervisor mode.
    #[doc(alias = "XENFEAT_supervisor_mode_kernel")]
    pub const SUPERVISOR_MODE_KERNEL: Self = Self(1 << 3);
    /// Page directories may lie above 4 GiB.
    #[doc(alias = "XENFEAT_pae_pgdir_above_4gb")]
    pub const PAE_PGDIR_ABOVE_4GB: Self = Self(1 << 4);
    /// Events can be delivered through a vector.
    #[doc(alias = "XENFEAT_hvm_callback_vector")]
    pub const HVM_CALLBACK_VECTOR: Self = Self(1 << 8);
    /// The guest is, or can be, the control domain.
    #[doc(alias = "XENFEAT_dom0")]
    pub const DOM0: Self = Self(1 << 11);

    /// Returns the features of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Tells whether every feature of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn by_name(name: &[u8]) -> Option<Self> {
        NAMES
            .iter()
            .find_map(|(known, feature)| (*known == name).then_some(*feature))
    }
}

/// The content of a FEATURES string.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct FeatureSet {
    pub(crate) supported: Features,
    pub(crate) required: Features,
    /// The first required name that is unknown.
    pub(crate) unknown: Option<Text>,
}

impl FeatureSet {
    /// Reads names that are separated by `|`, up to a NUL or the end of the descriptor. A `!`
    /// before a name means "required".
    ///
    /// As in libelf, a name longer than 63 bytes is split, and a string without an end in its first
    /// 4096 bytes is ignored. A string that exceeds `bytes_left` is ignored too; that bounds the
    /// work for a whole file.
    pub(crate) fn read<S: Source + ?Sized>(
        source: &S,
        note: &Note,
        bytes_left: &mut u32,
    ) -> Result<Self, ReadError> {
        let limit = MAX_BYTES.min(*bytes_left);
        let size = note.desc_size.min(limit);
        *bytes_left = bytes_left.saturating_sub(size);
        let (mut set, mut name) = (Self::default(), Name::new());
        let mut at = 0_u32;
        while at < size {
            let mut window = [0; WINDOW_BYTES];
            let left = usize::try_from(size.saturating_sub(at)).unwrap_or(usize::MAX);
            let (bytes, _) = window.split_at_mut(left.min(WINDOW_BYTES));
            source.read_at(note.desc_offset.saturating_add(at.into()), bytes)?;
            for &byte in &*bytes {
                match byte {
                    0 => {
                        set.add(name.as_bytes());
                        return Ok(set);
                    }
                    b'|' => set.add(name.take().as_bytes()),
                    _ if name.push(byte) => {}
                    _ => {
                        set.add(name.take().as_bytes());
                        name.push(byte);
                    }
                }
            }
            at = at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        if note.desc_size > limit {
            return Ok(Self::default());
        }
        set.add(name.as_bytes());
        Ok(set)
    }

    fn add(&mut self, name: &[u8]) {
        let (name, is_required) = match name.strip_prefix(b"!") {
            Some(name) => (name, true),
            None => (name, false),
        };
        match Features::by_name(name) {
            Some(known) => {
                self.supported = self.supported.union(known);
                if is_required {
                    self.required = self.required.union(known);
                }
            }
            None if is_required => {
                self.unknown.get_or_insert(Text::from_bytes(name));
            }
            None => {}
        }
    }
}

/// A name while it is being read.
struct Name {
    bytes: [u8; MAX_NAME_BYTES],
    len: usize,
}

impl Name {
    const fn new() -> Self {
        Self {
            bytes: [0; MAX_NAME_BYTES],
            len: 0,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends a byte; false when there is no room.
    fn push(&mut self, byte: u8) -> bool {
        let Some(slot) = self.bytes.get_mut(self.len) else {
            return false;
        };
        *slot = byte;
        self.len = self.len.saturating_add(1);
        true
    }

    fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// The most bytes of FEATURES strings that are read in one file.
pub(crate) const MAX_FEATURE_BYTES: u32 = 65_536;

const WINDOW_BYTES: usize = 64;
const MAX_NAME_BYTES: usize = 63;
const MAX_BYTES: u32 = 4096;
const NAMES: [(&[u8], Features); 7] = [
    (b"writable_page_tables", Features::WRITABLE_PAGE_TABLES),
    (
        b"writable_descriptor_tables",
        Features::WRITABLE_DESCRIPTOR_TABLES,
    ),
    (
        b"auto_translated_physmap",
        Features::AUTO_TRANSLATED_PHYSMAP,
    ),
    (b"supervisor_mode_kernel", Features::SUPERVISOR_MODE_KERNEL),
    (b"pae_pgdir_above_4gb", Features::PAE_PGDIR_ABOVE_4GB),
    (b"hvm_callback_vector", Features::HVM_CALLBACK_VECTOR),
    (b"dom0", Features::DOM0),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn note_of(desc: &[u8]) -> Note {
        Note {
            offset: 0,
            kind: 10,
            is_xen: true,
            name_size: 4,
            desc_offset: 0,
            desc_size: desc.len().try_into().expect("short"),
        }
    }

    fn read(desc: &[u8]) -> FeatureSet {
        let mut left = MAX_FEATURE_BYTES;
        FeatureSet::read(desc, &note_of(desc), &mut left).expect("in memory")
    }

    #[test]
    fn the_names_have_the_bits_of_the_header() {
        let all = b"writable_page_tables|writable_descriptor_tables|auto_translated_physmap|\
            supervisor_mode_kernel|pae_pgdir_above_4gb|hvm_callback_vector|dom0";
        let bits = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 11;
        assert_eq!(read(all).supported.0, bits);
        assert_eq!(read(all).required.0, 0);
    }

    #[test]
    fn a_required_feature_is_supported_too() {
        let set = read(b"!writable_page_tables|dom0\0|!junk");
        assert_eq!((set.required.0, set.supported.0), (1, 1 | 1 << 11));
        assert_eq!(set.unknown, None);
    }

    #[test]
    fn an_unknown_name_matters_only_if_it_is_required() {
        assert_eq!(read(b"junk||more").unknown, None);
        let set = read(b"dom0|!junk|!other");
        assert_eq!(set.unknown.expect("required"), "junk");
        assert_eq!(set.supported, Features::DOM0);
        assert_eq!(read(b"!").unknown.expect("an empty name"), "");
    }

    #[test]
    fn a_name_longer_than_63_bytes_is_taken_in_pieces() {
        let mut long = [b'x'; 67];
        long[63..].copy_from_slice(b"dom0");
        assert_eq!(read(&long).supported, Features::DOM0);
        assert_eq!(read(&long[1..]).supported, Features(0));
    }

    #[test]
    fn a_string_without_end_in_4096_bytes_says_nothing() {
        let mut long = [b'|'; 5000];
        long[10..14].copy_from_slice(b"dom0");
        assert_eq!(read(&long[..4096]).supported, Features::DOM0);
        assert_eq!(read(&long[..4097]), FeatureSet::default());
        long[4095] = 0;
        assert_eq!(read(&long).supported, Features::DOM0);
    }

    #[test]
    fn the_budget_of_a_file_ends() {
        let desc: &[u8] = b"dom0|dom0|dom0";
        let note = note_of(desc);
        let mut left = 20;
        let first = FeatureSet::read(desc, &note, &mut left).expect("in memory");
        assert_eq!((first.supported, left), (Features::DOM0, 6));
        let second = FeatureSet::read(desc, &note, &mut left).expect("in memory");
        assert_eq!((second, left), (FeatureSet::default(), 0));
    }
}
