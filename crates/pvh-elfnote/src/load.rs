//! Segments to load, each checked against the file and the guest's RAM.

use pvh_abi::Gpa;

use crate::{ElfError, Header, ProgramHeader, Source};

/// One segment to load: bytes of the file, then zeros.
///
/// Whoever loads a kernel with these has placed it as its file says. What pvh-loader does beyond
/// that: it checks that segments do not overlap, moves an image that may be moved, and places start
/// info and modules.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// Where it goes.
    pub gpa: Gpa,
    /// Where its bytes are in the file.
    pub offset: u64,
    /// How many bytes come from the file.
    pub file_bytes: u64,
    /// How many zeros follow them in memory.
    pub zero_bytes: u64,
}

/// Why a segment cannot be loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its header cannot be read.
    #[error("a program header cannot be read")]
    Header(#[source] ElfError),
    /// It has more bytes in the file than in memory.
    #[error("the segment at {gpa} has {file_bytes} bytes in the file, and {mem_bytes} in memory")]
    LongerInFile {
        /// Where it goes.
        gpa: Gpa,
        /// Its length in the file.
        file_bytes: u64,
        /// Its length in memory.
        mem_bytes: u64,
    },
    /// Its bytes are not all in the file.
    #[error("the segment at {gpa} needs {file_bytes} bytes at offset {offset:#x} of the file")]
    OutsideFile {
        /// Where it goes.
        gpa: Gpa,
        /// Where its bytes begin.
        offset: u64,
        /// How many there are.
        file_bytes: u64,
    },
    /// It does not fit into the RAM.
    #[error("the segment of {mem_bytes} bytes at {gpa} is outside the {ram_bytes} bytes of RAM")]
    OutsideRam {
        /// Where it goes.
        gpa: Gpa,
        /// Its length in memory.
        mem_bytes: u64,
        /// The RAM's length from address 0 on.
        ram_bytes: u64,
    },
}

impl Load {
    /// Checks a segment: its bytes are in a file of `file_bytes`, and its place in RAM of
    /// `ram_bytes` from address 0 on.
    ///
    /// # Errors
    ///
    /// The variants of [`LoadError`] but `Header`.
    pub const fn new(
        segment: &ProgramHeader,
        file_bytes: u64,
        ram_bytes: u64,
    ) -> Result<Self, LoadError> {
        let gpa = Gpa(segment.paddr);
        let Some(zero_bytes) = segment.mem_size.checked_sub(segment.file_size) else {
            return Err(LoadError::LongerInFile {
                gpa,
                file_bytes: segment.file_size,
                mem_bytes: segment.mem_size,
            });
        };
        if !ends_within(segment.offset, segment.file_size, file_bytes) {
            return Err(LoadError::OutsideFile {
                gpa,
                offset: segment.offset,
                file_bytes: segment.file_size,
            });
        }
        if !ends_within(segment.paddr, segment.mem_size, ram_bytes) {
            return Err(LoadError::OutsideRam {
                gpa,
                mem_bytes: segment.mem_size,
                ram_bytes,
            });
        }
        Ok(Self {
            gpa,
            offset: segment.offset,
            file_bytes: segment.file_size,
            zero_bytes,
        })
    }

    /// Returns its length in memory.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        // The sum is the header's `mem_size`.
        self.file_bytes.saturating_add(self.zero_bytes)
    }

    /// Tells whether an entry point lies in the segment. A kernel is entered in one of its
    /// segments, or it is not to be entered.
    #[must_use]
    pub const fn contains(&self, entry: u32) -> bool {
        // Widening in a constant function.
        match (entry as u64).checked_sub(self.gpa.0) {
            Some(into) => into < self.len_bytes(),
            None => false,
        }
    }
}

impl Header {
    /// Lists what to load, in table order, for RAM of `ram_bytes` from address 0 on. Nothing is
    /// allocated, and an empty segment is left out.
    pub fn loads<'s, S: Source + ?Sized>(
        &self,
        source: &'s S,
        ram_bytes: u64,
    ) -> impl Iterator<Item = Result<Load, LoadError>> + use<'s, S> {
        let file_bytes = source.len_bytes();
        self.segments(source).filter_map(move |segment| {
            let segment = match segment {
                Ok(segment) => segment,
                Err(error) => return Some(Err(LoadError::Header(error))),
            };
            let is_empty = segment.mem_size == 0 && segment.file_size == 0;
            let is_loaded = segment.is_load() && !is_empty;
            is_loaded.then(|| Load::new(&segment, file_bytes, ram_bytes))
        })
    }
}

const fn ends_within(start: u64, len_bytes: u64, limit: u64) -> bool {
    match start.checked_add(len_bytes) {
        Some(end) => end <= limit,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: ProgramHeader = ProgramHeader {
        kind: 1,
        flags: 5,
        offset: 0x1000,
        vaddr: 0,
        paddr: 0x10_0000,
        file_size: 0x200,
        mem_size: 0x300,
        align: 0,
    };

    #[test]
    fn a_segment_is_its_bytes_and_zeros_behind_them() {
        let load = Load::new(&SEGMENT, 0x1200, 0x10_0300).unwrap();
        assert_eq!((load.gpa, load.offset), (Gpa(0x10_0000), 0x1000));
        assert_eq!((load.file_bytes, load.zero_bytes), (0x200, 0x100));
        assert!(load.contains(0x10_0000) && load.contains(0x10_02ff));
        assert!(!load.contains(0xf_ffff) && !load.contains(0x10_0300));
    }

    #[test]
    fn a_segment_past_the_file_past_ram_or_longer_in_the_file_is_refused() {
        let of = |segment| Load::new(&segment, 0x1200, 0x10_0300);
        let short = Load::new(&SEGMENT, 0x11ff, 0x10_0300);
        assert!(matches!(short, Err(LoadError::OutsideFile { .. })));
        let small = Load::new(&SEGMENT, 0x1200, 0x10_02ff);
        assert!(matches!(small, Err(LoadError::OutsideRam { .. })));
        let longer = of(ProgramHeader {
            mem_size: 0x1ff,
            ..SEGMENT
        });
        assert!(matches!(longer, Err(LoadError::LongerInFile { .. })));
        for wrapping in [
            ProgramHeader {
                offset: u64::MAX,
                ..SEGMENT
            },
            ProgramHeader {
                paddr: u64::MAX,
                ..SEGMENT
            },
        ] {
            assert!(of(wrapping).is_err(), "no wrap");
        }
    }
}
