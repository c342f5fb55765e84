//! Reads what a front end has published: numbers, flags, and the folders of its queues.

use std::ops::RangeInclusive;

/// The keys of a front end's folder.
///
/// Each call reads at most one key and copies its value. Nothing is kept: a front end may change
/// a key between two calls.
#[derive(Debug)]
pub struct FrontKeys<R> {
    read: R,
}

/// Why a key cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A key that is needed is missing.
    #[error("the front end has not written {key}")]
    Missing {
        /// Which key, below the front end's folder.
        key: String,
    },
    /// The value of a key is not one of the numbers that are allowed.
    #[error("{key} is not a number from {least} to {most}")]
    Number {
        /// Which key, below the front end's folder.
        key: String,
        /// The least number that is allowed.
        least: u32,
        /// The greatest number that is allowed.
        most: u32,
    },
}

impl<R: FnMut(&str) -> Option<String>> FrontKeys<R> {
    /// Reads keys through `read`, which gets a key below the front end's folder and returns its
    /// value, or `None` if it is missing.
    #[must_use]
    pub const fn new(read: R) -> Self {
        Self { read }
    }

    /// Returns the value of a key as it is.
    pub fn text(&mut self, key: &str) -> Option<String> {
        (self.read)(key)
    }

    /// Reads a number, if the key is there: decimal digits without a sign, as front ends print it.
    ///
    /// # Errors
    ///
    /// [`KeyError::Number`].
    pub fn number(
        &mut self,
        key: &str,
        allowed: RangeInclusive<u32>,
    ) -> Result<Option<u32>, KeyError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_digits);
        match number.filter(|number| allowed.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(KeyError::Number {
                key: key.to_owned(),
                least: *allowed.start(),
                most: *allowed.end(),
            }),
        }
    }

    /// Reads a number that has to be there, a grant reference or a port for example.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn needed(&mut self, key: &str) -> Result<u32, KeyError> {
        let number = self.number(key, 0..=u32::MAX)?;
        number.ok_or_else(|| KeyError::Missing {
            key: key.to_owned(),
        })
    }

    /// Reads a feature flag, 0 or 1. A missing key is 0.
    ///
    /// # Errors
    ///
    /// [`KeyError::Number`].
    pub fn flag(&mut self, key: &str) -> Result<bool, KeyError> {
        Ok(self.number(key, 0..=1)? == Some(1))
    }

    /// Returns the folders of the queues, `queue-0/` and so on, each below the front end's folder.
    /// The keys of a single queue stand in the front end's folder itself: its name is empty.
    ///
    /// At most `most` names are returned; `most` is at least 1.
    ///
    /// # Errors
    ///
    /// [`KeyError::Number`].
    pub fn queue_folders(&mut self, most: u32) -> Result<Vec<String>, KeyError> {
        match self.number("multi-queue-num-queues", 1..=most)? {
            None | Some(1) => Ok(vec![String::new()]),
            Some(count) => Ok((0..count).map(|index| format!("queue-{index}/")).collect()),
        }
    }
}
