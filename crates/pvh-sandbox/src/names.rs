//! Names of system calls for messages.

use std::fmt;

use crate::{ArgTest, Role};

/// A system call in words: its name and, for an ioctl, its request. Writing it allocates nothing,
/// so that a signal handler can do it.
#[must_use]
pub fn describe(number: i64, args: [u64; 2]) -> impl fmt::Display {
    Described { number, args }
}

struct Described {
    number: i64,
    args: [u64; 2],
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, args } = *self;
        match name(number) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "system call {number}")?,
        }
        if number != libc::SYS_ioctl {
            return Ok(());
        }
        let [_, request] = args;
        match ioctl(request) {
            Some(name) => write!(f, " {name}"),
            None => write!(f, " {request:#x}"),
        }
    }
}

/// The name of a call that a list has, or that is known from elsewhere.
fn name(number: i64) -> Option<&'static str> {
    let mut rules = Role::ALL.into_iter().flat_map(Role::rules);
    let listed = rules.find(|rule| rule.number == number);
    let known = || KNOWN.iter().find(|(known, _)| *known == number);
    listed
        .map(|rule| rule.call)
        .or_else(|| known().map(|(_, name)| *name))
}

/// The name of an ioctl that a list has.
fn ioctl(request: u64) -> Option<&'static str> {
    let mut rules = Role::ALL.into_iter().flat_map(Role::rules);
    let is_it =
        |test| matches!(test, ArgTest::Equals { arg: 1, value } if u64::from(value) == request);
    let rule = rules.find(|rule| rule.number == libc::SYS_ioctl && rule.tests().any(is_it));
    rule.map(|rule| rule.detail)
}

/// Calls that no list has and that a message is likely to name.
const KNOWN: &[(i64, &str)] = &[
    (libc::SYS_socket, "socket"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_listen, "listen"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_socketpair, "socketpair"),
    (libc::SYS_getsockopt, "getsockopt"),
    (libc::SYS_setsockopt, "setsockopt"),
    (libc::SYS_fork, "fork"),
    (libc::SYS_vfork, "vfork"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_execveat, "execveat"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_tkill, "tkill"),
    (libc::SYS_ptrace, "ptrace"),
    (libc::SYS_pipe2, "pipe2"),
    (libc::SYS_dup, "dup"),
    (libc::SYS_dup2, "dup2"),
    (libc::SYS_dup3, "dup3"),
    (libc::SYS_access, "access"),
    (libc::SYS_faccessat, "faccessat"),
    (libc::SYS_readlink, "readlink"),
    (libc::SYS_readlinkat, "readlinkat"),
    (libc::SYS_getcwd, "getcwd"),
    (libc::SYS_openat2, "openat2"),
    (libc::SYS_creat, "creat"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_link, "link"),
    (libc::SYS_chmod, "chmod"),
    (libc::SYS_memfd_create, "memfd_create"),
    (libc::SYS_pkey_mprotect, "pkey_mprotect"),
    (libc::SYS_process_vm_readv, "process_vm_readv"),
    (libc::SYS_process_vm_writev, "process_vm_writev"),
    (libc::SYS_io_uring_setup, "io_uring_setup"),
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_userfaultfd, "userfaultfd"),
    (libc::SYS_uname, "uname"),
    (libc::SYS_prlimit64, "prlimit64"),
    (libc::SYS_signalfd4, "signalfd4"),
    (libc::SYS_sched_setaffinity, "sched_setaffinity"),
    (libc::SYS_setpriority, "setpriority"),
    (libc::SYS_mlock, "mlock"),
    (libc::SYS_msync, "msync"),
    (libc::SYS_sendmmsg, "sendmmsg"),
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_io_submit, "io_submit"),
    (libc::SYS_sync_file_range, "sync_file_range"),
    (libc::SYS_landlock_create_ruleset, "landlock_create_ruleset"),
    (libc::SYS_landlock_restrict_self, "landlock_restrict_self"),
    (libc::SYS_capset, "capset"),
    (libc::SYS_copy_file_range, "copy_file_range"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_names_and_ioctls_their_requests() {
        let text = |number, request| describe(number, [0, request]).to_string();
        assert_eq!(text(59, 0), "execve");
        assert_eq!(text(41, 0), "socket");
        assert_eq!(text(10, 0), "mprotect");
        assert_eq!(text(16, 0xAE80), "ioctl KVM_RUN");
        assert_eq!(text(16, 0x5413), "ioctl 0x5413");
        assert_eq!(text(9999, 0), "system call 9999");
    }
}
