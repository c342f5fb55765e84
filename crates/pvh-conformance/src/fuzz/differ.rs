//! The same program on two hypervisors: the first answer that differs.

use super::log::{Answer, Log};

/// The kinds of steps whose answers may differ, with the reason.
pub const MAY_DIFFER: &[(&str, &str)] = &[
    (
        "cpuid",
        "the leaves describe the host's processor, and the time",
    ),
    (
        "msr",
        "a KVM and Xen emulate different sets of MSRs, and the TSC runs",
    ),
    (
        "mmio",
        "what a hole reads as is the machine's, and a page that was given back reads as zeros here",
    ),
    (
        "lapic",
        "the timer's count runs, and the version is the host's",
    ),
    (
        "port",
        "the devices of the PC differ: Xen's PVH domain has none",
    ),
    (
        "ring",
        "whether an event is sent depends on when the back end takes it",
    ),
    (
        "vcpu",
        "a vCPU that goes down answers a later step, or does not",
    ),
];

/// Two answers to one step.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// The answer of the first log.
    pub first: Answer,
    /// The answer of the second one; `None` if the program did not get there.
    pub second: Option<Answer>,
}

/// Returns the first answer that differs without a reason in [`MAY_DIFFER`].
#[must_use]
pub fn first_difference(first: &Log, second: &Log) -> Option<Difference> {
    let mut others = second.answers.iter();
    first.answers.iter().find_map(|answer| {
        let other = others.next();
        let is_same = other.is_some_and(|other| is_same(answer, other));
        (!is_same).then(|| Difference {
            first: answer.clone(),
            second: other.cloned(),
        })
    })
}

fn is_same(first: &Answer, second: &Answer) -> bool {
    let name = first.kind.split('.').next().unwrap_or_default();
    let is_excused = MAY_DIFFER.iter().any(|(kind, _)| *kind == name);
    first == second || (is_excused && first.step == second.step && first.kind == second.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unexcused_answer_is_found() {
        let log = |port: u32, call: u32| {
            Log::parse(&format!("#0 port 1.1 ={port}\n#1 call.2 2.2 ={call}\n#end"))
        };
        assert_eq!(first_difference(&log(1, 7), &log(2, 7)), None);
        let found = first_difference(&log(1, 7), &log(1, 8)).expect("call differs");
        assert_eq!((found.first.step, found.first.result.as_str()), (1, "=7"));
        let cut = Log::parse("#0 port 1.1 =1");
        let found = first_difference(&log(1, 7), &cut).expect("the second ended");
        assert_eq!(found.second, None);
    }
}
