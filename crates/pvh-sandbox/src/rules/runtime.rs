//! What every thread needs: the C library, the allocator, locks, and the way out.
//!
//! Some of these calls are made by some versions of the C library only, or on some hosts, or after
//! a stop and a continue. A guest must not die of its host's C library, so they are all here.

use libc::{
    EACCES, F_GETFD, F_GETFL, MADV_DONTNEED, MADV_FREE, O_CLOEXEC, PROT_EXEC, SIGABRT, SIGBUS,
    SIGSEGV,
};

use crate::rule::{ArgTest, Rule};

/// What every role may do.
pub(crate) const RUNTIME: &[Rule] = &[
    // Most used first within a call's rules; the filter orders the calls by their numbers.
    Rule::any(
        libc::SYS_read,
        "read",
        "eventfds, the signal descriptor, input",
    ),
    Rule::any(libc::SYS_write, "write", "eventfds, output, messages"),
    Rule::any(
        libc::SYS_writev,
        "writev",
        "a message of several pieces on standard error",
    ),
    Rule::any(
        libc::SYS_close,
        "close",
        "a machine is given back by the thread that drops it last",
    ),
    Rule::any(libc::SYS_futex, "futex", "locks, and waiting for a thread"),
    Rule::any(
        libc::SYS_poll,
        "poll",
        "waits for a descriptor that accepts output",
    ),
    Rule::any(
        libc::SYS_ppoll,
        "ppoll",
        "poll, as some C libraries make it",
    ),
    Rule::any(libc::SYS_brk, "brk", "the allocator's first heap"),
    Rule::when(
        libc::SYS_mmap,
        "mmap",
        "without PROT_EXEC",
        not_executable(2),
        "the allocator; files and zeros over guest RAM",
    ),
    Rule::when(
        libc::SYS_mprotect,
        "mprotect",
        "without PROT_EXEC",
        not_executable(2),
        "the allocator's other heaps grow",
    ),
    Rule::any(
        libc::SYS_munmap,
        "munmap",
        "the allocator; guest RAM is given back",
    ),
    Rule::any(
        libc::SYS_mremap,
        "mremap",
        "a large block of the allocator grows; access rights stay",
    ),
    Rule::madvise(
        MADV_DONTNEED,
        "MADV_DONTNEED",
        "the allocator and guest RAM give pages back",
    ),
    Rule::madvise(
        MADV_FREE,
        "MADV_FREE",
        "other C libraries' allocators give pages back",
    ),
    Rule::any(
        libc::SYS_rt_sigreturn,
        "rt_sigreturn",
        "the end of every signal handler",
    ),
    Rule::any(
        libc::SYS_rt_sigprocmask,
        "rt_sigprocmask",
        "masks of threads; the C library around its own signals",
    ),
    default_action(
        SIGABRT,
        "SIGABRT",
        "abort() of the C library ends the process",
    ),
    default_action(
        SIGBUS,
        "SIGBUS",
        "an access that no lost page explains ends the process",
    ),
    default_action(
        SIGSEGV,
        "SIGSEGV",
        "Rust's handler of a stack overflow ends the process",
    ),
    Rule::any(
        libc::SYS_sigaltstack,
        "sigaltstack",
        "Rust gives back the signal stack of a thread that ends",
    ),
    Rule::when(
        libc::SYS_tgkill,
        "tgkill",
        "of this process",
        ArgTest::OwnProcess { arg: 0 },
        "kicks of vCPUs and writers, raise(), abort()",
    ),
    Rule::any(
        libc::SYS_getpid,
        "getpid",
        "the C library before each tgkill",
    ),
    Rule::any(libc::SYS_gettid, "gettid", "the C library in raise()"),
    Rule::any(
        libc::SYS_nanosleep,
        "nanosleep",
        "sleep, as some C libraries make it",
    ),
    Rule::any(libc::SYS_clock_nanosleep, "clock_nanosleep", "sleep"),
    Rule::any(
        libc::SYS_clock_gettime,
        "clock_gettime",
        "time, where the vDSO cannot read the host's clock",
    ),
    Rule::any(
        libc::SYS_clock_getres,
        "clock_getres",
        "a clock's resolution, without the vDSO",
    ),
    Rule::any(
        libc::SYS_gettimeofday,
        "gettimeofday",
        "time, where the vDSO cannot read the host's clock",
    ),
    Rule::any(
        libc::SYS_time,
        "time",
        "time, where the vDSO cannot read the host's clock",
    ),
    Rule::any(
        libc::SYS_getcpu,
        "getcpu",
        "the current processor, without the vDSO",
    ),
    Rule::any(
        libc::SYS_sched_yield,
        "sched_yield",
        "spinning locks give way",
    ),
    Rule::any(
        libc::SYS_sched_getaffinity,
        "sched_getaffinity",
        "the C library counts processors before it makes another heap",
    ),
    Rule::any(
        libc::SYS_membarrier,
        "membarrier",
        "barriers of the C library",
    ),
    Rule::any(
        libc::SYS_getrandom,
        "getrandom",
        "the seed of a thread's hash maps",
    ),
    Rule::any(
        libc::SYS_rseq,
        "rseq",
        "the C library at the start of a thread",
    ),
    Rule::any(
        libc::SYS_set_robust_list,
        "set_robust_list",
        "the C library at the start of a thread",
    ),
    Rule::any(
        libc::SYS_restart_syscall,
        "restart_syscall",
        "the kernel goes on with a wait after a stop and a continue",
    ),
    Rule::fcntl(
        F_GETFD,
        "F_GETFD",
        "builds with debug assertions check a descriptor before they close it",
    ),
    Rule::fcntl(
        F_GETFL,
        "F_GETFL",
        "the C library looks at standard descriptors",
    ),
    Rule::any(libc::SYS_exit, "exit", "the end of a thread"),
    Rule::any(libc::SYS_exit_group, "exit_group", "the end of the process"),
    // The C library's allocator reads a setting of the kernel when it first gives a heap back
    // (/proc/sys/vm/overcommit_memory), and older ones count processors so (/sys/.../online). They
    // go on without the file.
    read_only_open(
        libc::SYS_openat,
        "openat",
        2,
        "the C library reads a setting of the kernel",
    ),
    read_only_open(
        libc::SYS_open,
        "open",
        1,
        "other C libraries read a setting of the kernel",
    ),
    // The backtrace of a panic, with RUST_BACKTRACE, is shorter without these.
    Rule::any(libc::SYS_getcwd, "getcwd", "the backtrace of a panic").refused(EACCES, false),
    Rule::any(libc::SYS_readlink, "readlink", "the backtrace of a panic").refused(EACCES, false),
];

const fn default_action(signal: i32, name: &'static str, reason: &'static str) -> Rule {
    let test = ArgTest::equals(0, signal);
    Rule::when(libc::SYS_rt_sigaction, "rt_sigaction", name, test, reason)
}

const fn not_executable(arg: u8) -> ArgTest {
    ArgTest::Masked {
        arg,
        mask: PROT_EXEC.cast_unsigned(),
        value: 0,
    }
}

/// An open that can change nothing: refused, so that the C library goes on without the file.
const fn read_only_open(number: i64, call: &'static str, arg: u8, reason: &'static str) -> Rule {
    let test = ArgTest::Masked {
        arg,
        mask: !LARGE_FILE,
        value: O_CLOEXEC.cast_unsigned(),
    };
    let rule = Rule::when(number, call, "O_RDONLY | O_CLOEXEC", test, reason);
    rule.refused(EACCES, false)
}

/// O_LARGEFILE of the kernel's x86 headers, which musl sets. It means nothing in 64 bits.
const LARGE_FILE: u32 = 0o100_000;
