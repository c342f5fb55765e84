//! Measures the way from a kernel file to guest memory: each stage, the peer on the same file, and
//! the baselines.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a bench may stop, and criterion's items have no docs"
)]

use std::{
    fs::{self, File},
    hint::black_box,
    os::fd::AsFd,
    path::Path,
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use linux_loader::loader::{Elf, KernelLoader};
use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_bench::{floor::Mapping, kernel::vmlinux};
use pvh_kvm::GuestRam;
use pvh_loader::{Image, commit::Method, image::Limits, inspect::inspect_bytes, plan::Boot};
use pvh_memory::{FileRange, GuestMemory};
use pvh_start_info::MemmapRange;
use vm_memory::{GuestAddress, GuestMemoryMmap};

const RAM_BYTES: u64 = 512 << 20;

fn boot() -> Boot {
    let ram = MemmapRange {
        start: Gpa(0),
        len_bytes: RAM_BYTES,
        kind: MemmapKind::RAM,
    };
    Boot {
        cmdline: b"console=ttyS0".to_vec(),
        memmap: vec![ram],
        ..Boot::default()
    }
}

fn fresh() -> GuestRam {
    GuestRam::new(RAM_BYTES).expect("address space")
}

fn stages(c: &mut Criterion) {
    let path = vmlinux().expect("a kernel");
    let bytes = fs::read(&path).expect("the kernel is read");
    let mut group = c.benchmark_group("stage");
    group.sample_size(20);
    group.bench_function("notes", |b| {
        b.iter(|| pvh_elfnote::scan(black_box(&bytes)).expect("notes"));
    });
    group.bench_function("open", |b| {
        b.iter(|| Image::open(black_box(&path)).expect("an image"))
    });
    group.bench_function("inspect", |b| {
        b.iter_batched(
            || bytes.clone(),
            |bytes| inspect_bytes(bytes, &Limits::default()),
            BatchSize::PerIteration,
        );
    });
    let image = Image::open(&path).expect("an image");
    let boot = boot();
    group.bench_function("plan", |b| {
        b.iter(|| image.plan(black_box(&boot)).expect("a plan"))
    });
    group.finish();
}

/// From an open file to a guest that is ready to enter, in fresh memory.
fn load(c: &mut Criterion) {
    let path = vmlinux().expect("a kernel");
    let image = Image::open(&path).expect("an image");
    let len = fs::metadata(&path).expect("a length").len();
    let mut group = c.benchmark_group("load");
    group.sample_size(20).throughput(Throughput::Bytes(len));
    for (name, method) in [("map", Method::Map), ("copy", Method::Copy)] {
        group.bench_function(name, |b| {
            let boot = boot();
            b.iter_batched(
                fresh,
                |memory| {
                    let plan = image.plan(&boot).expect("a plan");
                    plan.commit(method, &memory).expect("a guest");
                    memory
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.bench_function("commit alone, map", |b| {
        let boot = boot();
        let plan = image.plan(&boot).expect("a plan");
        b.iter_batched(
            fresh,
            |memory| {
                plan.commit(Method::Map, &memory).expect("a guest");
                memory
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("linux-loader", |b| {
        let mut file = File::open(&path).expect("the kernel");
        b.iter_batched(
            peer_memory,
            |memory| {
                Elf::load(&memory, None, &mut file, None).expect("a guest");
                memory
            },
            BatchSize::PerIteration,
        );
    });
    baselines(&mut group, &path, len);
    group.finish();
}

fn peer_memory() -> GuestMemoryMmap {
    let len = usize::try_from(RAM_BYTES).expect("64 bits");
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).expect("address space")
}

/// The least time of a copy, and of a mapping.
fn baselines(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    path: &Path,
    len: u64,
) {
    let file = File::open(path).expect("the kernel");
    let bytes = fs::read(path).expect("the kernel is read");
    group.bench_function("baseline: memcpy", |b| {
        b.iter_batched(
            fresh,
            |memory| {
                memory.write(Gpa(1 << 20), &bytes).expect("RAM");
                memory
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("fill", |b| {
        b.iter_batched(
            fresh,
            |memory| {
                let range = FileRange {
                    file: file.as_fd(),
                    offset: 0,
                    len_bytes: len,
                };
                memory.fill(Gpa(1 << 20), range).expect("the kernel fits");
                memory
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("baseline: pread", |b| {
        b.iter_batched(
            || Mapping::new(bytes.len()),
            |memory| {
                memory.read(&file);
                memory
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("baseline: mmap", |b| {
        b.iter_batched(
            fresh,
            |memory| {
                let range = FileRange {
                    file: file.as_fd(),
                    offset: 0,
                    len_bytes: len & !0xFFF,
                };
                memory.map_file(Gpa(1 << 20), range).expect("a mapping");
                memory
            },
            BatchSize::PerIteration,
        );
    });
}

/// A packed kernel of a distribution: the wait at its first start.
fn unpack(c: &mut Criterion) {
    let Some(path) = pvh_bench::kernel::packed() else {
        return;
    };
    let mut group = c.benchmark_group("unpack");
    group.sample_size(10);
    group.bench_function("open the packed kernel", |b| {
        b.iter(|| Image::open(black_box(&path)).expect("an image"));
    });
    group.finish();
}

criterion_group!(benches, stages, load, unpack);
criterion_main!(benches);
