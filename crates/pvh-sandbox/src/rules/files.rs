//! Files: those that are open already, and those of the cache.

use libc::{AT_EMPTY_PATH, F_OFD_SETLK, F_SETLK, MADV_HUGEPAGE, MADV_NORMAL, MADV_POPULATE_WRITE};

use crate::rule::{ArgTest, Rule};

/// Tells the length and the times of a file that is open, as some C libraries do it.
pub(crate) const STAT: &[Rule] = &[
    Rule::when(
        libc::SYS_newfstatat,
        "newfstatat",
        "AT_EMPTY_PATH",
        ArgTest::equals(3, AT_EMPTY_PATH),
        "fstat, as newer C libraries make it",
    ),
    Rule::when(
        libc::SYS_statx,
        "statx",
        "AT_EMPTY_PATH",
        ArgTest::Masked {
            arg: 2,
            mask: EMPTY_PATH,
            value: EMPTY_PATH,
        },
        "fstat, as Rust makes it",
    ),
];

/// Copies parts of open files into guest RAM, and maps them there.
pub(crate) const COPY: &[Rule] = &[
    Rule::any(
        libc::SYS_pread64,
        "pread64",
        "kernel and modules; /proc/self/pagemap",
    ),
    Rule::any(libc::SYS_preadv, "preadv", "kernel and modules"),
    Rule::any(libc::SYS_lseek, "lseek", "the length of a file"),
    Rule::any(libc::SYS_fstat, "fstat", "was an open file changed?"),
    Rule::madvise(
        MADV_POPULATE_WRITE,
        "MADV_POPULATE_WRITE",
        "copies pages ahead of the guest",
    ),
    Rule::madvise(MADV_HUGEPAGE, "MADV_HUGEPAGE", "large pages for guest RAM"),
    Rule::madvise(MADV_NORMAL, "MADV_NORMAL", "read-ahead of a mapped file"),
];

/// The image of a disk.
pub(crate) const DISK: &[Rule] = &[
    Rule::any(libc::SYS_preadv, "preadv", "reads into the guest's pages"),
    Rule::any(
        libc::SYS_pwritev,
        "pwritev",
        "writes from the guest's pages",
    ),
    Rule::any(
        libc::SYS_preadv2,
        "preadv2",
        "reads into the guest's pages, with flags",
    ),
    Rule::any(
        libc::SYS_pwritev2,
        "pwritev2",
        "writes from the guest's pages, with flags",
    ),
    Rule::any(libc::SYS_pread64, "pread64", "a single piece"),
    Rule::any(libc::SYS_pwrite64, "pwrite64", "a single piece"),
    Rule::any(libc::SYS_fdatasync, "fdatasync", "a flush of the guest"),
    Rule::any(
        libc::SYS_fsync,
        "fsync",
        "a flush of the guest, with the file's length",
    ),
    Rule::any(
        libc::SYS_fallocate,
        "fallocate",
        "discarded areas become holes",
    ),
    Rule::any(libc::SYS_lseek, "lseek", "the size of the image"),
    Rule::any(libc::SYS_fstat, "fstat", "the size of the image"),
];

/// A network: a tap, or a socket that is connected already.
pub(crate) const NET: &[Rule] = &[
    Rule::any(libc::SYS_readv, "readv", "a packet, in pieces"),
    Rule::any(libc::SYS_recvmsg, "recvmsg", "a packet from a socket"),
    Rule::any(libc::SYS_sendmsg, "sendmsg", "a packet to a socket"),
    Rule::any(libc::SYS_recvfrom, "recvfrom", "a packet from a socket"),
    Rule::when(
        libc::SYS_sendto,
        "sendto",
        "without an address",
        ArgTest::Equals { arg: 4, value: 0 },
        "a packet to the other end of a socket",
    ),
    Rule::any(libc::SYS_shutdown, "shutdown", "ends a socket"),
    Rule::ioctl(
        "TUNSETOFFLOAD",
        0x4004_54D0,
        "what the guest's driver can take",
    ),
    Rule::ioctl(
        "TUNSETVNETHDRSZ",
        0x4004_54D8,
        "the header of packets on a tap",
    ),
];

/// The folder of the cache. Landlock keeps the thread in it.
pub(crate) const CACHE: &[Rule] = &[
    Rule::any(
        libc::SYS_openat,
        "openat",
        "the entry, and the folder for a list",
    ),
    Rule::any(libc::SYS_open, "open", "the entry, in other C libraries"),
    Rule::any(libc::SYS_pwrite64, "pwrite64", "writes the entry"),
    Rule::any(libc::SYS_pread64, "pread64", "reads a head"),
    Rule::any(libc::SYS_lseek, "lseek", "the length of an entry"),
    Rule::any(libc::SYS_ftruncate, "ftruncate", "the length of an entry"),
    Rule::any(libc::SYS_fallocate, "fallocate", "room for an entry"),
    Rule::any(
        libc::SYS_fsync,
        "fsync",
        "the entry is whole before its name appears",
    ),
    Rule::any(
        libc::SYS_fdatasync,
        "fdatasync",
        "the entry is whole before its name appears",
    ),
    Rule::any(libc::SYS_rename, "rename", "gives the entry its name"),
    Rule::any(libc::SYS_renameat, "renameat", "gives the entry its name"),
    Rule::any(libc::SYS_renameat2, "renameat2", "gives the entry its name"),
    Rule::any(
        libc::SYS_unlink,
        "unlink",
        "makes room, removes what is unfinished",
    ),
    Rule::any(
        libc::SYS_unlinkat,
        "unlinkat",
        "makes room, removes what is unfinished",
    ),
    Rule::any(libc::SYS_getdents64, "getdents64", "lists the entries"),
    Rule::any(libc::SYS_fstat, "fstat", "size and age of an entry"),
    Rule::any(libc::SYS_stat, "stat", "size and age of an entry"),
    Rule::any(libc::SYS_lstat, "lstat", "size and age of an entry"),
    Rule::any(
        libc::SYS_newfstatat,
        "newfstatat",
        "size and age of an entry",
    ),
    Rule::any(libc::SYS_statx, "statx", "size and age of an entry"),
    Rule::any(
        libc::SYS_geteuid,
        "geteuid",
        "does an entry belong to this user?",
    ),
    Rule::any(libc::SYS_flock, "flock", "an entry has one writer"),
    Rule::fcntl(F_SETLK, "F_SETLK", "an entry has one writer"),
    Rule::fcntl(F_OFD_SETLK, "F_OFD_SETLK", "an entry has one writer"),
    Rule::any(libc::SYS_utimensat, "utimensat", "the time of last use"),
    Rule::any(libc::SYS_fchmod, "fchmod", "an entry is its owner's alone"),
];

const EMPTY_PATH: u32 = AT_EMPTY_PATH.cast_unsigned();
