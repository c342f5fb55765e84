//! A source that is no kernel, given back to its owner.

use std::fs::File;

use super::{ImageError, Limits, source::Backing};

/// What an image is read from.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageSource {
    /// An open file; a pipe is read to its end.
    File(File),
    /// A kernel in memory.
    Bytes(Vec<u8>),
}

/// A source that was refused, and why.
#[derive(Debug, thiserror::Error)]
#[error("the kernel is refused")]
#[non_exhaustive]
pub struct Refused {
    /// Why.
    #[source]
    pub why: ImageError,
    /// What was refused.
    pub given_back: ImageSource,
}

impl ImageSource {
    pub(super) fn open(self, limits: &Limits) -> Result<Backing, Box<Refused>> {
        match self {
            Self::Bytes(bytes) => Ok(Backing::Bytes(bytes)),
            Self::File(file) => Backing::from_file(file, limits).map_err(|(file, why)| {
                Box::new(Refused {
                    why,
                    given_back: Self::File(file),
                })
            }),
        }
    }
}

impl Refused {
    pub(super) fn new(backing: Backing, why: ImageError) -> Box<Self> {
        let given_back = match backing {
            Backing::File { file, .. } => ImageSource::File(file),
            Backing::Bytes(bytes) => ImageSource::Bytes(bytes),
        };
        Box::new(Self { why, given_back })
    }
}
