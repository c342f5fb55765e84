//! Measures the back ends of a disk and of a network device against a model front end, without a
//! VM and without I/O: what a request or a packet costs besides the work that it asks for.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a bench may stop, and criterion's items have no docs"
)]

mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use pvh_netif::{Checksum, FillsChecksums, Frame, Next, Offloads, Receive, Status, Transmit};
use pvh_testkit::{netif, ring::FrontRing};
use support::back_ends::{All, DATA, RING, Reads, memory};

/// Runs batches until there are as many requests as criterion wants, and returns their time.
fn batches(iterations: u64, batch: u32, mut serve: impl FnMut() -> Duration) -> Duration {
    let count = iterations.div_ceil(batch.into());
    let spent: Duration = (0..count).map(|_| serve()).sum();
    // The last batch may hold more than was wanted.
    let spent_ns = spent.as_nanos() * u128::from(iterations) / u128::from(count * u64::from(batch));
    Duration::from_nanos(u64::try_from(spent_ns).expect("less than centuries"))
}

fn blkif(c: &mut Criterion) {
    let mut group = c.benchmark_group("blkif");
    group.throughput(Throughput::Elements(1));
    for (name, mut reads) in [
        ("read of 4 KiB", Reads::of_4_kib()),
        ("read of 1 MiB in 256 pages", Reads::of_1_mib()),
    ] {
        group.bench_function(name, |b| {
            b.iter_custom(|count| batches(count, Reads::BATCH, || reads.serve()));
        });
    }
    group.finish();
}

/// The bytes of a full Ethernet frame.
const FRAME: [u8; 1514] = [0xA5; 1514];
const BATCH: u32 = 128;

fn netif(c: &mut Criterion) {
    let mut group = c.benchmark_group("netif");
    group.throughput(Throughput::Elements(1));
    group.bench_function("packet of 1514 bytes from the guest", |b| {
        let mut send = sender();
        b.iter_custom(|count| batches(count, BATCH, &mut send));
    });
    group.bench_function("packet of 1514 bytes to the guest", |b| {
        let mut receive = receiver();
        b.iter_custom(|count| batches(count, BATCH, &mut receive));
    });
    let memory = memory();
    group.bench_function("limit: copy of the same bytes", |b| {
        b.iter(|| memory.write(black_box(Gpa(0x1_0000)), &FRAME).expect("RAM"));
    });
    group.finish();
}

/// Sends a batch of packets, and returns the time of the back end alone.
fn sender() -> impl FnMut() -> Duration {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[RING], 12);
    let mut back = Transmit::attach(&memory, RING).expect("a ring");
    let request = netif::transmit(DATA, 0, 0, (1, 1514));
    move || {
        (0..BATCH).for_each(|_| front.put(&memory, &request));
        front.publish(&memory);
        let start = Instant::now();
        for _ in 0..BATCH {
            let Next::Packet(packet) = back.next(&memory, &All).expect("a ring") else {
                panic!("the packet is right")
            };
            assert_eq!(black_box(&packet).len_bytes, 1514);
            let answered = back.answer(&memory, packet, Status::Okay);
            answered.expect("it was taken");
        }
        black_box(back.publish(&memory).expect("a ring"));
        let spent = start.elapsed();
        while front.take(&memory, 4).is_some() {}
        spent
    }
}

/// Delivers a batch of packets, and returns the time of the back end alone.
fn receiver() -> impl FnMut() -> Duration {
    let memory = memory();
    let mut front = FrontRing::new(&memory, &[RING], 8);
    let offloads = Offloads {
        has_scatter_gather: true,
        has_tcp_v4: true,
        has_tcp_v6: true,
        fills_checksums: FillsChecksums {
            ipv4: true,
            ipv6: true,
        },
    };
    let mut back = Receive::attach(&memory, RING, offloads).expect("a ring");
    let offer = netif::receive(1, DATA);
    let frame = Frame {
        bytes: &FRAME,
        checksum: Checksum::Complete,
        gso: None,
    };
    move || {
        (0..BATCH).for_each(|_| front.put(&memory, &offer));
        front.publish(&memory);
        let start = Instant::now();
        for _ in 0..BATCH {
            let delivered = back.deliver(&memory, &All, black_box(frame));
            delivered.expect("there is room");
        }
        black_box(back.publish(&memory).expect("a ring"));
        let spent = start.elapsed();
        while front.take(&memory, 8).is_some() {}
        spent
    }
}

criterion_group!(benches, blkif, netif);
criterion_main!(benches);
