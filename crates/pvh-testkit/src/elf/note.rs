//! Note records of an ELF image.

use super::Endian;

/// A note record; sizes and padding can be wrong on purpose.
#[derive(Clone, Debug)]
pub struct Note {
    /// The name, with its terminator if it has one.
    pub name: Vec<u8>,
    /// The type.
    pub kind: u32,
    /// The descriptor.
    pub desc: Vec<u8>,
    /// `namesz`, if it is not the length of `name`.
    pub name_size: Option<u32>,
    /// `descsz`, if it is not the length of `desc`.
    pub desc_size: Option<u32>,
    /// The padding unit of name and descriptor; 4 in every valid file.
    pub pad_to: usize,
    /// The byte of the padding.
    pub pad_byte: u8,
    /// The byte order of the three sizes.
    pub endian: Endian,
}

impl Note {
    /// A note of any owner; `name` includes its NUL, if it has one.
    #[must_use]
    pub fn new(name: impl Into<Vec<u8>>, kind: u32, desc: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            kind,
            desc: desc.into(),
            name_size: None,
            desc_size: None,
            pad_to: 4,
            pad_byte: 0,
            endian: Endian::Little,
        }
    }

    /// A note named "Xen", NUL-terminated.
    #[must_use]
    pub fn xen(kind: u32, desc: impl Into<Vec<u8>>) -> Self {
        Self::new(b"Xen\0", kind, desc)
    }

    /// PHYS32_ENTRY (18) with a 4-byte descriptor, as FreeBSD, GRUB and Xen itself write it.
    #[must_use]
    pub fn entry(entry: u32) -> Self {
        Self::xen(18, entry.to_le_bytes())
    }

    /// PHYS32_ENTRY (18) with an 8-byte descriptor, as Linux writes it.
    #[must_use]
    pub fn entry64(entry: u64) -> Self {
        Self::xen(18, entry.to_le_bytes())
    }

    /// PHYS32_RELOC (19) with the given words.
    #[must_use]
    pub fn reloc(words: &[u32]) -> Self {
        let desc: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Self::xen(19, desc)
    }

    /// Sets `namesz` to another value.
    #[must_use]
    pub const fn name_size(mut self, size: u32) -> Self {
        self.name_size = Some(size);
        self
    }

    /// Sets `descsz` to another value.
    #[must_use]
    pub const fn desc_size(mut self, size: u32) -> Self {
        self.desc_size = Some(size);
        self
    }

    /// Pads name and descriptor to another multiple.
    #[must_use]
    pub const fn pad_to(mut self, bytes: usize) -> Self {
        self.pad_to = bytes;
        self
    }

    /// Pads with another byte than 0.
    #[must_use]
    pub const fn pad_byte(mut self, byte: u8) -> Self {
        self.pad_byte = byte;
        self
    }

    /// Writes the three sizes in another byte order.
    #[must_use]
    pub const fn endian(mut self, endian: Endian) -> Self {
        self.endian = endian;
        self
    }

    /// Returns the bytes of the record.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let sizes = [
            self.name_size.unwrap_or_else(|| size_of_field(&self.name)),
            self.desc_size.unwrap_or_else(|| size_of_field(&self.desc)),
            self.kind,
        ];
        for size in sizes {
            out.extend(match self.endian {
                Endian::Little => size.to_le_bytes(),
                Endian::Big => size.to_be_bytes(),
            });
        }
        for field in [&self.name, &self.desc] {
            out.extend(field);
            let end = field.len().next_multiple_of(self.pad_to.max(1));
            out.extend(std::iter::repeat_n(
                self.pad_byte,
                end.saturating_sub(field.len()),
            ));
        }
        out
    }
}

/// Returns the bytes of the records, one after the other.
#[must_use]
pub fn note_area(notes: &[Note]) -> Vec<u8> {
    notes.iter().flat_map(Note::to_bytes).collect()
}

fn size_of_field(field: &[u8]) -> u32 {
    u32::try_from(field.len()).unwrap_or(u32::MAX)
}
