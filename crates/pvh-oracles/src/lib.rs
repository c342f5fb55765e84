#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "an oracle stops the run where something does not hold, in itself too"
)]

mod args;
mod back_end;
mod bytes;
mod console_ring;
mod descriptor;
mod differential;
mod dispatch;
mod hypercall;
mod interface;
mod kernel;
mod linear;
mod loader;
mod memory;
mod notes;
pub mod seeds;
mod start_info;
mod tape;
mod trace;
mod vcpu;
mod xenstore;

pub use args::args;
pub use back_end::{blkif::blkif, netif::netif, xenbus::xenbus};
pub use console_ring::console_ring;
pub use descriptor::descriptor;
pub use differential::differential;
pub use dispatch::dispatch;
pub use hypercall::hypercall;
pub use interface::interface;
pub use linear::linear;
pub use loader::{
    ELF_MARK, FRAME_MARK, HEADER_MARK, PACKED_MARK, PAYLOAD_MARK, bzimage, cmdline, elf_commit,
    elf_plan,
};
pub use memory::SparseMemory;
pub use notes::notes;
pub use start_info::{start_info_read, start_info_roundtrip};
pub use tape::Tape;
pub use trace::trace;
pub use vcpu::{vcpu_context, vcpu_lifecycle};
pub use xenstore::xenstore;

/// A fuzz target: its name and its check of an input.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Oracle {
    /// The name of the target, of its corpus and of its dictionary.
    pub name: &'static str,
    /// Panics if the input shows a mistake.
    pub check: fn(&[u8]),
}

/// All oracles.
pub const ORACLES: [Oracle; 22] = [
    oracle("notes", notes),
    oracle("elf_plan", elf_plan),
    oracle("elf_commit", elf_commit),
    oracle("bzimage", bzimage),
    oracle("start_info_read", start_info_read),
    oracle("start_info_roundtrip", start_info_roundtrip),
    oracle("linear", linear),
    oracle("vcpu_context", vcpu_context),
    oracle("vcpu_lifecycle", vcpu_lifecycle),
    oracle("xenstore", xenstore),
    oracle("console_ring", console_ring),
    oracle("cmdline", cmdline),
    oracle("differential", differential),
    oracle("hypercall", hypercall),
    oracle("descriptor", descriptor),
    oracle("interface", interface),
    oracle("dispatch", dispatch),
    oracle("trace", trace),
    oracle("xenbus", xenbus),
    oracle("blkif", blkif),
    oracle("netif", netif),
    oracle("args", args),
];

const fn oracle(name: &'static str, check: fn(&[u8])) -> Oracle {
    Oracle { name, check }
}
