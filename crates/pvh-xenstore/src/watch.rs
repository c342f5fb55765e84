use crate::{path::is_within, transaction::Reach};

/// What a watch costs beside its path and token.
const WATCH_BYTES: usize = 64;

/// A wish to be told of changes.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Absolute, or special.
    pub(crate) path: Vec<u8>,
    pub(crate) token: Vec<u8>,
    /// How much of a path is not told: the home of a client that watches a relative path.
    hidden: usize,
    /// An event found no room: the watch reports its own path once the messages before it are taken.
    pub(crate) is_behind: bool,
}

impl Watch {
    /// Makes a watch; a relative one hides so many bytes, the length of the home.
    pub(crate) fn new(path: Vec<u8>, token: &[u8], hidden: usize) -> Self {
        Self {
            path,
            token: token.to_vec(),
            hidden,
            is_behind: false,
        }
    }

    pub(crate) fn is(&self, path: &[u8], token: &[u8]) -> bool {
        self.path == path && self.token == token
    }

    pub(crate) fn concerns(&self, path: &[u8], reach: Reach) -> bool {
        match reach {
            Reach::Exact => self.path == path,
            Reach::Upwards => is_within(path, &self.path),
        }
    }

    /// A path as this watch tells it.
    pub(crate) fn told<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let rest = path.get(self.hidden..).unwrap_or(path);
        match self.hidden {
            0 => rest,
            _ => rest.strip_prefix(b"/").unwrap_or(rest),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.path
            .len()
            .saturating_add(self.token.len())
            .saturating_add(WATCH_BYTES)
    }
}
