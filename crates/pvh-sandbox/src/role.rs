//! The roles of a VMM's threads, and which groups of rules each has.

use crate::{
    rule::Rule,
    rules::{
        CACHE, COPY, DESCRIPTORS, DISK, EVENTS, INTERRUPTS, MACHINE, MEMORY_SLOTS, NET, RUNTIME,
        STAT, TERMINAL, THREADS, VCPU,
    },
};

/// What a thread does, which decides what system calls it may make.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// Runs a vCPU.
    Vcpu,
    /// Fires the timers of a domain.
    Time,
    /// Copies files and pages ahead of the guest.
    Ahead,
    /// Runs the event loop: input, signals, the end of the machine.
    Events,
    /// Writes console output or log lines.
    Writer,
    /// Serves a disk.
    Disk,
    /// Serves a network.
    Net,
    /// Finishes an entry of the cache of unpacked kernels.
    Cache,
    /// Builds machines and starts their threads. Its threads inherit its filter, so it may do what
    /// any of them may.
    Builder,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 9] = [
        Self::Vcpu,
        Self::Time,
        Self::Ahead,
        Self::Events,
        Self::Writer,
        Self::Disk,
        Self::Net,
        Self::Cache,
        Self::Builder,
    ];

    /// The name in messages and documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vcpu => "vcpu",
            Self::Time => "time",
            Self::Ahead => "ahead",
            Self::Events => "events",
            Self::Writer => "writer",
            Self::Disk => "disk",
            Self::Net => "net",
            Self::Cache => "cache",
            Self::Builder => "builder",
        }
    }

    /// The allow-list of the role.
    pub fn rules(self) -> impl Iterator<Item = &'static Rule> {
        self.groups().iter().copied().flatten()
    }

    /// The rules that only some roles have come first.
    const fn groups(self) -> &'static [&'static [Rule]] {
        match self {
            Self::Vcpu => &[
                VCPU,
                INTERRUPTS,
                MEMORY_SLOTS,
                COPY,
                STAT,
                TERMINAL,
                RUNTIME,
            ],
            Self::Time => &[INTERRUPTS, TERMINAL, RUNTIME],
            Self::Ahead => &[COPY, STAT, TERMINAL, RUNTIME],
            Self::Writer => &[TERMINAL, RUNTIME],
            Self::Events => &[INTERRUPTS, EVENTS, DESCRIPTORS, TERMINAL, RUNTIME],
            Self::Disk => &[
                INTERRUPTS,
                DISK,
                STAT,
                EVENTS,
                DESCRIPTORS,
                TERMINAL,
                RUNTIME,
            ],
            Self::Net => &[INTERRUPTS, NET, EVENTS, DESCRIPTORS, TERMINAL, RUNTIME],
            Self::Cache => &[CACHE, TERMINAL, RUNTIME],
            Self::Builder => &[
                VCPU,
                MACHINE,
                INTERRUPTS,
                MEMORY_SLOTS,
                COPY,
                DISK,
                STAT,
                NET,
                EVENTS,
                DESCRIPTORS,
                THREADS,
                TERMINAL,
                RUNTIME,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rule::Verdict;

    /// What identifies a permission.
    fn permissions(role: Role) -> BTreeSet<String> {
        let allowed = role.rules().filter(|rule| rule.verdict == Verdict::Allow);
        let shown = allowed.map(|rule| format!("{} {:?}", rule.number, rule.tests));
        shown.collect()
    }

    #[test]
    fn the_builder_may_do_what_the_threads_of_a_machine_may() {
        let builder = permissions(Role::Builder);
        for role in Role::ALL {
            // The cache's thread is started before the machine, by another thread.
            if role != Role::Cache {
                let missing: Vec<_> = permissions(role).difference(&builder).cloned().collect();
                assert!(missing.is_empty(), "{role:?}: {missing:?}");
            }
        }
    }

    #[test]
    fn no_role_is_allowed_what_a_sandbox_is_for() {
        for role in Role::ALL {
            for rule in role.rules().filter(|rule| rule.verdict == Verdict::Allow) {
                let name = rule.call;
                let never = [
                    "execve",
                    "execveat",
                    "socket",
                    "connect",
                    "bind",
                    "ptrace",
                    "fork",
                    "vfork",
                    "process_vm_readv",
                    "process_vm_writev",
                    "bpf",
                    "io_uring_setup",
                    "kill",
                    "setns",
                    "unshare",
                    "mount",
                    "pkey_mprotect",
                    "keyctl",
                    "userfaultfd",
                ];
                assert!(!never.contains(&name), "{role:?}: {name}");
                let needs_test = [
                    "ioctl",
                    "mmap",
                    "mprotect",
                    "fcntl",
                    "prctl",
                    "madvise",
                    "tgkill",
                    "clone",
                    "rt_sigaction",
                    "seccomp",
                ];
                let is_tested = rule.tests().next().is_some();
                assert!(!needs_test.contains(&name) || is_tested, "{role:?}: {name}");
                let opens = ["open", "openat", "rename", "unlink"].contains(&name);
                assert!(!opens || role == Role::Cache, "{role:?}: {name}");
            }
        }
    }

    #[test]
    fn each_rule_says_why() {
        for rule in Role::ALL.into_iter().flat_map(Role::rules) {
            assert!(rule.reason.len() >= 5, "{}", rule.call);
            let is_tested = rule.tests().next().is_some();
            assert_eq!(is_tested, !rule.detail.is_empty(), "{}", rule.call);
        }
    }
}
