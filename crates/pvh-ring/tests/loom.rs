//! Every interleaving of a front end and a back end on one ring, by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p pvh-ring --test loom --release`.
#![cfg(loom)]
#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may stop"
)]

use loom::{
    sync::{
        Arc, Notify,
        atomic::{
            AtomicU32,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    thread,
};
use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, MemoryError, WordOp};
use pvh_ring::BackRing;

/// A ring in one page: four words of indices, and four slots, of which the first words are used.
struct Page {
    indices: [AtomicU32; 4],
    slots: [AtomicU32; 4],
}

const REQ_PROD: usize = 0;
const REQ_EVENT: usize = 1;
const RSP_PROD: usize = 2;
const RSP_EVENT: usize = 3;
const SLOT_BYTES: u32 = 1008;

impl Page {
    /// An empty ring, or one with two requests.
    fn new(req_prod: u32) -> Arc<Self> {
        Arc::new(Self {
            indices: [req_prod, 1, 0, 1].map(AtomicU32::new),
            slots: [10, 11, 0, 0].map(AtomicU32::new),
        })
    }

    fn slot(&self, at: Gpa) -> &AtomicU32 {
        let offset = usize::try_from(at.0).unwrap() - 64;
        &self.slots[offset / SLOT_BYTES as usize]
    }

    /// Writes a word of the ring, then looks at another one: loom orders these by fences only.
    fn write(&self, index: usize, value: u32) {
        fence(SeqCst);
        self.indices[index].store(value, SeqCst);
        fence(SeqCst);
    }

    fn read(&self, index: usize) -> u32 {
        fence(SeqCst);
        let value = self.indices[index].load(SeqCst);
        fence(SeqCst);
        value
    }
}

/// Copies are relaxed, words are in one total order, as the trait says.
impl GuestMemory for Page {
    fn is_ram(&self, _: Gpa, _: u64) -> bool {
        true
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        buf.copy_from_slice(&self.slot(at).load(Relaxed).to_le_bytes());
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        let value = u32::from_le_bytes(bytes.try_into().unwrap());
        self.slot(at).store(value, Relaxed);
        Ok(())
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        let index = usize::try_from(at.0 / 4).unwrap();
        match op {
            WordOp::Load => Ok(self.read(index)),
            WordOp::Swap(value) => {
                self.write(index, value);
                Ok(0) // no back end looks at it
            }
            other => panic!("{other:?}"),
        }
    }

    fn atomic_u64(&self, at: Gpa, _: WordOp<u64>) -> Result<u64, MemoryError> {
        panic!("{at}")
    }
}

fn attach(page: &Page) -> BackRing {
    BackRing::attach(page, &[Gpa(0)], SLOT_BYTES).unwrap()
}

/// A front end puts two requests and notifies as it is asked to; a back end sleeps where it may. None
/// is missed, or the back end would sleep for ever.
#[test]
fn no_request_is_missed_whenever_the_back_end_goes_to_sleep() {
    loom::model(|| {
        let (page, event) = (Page::new(0), Arc::new(Notify::new()));
        let mut back = attach(&page);
        let front = thread::spawn({
            let (page, event) = (Arc::clone(&page), Arc::clone(&event));
            move || {
                for index in 0..2 {
                    page.slots[index as usize].store(20 + index, Relaxed);
                    page.write(REQ_PROD, index + 1);
                    // RING_PUSH_REQUESTS_AND_CHECK_NOTIFY
                    if page.read(REQ_EVENT) == index + 1 {
                        event.notify();
                    }
                }
            }
        });
        let mut taken = Vec::new();
        while taken.len() < 2 {
            let mut request = [0; 4];
            match back.take(&*page, &mut request).unwrap() {
                Some(_) => taken.push(u32::from_le_bytes(request)),
                None if back.wants_service(&*page).unwrap() => {}
                None => event.wait(),
            }
        }
        assert_eq!(taken, [20, 21]);
        front.join().unwrap();
    });
}

/// A back end answers two requests and notifies as it is asked to; a front end sleeps where it may.
#[test]
fn no_response_is_missed_whenever_the_front_end_goes_to_sleep() {
    loom::model(|| {
        let (page, event) = (Page::new(2), Arc::new(Notify::new()));
        let mut back = attach(&page);
        let server = thread::spawn({
            let (page, event) = (Arc::clone(&page), Arc::clone(&event));
            move || {
                for _ in 0..2 {
                    let mut request = [0; 4];
                    back.take(&*page, &mut request).unwrap().unwrap();
                    let response = u32::from_le_bytes(request) + 20;
                    back.put(&*page, &response.to_le_bytes()).unwrap();
                    if back.publish(&*page).unwrap() {
                        event.notify();
                    }
                }
            }
        });
        let mut received = Vec::new();
        while received.len() < 2 {
            let cons = u32::try_from(received.len()).unwrap();
            if page.read(RSP_PROD) != cons {
                received.push(page.slots[received.len()].load(Relaxed));
                continue;
            }
            // RING_FINAL_CHECK_FOR_RESPONSES
            page.write(RSP_EVENT, cons + 1);
            if page.read(RSP_PROD) == cons {
                event.wait();
            }
        }
        assert_eq!(received, [30, 31]);
        server.join().unwrap();
    });
}
