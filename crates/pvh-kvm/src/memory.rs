//! Guest memory: RAM in this process, frames that the guest adds and removes, and memory slots.

mod budget;
mod copy_ahead;
mod frames;
mod gate;
mod host;
mod huge_copy;
mod lost_page;
mod map_file;
mod mapping;
mod pool;
mod ram;
mod ranges;
pub(crate) mod reserved;
mod slots;
pub(crate) mod vm_with_ram;
mod write_ahead;

pub use copy_ahead::{CopyAhead, ReadyPlan};
pub use frames::MAX_ADDED_FRAMES;
pub use host::{TablesTooLarge, check_host_memory};
pub use huge_copy::HugeCopy;
pub use lost_page::LostPages;
pub use ram::{GuestRam, TransferError};
pub use ranges::RamError;
pub use reserved::{IDENTITY_MAP_AT, KVM_PRIVATE_BYTES, TSS_AT};
pub use write_ahead::{Progress, WriteAhead};
