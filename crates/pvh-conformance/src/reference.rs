//! The real Xens whose reports of the conformance guest are kept.

/// A real Xen, and the report of the conformance guest there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Reference {
    /// Major and minor number.
    pub release: (u16, u16),
    /// The name with all of its version.
    pub name: &'static str,
    /// The report, for the command line `no=pae`. The guest expects the answers of 4.17: on a later
    /// Xen some checks fail, and the same have to fail with the same answer elsewhere.
    pub report: &'static str,
}

/// Xen 4.17, where every check passes.
pub const XEN_4_17: Reference = Reference {
    release: (4, 17),
    name: "Xen 4.17.5",
    report: include_str!("../results/xen-4.17.tap"),
};

/// Xen 4.20. The file holds the report of 4.17.5 with the 46 lines that 4.20.5 printed differently:
/// only these were kept of its report.
pub const XEN_4_20: Reference = Reference {
    release: (4, 20),
    name: "Xen 4.20.5",
    report: include_str!("../results/xen-4.20.tap"),
};

impl Reference {
    /// Every Xen, the oldest first.
    pub const ALL: [Self; 2] = [XEN_4_17, XEN_4_20];

    /// Returns the Xen with this major and minor number.
    #[must_use]
    pub fn of(release: (u16, u16)) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|reference| reference.release == release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::{Outcome, Tap};

    #[test]
    fn the_reports_have_the_same_checks_and_0_and_46_fail() {
        let reports = Reference::ALL.map(|reference| Tap::parse(reference.report).unwrap());
        assert!(reports.iter().all(Tap::is_complete));
        let names = |tap: &Tap| tap.checks.iter().map(|check| check.name.clone()).collect();
        let [old, new]: [Vec<String>; 2] = [names(&reports[0]), names(&reports[1])];
        assert_eq!(old, new);
        assert_eq!(reports.map(|tap| tap.sums().failed), [0, 46]);
    }

    #[test]
    fn what_differs_is_what_failed_on_4_20() {
        let [old, new] = Reference::ALL.map(|reference| Tap::parse(reference.report).unwrap());
        for difference in old.differences(&new) {
            let there = difference.second.unwrap();
            assert_eq!(there.outcome, Outcome::Failed, "{}", difference.name);
        }
        assert_eq!(Reference::of((4, 20)), Some(XEN_4_20));
        assert_eq!(Reference::of((4, 18)), None);
    }
}
