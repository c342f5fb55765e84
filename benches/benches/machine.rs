//! What needs KVM: from nothing to a guest's first exit, and the way of a hypercall.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a bench may stop, and criterion's items have no docs"
)]

use std::{path::PathBuf, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_bench::peers::variants;
use pvh_entry::EntryState;
use pvh_hypercall::{Call, HYPERCALL_PORT, Outcome, Registers, dispatch};
use pvh_kvm::{
    GuestRam, HypercallTransport, InterruptControllers, Kvm, Vcpu, Vm, VmConfig, VmEntry, VmExit,
};
use pvh_loader::{
    Image,
    commit::{Method, commit_by},
    plan::{Boot, ModuleSource, plan},
};
use pvh_memory::GuestMemory;
use pvh_start_info::MemmapRange;

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
    let plan = plan(&image, &boot).expect("a plan");
    let ram = Arc::new(GuestRam::new(RAM_BYTES).expect("address space"));
    let loaded = commit_by(method, &plan, &image, &boot, &*ram).expect("a guest");
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

fn whole(c: &mut Criterion) {
    if Kvm::open().is_err() {
        println!("/dev/kvm cannot be opened: nothing is measured");
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
            // What is dropped is not timed: the end of a machine has its own price.
            group.bench_function(format!("{}, {way}", variant.name), |b| {
                b.iter_with_large_drop(|| {
                    load_to_entry(&variant.kernel, variant.initrd.as_ref(), method)
                });
            });
        }
    }
    group.finish();
}

/// A guest that runs `code` for ever.
fn looping(code: &[u8], transport: HypercallTransport) -> Vcpu {
    let kvm = Kvm::open().expect("/dev/kvm");
    let ram = Arc::new(GuestRam::new(4 << 20).expect("address space"));
    ram.write(Gpa(0x10_0000), code).expect("RAM");
    let mut config = VmConfig::new(1);
    config.interrupt_controllers = InterruptControllers::None;
    config.hypercalls = transport;
    let vm = Vm::new(&kvm, &config, ram).expect("a machine");
    let mut vcpu = vm.create_vcpu(0).expect("a vCPU");
    let entry = EntryState::pvh(0x10_0000, Gpa(0x1000)).expect("an entry");
    vcpu.set_entry(&entry).expect("an entry");
    vcpu
}

/// A domain with nothing in it: what remains is decoding, dispatch and the way.
struct Nothing;

impl pvh_hypercall::Handler for Nothing {}

struct NoMemory;

impl pvh_hypercall::GuestIo for NoMemory {
    fn copy_from_guest(&self, _: u64, _: &mut [u8]) -> Result<(), pvh_hypercall::Fault> {
        Err(pvh_hypercall::Fault)
    }

    fn copy_to_guest(&self, _: u64, _: &[u8]) -> Result<(), pvh_hypercall::Fault> {
        Err(pvh_hypercall::Fault)
    }
}

fn round_trips(c: &mut Criterion) {
    let Ok(kvm) = Kvm::open() else { return };
    let mut group = c.benchmark_group("round trip");
    // out 0xE9, al; jmp back
    let mut vcpu = looping(b"\xE6\xE9\xEB\xFC", HypercallTransport::None);
    group.bench_function("bare port write", |b| {
        b.iter(|| vcpu.run(VmEntry::Resume).expect("an exit"));
    });
    let port = u16::from(HYPERCALL_PORT);
    let by_port = HypercallTransport::Port { port };
    // out imm8, al; jmp back: what the page's entry does
    let transports = [
        (
            "hypercall by port",
            by_port,
            vec![0xE7, HYPERCALL_PORT.to_le_bytes()[0], 0xEB, 0xFC],
        ),
        (
            "hypercall by vmcall",
            HypercallTransport::Intercept,
            vec![0x0F, 0x01, 0xC1, 0xEB, 0xFB],
        ),
    ];
    for (name, transport, code) in transports {
        if let Some(missing) = kvm.capabilities().missing_for(transport) {
            println!("{name}: this host lacks {missing}");
            continue;
        }
        let mut vcpu = looping(&code, transport);
        let mut entry = VmEntry::Resume;
        group.bench_function(name, |b| {
            b.iter(|| {
                let exit = vcpu.run(entry).expect("an exit");
                let VmExit::Hypercall { number, .. } = exit else {
                    unreachable!("{exit:?}")
                };
                let registers = Registers {
                    rax: number,
                    ..Registers::default()
                };
                let caller = vcpu.caller().expect("a caller");
                let caller = pvh_hypercall::Caller {
                    cr0: caller.cr0,
                    efer: caller.efer,
                    rflags: caller.rflags,
                    cs_long: caller.cs_long,
                    cs_big: caller.cs_big,
                    cpl: caller.cpl,
                };
                let call = Call::decode(&registers, &caller).expect("a call");
                let Outcome::Return(result) = dispatch(&mut Nothing, &NoMemory, call) else {
                    unreachable!("nothing goes on")
                };
                entry = VmEntry::Hypercall(call.width.result(result));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, whole, round_trips);
criterion_main!(benches);
