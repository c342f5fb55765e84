//! An error and its causes as one line.

use core::{error::Error, fmt};

/// An error and its causes, as one line for a user: `cannot open kernel: permission denied`.
///
/// The errors of these crates leave out the text of their source, so this prints each text once.
///
/// ```
/// use pvh_abi::ErrorLine;
///
/// # #[derive(Debug)]
/// # struct Outer(std::num::ParseIntError);
/// # impl std::fmt::Display for Outer {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
/// #         f.write_str("not a size")
/// #     }
/// # }
/// # impl std::error::Error for Outer {
/// #     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
/// #         Some(&self.0)
/// #     }
/// # }
/// let error = Outer("x".parse::<u8>().unwrap_err());
/// assert_eq!(ErrorLine(&error).to_string(), "not a size: invalid digit found in string");
/// ```
///
/// At most [`ErrorLine::MAX_CAUSES`] causes are printed; a longer chain ends with `: ...`.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a view of one error")]
pub struct ErrorLine<'a>(pub &'a (dyn Error + 'a));

impl ErrorLine<'_> {
    /// How many causes are printed at most: no chain of these crates has more than 5.
    pub const MAX_CAUSES: usize = 32;
}

impl fmt::Display for ErrorLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        for _ in 0..Self::MAX_CAUSES {
            let Some(cause) = source else { return Ok(()) };
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        match source {
            Some(_) => f.write_str(": ..."),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{boxed::Box, string::ToString};

    use super::*;

    #[derive(Debug)]
    struct Level(usize, Option<Box<Level>>);

    impl fmt::Display for Level {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "level {}", self.0)
        }
    }

    impl Error for Level {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1
                .as_deref()
                .map(|level| level as &(dyn Error + 'static))
        }
    }

    fn levels(count: usize) -> Level {
        (1..count).fold(Level(count, None), |inner, done| {
            Level(count.saturating_sub(done), Some(Box::new(inner)))
        })
    }

    #[test]
    fn each_cause_stands_behind_its_error_once() {
        assert_eq!(ErrorLine(&levels(1)).to_string(), "level 1");
        assert_eq!(
            ErrorLine(&levels(3)).to_string(),
            "level 1: level 2: level 3"
        );
    }

    #[test]
    fn a_chain_of_33_errors_is_whole_and_a_longer_one_is_cut() {
        assert!(ErrorLine(&levels(33)).to_string().ends_with(": level 33"));
        assert!(
            ErrorLine(&levels(34))
                .to_string()
                .ends_with(": level 33: ...")
        );
    }
}
