//! KVM's counters of a vCPU: its exits by kind, its page faults and more.
// UNSAFETY: kvm-ioctls has no wrapper for KVM_GET_STATS_FD, whose answer is a new descriptor.
#![expect(unsafe_code, reason = "KVM_GET_STATS_FD")]

use std::{
    fs::File,
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::fs::FileExt,
    },
};

use kvm_bindings::KVMIO;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl, ioctl_expr};

use super::cpu::Vcpu;

/// KVM's counters of one vCPU (Linux 5.14 and newer), by the names that KVM gives them: `exits`,
/// `io_exits`, `pf_taken`.
///
/// It holds one descriptor. It may be read while the vCPU runs and after it is gone, on any thread,
/// and waits for nobody.
#[derive(Debug)]
pub struct VcpuCounters {
    file: File,
    counters: Vec<Counter>,
}

/// Why the counters cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountersError {
    /// The host's KVM has no interface for them.
    #[error("this KVM does not tell its counters (Linux 5.14 and newer do)")]
    Unsupported,
    /// The host refused a step.
    #[error("KVM's counters cannot be read")]
    Host(#[source] io::Error),
    /// KVM describes its counters in a way that this crate does not know.
    #[error("KVM's description of its counters is not understood")]
    Format,
}

/// A counter, and where its value is in the file.
#[derive(Debug, Eq, PartialEq)]
struct Counter {
    name: String,
    at: u64,
}

impl Vcpu {
    /// Returns KVM's counters of this vCPU.
    ///
    /// # Errors
    ///
    /// [`CountersError`].
    pub fn counters(&self) -> Result<VcpuCounters, CountersError> {
        const REQUEST: libc::c_ulong = ioctl_expr(_IOC_NONE, KVMIO, 0xCE, 0);
        // SAFETY: `ioctl` demands a request without an argument. KVM_GET_STATS_FD has none, and
        // changes no memory of this process.
        let answer = unsafe { ioctl(&self.fd, REQUEST) };
        if answer < 0 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::EINVAL | libc::ENOTTY) => CountersError::Unsupported,
                _ => CountersError::Host(error),
            });
        }
        // SAFETY: the descriptor is new and open: KVM has just made it for this call, so nobody
        // else owns it.
        let file = unsafe { OwnedFd::from_raw_fd(answer) };
        VcpuCounters::of(File::from(file))
    }
}

impl VcpuCounters {
    fn of(file: File) -> Result<Self, CountersError> {
        let mut header = [0; HEADER_LEN];
        let read = file.read_exact_at(&mut header, 0);
        read.map_err(CountersError::Host)?;
        let header = Header::parse(&header).ok_or(CountersError::Format)?;
        let mut descriptors = vec![0; header.descriptors_len()];
        let read = file.read_exact_at(&mut descriptors, header.descriptors_at);
        read.map_err(CountersError::Host)?;
        let counters = header.counters(&descriptors);
        let counters = counters.ok_or(CountersError::Format)?;
        Ok(Self { file, counters })
    }

    /// Reads all counters that are single numbers: their names and values, in KVM's order.
    ///
    /// # Errors
    ///
    /// The host's.
    pub fn read(&self) -> io::Result<Vec<(&str, u64)>> {
        let values = self.counters.iter().map(|counter| {
            let mut value = [0; 8];
            self.file.read_exact_at(&mut value, counter.at)?;
            Ok((&*counter.name, u64::from_ne_bytes(value)))
        });
        values.collect()
    }
}

