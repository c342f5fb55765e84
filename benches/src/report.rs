//! Measures all times and sizes of docs/benchmarks.md.

pub mod curves;
pub mod loading;
pub mod memory;
pub mod parts;
pub mod second_start;
pub mod starts;
pub mod timeline;

use std::{io, path::PathBuf};

use crate::{
    measure::Sample,
    peers::{Built, Peer, Variant, built, built_shared, variants},
    turns::in_turn,
};

/// Shared by the sections.
#[derive(Clone, Debug)]
pub struct Bench {
    percent: usize,
    /// The folder of the guests.
    pub dir: PathBuf,
    /// The guests: tiny, with a large segment, with a large module, and one that touches its
    /// memory.
    pub guests: [Variant; 4],
    /// Our programs.
    pub built: Built,
    /// Our programs with shared libraries.
    pub built_shared: Option<Built>,
}

impl Bench {
    /// Finds programs and makes guests. Only `percent` of the usual runs are made.
    ///
    /// # Errors
    ///
    /// If a program is missing, or a guest cannot be written.
    pub fn new(dir: PathBuf, percent: usize) -> io::Result<Self> {
        let guests = variants(&dir)?;
        let guests = guests
            .try_into()
            .map_err(|_| io::Error::other("there are four guests"))?;
        Ok(Self {
            percent,
            dir,
            guests,
            built: built()?,
            built_shared: built_shared(),
        })
    }

    /// Returns the number of runs where `usual` are usual: at least one.
    #[must_use]
    pub const fn runs(&self, usual: usize) -> usize {
        let runs = usual.saturating_mul(self.percent) / 100;
        if runs == 0 { 1 } else { runs }
    }

    /// Returns our VMM with some options.
    #[must_use]
    pub fn ours(&self, name: &str, options: &[&str]) -> Peer {
        Peer::ours(name, &self.built.vmm, options)
    }

    /// Boots each pair of a program and a guest `usual` times in turn.
    ///
    /// # Errors
    ///
    /// If a run fails again and again.
    pub fn race(&self, usual: usize, pairs: &[(Peer, &Variant)]) -> io::Result<Vec<Vec<Sample>>> {
        in_turn(self.runs(usual), pairs, |(peer, guest)| {
            let named = |error| io::Error::other(format!("{}: {error}", peer.name));
            peer.run(guest, &self.dir).map_err(named)
        })
    }
}

/// The verdict on a number that has an upper limit.
#[must_use]
pub fn verdict(found: f64, most: f64) -> &'static str {
    if found <= most {
        "kept"
    } else {
        "**not kept**"
    }
}

/// Returns the times to the first byte.
pub(crate) fn first(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.first_byte_ms).collect()
}

/// Puts `block` between the marks of `page`; `None` if the marks are missing.
#[must_use]
pub fn replace_block(page: &str, block: &str) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{}\n{END}{tail}", block.trim()))
}

/// The mark before the part of the page that `bench-report` writes.
pub const BEGIN: &str = "<!-- bench-report writes from here -->";

/// The mark after it.
pub const END: &str = "<!-- to here -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_replaced_and_the_rest_stays() {
        let page = format!("# A\n\n{BEGIN}\nold\n{END}\n\n## B\n");
        let new = replace_block(&page, "\nnew\n\n").unwrap();
        assert_eq!(new, format!("# A\n\n{BEGIN}\nnew\n{END}\n\n## B\n"));
        assert_eq!(replace_block("# A\n", "new"), None);
    }

    #[test]
    fn a_limit_itself_is_kept_and_no_number_is_not() {
        assert_eq!(verdict(1.25, 1.25), "kept");
        assert_eq!(verdict(1.26, 1.25), "**not kept**");
        assert_eq!(verdict(f64::NAN, 1.25), "**not kept**");
    }
}
