//! A guest with a disk: its memory, its grants, its front end, and the back end under test.

use pvh_abi::Gpa;
use pvh_blkif::{Disk, Next, Protocol, Queue, Refusal, Request};
use pvh_memory::VecMemory;
use pvh_testkit::{
    blkif::Layout,
    grants::{GrantTable, GrantedFrame, NotGranted},
    ring::FrontRing,
};

/// Where the ring is.
pub(crate) const RING: Gpa = Gpa(0x1000);

/// A guest, and the back end of its disk.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) memory: VecMemory,
    pub(crate) grants: GrantTable,
    pub(crate) front: FrontRing,
    pub(crate) layout: Layout,
    pub(crate) queue: Queue,
    pub(crate) disk: Disk,
}

impl Guest {
    /// A guest of one page of ring. It has granted pages 0x10 to 0x1F for writing and pages 0x20 to
    /// 0x2F for reading, by references of their frame number.
    pub(crate) fn new(layout: Layout, disk: Disk) -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x3_0000)]).unwrap();
        let front = FrontRing::new(&memory, &[RING], layout.slot_bytes());
        let queue = Queue::attach(&memory, &[RING], protocol(layout), 256).unwrap();
        Self {
            memory,
            grants: GrantTable::of_frames(0x20..0x30, 0x10..0x20),
            front,
            layout,
            queue,
            disk,
        }
    }

    /// Puts a request into the next slot and publishes it.
    pub(crate) fn put(&mut self, request: &[u8]) {
        self.front.put(&self.memory, request);
        self.front.publish(&self.memory);
    }

    /// Takes the next request out of the ring.
    pub(crate) fn next(&mut self) -> Next<GrantedFrame, NotGranted> {
        self.queue
            .next(&self.memory, &self.grants, &self.disk)
            .unwrap()
    }

    /// The next request, which is expected to be fine.
    pub(crate) fn request(&mut self) -> Request<GrantedFrame> {
        match self.next() {
            Next::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    /// Why the next request is refused.
    pub(crate) fn refusal(&mut self) -> Refusal<NotGranted> {
        match self.next() {
            Next::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// The bytes of the next response: 16 or 12.
    pub(crate) fn response(&mut self) -> Vec<u8> {
        self.queue.publish(&self.memory).unwrap();
        let response = self.front.take(&self.memory, self.layout.response_bytes());
        response.unwrap().1
    }

    /// The id and the status of the next response.
    pub(crate) fn status(&mut self) -> (u64, i16) {
        let bytes = self.response();
        let id = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        (id, i16::from_le_bytes([bytes[10], bytes[11]]))
    }
}

/// The protocol of a layout.
pub(crate) const fn protocol(layout: Layout) -> Protocol {
    match layout {
        Layout::X86_64 => Protocol::X86_64,
        Layout::X86_32 => Protocol::X86_32,
    }
}