/// `struct kvm_stats_header`, within this crate's bounds.
struct Header {
    name_len: usize,
    count: usize,
    descriptors_at: u64,
    values_at: u64,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let word = |index: usize| word(bytes, index.checked_mul(4)?);
        let header = Self {
            name_len: usize::try_from(word(1)?).ok()?,
            count: usize::try_from(word(2)?).ok()?,
            descriptors_at: word(4)?.into(),
            values_at: word(5)?.into(),
        };
        let is_bounded = (1..=MAX_NAME_LEN).contains(&header.name_len) && header.count <= MAX_COUNT;
        is_bounded.then_some(header)
    }

    const fn descriptor_len(&self) -> usize {
        DESCRIPTOR_LEN.saturating_add(self.name_len)
    }

    const fn descriptors_len(&self) -> usize {
        self.descriptor_len().saturating_mul(self.count)
    }

    /// Finds the counters of single numbers in the block of descriptors.
    fn counters(&self, descriptors: &[u8]) -> Option<Vec<Counter>> {
        let mut counters = Vec::new();
        for descriptor in descriptors.chunks_exact(self.descriptor_len()) {
            // `exponent` (2 bytes) and `size` (2 bytes) share a word.
            let size = word(descriptor, 4)? >> 16;
            let name = descriptor.get(DESCRIPTOR_LEN..)?;
            let end = name.iter().position(|&byte| byte == 0)?;
            let name = std::str::from_utf8(name.get(..end)?).ok()?;
            if size == 1 {
                counters.push(Counter {
                    name: name.to_owned(),
                    at: self.values_at.checked_add(word(descriptor, 8)?.into())?,
                });
            }
        }
        Some(counters)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*word))
}

/// `sizeof(struct kvm_stats_header)`.
const HEADER_LEN: usize = 24;

/// `sizeof(struct kvm_stats_desc)`, without the name.
const DESCRIPTOR_LEN: usize = 16;

/// The longest name that is believed; KVM's have 48 bytes.
const MAX_NAME_LEN: usize = 256;

/// The most counters that are believed; KVM has about 60. So a description has at most 272 KiB.
const MAX_COUNT: usize = 1000;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A description as KVM writes it: flags, name length, count, and the places of id,
    /// descriptors and values.
    fn file(words: [u32; 6], descriptors: &[(u16, u32, &[u8])], values: &[u64]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut write = |bytes: &[u8]| file.write_all(bytes).unwrap();
        words
            .into_iter()
            .for_each(|word| write(&word.to_ne_bytes()));
        for (size, offset, name) in descriptors {
            write(&[0; 6]);
            write(&size.to_ne_bytes());
            write(&offset.to_ne_bytes());
            write(&[0; 4]);
            write(name);
        }
        values.iter().for_each(|value| write(&value.to_ne_bytes()));
        file
    }

    #[test]
    fn numbers_are_read_by_name_and_histograms_are_left_out() {
        let descriptors = [
            (1, 16, &b"exits\0\0\0"[..]),
            (2, 0, &b"hist\0\0\0\0"[..]),
            (1, 24, &b"pf_take\0"[..]),
        ];
        let values = 24 + 3 * 24;
        let file = file([0, 8, 3, 24, 24, values], &descriptors, &[1, 2, 300, 7]);
        let counters = VcpuCounters::of(file).unwrap();
        assert_eq!(counters.read().unwrap(), [("exits", 300), ("pf_take", 7)]);
    }

    #[test]
    fn descriptions_out_of_bounds_are_refused() {
        let name = &b"abcdefgh"[..];
        let refused = |words, descriptors: &[(u16, u32, &[u8])]| {
            VcpuCounters::of(file(words, descriptors, &[])).unwrap_err()
        };
        for words in [
            [0, 0, 1, 24, 24, 96],
            [0, 257, 1, 24, 24, 96],
            [0, 8, 1001, 24, 24, 96],
        ] {
            let error = refused(words, &[(1, 0, name)]);
            assert!(matches!(error, CountersError::Format), "{error:?}");
        }
        // A name without an end, and a description that ends early.
        let error = refused([0, 8, 1, 24, 24, 96], &[(1, 0, name)]);
        assert!(matches!(error, CountersError::Format), "{error:?}");
        let error = refused([0, 8, 2, 24, 24, 96], &[(1, 0, b"a\0\0\0\0\0\0\0")]);
        assert!(matches!(error, CountersError::Host(_)), "{error:?}");
    }
}
