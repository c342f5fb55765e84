//! The command line of the conformance guest: it selects checks.
//!
//! `only=a,b` selects the checks of these sections, `no=a,b` all others. The names of
//! [`WITH_A_SECTION`] extend a section: `only=events,wide` selects the event checks from 32-bit and
//! from 64-bit code; `wide` alone would select nothing.

use crate::report_of_xen;

/// Names that extend a selected section: starts from a boot vCPU with PAE and with two-level
/// paging, calls from CPL 3, and checks from 64-bit code.
pub const WITH_A_SECTION: [&str; 4] = ["pae", "paged", "user", "wide"];
/// The checks from 16-bit code: always the same few sections.
const NARROW: &str = "narrow";
/// The sections at the start and at the end of each report.
const ALWAYS: [&str; 2] = ["start", "gaps"];

/// The selection of a command line.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection<'a> {
    only: Option<Vec<&'a str>>,
    no: Vec<&'a str>,
}

/// The reason why a command line is not valid for the guest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// A word is not a list of sections.
    #[error("'{0}' is neither only=NAMES nor no=NAMES")]
    Word(String),
    /// A list is given twice; the guest would use only the last one.
    #[error("{0}= is given more than once; put all names into one list")]
    Twice(&'static str),
    /// A name is not a section.
    #[error("there is no section '{name}'; the sections are {}", sections().join(", "))]
    Section {
        /// The name.
        name: String,
    },
    /// The selection has no check.
    #[error("'{cmdline}' selects no check; {} only extend a section, as in only=events,wide", WITH_A_SECTION.join(", "))]
    Nothing {
        /// The command line.
        cmdline: String,
    },
}

impl<'a> Selection<'a> {
    /// Reads a command line.
    ///
    /// # Errors
    ///
    /// [`SelectionError`] if the guest would ignore a word, or if no check is selected.
    pub fn parse(cmdline: &'a str) -> Result<Self, SelectionError> {
        let (mut only, mut no) = (None, None);
        for word in cmdline.split(' ').filter(|word| !word.is_empty()) {
            let (list, option, names) = if let Some(names) = word.strip_prefix("only=") {
                (&mut only, "only", names)
            } else if let Some(names) = word.strip_prefix("no=") {
                (&mut no, "no", names)
            } else {
                return Err(SelectionError::Word(word.to_owned()));
            };
            if list.replace(names_of(names)?).is_some() {
                return Err(SelectionError::Twice(option));
            }
        }
        let selection = Self {
            only,
            no: no.unwrap_or_default(),
        };
        if checks().any(|(width, section, what)| selection.chooses(width, section, what)) {
            Ok(selection)
        } else {
            Err(SelectionError::Nothing {
                cmdline: cmdline.trim().to_owned(),
            })
        }
    }

    /// Tells whether a check is selected; `check` is its name in a report.
    #[must_use]
    pub fn covers(&self, check: &str) -> bool {
        parts(check).is_none_or(|(width, section, what)| {
            ALWAYS.contains(&section) || self.chooses(width, section, what)
        })
    }

    fn chooses(&self, width: &str, section: &str, what: &str) -> bool {
        match (width, section) {
            ("16", _) => self.wants(NARROW),
            (_, "paged" | "pae") => self.wants("secondaries") && self.wants(section),
            _ => {
                let is_wide = width == "64";
                let is_user = section == "misc" && what.contains("from CPL 3");
                self.wants(section)
                    && (!is_wide || self.wants("wide"))
                    && (!is_user || self.wants("user"))
            }
        }
    }

    fn wants(&self, name: &str) -> bool {
        let is_in_only = |only: &Vec<&str>| only.contains(&name);
        !self.no.contains(&name) && self.only.as_ref().is_none_or(is_in_only)
    }
}

/// Returns the names that a command line may have: the sections in the order in which they run, and
/// the names that extend them.
#[must_use]
pub fn sections() -> Vec<&'static str> {
    let mut names = Vec::new();
    for (_width, name, _what) in checks() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.retain(|name| !WITH_A_SECTION.contains(name));
    names.push(NARROW);
    names.extend(WITH_A_SECTION);
    names
}

