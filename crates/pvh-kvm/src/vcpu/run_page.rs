//! The pages a vCPU shares with KVM.
// UNSAFETY: the pages are mappings of the vCPU's descriptor, written by the kernel and, one byte of
// them, by other threads; only raw pointers can reach them without promising more than is true.
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

/// What KVM says about an exit (`kvm_run`), and the area behind it through which port data moves.
///
/// Bytes are copied in and out; [`ImmediateExit`]'s byte is not reachable here.
#[derive(Debug)]
pub(crate) struct RunPage(Mapping);

impl RunPage {
    /// Maps the first `len` bytes of a vCPU descriptor.
    pub(crate) fn map(vcpu: &VcpuFd, len: usize) -> io::Result<Self> {
        Mapping::new(vcpu, len).map(Self)
    }

    /// Copies `buf.len()` bytes at `offset` out; `None` unless they lie behind the page's header.
    pub(crate) fn copy_out(&mut self, offset: usize, buf: &mut [u8]) -> Option<()> {
        let from = self.place(offset, buf.len())?;
        // SAFETY: both sides must be valid for `buf.len()` bytes and must not overlap: `place` has checked
        // that the source lies inside the mapping, which lives as long as `self`, and `buf` is Rust's own
        // memory, never part of it. Nobody may write the source meanwhile: KVM does only during KVM_RUN,
        // whose caller holds this value mutably, as we do now; other threads write only the header,
        // which `place` leaves out; and nobody else has these pages mapped, because this crate hands out
        // no descriptor of a vCPU.
        unsafe { ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len()) };
        Some(())
    }

    /// Copies `bytes` in at `offset`; `None` unless they lie behind the page's header.
    pub(crate) fn copy_in(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        let to = self.place(offset, bytes.len())?;
        // SAFETY: as in `copy_out`, with source and destination exchanged; nobody may read the destination
        // meanwhile either, and KVM does so only during KVM_RUN.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Some(())
    }

    /// Returns where `len` bytes at `offset` are, if they lie behind the header and inside the mapping.
    fn place(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        if offset < HEADER_LEN || end > self.0.len {
            return None;
        }
        Some(self.0.start.as_ptr().wrapping_add(offset))
    }
}

/// The byte that makes KVM_RUN return at once while it is not 0, in a mapping of its own, so that
/// other threads may set it.
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
        // SAFETY: `from_ptr` demands a pointer aligned to one byte, valid as long as the reference, and
        // conflicting accesses that are all atomic. The byte lies inside the mapping (`Mapping::new`
        // refuses one shorter than `kvm_run`), which lives as long as `self`; this method is the only way
        // to it in this crate (`RunPage` leaves the header out), and KVM only reads it, by one load of one byte.
        unsafe { AtomicU8::from_ptr(byte) }
    }
}

/// A mapping of the beginning of a vCPU descriptor, at least a `kvm_run` long.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process and not to a thread: any thread may use and unmap it.
unsafe impl Send for Mapping {}

// SAFETY: `Mapping` itself offers no access. Of the two types around it, `RunPage` copies only by
// `&mut self`, and `ImmediateExit` reaches one atomic byte.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(vcpu: &VcpuFd, len: usize) -> io::Result<Self> {
        if len < size_of::<kvm_run>() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: with a null hint and without MAP_FIXED the kernel picks an unused range, so no memory of
        // ours is replaced; the descriptor is open, for `VcpuFd` owns it and is borrowed; the result is checked.
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
        // SAFETY: `munmap` demands that nothing uses the range afterwards. It is exactly what `mmap` gave to
        // `new`; pointers into it exist only inside methods that borrow `self`, and `self` ends here.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Where [`ImmediateExit`]'s byte is.
const IMMEDIATE_EXIT: usize = offset_of!(kvm_run, immediate_exit);

/// What comes before `exit_reason`: the bytes that user space writes.
const HEADER_LEN: usize = offset_of!(kvm_run, exit_reason);

const _: () = assert!(IMMEDIATE_EXIT < HEADER_LEN);
