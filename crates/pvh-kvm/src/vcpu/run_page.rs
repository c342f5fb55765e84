//! Maps and accesses the `kvm_run` page that a vCPU shares with KVM.
// UNSAFETY: the kernel writes these mappings of the vCPU's descriptor, and other threads write one
// byte of them. Only raw pointers can access such memory without promising more than is true.
#![expect(unsafe_code, reason = "mappings shared with the kernel")]

use std::{
    io,
    mem::offset_of,
    os::fd::AsRawFd,
    ptr::{self, NonNull},
    sync::atomic::AtomicU8,
};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

/// KVM's record of an exit (`kvm_run`), and the area after it, which holds port data.
///
/// It copies bytes in and out, and cannot access the byte of [`ImmediateExit`].
#[derive(Debug)]
pub(crate) struct RunPage(Mapping);

impl RunPage {
    /// Maps the first `len` bytes of a vCPU descriptor.
    pub(crate) fn map(vcpu: &VcpuFd, len: usize) -> io::Result<Self> {
        Mapping::new(vcpu, len).map(Self)
    }

    /// Copies `buf.len()` bytes at `offset` out; `None` unless they lie after the page's header.
    pub(crate) fn copy_out(&mut self, offset: usize, buf: &mut [u8]) -> Option<()> {
        let from = self.place(offset, buf.len())?;
        // SAFETY: both sides must be valid for `buf.len()` bytes and must not overlap. `place` has
        // checked that the source lies inside the mapping, which lives as long as `self`; `buf` is
        // Rust's own memory and never part of it. Nobody may write the source meanwhile. KVM writes
        // it only during KVM_RUN, whose caller holds this value mutably, as this function does now.
        // Other threads of this crate write only the header, which `place` excludes. No other code
        // has these pages mapped, because this crate hands out no descriptor of a vCPU.
        unsafe { ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len()) };
        Some(())
    }

    /// Copies `bytes` in at `offset`; `None` unless they lie after the page's header.
    pub(crate) fn copy_in(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        let to = self.place(offset, bytes.len())?;
        // SAFETY: as in `copy_out`, with source and destination exchanged. Nobody may read the
        // destination meanwhile either; KVM reads it only during KVM_RUN.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Some(())
    }

    /// Returns the address of `len` bytes at `offset`, if they lie after the header and in the
    /// mapping.
    fn place(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        if offset < HEADER_LEN || end > self.0.len {
            return None;
        }
        Some(self.0.start.as_ptr().wrapping_add(offset))
    }
}

/// The byte that makes KVM_RUN return at once while it is not 0. It has a separate mapping, so that
/// other threads can set it.
#[derive(Debug)]
pub(crate) struct ImmediateExit(Mapping);

impl ImmediateExit {
    /// Maps the `kvm_run` of a vCPU descriptor.
    pub(crate) fn map(vcpu: &VcpuFd) -> io::Result<Self> {
        Mapping::new(vcpu, size_of::<kvm_run>()).map(Self)
    }

    /// Returns the byte.
    pub(crate) fn flag(&self) -> &AtomicU8 {
        let byte = self.0.start.as_ptr().wrapping_add(IMMEDIATE_EXIT);
        // SAFETY: `from_ptr` demands a pointer aligned to one byte that is valid as long as the
        // reference, and that all conflicting accesses are atomic. The byte lies inside the mapping
        // (`Mapping::new` refuses one shorter than `kvm_run`), which lives as long as `self`. This
        // crate accesses the byte only through this method (`RunPage` excludes the header), and KVM
        // only reads it, with one load of one byte.
        unsafe { AtomicU8::from_ptr(byte) }
    }
}

/// A mapping of a vCPU descriptor from offset 0 on, at least as long as `kvm_run`.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process and not to a thread, so any thread may use and unmap it.
unsafe impl Send for Mapping {}

// SAFETY: `Mapping` itself offers no access. Of the two types that contain it, `RunPage` copies
// only through `&mut self`, and `ImmediateExit` accesses one atomic byte.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(vcpu: &VcpuFd, len: usize) -> io::Result<Self> {
        if len < size_of::<kvm_run>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: with a null hint and without MAP_FIXED the kernel picks an unused range, so it
        // replaces no memory of this process. `VcpuFd` owns the descriptor and is borrowed, so it
        // is open. The result is checked.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `munmap` demands that nothing uses the range afterwards. It is exactly the range
        // that `mmap` returned to `new`. Pointers into it exist only inside methods that borrow
        // `self`, and `self` ends here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The offset of the byte of [`ImmediateExit`].
const IMMEDIATE_EXIT: usize = offset_of!(kvm_run, immediate_exit);

/// The length of the header, which user space writes and which ends at `exit_reason`.
const HEADER_LEN: usize = offset_of!(kvm_run, exit_reason);

const _: () = assert!(IMMEDIATE_EXIT < HEADER_LEN);