fn names_of(list: &str) -> Result<Vec<&str>, SelectionError> {
    let known = sections();
    let unknown = list.split(',').find(|name| !known.contains(name));
    match unknown {
        Some(name) => Err(SelectionError::Section {
            name: name.to_owned(),
        }),
        None => Ok(list.split(',').collect()),
    }
}

/// Yields width, section and subject of all checks that can be selected.
fn checks() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let names = report_of_xen().lines().filter_map(|line| {
        let (_number, name) = line.split_once(" - ")?;
        parts(name)
    });
    names.filter(|(_width, section, _what)| !ALWAYS.contains(section))
}

fn parts(check: &str) -> Option<(&str, &str, &str)> {
    let (head, what) = check.split_once(": ")?;
    let (width, section) = head.split_once(' ')?;
    Some((width, section, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report_of_pvh_vmm, tap::Tap};

    fn covers(cmdline: &str, check: &str) -> bool {
        Selection::parse(cmdline).unwrap().covers(check)
    }

    #[test]
    fn an_empty_command_line_chooses_all() {
        let report = Tap::parse(report_of_pvh_vmm()).unwrap();
        let all = Selection::parse("").unwrap();
        assert!(report.checks.iter().all(|check| all.covers(&check.name)));
    }

    #[test]
    fn a_section_is_chosen_with_what_goes_with_it() {
        assert!(covers("only=events", "32 events: send"));
        assert!(!covers("only=events", "64 events: send"));
        assert!(!covers("only=events", "32 fifo: send"));
        assert!(covers("only=wide,events", "64 events: send"));
        assert!(!covers("no=wide", "64 events: send"));
        assert!(!covers("no=events", "32 events: send"));
        assert!(covers("only=events", "32 start: the shared info is mapped"));
    }

    #[test]
    fn calls_from_cpl_3_are_user_s() {
        let (user, other) = ("32 misc: sched_op from CPL 3", "32 misc: hypercall 0");
        for without in ["only=misc", "no=user", "only=misc,wide"] {
            assert!(
                !covers(without, user) && covers(without, other),
                "{without}"
            );
        }
        assert!(covers("only=misc,user", user));
        assert!(!covers("only=misc,wide", "64 misc: calls from CPL 3"));
    }

    #[test]
    fn starts_from_a_paged_vcpu_are_of_the_secondaries() {
        assert!(covers("only=secondaries,paged", "32 paged: real up"));
        assert!(!covers("only=secondaries", "32 paged: real up"));
        assert!(!covers("no=secondaries", "32 pae: real up"));
    }

    #[test]
    fn sixteen_bit_code_is_narrow_s_whatever_the_section() {
        assert!(covers("only=narrow", "16 version: xen_version"));
        assert!(covers("no=version", "16 version: xen_version"));
        assert!(!covers("no=narrow", "16 version: xen_version"));
    }

    #[test]
    fn what_the_guest_would_not_heed_is_told() {
        let what = |cmdline| Selection::parse(cmdline).map_err(|error| error.to_string());
        for cmdline in ["", "no=pae", "only=events,fifo,wide", "no=user  only=misc"] {
            assert!(what(cmdline).is_ok(), "{cmdline}");
        }
        let unknown = what("only=events,evens").unwrap_err();
        assert!(
            unknown.starts_with("there is no section 'evens'; the sections are platform"),
            "{unknown}"
        );
        assert!(what("no=").unwrap_err().contains("no section ''"));
        assert!(
            what("only=start")
                .unwrap_err()
                .contains("no section 'start'")
        );
        let word = what("no=user bogus").unwrap_err();
        assert_eq!(word, "'bogus' is neither only=NAMES nor no=NAMES");
        let twice = what("only=events only=fifo").unwrap_err();
        assert_eq!(
            twice,
            "only= is given more than once; put all names into one list"
        );
    }

    #[test]
    fn what_chooses_nothing_is_told() {
        for cmdline in [
            "only=wide",
            "only=user",
            "only=pae,paged",
            "only=fifo no=fifo",
        ] {
            let error = Selection::parse(cmdline).unwrap_err();
            assert!(matches!(error, SelectionError::Nothing { .. }), "{error}");
            assert!(
                error.to_string().ends_with(
                    "pae, paged, user, wide only extend a section, as in only=events,wide"
                )
            );
        }
    }
}
