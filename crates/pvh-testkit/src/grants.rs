//! A guest's grants, counted.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the numbers are small, and a model may stop a test"
)]

use std::{cell::RefCell, collections::BTreeMap, fmt, ops::Range, rc::Rc};

use pvh_abi::Gpa;
use pvh_ring::{Access, GrantedPage, Grants};

/// The grants of a guest. It counts the pages in use and remembers what was taken.
#[derive(Clone, Debug, Default)]
pub struct GrantTable(Rc<RefCell<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// The page of a reference, and whether it may be written.
    entries: BTreeMap<u32, (Gpa, bool)>,
    in_use: usize,
    taken: Vec<(u32, Access)>,
}

/// A granted page in use.
#[derive(Debug)]
pub struct GrantedFrame {
    table: GrantTable,
    at: Gpa,
}

/// The guest has not granted this.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing else to say")]
pub struct NotGranted;

impl GrantTable {
    /// Grants frames by references of the same number, some for reading only, some for both.
    #[must_use]
    pub fn of_frames(read_only: Range<u32>, writable: Range<u32>) -> Self {
        let table = Self::default();
        for frame in read_only {
            table.grant(frame, Gpa(u64::from(frame) << 12), false);
        }
        for frame in writable {
            table.grant(frame, Gpa(u64::from(frame) << 12), true);
        }
        table
    }

    /// Grants a page.
    pub fn grant(&self, reference: u32, at: Gpa, is_writable: bool) {
        let mut inner = self.0.borrow_mut();
        inner.entries.insert(reference, (at, is_writable));
    }

    /// Ends a grant; pages that are in use stay so.
    pub fn revoke(&self, reference: u32) {
        self.0.borrow_mut().entries.remove(&reference);
    }

    /// The page of a reference, and whether it may be written.
    #[must_use]
    pub fn entry(&self, reference: u32) -> Option<(Gpa, bool)> {
        self.0.borrow().entries.get(&reference).copied()
    }

    /// How many pages are in use; one that was taken twice counts twice.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.borrow().in_use
    }

    /// What was taken since the last call, in order: also what was refused.
    #[must_use]
    pub fn taken(&self) -> Vec<(u32, Access)> {
        std::mem::take(&mut self.0.borrow_mut().taken)
    }
}

impl Grants for GrantTable {
    type Page = GrantedFrame;
    type Error = NotGranted;

    fn take(&self, reference: u32, access: Access) -> Result<GrantedFrame, NotGranted> {
        let mut inner = self.0.borrow_mut();
        inner.taken.push((reference, access));
        match inner.entries.get(&reference) {
            Some(&(at, is_writable)) if is_writable || access == Access::Read => {
                inner.in_use += 1;
                let table = self.clone();
                Ok(GrantedFrame { table, at })
            }
            _ => Err(NotGranted),
        }
    }
}

impl GrantedPage for GrantedFrame {
    fn gpa(&self) -> Gpa {
        self.at
    }
}

impl Drop for GrantedFrame {
    fn drop(&mut self) {
        self.table.0.borrow_mut().in_use -= 1;
    }
}

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not granted")
    }
}

impl std::error::Error for NotGranted {}
