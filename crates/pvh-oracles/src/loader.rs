//! The loader: where a boot is planned, what its commit writes, packed kernels, command lines.

mod bzimage;
mod cmdline;
mod commit;
mod place;

pub use bzimage::{FRAME_MARK, HEADER_MARK, PACKED_MARK, PAYLOAD_MARK, bzimage};
pub use cmdline::cmdline;
pub use commit::{ELF_MARK, elf_commit};
pub use place::elf_plan;
