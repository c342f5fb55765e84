//! What a fuzz target asserts about one input, as ordinary functions.
//!
//! Each takes bytes, never panics on an input of whatever shape unless something that must hold does not, and
//! gives the same verdict each time. Most compare the crate with a second, slower reading of the same rules
//! that stands here: a mistake has to be made twice, in two ways, to pass.

#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "an oracle stops the run where something does not hold, in itself too"
)]

mod bytes;
mod bzimage;
mod cmdline;
mod commit;
mod console_ring;
mod context;
mod descriptor;
mod differential;
mod dispatch;
mod dispatch_events;
mod dispatch_lists;
mod dispatch_model;
mod dispatch_recorder;
mod dispatch_tables;
mod hypercall;
mod hypercall_calls;
mod hypercall_ports;
mod hypercall_world;
mod interface;
mod lifecycle;
mod linear;
mod linear_model;
mod memory;
mod notes;
mod notes_model;
mod place;
mod start_info;
mod tape;
mod trace;
mod xenstore;
mod xenstore_model;
mod xenstore_wire;

pub use bzimage::{HEADER_MARK, PAYLOAD_MARK, bzimage};
pub use cmdline::cmdline;
pub use commit::{ELF_MARK, elf_commit};
pub use console_ring::console_ring;
pub use context::vcpu_context;
pub use descriptor::descriptor;
pub use differential::differential;
pub use dispatch::dispatch;
pub use hypercall::hypercall;
pub use interface::interface;
pub use lifecycle::vcpu_lifecycle;
pub use linear::linear;
pub use notes::notes;
pub use place::elf_plan;
pub use start_info::{start_info_read, start_info_roundtrip};
pub use trace::trace;
pub use xenstore::xenstore;

pub(crate) use trace::recorded;

pub use memory::SparseMemory;
pub use tape::Tape;

/// A fuzz target: its name, and what it asserts about an input.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Oracle {
    /// The name of the target, of its corpus and of its dictionary.
    pub name: &'static str,
    /// Panics if the input shows a mistake.
    pub check: fn(&[u8]),
}

/// All of them.
pub const ORACLES: [Oracle; 18] = [
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
];

const fn oracle(name: &'static str, check: fn(&[u8])) -> Oracle {
    Oracle { name, check }
}
