//! Real kernels: every file in the directory that `PVH_TEST_KERNELS` names must load into a guest
//! of 512 MiB.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

use std::{env, fs, path::PathBuf};

use pvh_abi::{Gpa, GuestRange, start_info::MemmapKind};
use pvh_loader::{
    Image,
    commit::Method,
    module::ModuleSource,
    plan::{Boot, Placement, PlanError, WriteKind},
};
use pvh_start_info::MemmapRange;

#[path = "common/recorder.rs"]
mod common;
use common::{Recorder, planned};

const RAM_BYTES: u64 = 512 << 20;

fn kernels() -> Vec<(PathBuf, Image)> {
    let directory = env::var_os("PVH_TEST_KERNELS").expect("PVH_TEST_KERNELS names a directory");
    let paths = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path());
    let open = |path: PathBuf| match Image::open(&path) {
        Ok(image) => (path, image),
        Err(refused) => panic!("{}: {refused:?}", path.display()),
    };
    let kernels: Vec<_> = paths.map(open).collect();
    assert!(!kernels.is_empty(), "the directory is empty");
    kernels
}

fn boot() -> Boot {
    let ram = MemmapRange {
        start: Gpa(0),
        len_bytes: RAM_BYTES,
        kind: MemmapKind::RAM,
    };
    Boot {
        cmdline: b"console=ttyS0".to_vec(),
        modules: vec![ModuleSource::from_bytes(vec![7; 100_000])],
        memmap: vec![ram],
        ..Boot::default()
    }
}

#[test]
#[ignore = "needs kernels: set PVH_TEST_KERNELS to a directory of them"]
fn every_real_kernel_is_loaded_where_it_was_linked() {
    for (path, image) in kernels() {
        let boot = boot();
        let plan = image.plan(&boot).unwrap();
        assert_eq!(plan.placement().moved_by, 0, "{}", path.display());
        assert_eq!(plan.placement().entry, image.entry());
        let memory = Recorder::new(&[GuestRange::new(Gpa(0), RAM_BYTES)]);
        plan.commit(Method::Copy, &memory).unwrap();
        assert_eq!(memory.written(), planned(plan.placement()));
        for write in &plan.placement().writes {
            let WriteKind::Segment { file_offset, .. } = write.kind else {
                continue;
            };
            let len = usize::try_from(write.range.len_bytes).unwrap();
            let mut bytes = vec![0; len];
            image.read_at(file_offset, &mut bytes).unwrap();
            let found = memory.bytes(write.range.start, write.range.len_bytes);
            assert!(found == bytes, "{}: {write:?}", path.display());
        }
    }
}

#[test]
#[ignore = "needs kernels: set PVH_TEST_KERNELS to a directory of them"]
fn every_real_kernel_moves_if_it_may_when_its_place_is_taken() {
    for (path, image) in kernels() {
        let first = image.segments().iter().map(|segment| segment.paddr).min();
        let reserved = vec![GuestRange::new(Gpa(first.unwrap()), 4096)];
        let boot = Boot { reserved, ..boot() };
        match (image.relocation(), image.plan(&boot)) {
            (Some(note), Ok(plan)) => {
                let Placement {
                    moved_by, kernel, ..
                } = plan.placement();
                assert_ne!(*moved_by, 0);
                assert!(kernel.start.0 >= note.min.into(), "{}", path.display());
                assert!(kernel.end().unwrap().0.saturating_sub(1) <= note.max.into());
            }
            (None, Err(PlanError::SegmentBlocked { .. })) => {}
            (note, plan) => panic!("{}: {note:?}: {plan:?}", path.display()),
        }
    }
}
