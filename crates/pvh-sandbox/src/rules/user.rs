//! The user's side: terminal, signals, timers.

use crate::rule::{ArgTest, Rule};

/// The terminal at standard input, which every role must be able to restore before the process
/// ends.
pub(crate) const TERMINAL: &[Rule] = &[
    Rule::any(libc::SYS_getpgrp, "getpgrp", "is the terminal ours?"),
    Rule::any(
        libc::SYS_getpgid,
        "getpgid",
        "is the terminal ours? in other C libraries",
    ),
    Rule::ioctl("TIOCGPGRP", 0x540F, "is the terminal ours?"),
    Rule::ioctl(
        "TCGETS",
        0x5401,
        "is this a terminal? what are its settings?",
    ),
    Rule::ioctl(
        "TCGETS2",
        0x802C_542A,
        "is this a terminal? in newer C libraries",
    ),
    settings("TCSETS", 0x5402, "restores the settings of the terminal"),
    settings(
        "TCSETSF",
        0x5404,
        "restores the settings, and discards what was typed",
    ),
    settings(
        "TCSETS2",
        0x402C_542B,
        "restores them, in newer C libraries",
    ),
    settings("TCSETSF2", 0x402C_542D, "discards, in newer C libraries"),
];

/// The event loop's descriptors.
pub(crate) const EVENTS: &[Rule] = &[
    Rule::any(
        libc::SYS_epoll_create1,
        "epoll_create1",
        "the event loop of a machine",
    ),
    Rule::any(libc::SYS_epoll_ctl, "epoll_ctl", "watches a descriptor"),
    Rule::any(libc::SYS_epoll_wait, "epoll_wait", "waits"),
    Rule::any(
        libc::SYS_epoll_pwait,
        "epoll_pwait",
        "waits, in some C libraries",
    ),
    Rule::any(
        libc::SYS_timerfd_create,
        "timerfd_create",
        "the time for a guest to power off",
    ),
    Rule::any(
        libc::SYS_timerfd_settime,
        "timerfd_settime",
        "starts such a timer",
    ),
];

/// Settings are changed at standard input alone.
const fn settings(name: &'static str, request: u32, reason: &'static str) -> Rule {
    let stdin = ArgTest::Equals { arg: 0, value: 0 };
    Rule::ioctl(name, request, reason).and(stdin)
}
