//! The seeds of fuzzing: small inputs, made by builders, that reach the middle of each target.
//!
//! `make corpus` writes them into `fuzz/seeds`. No seed shows a mistake, seeded or not; the tests
//! check this.

#![expect(
    clippy::expect_used,
    reason = "a builder that fails is a mistake of ours, and found at once"
)]

mod args;
mod back_end;
mod image;
mod interface;
mod kernels;
mod pack;
mod pen;
mod state;

pub use kernels::of_kernel;
pub(crate) use pack::CODECS;
pub use pack::payload;
pub use pen::Pen;

/// A seed: the name of its file, and its bytes.
pub type Seed = (String, Vec<u8>);

/// Returns the seeds of a target; none for an unknown name.
#[must_use]
pub fn seeds(target: &str) -> Vec<Seed> {
    match target {
        "notes" => [image::elfs(), image::odd_elfs()].concat(),
        "differential" => image::elfs(),
        "elf_plan" => image::plans(),
        "elf_commit" => image::commits(),
        "bzimage" => image::packed(),
        "start_info_read" => image::start_infos(),
        "start_info_roundtrip" => image::roundtrips(),
        "cmdline" => image::cmdlines(),
        "linear" => state::linears(),
        "vcpu_context" => state::contexts(),
        "descriptor" => interface::descriptors(),
        "interface" => interface::interfaces(),
        "dispatch" => interface::dispatches(),
        "trace" => state::traces(),
        "vcpu_lifecycle" => state::lifecycles(),
        "xenstore" => state::stores(),
        "console_ring" => state::consoles(),
        "hypercall" => state::domains(),
        "xenbus" => back_end::handshakes(),
        "blkif" => back_end::disks(),
        "netif" => back_end::networks(),
        "args" => args::command_lines(),
        _ => Vec::new(),
    }
}

fn named(name: &str, bytes: impl Into<Vec<u8>>) -> Seed {
    (name.to_owned(), bytes.into())
}
