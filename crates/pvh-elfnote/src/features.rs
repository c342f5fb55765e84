use crate::{Note, ReadError, Source, Text, text::until_nul};

/// Features of a Xen guest: bits numbered by XENFEAT_* (xen/include/public/features.h), first word.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Features(pub u32);

impl Features {
    /// The guest's page tables are writable for it.
    #[doc(alias = "XENFEAT_writable_page_tables")]
    pub const WRITABLE_PAGE_TABLES: Self = Self(1);
    /// The guest's descriptor tables are writable for it.
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

    /// Tells whether every feature of `other` is there.
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

/// What a FEATURES string says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct FeatureSet {
    pub(crate) supported: Features,
    pub(crate) required: Features,
    /// The first required name that is not known.
    pub(crate) unknown: Option<Text>,
}

impl FeatureSet {
    /// Reads names separated by `|`, a `!` before those that are required, up to a NUL or the descriptor's end.
    ///
    /// As in libelf a name longer than 63 bytes is taken in pieces, and nothing beyond 4096 bytes is looked at.
    pub(crate) fn read<S: Source + ?Sized>(source: &S, note: &Note) -> Result<Self, ReadError> {
        let mut set = Self::default();
        let end = note.desc_size.min(MAX_BYTES);
        let mut at = 0_u32;
        while at < end {
            let mut window = [0; WINDOW_BYTES];
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let (bytes, _) = window.split_at_mut(left.min(WINDOW_BYTES));
            let here = note.desc_offset.saturating_add(at.into());
            source.read_at(here, bytes)?;
            let string = until_nul(bytes);
            let name = string.split(|&byte| byte == b'|').next();
            let name = name.unwrap_or_default();
            set.add(name);
            if name.len() == string.len() && string.len() < WINDOW_BYTES {
                break;
            }
            let bar = usize::from(name.len() < string.len());
            let step = u32::try_from(name.len().saturating_add(bar)).unwrap_or(u32::MAX);
            at = at.saturating_add(step);
        }
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

const WINDOW_BYTES: usize = 63;
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

    fn read(desc: &[u8]) -> FeatureSet {
        let note = Note {
            offset: 0,
            kind: 10,
            is_xen: true,
            name_size: 4,
            desc_offset: 0,
            desc_size: desc.len().try_into().expect("short"),
        };
        FeatureSet::read(desc, &note).expect("in memory")
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
    fn a_name_without_end_is_looked_at_for_4096_bytes() {
        let mut long = [b'x'; 5000];
        assert_eq!(read(&long), FeatureSet::default());
        long[4990..4996].copy_from_slice(b"|dom0|");
        assert_eq!(read(&long).supported.0, 0);
        long[4080..4086].copy_from_slice(b"|dom0|");
        assert_eq!(read(&long).supported, Features::DOM0);
    }
}
