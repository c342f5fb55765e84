//! Checks that the host has room for KVM's own tables for a guest.

use std::fs;

use crate::size::{Rounded, Size};

/// KVM's tables take at most this part of guest memory: where KVM shadows page tables, a little more
/// than 8 bytes per 4 KiB page, touched or not. Measured: 2.5 MiB per GiB, which is 1/410.
const TABLES_DIVISOR: u64 = 384;

/// Tables of 12 GiB of guest memory: any host has room for them.
const SMALL_TABLES_BYTES: u64 = 32 << 20;

/// Guest memory whose tables do not fit in the host's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "--memory {} is too large: KVM may need {} for its own tables, and the host has {} available",
    Size::of(*memory_bytes),
    Rounded(*tables_bytes),
    Rounded(*available_bytes)
)]
pub(crate) struct TooLarge {
    /// Size of guest memory.
    pub(crate) memory_bytes: u64,
    /// Memory that KVM may need for its tables.
    pub(crate) tables_bytes: u64,
    /// Available memory of the host.
    pub(crate) available_bytes: u64,
}

/// Refuses guest memory whose tables alone would exhaust the host; untouched pages cost nothing else.
///
/// Small tables are accepted without a look at /proc/meminfo, which takes longer than most steps of
/// a start.
pub(crate) fn check(memory_bytes: u64) -> Result<(), TooLarge> {
    if memory_bytes / TABLES_DIVISOR <= SMALL_TABLES_BYTES {
        return Ok(());
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match available(&meminfo) {
        Some(available_bytes) => compare(memory_bytes, available_bytes),
        None => Ok(()),
    }
}

fn compare(memory_bytes: u64, available_bytes: u64) -> Result<(), TooLarge> {
    let tables_bytes = memory_bytes / TABLES_DIVISOR;
    if tables_bytes <= available_bytes {
        return Ok(());
    }
    Err(TooLarge {
        memory_bytes,
        tables_bytes,
        available_bytes,
    })
}

/// `MemAvailable` of /proc/meminfo, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_in_kib() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:   21000000 kB\nBuffers: 1 kB\n";
        assert_eq!(available(text), Some(21_000_000 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: lots\n"), None);
    }

    #[test]
    fn more_memory_than_the_host_has_is_allowed_until_the_tables_do_not_fit() {
        assert_eq!(compare(64 << 30, 2 << 30), Ok(()));
        let refused = compare(64 << 40, 20 << 30);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "--memory 64T is too large: KVM may need 170.6 GiB for its own tables, and the host has 20 GiB available"
        );
    }
}
