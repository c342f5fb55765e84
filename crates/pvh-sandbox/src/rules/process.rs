//! What makes threads, descriptors and narrower filters.

use libc::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER,
    CLONE_NEWUTS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VM, ENOSYS, F_DUPFD_CLOEXEC, F_SETFD, F_SETFL,
    PR_SET_NAME, PR_SET_NO_NEW_PRIVS,
};

use crate::rule::{ArgTest, Rule};

/// What starts a thread of this process and gives it a filter.
pub(crate) const THREADS: &[Rule] = &[
    Rule::when(
        libc::SYS_clone,
        "clone",
        "a thread",
        ArgTest::Masked {
            arg: 0,
            mask: THREAD | NAMESPACES,
            value: THREAD,
        },
        "starts the threads of a machine",
    ),
    // A filter cannot look at clone3's flags, which are in memory.
    Rule::any(
        libc::SYS_clone3,
        "clone3",
        "the C library tries it, and then makes clone",
    )
    .refused(ENOSYS, true),
    Rule::when(
        libc::SYS_prctl,
        "prctl",
        "PR_SET_NAME",
        ArgTest::equals(0, PR_SET_NAME),
        "a thread has a name",
    ),
    Rule::when(
        libc::SYS_prctl,
        "prctl",
        "PR_SET_NO_NEW_PRIVS",
        ArgTest::equals(0, PR_SET_NO_NEW_PRIVS),
        "a filter needs it",
    ),
    Rule::when(
        libc::SYS_seccomp,
        "seccomp",
        "SECCOMP_SET_MODE_FILTER",
        ArgTest::Equals { arg: 0, value: 1 },
        "a thread takes a narrower filter",
    ),
    Rule::any(
        libc::SYS_set_tid_address,
        "set_tid_address",
        "other C libraries at the start of a thread",
    ),
];

/// What makes descriptors of an event, a timer or a copy of one.
pub(crate) const DESCRIPTORS: &[Rule] = &[
    Rule::any(libc::SYS_eventfd2, "eventfd2", "events between threads"),
    Rule::fcntl(
        F_DUPFD_CLOEXEC,
        "F_DUPFD_CLOEXEC",
        "a second owner of an event",
    ),
    Rule::fcntl(F_SETFD, "F_SETFD", "close-on-exec"),
    Rule::fcntl(F_SETFL, "F_SETFL", "non-blocking"),
];

/// The flags of a thread that shares all with this process.
const THREAD: u32 = (CLONE_VM | CLONE_SIGHAND | CLONE_THREAD).cast_unsigned();

/// The flags of new namespaces.
const NAMESPACES: u32 = (CLONE_NEWCGROUP
    | CLONE_NEWIPC
    | CLONE_NEWNET
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWUSER
    | CLONE_NEWUTS)
    .cast_unsigned();
