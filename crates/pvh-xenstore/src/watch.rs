//! One watch of a client.

use crate::{path::is_within, transaction::Reach};

/// Cost in bytes of a watch beside its path and token.
const WATCH_BYTES: usize = 64;

/// A client's request to get events for changes of a node and of nodes below.
#[derive(Debug)]
pub(crate) struct Watch {
    /// An absolute path, or a special one.
    pub(crate) path: Vec<u8>,
    pub(crate) token: Vec<u8>,
    /// Length of the prefix that events leave out: the client's home, if it watches a relative
    /// path.
    hidden: usize,
    /// An event found no room. The watch reports its own path once the messages before are taken.
    pub(crate) is_behind: bool,
}

impl Watch {
    /// Makes a watch whose events leave out the first `hidden` bytes of paths.
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

    /// Returns a path as the events of this watch name it.
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
