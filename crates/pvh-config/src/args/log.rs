//! The value of `--log`: what is written to standard error while the guest runs.

/// What is logged. The option may be given several times.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogArgument {
    /// Each line that the guest writes to its hypervisor, as "pvh-vmm: guest: LINE".
    On,
    /// Not the guest's lines.
    Off,
    /// The guest's hypercalls and events: those that one of these words means, or all of them if
    /// there is no word.
    Hypercalls(Vec<String>),
}

/// Why a value of `--log` is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LogArgumentError {
    /// There is no such log.
    #[error("a log is on, off, hypercalls or hypercalls=NAMES")]
    Unknown,
    /// A list of names has an empty one.
    #[error("a name is missing in hypercalls=NAMES: names are separated by commas")]
    NoName,
}

impl LogArgument {
    /// Reads a value of `--log`.
    ///
    /// # Errors
    ///
    /// [`LogArgumentError`].
    pub fn parse(text: &str) -> Result<Self, LogArgumentError> {
        match text.split_once('=') {
            None if text == "on" => Ok(Self::On),
            None if text == "off" => Ok(Self::Off),
            None if text == "hypercalls" => Ok(Self::Hypercalls(Vec::new())),
            Some(("hypercalls", names)) => {
                let names: Vec<_> = names.split(',').map(str::to_owned).collect();
                if names.iter().any(String::is_empty) {
                    return Err(LogArgumentError::NoName);
                }
                Ok(Self::Hypercalls(names))
            }
            _ => Err(LogArgumentError::Unknown),
        }
    }

    /// Tells whether the guest's lines are printed: the last `on` or `off` decides.
    pub(crate) fn has_guest_lines(given: &[Self]) -> bool {
        let last = given.iter().rev().find_map(|log| match log {
            Self::On => Some(true),
            Self::Off => Some(false),
            Self::Hypercalls(_) => None,
        });
        last.unwrap_or(true)
    }

    /// The words of all lists of hypercalls together; an empty list, if one of them means all.
    pub(crate) fn hypercalls(given: &[Self]) -> Option<Vec<String>> {
        let lists = given.iter().filter_map(|log| match log {
            Self::Hypercalls(names) => Some(names),
            Self::On | Self::Off => None,
        });
        lists.cloned().reduce(|mut all, more| {
            if all.is_empty() || more.is_empty() {
                return Vec::new();
            }
            all.extend(more);
            all
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Vec<LogArgument> {
        let values = texts.iter().map(|text| LogArgument::parse(text).unwrap());
        values.collect()
    }

    #[test]
    fn the_last_on_or_off_decides_about_the_guests_lines() {
        assert!(LogArgument::has_guest_lines(&[]));
        assert!(LogArgument::has_guest_lines(&parse(&["hypercalls"])));
        let texts = ["on", "off", "hypercalls"];
        assert!(!LogArgument::has_guest_lines(&parse(&texts)));
    }

    #[test]
    fn lists_of_hypercalls_add_up_and_no_list_means_all() {
        let words = |texts: &[&str]| LogArgument::hypercalls(&parse(texts));
        assert_eq!(words(&["on"]), None);
        let both = words(&["hypercalls=poll,store", "off", "hypercalls=hvm_op"]);
        assert_eq!(both.unwrap(), ["poll", "store", "hvm_op"]);
        assert!(
            words(&["hypercalls=poll", "hypercalls"])
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn other_values_are_refused() {
        for text in ["", "On", "hypercall", "on=1"] {
            let refused = LogArgument::parse(text).unwrap_err();
            assert_eq!(refused, LogArgumentError::Unknown, "{text}");
        }
        for text in ["hypercalls=", "hypercalls=a,,b"] {
            let refused = LogArgument::parse(text).unwrap_err();
            assert_eq!(refused, LogArgumentError::NoName, "{text}");
        }
    }
}
