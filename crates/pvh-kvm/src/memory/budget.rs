//! Counts the mappings of this process that guest memory adds, against the kernel's limit.

use std::{
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// The mappings that one guest's memory has added. Dropping it frees them.
///
/// The kernel limits the mappings of a process (`vm.max_map_count`). A guest or an image that used
/// them up would make later mappings of this process fail, in any part of it.
#[derive(Debug)]
pub(crate) struct MappingBudget {
    /// The mappings that all guests' memory in this process has added.
    process: &'static AtomicUsize,
    /// The kernel's limit, if it is not to be read from the kernel.
    limit: Option<usize>,
    charged: AtomicUsize,
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// A file range, while an image is loaded: at most a quarter of the kernel's limit.
    File,
    /// Zeros over a file range: at most half of the kernel's limit, with the files.
    Zeros,
}

impl MappingBudget {
    /// Returns an empty budget that shares the limit of this process.
    pub(crate) const fn new() -> Self {
        static PROCESS: AtomicUsize = AtomicUsize::new(0);
        Self {
            process: &PROCESS,
            limit: None,
            charged: AtomicUsize::new(0),
        }
    }

    /// Counts one more mapping over a part of another. Returns whether the budget allows it.
    pub(crate) fn charge(&self, purpose: Purpose) -> bool {
        let limit = self.limit.unwrap_or_else(kernel_limit);
        let share = match purpose {
            Purpose::File => limit / 4,
            Purpose::Zeros => limit / 2,
        };
        let add = |used: usize| {
            let sum = used.checked_add(ADDED_BY_ONE)?;
            (sum <= share).then_some(sum)
        };
        let is_allowed = self.process.fetch_update(SeqCst, SeqCst, add).is_ok();
        if is_allowed {
            self.charged.fetch_add(ADDED_BY_ONE, SeqCst);
        }
        is_allowed
    }
}

impl Drop for MappingBudget {
    fn drop(&mut self) {
        self.process.fetch_sub(*self.charged.get_mut(), SeqCst);
    }
}

/// Returns the kernel's limit on the mappings of a process; its default if it cannot be read.
fn kernel_limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
        text.trim().parse().unwrap_or(DEFAULT_MAX_MAP_COUNT)
    })
}

/// A mapping over the middle of another splits that in two, so there are two more.
const ADDED_BY_ONE: usize = 2;

const DEFAULT_MAX_MAP_COUNT: usize = 65530;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a budget with a limit and a count that nobody else uses.
    pub(crate) fn budget(limit: usize) -> MappingBudget {
        MappingBudget {
            process: Box::leak(Box::new(AtomicUsize::new(0))),
            limit: Some(limit),
            charged: AtomicUsize::new(0),
        }
    }

    #[test]
    fn files_use_a_quarter_of_the_limit_and_zeros_half() {
        let budget = budget(80);
        let count = |purpose| (0..100).take_while(|_| budget.charge(purpose)).count();
        assert_eq!(count(Purpose::File), 10);
        assert_eq!(count(Purpose::Zeros), 10);
        assert_eq!((count(Purpose::File), count(Purpose::Zeros)), (0, 0));
    }

    #[test]
    fn guests_of_one_process_share_the_limit_until_they_are_dropped() {
        let first = budget(16);
        let second = MappingBudget {
            process: first.process,
            limit: first.limit,
            charged: AtomicUsize::new(0),
        };
        assert!(first.charge(Purpose::File) && second.charge(Purpose::File));
        assert!(!second.charge(Purpose::File));
        drop(first);
        assert!(second.charge(Purpose::File));
        assert!(!second.charge(Purpose::File));
    }

    #[test]
    fn the_limit_of_this_kernel_leaves_room_for_an_image() {
        assert!(kernel_limit() >= 1024);
        assert!(MappingBudget::new().charge(Purpose::File));
    }
}
