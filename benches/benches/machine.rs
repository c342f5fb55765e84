//! Measures what needs KVM: from nothing to a guest's first exit, and the round trip of a
//! hypercall.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a bench may stop, and criterion's items have no docs"
)]

mod support;

use std::{path::PathBuf, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use kvm_ioctls::VcpuExit;
use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_bench::{
    floor::{Floor, Plan},
    peers::{Variant, variants},
};
use pvh_kvm::{GuestRam, InterruptControllers, Kvm, Vcpu, Vm, VmConfig, VmEntry, VmExit};
use pvh_loader::{Image, commit::Method, module::ModuleSource, plan::Boot};
use pvh_start_info::MemmapRange;
use support::trips::{self, Caller};

const RAM_BYTES: u64 = 512 << 20;

/// Opens KVM and files, loads, builds a machine and runs it to its first exit.
fn load_to_entry(kernel: &PathBuf, initrd: Option<&PathBuf>, method: Method) -> (Vm, Vcpu) {
    let image = Image::open(kernel).expect("an image");
    let modules = initrd.map(|initrd| ModuleSource::open(initrd).expect("a module"));
    let ram = MemmapRange {
        start: Gpa(0),
        len_bytes: RAM_BYTES,
        kind: MemmapKind::RAM,
    };
    let boot = Boot {
        modules: modules.into_iter().collect(),
        memmap: vec![ram],
        ..Boot::default()
    };
    let plan = image.plan(&boot).expect("a plan");
    let ram = Arc::new(GuestRam::new(RAM_BYTES).expect("address space"));
    let loaded = plan.commit(method, &*ram).expect("a guest");
    let kvm = Kvm::open().expect("/dev/kvm");
    let mut config = VmConfig::new(1);
    config.interrupt_controllers = InterruptControllers::LocalApics;
    let vm = Vm::new(&kvm, &config, ram).expect("a machine");
    let mut vcpu = vm.create_vcpu(0).expect("a vCPU");
    vcpu.set_entry(&loaded.entry).expect("an entry");
    let exit = vcpu.run(VmEntry::Resume).expect("an exit");
    assert!(
        matches!(exit, VmExit::PortOut { port: 0x3F8, .. }),
        "{exit:?}"
    );
    (vm, vcpu)
}

/// The same with bare system calls.
fn floor_to_entry(variant: &Variant) -> Floor {
    let mut floor = Floor::start(&Plan {
        devices: "apic",
        len: usize::try_from(RAM_BYTES).expect("64 bits"),
        cpus: 1,
        image: &variant.kernel,
        initrd: variant.initrd.as_deref(),
    });
    assert!(matches!(floor.run(), VcpuExit::IoOut(0x3F8, _)));
    floor
}

fn whole(c: &mut Criterion) {
    if Kvm::open().is_err() {
        println!("cannot open /dev/kvm, so nothing is measured");
        return;
    }
    let variants = variants(&std::env::temp_dir().join("pvh-bench")).expect("guests");
    let mut group = c.benchmark_group("load to entry");
    group.sample_size(20);
    for variant in variants
        .iter()
        .filter(|variant| variant.name != "40 MiB touched")
    {
        for (way, method) in [("map", Method::Map), ("copy", Method::Copy)] {
            // The drop is not timed, because the end of a machine has its own cost.
            group.bench_function(format!("{}, {way}", variant.name), |b| {
                b.iter_with_large_drop(|| {
                    load_to_entry(&variant.kernel, variant.initrd.as_ref(), method)
                });
            });
        }
        group.bench_function(format!("{}, baseline: floor", variant.name), |b| {
            b.iter_with_large_drop(|| floor_to_entry(variant));
        });
    }
    group.finish();
}

fn round_trips(c: &mut Criterion) {
    if Kvm::open().is_err() {
        return;
    }
    let mut group = c.benchmark_group("round trip");
    let mut bare = trips::bare();
    group.bench_function("baseline: bare port write", |b| {
        b.iter(|| assert!(matches!(bare.run(), VcpuExit::IoOut(0xE9, _))));
    });
    let mut by_port = Caller::by_port();
    group.bench_function("hypercall by port", |b| b.iter(|| by_port.trip()));
    match Caller::by_vmcall() {
        Some(mut by_vmcall) => {
            group.bench_function("hypercall by vmcall", |b| b.iter(|| by_vmcall.trip()));
        }
        None => println!("hypercall by vmcall: this host's KVM does not intercept it"),
    }
    group.finish();
}

criterion_group!(benches, whole, round_trips);
criterion_main!(benches);
