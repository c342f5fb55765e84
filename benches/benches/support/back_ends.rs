//! Back ends with a model front end, timed without what the front end does.
#![allow(
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a bench may stop"
)]

use std::{
    convert::Infallible,
    hint::black_box,
    time::{Duration, Instant},
};

use pvh_abi::Gpa;
use pvh_blkif::{Action, Disk, Next, Protocol, Queue, Status};
use pvh_memory::{GuestMemory, VecMemory};
use pvh_ring::{Access, Grants};
use pvh_testkit::{
    blkif::{Layout, indirect, segment, transfer},
    ring::FrontRing,
};

/// A guest that has granted all its memory, by frame number.
pub(crate) struct All;

impl Grants for All {
    type Page = Gpa;
    type Error = Infallible;

    fn take(&self, reference: u32, _: Access) -> Result<Gpa, Infallible> {
        Ok(Gpa(u64::from(reference) << 12))
    }
}

/// Where rings are.
pub(crate) const RING: Gpa = Gpa(0x1000);
/// The first frame of data.
pub(crate) const DATA: u32 = 0x10;

/// The memory of the guest: 256 KiB.
pub(crate) fn memory() -> VecMemory {
    VecMemory::zeroed(&[(Gpa(0), 0x4_0000)]).expect("RAM")
}

/// A disk whose guest reads the same area again and again.
pub(crate) struct Reads {
    memory: VecMemory,
    front: FrontRing,
    queue: Queue,
    disk: Disk,
    request: Vec<u8>,
    len_bytes: u64,
}

impl Reads {
    /// How many requests are served at a time: a ring full.
    pub(crate) const BATCH: u32 = 32;

    /// Reads of 4 KiB, one page each.
    pub(crate) fn of_4_kib() -> Self {
        let request = transfer(Layout::X86_64, 0, (1, 8), &[segment(DATA, 0, 7)]);
        Self::new(request, 4096)
    }

    /// Indirect reads of 1 MiB, 256 pages each.
    pub(crate) fn of_1_mib() -> Self {
        let request = indirect(Layout::X86_64, 0, (1, 8), (256, &[0x20]));
        Self::new(request, 1 << 20)
    }

    fn new(request: Vec<u8>, len_bytes: u64) -> Self {
        let memory = memory();
        let segments: Vec<u8> = (0..256)
            .flat_map(|page| segment(DATA + page % 16, 0, 7))
            .collect();
        memory.write(Gpa(0x2_0000), &segments).expect("RAM");
        let front = FrontRing::new(&memory, &[RING], Layout::X86_64.slot_bytes());
        let queue = Queue::attach(&memory, &[RING], Protocol::X86_64, 256).expect("a ring");
        Self {
            memory,
            front,
            queue,
            disk: Disk::new(1 << 30).expect("whole sectors"),
            request,
            len_bytes,
        }
    }

    /// Serves a ring full of requests, and returns the time of the back end alone.
    pub(crate) fn serve(&mut self) -> Duration {
        for _ in 0..Self::BATCH {
            self.front.put(&self.memory, &self.request);
        }
        self.front.publish(&self.memory);
        let start = Instant::now();
        for _ in 0..Self::BATCH {
            let next = self.queue.next(&self.memory, &All, &self.disk);
            let Next::Request(request) = next.expect("a ring") else {
                panic!("the request is right")
            };
            let Action::Read(io) = black_box(&request.action) else {
                panic!("it is a read")
            };
            assert_eq!(io.area.len_bytes, self.len_bytes);
            let answered = self.queue.answer(&self.memory, request, Status::Okay);
            answered.expect("it was taken");
        }
        black_box(self.queue.publish(&self.memory).expect("a ring"));
        let spent = start.elapsed();
        while self.front.take(&self.memory, 16).is_some() {}
        spent
    }
}
