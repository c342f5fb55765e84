//! Limits of known guests. The ABI itself sets no limit, so the builder does not either.

/// The most memory map entries that Linux copies safely: it adds one entry to a table of 128 and
/// does not check the bound.
pub const LINUX_MEMMAP_LIMIT: usize = 127;

/// The longest command line in bytes, NUL excluded, that Linux keeps; it cuts off the rest.
pub const LINUX_CMDLINE_LIMIT: usize = 2047;

/// The longest command line of a module in bytes, NUL excluded, that Xen's toolstack writes.
pub const XEN_MODULE_CMDLINE_LIMIT: usize = 1023;
