//! Guest memory as a debugger sees it: by linear address, past all access rights, without a trace.

use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_memory::{
    Access, GuestMemory, LinearAddress, LinearFault, LinearMemory, MemoryError, PagingPolicy,
    PagingState, WalkTrace, WordOp,
};

/// Returns the registers that translate linear addresses, with every check of rights turned off: a
/// debugger writes read-only pages too.
const fn paging_of(state: &EntryState) -> PagingState {
    PagingState {
        cr0: state.cr0 & !CR0_WP,
        cr3: state.cr3,
        cr4: state.cr4 & !(CR4_SMAP | CR4_PKE),
        efer: state.efer,
        rflags: state.rflags,
        pkru: 0,
    }
}

/// Returns a policy that accepts what any processor accepts.
const fn policy(address_bits: u8) -> PagingPolicy {
    PagingPolicy {
        address_bits,
        is_amd: false,
        has_gib_pages: true,
        has_pse36: true,
    }
}

/// The memory of a guest through the page tables of one vCPU.
#[derive(Debug)]
pub(crate) struct View<'a> {
    memory: Untouched<'a>,
    paging: PagingState,
    policy: PagingPolicy,
}

impl<'a> View<'a> {
    pub(crate) const fn new(
        memory: &'a dyn GuestMemory,
        state: &EntryState,
        address_bits: u8,
    ) -> Self {
        Self {
            memory: Untouched(memory),
            paging: paging_of(state),
            policy: policy(address_bits),
        }
    }

    /// Reads bytes until the first page that cannot be read; returns how many.
    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) -> usize {
        let linear = self.linear();
        let mut done = 0_usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(here) = at.checked_add(done as u64) else {
                break;
            };
            let left = PAGE_BYTES.saturating_sub(here % PAGE_BYTES);
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let page = rest.get_mut(..len).unwrap_or_default();
            if linear.read(LinearAddress(here), page).is_err() {
                break;
            }
            done = done.saturating_add(len);
        }
        done
    }

    /// Writes bytes, all or, if a page is missing, those before it.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), LinearFault> {
        self.linear().write(LinearAddress(at), bytes)
    }

    /// Returns where a linear address leads.
    pub(crate) fn translate(&self, at: u64) -> Result<Gpa, LinearFault> {
        self.linear().translate(LinearAddress(at), Access::Read)
    }

    /// Walks to a linear address, entry by entry.
    pub(crate) fn trace(&self, at: u64) -> WalkTrace {
        self.linear().trace(LinearAddress(at), Access::Read)
    }

    pub(crate) const fn paging(&self) -> &PagingState {
        &self.paging
    }

    fn linear(&self) -> LinearMemory<'_, Untouched<'a>> {
        LinearMemory::new(&self.memory, &self.paging, &self.policy)
    }
}

/// Guest memory whose words cannot be changed: a walk sets no accessed or dirty bits in it.
#[derive(Clone, Copy)]
struct Untouched<'a>(&'a dyn GuestMemory);

impl std::fmt::Debug for Untouched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Untouched")
    }
}

impl GuestMemory for Untouched<'_> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.0.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.0.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, _: WordOp<u32>) -> Result<u32, MemoryError> {
        self.0.atomic_u32(at, WordOp::Load)
    }

    fn atomic_u64(&self, at: Gpa, _: WordOp<u64>) -> Result<u64, MemoryError> {
        self.0.atomic_u64(at, WordOp::Load)
    }
}

const PAGE_BYTES: u64 = 4096;
const CR0_WP: u64 = 1 << 16;
const CR4_SMAP: u64 = 1 << 21;
const CR4_PKE: u64 = 1 << 22;
