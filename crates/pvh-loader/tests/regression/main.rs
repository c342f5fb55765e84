//! Mistakes that other loaders made, from the file to the written guest memory. Each test says what
//! Xen does (libelf, libxenguest or the dom0 builder) and what this loader does, with the reason
//! where it is stricter; decision 0010 lists the reasons.
//!
//! `tests/image/regression.rs` has the details about headers, machines and packing.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the numbers are small, and a test may stop"
)]

use std::{fs::File, os::unix::fs::FileExt};

use pvh_abi::{Gpa, GuestRange, start_info::MemmapKind};
use pvh_loader::{
    Image, ImageError,
    commit::{Loaded, Method},
    module::ModuleSource,
    plan::{Boot, Fix, MemmapRule, Placement, PlanError},
};
use pvh_memory::GuestMemory;
use pvh_start_info::{Generation, MemmapRange, StartInfo, read, read_cmdline};
use pvh_testkit::elf::{Class, Elf, Endian, Note, Section, Segment, note_area};

mod boot_data;
#[path = "../common/recorder.rs"]
mod common;
mod images;
mod notes;
#[path = "../image/pack.rs"]
mod pack;

use common::{Recorder, planned};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const ENTRY: u32 = 0x10_0000;

/// XEN_ELFNOTE_PHYS32_ENTRY.
const PHYS32_ENTRY: u32 = 18;

#[derive(Debug)]
enum Refused {
    Image(ImageError),
    Plan(PlanError),
}

/// A guest that was loaded.
struct Guest {
    plan: Placement,
    loaded: Loaded,
    memory: Recorder,
}

impl Guest {
    fn start_info(&self) -> StartInfo {
        read(Generation::V1, self.plan.start_info, self.fetch()).unwrap()
    }

    fn fetch(&self) -> impl Fn(Gpa, &mut [u8]) -> Result<(), pvh_memory::MemoryError> {
        |at, buf| self.memory.read(at, buf)
    }

    /// Address and length of each module, as the guest finds them.
    fn modules(&self) -> Vec<(Gpa, u64)> {
        let modules = self.start_info().modules(1000, self.fetch()).unwrap();
        let modules = modules.map(Result::unwrap);
        modules
            .map(|module| (module.paddr, module.size_bytes))
            .collect()
    }
}

fn ram(start: u64, end: u64) -> MemmapRange {
    let kind = MemmapKind::RAM;
    MemmapRange {
        start: Gpa(start),
        len_bytes: end - start,
        kind,
    }
}

/// 64 MiB of RAM and nothing else.
fn boot() -> Boot {
    Boot {
        memmap: vec![ram(0, 64 * MIB)],
        ..Boot::default()
    }
}

/// Loads `file` into poisoned memory, and checks that exactly what was planned was written.
fn load_with(file: Vec<u8>, boot: &Boot) -> Result<Guest, Refused> {
    let image = Image::from_bytes(file).map_err(Refused::Image)?;
    let plan = image.plan(boot).map_err(Refused::Plan)?;
    let rams = boot
        .memmap
        .iter()
        .filter(|entry| entry.kind == MemmapKind::RAM);
    let rams: Vec<_> = rams
        .map(|ram| GuestRange::new(ram.start, ram.len_bytes))
        .collect();
    let memory = Recorder::new(&rams);
    let loaded = plan.commit(Method::Copy, &memory).unwrap();
    assert_eq!(memory.written(), planned(plan.placement()));
    Ok(Guest {
        plan: plan.placement().clone(),
        loaded,
        memory,
    })
}

fn load(elf: &Elf) -> Result<Guest, Refused> {
    load_with(elf.build(), &boot())
}

/// The entry of the loaded guest.
fn entry(elf: &Elf) -> Result<u64, Refused> {
    load(elf).map(|guest| guest.loaded.entry.rip)
}

fn plan_error(elf: &Elf, boot: &Boot) -> PlanError {
    match load_with(elf.build(), boot) {
        Err(Refused::Plan(error)) => error,
        Err(Refused::Image(error)) => panic!("refused as an image: {error:?}"),
        Ok(guest) => panic!("taken: {:?}", guest.plan),
    }
}

/// 64 KiB of code at 1 MiB, in which any entry below lies, and no note.
fn without_notes() -> Elf {
    Elf::new(Class::Elf64).segment(Segment::load(MIB, vec![0xF4; 64 << 10]))
}

fn with_notes(notes: &[Note]) -> Elf {
    without_notes().segment(Segment::notes(notes))
}

fn foreign() -> Note {
    Note::new("GNU", 3, vec![7; 20])
}
