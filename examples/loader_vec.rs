//! The loader over guest memory of an embedder's own: three methods over a `Vec<u8>`, no KVM.
//!
//! `cargo run -p pvh-examples --bin loader-vec`

use std::{cell::RefCell, error::Error};

use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_loader::{Boot, Image, Method};
use pvh_memory::{GuestMemory, MemoryError};
use pvh_start_info::MemmapRange;

/// RAM from address 0 on, in one vector.
struct Ram(RefCell<Vec<u8>>);

impl Ram {
    /// Runs `act` on the bytes of a range.
    fn with<T>(
        &self,
        at: Gpa,
        len: usize,
        act: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, MemoryError> {
        let Self(bytes) = self;
        let mut bytes = bytes.borrow_mut();
        let tail = usize::try_from(at.0)
            .ok()
            .and_then(|at| bytes.get_mut(at..));
        let range = tail.and_then(|tail| tail.get_mut(..len));
        let len_bytes = u64::try_from(len).unwrap_or(u64::MAX);
        Ok(act(range.ok_or(MemoryError::NotRam { at, len_bytes })?))
    }
}

impl GuestMemory for Ram {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        usize::try_from(len_bytes).is_ok_and(|len| self.with(at, len, |_| ()).is_ok())
    }
    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.with(at, buf.len(), |range| buf.copy_from_slice(range))
    }
    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.with(at, bytes.len(), |range| range.copy_from_slice(bytes))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let ram = Ram(RefCell::new(vec![0; 16 << 20]));
    let image = Image::from_bytes(pvh_conformance::demo_image().to_vec())?;
    let boot = Boot {
        cmdline: b"hello".to_vec(),
        memmap: vec![MemmapRange {
            start: Gpa(0),
            len_bytes: 16 << 20,
            kind: MemmapKind::RAM,
        }],
        ..Boot::default()
    };
    let loaded = image.plan(&boot)?.commit(Method::Copy, &ram)?;
    let mut magic = [0; 4];
    ram.read(Gpa(loaded.entry.rbx), &mut magic)?;
    println!("entry {:#x}", loaded.entry.rip);
    println!("start info begins with {:#x}", u32::from_le_bytes(magic));
    println!("{} bytes written", loaded.written_bytes);
    Ok(())
}
