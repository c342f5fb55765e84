//! Measures the parts that need no KVM: start info, linear addresses, hypercalls, vCPU contexts,
//! the store, events.
#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a bench may stop, and criterion's items have no docs"
)]

mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use pvh_abi::{DomId, Gpa, start_info::MemmapKind, vcpu::VcpuHvmContext};
use pvh_memory::{GuestMemory, LinearAddress, LinearMemory, PagingState, VecMemory};
use pvh_start_info::{Builder, Generation, MemmapRange, Module, read};
use pvh_xenstore::{Header, Limits, MessageType, Store};
use support::{ARGUMENT, CPU, Guest, POLICY};
use zerocopy::FromZeros;

fn start_info(c: &mut Criterion) {
    let initrd = [Module {
        paddr: Gpa(0x400_0000),
        size_bytes: 12_345,
        cmdline: None,
    }];
    let memmap = [MemmapRange {
        start: Gpa(0),
        len_bytes: 0x800_0000,
        kind: MemmapKind::RAM,
    }; 8];
    let builder = Builder::new(Generation::V1)
        .cmdline(b"console=ttyS0 root=/dev/vda1")
        .modules(&initrd)
        .memmap(&memmap);
    let at = Gpa(0x200_0000);
    let mut group = c.benchmark_group("start info");
    let mut block = [0; 4096];
    group.bench_function("write", |b| {
        b.iter(|| black_box(&builder).write(at, &mut block).expect("it fits"));
    });
    let written = builder.write(at, &mut block).expect("it fits");
    let memory = VecMemory::from_bytes(at, &block);
    let mut bytes = vec![0; written];
    group.bench_function("baseline: copy of the same bytes", |b| {
        b.iter(|| memory.read(black_box(at), &mut bytes).expect("RAM"));
    });
    group.bench_function("read", |b| {
        let fetch = |at: Gpa, buf: &mut [u8]| memory.read(at, buf);
        b.iter(|| {
            let info = read(Generation::V1, black_box(at), fetch).expect("a start info");
            let modules = info.modules(64, fetch).expect("modules").count();
            modules.saturating_add(info.memmap(64, fetch).expect("a map").count())
        });
    });
    group.finish();
}

/// 4-level tables at 0x1000 to 0x4000 that map linear page 5 to 0x8000.
fn paged() -> (VecMemory, PagingState) {
    let memory = VecMemory::zeroed(&[(Gpa(0), 1 << 20)]).expect("memory");
    for (at, entry) in [
        (0x1000, 0x2027_u64),
        (0x2000, 0x3027),
        (0x3000, 0x4027),
        (0x4028, 0x8067),
    ] {
        memory.write(Gpa(at), &entry.to_le_bytes()).expect("RAM");
    }
    let state = PagingState {
        cr0: 0x8001_0011,
        cr3: 0x1000,
        cr4: 0x20,
        efer: 0x500,
        rflags: 2,
        pkru: 0,
    };
    (memory, state)
}

fn linear(c: &mut Criterion) {
    let (memory, state) = paged();
    c.bench_function("linear walk, 4 levels, 8 bytes", |b| {
        b.iter(|| {
            let mut bytes = [0; 8];
            let linear = LinearMemory::new(&memory, black_box(&state), &POLICY);
            linear
                .read(LinearAddress(0x5010), &mut bytes)
                .expect("mapped");
            bytes
        });
    });
    c.bench_function("linear walk, baseline: the same five reads", |b| {
        b.iter(|| {
            let mut bytes = [0; 8];
            for at in [0x1000, 0x2000, 0x3000, 0x4028, 0x8010] {
                memory.read(black_box(Gpa(at)), &mut bytes).expect("RAM");
            }
            bytes
        });
    });
}

fn hypercalls(c: &mut Criterion) {
    let mut group = c.benchmark_group("hypercall");
    let mut guest = Guest::new();
    group.bench_function("decode and dispatch: xen_version", |b| {
        b.iter(|| assert_eq!(guest.call(black_box(17), [0, 0]), 0x0004_0011));
    });
    group.bench_function("decode and dispatch: unknown", |b| {
        b.iter(|| assert_eq!(guest.call(black_box(55), [0, 0]), -38));
    });
    // bind_ipi on vCPU 0 returns a port, to which events are sent
    guest.put(&[0]);
    assert_eq!(guest.call(32, [7, ARGUMENT]), 0);
    let mut answer = [0; 8];
    guest.memory.read(Gpa(ARGUMENT), &mut answer).expect("RAM");
    guest.put(&[u64::from_le_bytes(answer) >> 32]);
    group.bench_function("event send", |b| {
        b.iter(|| assert_eq!(guest.call(black_box(32), [4, ARGUMENT]), 0));
    });
    group.finish();
}

fn vcpu_context(c: &mut Criterion) {
    let mut context = VcpuHvmContext::new_zeroed();
    context.mode.set(1);
    for (at, value) in [
        (64, 0x10_0000_u64),
        (80, 0x8000_0011),
        (88, 0x3000),
        (96, 0x20),
        (104, 0x100),
    ] {
        let place = context
            .cpu_regs
            .get_mut(at..)
            .and_then(|tail| tail.first_chunk_mut());
        *place.expect("a field") = value.to_le_bytes();
    }
    c.bench_function("vcpu_hvm_context to registers", |b| {
        b.iter(|| {
            let mut set = pvh_vcpu::VcpuSet::new([pvh_vcpu::Vcpu::RESET; 2]);
            set.initialise(1, black_box(&context), &CPU)
                .expect("a context");
            set
        });
    });
}

fn xenstore(c: &mut Criterion) {
    let mut store = Store::new(Limits::default());
    store.introduce(DomId(0));
    let mut ask = |kind: MessageType, payload: &[u8]| {
        let header = Header::new(kind, 1, 0, payload);
        store
            .handle(DomId(0), &header, payload)
            .expect("it is taken");
        store.take_message(DomId(0)).expect("a reply").payload.len()
    };
    ask(MessageType::WRITE, b"/local/domain/1/data\0value");
    let mut group = c.benchmark_group("xenstore");
    group.bench_function("read", |b| {
        b.iter(|| {
            assert_eq!(
                ask(MessageType::READ, black_box(b"/local/domain/1/data\0")),
                5
            )
        });
    });
    group.bench_function("write", |b| {
        b.iter(|| {
            ask(
                MessageType::WRITE,
                black_box(b"/local/domain/1/data\0value"),
            )
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    start_info,
    linear,
    hypercalls,
    vcpu_context,
    xenstore
);
criterion_main!(benches);
