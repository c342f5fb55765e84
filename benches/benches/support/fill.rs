//! A file that is read into fresh memory.
#![allow(clippy::arithmetic_side_effects, reason = "the lengths are small")]

use std::{env, fs::File, os::fd::AsFd, time::Instant};

use pvh_abi::Gpa;
use pvh_bench::floor::Mapping;
use pvh_kvm::GuestRam;
use pvh_memory::{FileRange, GuestMemory, VmMemory};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// The bytes of a file, without zeros and without holes, in the page cache.
pub(crate) struct Fill {
    file: File,
    len: usize,
}

impl Fill {
    /// A file of `len` bytes.
    pub(crate) fn of(len: usize) -> Self {
        let path = env::temp_dir().join(format!("pvh-bench-fill-{len}"));
        let bytes: Vec<u8> = (1..=251).cycle().take(len).collect();
        std::fs::write(&path, bytes).expect("room for a file");
        let file = File::open(&path).expect("the file");
        // The open file stays.
        let _ = std::fs::remove_file(&path);
        Self { file, len }
    }

    /// Returns the ms that `pread` takes into memory that nothing has touched.
    pub(crate) fn pread_ms(&self) -> f64 {
        let memory = Mapping::new(self.len);
        millis(|| memory.read(&self.file))
    }

    /// Returns the ms that it takes into guest RAM.
    pub(crate) fn guest_ram_ms(&self) -> f64 {
        let ram = GuestRam::new(self.len as u64 + (4 << 20)).expect("address space");
        let took = millis(|| self.fill(&ram));
        self.check(&ram);
        took
    }

    /// Returns the ms that it takes into the memory of an embedder, which is vm-memory's.
    pub(crate) fn vm_memory_ms(&self) -> f64 {
        let ranges = [(GuestAddress(0), self.len + (4 << 20))];
        let ram = GuestMemoryMmap::<()>::from_ranges(&ranges).expect("address space");
        let memory = VmMemory::new(ram.iter());
        let took = millis(|| self.fill(&memory));
        self.check(&memory);
        took
    }

    fn fill(&self, memory: &impl GuestMemory) {
        let range = FileRange {
            file: self.file.as_fd(),
            offset: 0,
            len_bytes: self.len as u64,
        };
        memory.fill(AT, range).expect("the file fits");
    }

    fn check(&self, memory: &impl GuestMemory) {
        let mut last = [0];
        let at = Gpa(AT.0 + self.len as u64 - 1);
        memory.read(at, &mut last).expect("RAM");
        assert_eq!(usize::from(last[0]), (self.len - 1) % 251 + 1);
    }
}

fn millis(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() * 1e3
}

/// Where a kernel lies.
const AT: Gpa = Gpa(1 << 20);
