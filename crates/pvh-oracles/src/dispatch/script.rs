//! Scripted answers: the n-th question has the n-th answer, in the crate and in the model alike.

use std::cell::RefCell;

use pvh_abi::Errno;

/// What was asked, and what is answered: the n-th question has the n-th answer, over and over.
pub(super) struct Script {
    pub(super) answers: [u8; 8],
    pub(super) log: RefCell<Vec<(&'static str, Vec<u64>)>>,
}

impl Script {
    pub(super) const fn new(answers: [u8; 8]) -> Self {
        Self {
            answers,
            log: RefCell::new(Vec::new()),
        }
    }

    /// Notes a question; three of four answers are numbers, which grow, the others errors.
    pub(super) fn ask(&self, name: &'static str, args: &[u64]) -> Result<u64, Errno> {
        let mut log = self.log.borrow_mut();
        let count = log.len();
        log.push((name, args.to_vec()));
        match self.answers[count % 8] {
            error @ 0xc0.. => Err(Errno(u16::from(error & 0x1f) + 1)),
            number => Ok(u64::from(number) + count as u64),
        }
    }

    /// Notes what has no answer.
    pub(super) fn tell(&self, name: &'static str, args: &[u64]) {
        self.log.borrow_mut().push((name, args.to_vec()));
    }
}

/// How many entries the memory map has.
pub(super) fn map_len(answers: [u8; 8]) -> u32 {
    u32::from(answers[7] % 4)
}

/// An error as a number that is no value.
pub(super) fn code(result: Result<u64, Errno>) -> u64 {
    result.unwrap_or_else(|errno| 1 << 63 | u64::from(errno.0))
}

/// A grant's status: 0, or an error's number negated.
pub(super) fn status(result: Result<u64, Errno>) -> i16 {
    match result {
        Ok(_) => 0,
        Err(errno) => -errno.0.cast_signed(),
    }
}

/// How far the extents of a reservation get: more than all, or half of them.
pub(super) fn extents_done(count: u64, answer: Result<u64, Errno>) -> u64 {
    answer.map_or(count / 2, |more| count + more)
}
