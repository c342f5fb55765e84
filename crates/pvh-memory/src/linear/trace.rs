//! A page walk entry by entry, for people who look for a fault.

use core::fmt;

use pvh_abi::Gpa;

use super::{
    Access, LinearAddress, LinearFault, LinearMemory,
    tables::{Level, PRESENT, TABLE_ADDRESS, Tables},
};
use crate::GuestMemory;

/// One entry that a walk reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct WalkStep {
    /// Its level, as Xen counts: 1 maps 4 KiB pages.
    pub level: u8,
    /// Where the entry is.
    pub at: Gpa,
    /// Its value; `None` if it is not in RAM.
    pub entry: Option<u64>,
}

/// A walk: the entries that it read, and where it led.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct WalkTrace {
    /// The entries from the root down. Modes with fewer levels, and walks that end early, have
    /// fewer.
    pub steps: [Option<WalkStep>; 4],
    /// Where the address leads, or why it leads nowhere.
    pub end: Result<Gpa, LinearFault>,
}

impl<M: GuestMemory + ?Sized> LinearMemory<'_, M> {
    /// Walks to an address and lists the entries. It reads at most eight words, and changes nothing
    /// that [`translate`](Self::translate) does not change.
    #[must_use]
    pub fn trace(&self, at: LinearAddress, access: Access) -> WalkTrace {
        let steps = match self.tables() {
            Some(tables) if tables.end.is_none_or(|end| at < end) => self.steps(tables, at),
            _ => [None; 4],
        };
        WalkTrace {
            steps,
            end: self.translate(at, access),
        }
    }

    fn steps(&self, tables: &Tables, at: LinearAddress) -> [Option<WalkStep>; 4] {
        let mut steps = [None; 4];
        let mut places = steps.iter_mut();
        let mut table = tables.root;
        let last: [Option<Level>; 1] = [Some(tables.last)];
        for level in tables.upper.iter().chain(&last).flatten() {
            let slot = tables.slot(table, level.index(at));
            let entry = tables.load(self.memory(), slot);
            if let Some(place) = places.next() {
                *place = Some(WalkStep {
                    level: level.number,
                    at: slot,
                    entry,
                });
            }
            match entry {
                Some(entry) if entry & PRESENT != 0 && level.large_page(entry).is_none() => {
                    table = Gpa(entry & TABLE_ADDRESS);
                }
                _ => break,
            }
        }
        steps
    }
}

impl fmt::Display for WalkStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "level {} at {:#x}: ", self.level, self.at.0)?;
        let Some(entry) = self.entry else {
            return f.write_str("not in RAM");
        };
        write!(f, "{entry:#018x}")?;
        if entry & PRESENT == 0 {
            return f.write_str(" not present");
        }
        for (bit, name) in FLAGS {
            if entry.checked_shr(bit).unwrap_or(0) & 1 != 0 {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}

/// Writes one line for each entry, and one for the end, without a newline after it.
impl fmt::Display for WalkTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.steps.iter().flatten() {
            writeln!(f, "{step}")?;
        }
        match &self.end {
            Ok(target) => write!(f, "leads to {:#x}", target.0),
            Err(fault) => write!(f, "{fault}"),
        }
    }
}

const FLAGS: [(u32, &str); 8] = [
    (0, "present"),
    (1, "writable"),
    (2, "user"),
    (5, "accessed"),
    (6, "dirty"),
    (7, "large"),
    (8, "global"),
    (63, "no-execute"),
];
