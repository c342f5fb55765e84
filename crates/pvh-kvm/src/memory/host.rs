//! Checks that the host has room for KVM's own tables for a guest.

use std::fs;

/// KVM's tables take at most this part of guest memory: where KVM shadows page tables, a little
/// more than 8 bytes per 4 KiB page, touched or not. Measured: 2.5 MiB per GiB, which is 1/410.
const TABLES_DIVISOR: u64 = 384;

/// Tables of 12 GiB of guest memory: any host has room for them.
const SMALL_TABLES_BYTES: u64 = 32 << 20;

/// Guest memory whose tables do not fit in the host's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "guest memory of {memory_bytes} bytes is too large: KVM may need {tables_bytes} bytes for its own tables, and the \
     host has {available_bytes} bytes available"
)]
pub struct TablesTooLarge {
    /// Size of guest memory.
    pub memory_bytes: u64,
    /// Memory that KVM may need for its tables.
    pub tables_bytes: u64,
    /// Available memory of the host.
    pub available_bytes: u64,
}

/// Refuses guest memory for which KVM's tables alone would exhaust the host. Guest memory itself
/// costs the host only the pages that are touched, so there may be more of it than the host has.
///
/// Accepts up to 12 GiB without a look at /proc/meminfo, which takes longer than most steps of a
/// start, and any size where /proc/meminfo does not say what is available.
///
/// # Errors
///
/// [`TablesTooLarge`]: the tables may need more than the host has available now.
pub fn check_host_memory(memory_bytes: u64) -> Result<(), TablesTooLarge> {
    if memory_bytes / TABLES_DIVISOR <= SMALL_TABLES_BYTES {
        return Ok(());
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match available(&meminfo) {
        Some(available_bytes) => compare(memory_bytes, available_bytes),
        None => Ok(()),
    }
}

fn compare(memory_bytes: u64, available_bytes: u64) -> Result<(), TablesTooLarge> {
    let tables_bytes = memory_bytes / TABLES_DIVISOR;
    if tables_bytes <= available_bytes {
        return Ok(());
    }
    Err(TablesTooLarge {
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
        let refused = compare(64 << 40, 20 << 30).unwrap_err();
        assert_eq!(
            (
                refused.memory_bytes,
                refused.tables_bytes,
                refused.available_bytes
            ),
            (64 << 40, (64 << 40) / 384, 20 << 30)
        );
    }
}
