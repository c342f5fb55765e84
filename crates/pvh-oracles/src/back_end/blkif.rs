//! A disk's back end against a guest that changes everything while it is read.

use pvh_abi::Gpa;
use pvh_blkif::{Action, DiscardSupport, Disk, Next, Operation, Protocol, Queue, Request, Status};
use pvh_memory::GuestMemory;
use pvh_ring::RingError;
use pvh_testkit::{
    blkif::{Layout, discard, indirect, segment, transfer},
    grants::{GrantTable, GrantedFrame},
    racing::RacingMemory,
    ring::FrontRing,
};

use self::judge::{Judge, Wanted};
use super::{Record, Ring};
use crate::tape::Tape;

mod judge;

/// Lets a guest and the back end of its disk take turns.
///
/// # Panics
///
/// If a request is judged otherwise than by a second reading of blkif.h, a byte is read twice, an
/// access is not the ring's or a granted page's, a response is wrong, or a page stays in use.
pub fn blkif(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut world = World::new(&mut tape);
    for _ in 0..64 {
        if tape.is_empty() {
            break;
        }
        world.step(&mut tape);
    }
    world.finish();
}

/// The pages of the ring, of which the first ones are used.
const RING: [u64; 4] = [0x3000, 0x1000, 0x4000, 0x2000];
/// Granted for writing, by number.
const WRITABLE: std::ops::Range<u32> = 0x10..0x18;
/// Granted for reading.
const READ_ONLY: std::ops::Range<u32> = 0x18..0x1E;
/// Granted, but no memory.
const NO_RAM: u32 = 0x1E;
const RAM: u64 = 0x1_E000;
const SECTORS: u64 = 64;

struct World {
    memory: RacingMemory,
    grants: GrantTable,
    front: FrontRing,
    layout: Layout,
    disk: Disk,
    judge: Judge,
    queue: Queue,
    ring: Ring,
    open: Vec<Open>,
}

/// A request that was taken: its pages, and the first bytes of its response.
struct Open {
    request: Request<GrantedFrame>,
    pieces: usize,
    id: [u8; 8],
    operation: u8,
}

impl World {
    fn new(tape: &mut Tape<'_>) -> Self {
        let (shape, kind) = (tape.byte(), tape.byte());
        let layout = match shape & 1 {
            0 => Layout::X86_64,
            _ => Layout::X86_32,
        };
        let pages = &RING[..1 << (shape >> 1 & 3).min(2)];
        let segments = [0, 8, 256, 256][usize::from(shape >> 3 & 3)];
        let grants = GrantTable::of_frames(READ_ONLY, WRITABLE);
        grants.grant(NO_RAM, Gpa(RAM), true);
        let memory = RacingMemory::new(RAM, &grants);
        let gpas: Vec<Gpa> = pages.iter().map(|page| Gpa(*page)).collect();
        let mut front = FrontRing::new(memory.ram(), &gpas, layout.slot_bytes());
        let start = match shape >> 5 & 1 {
            0 => 0,
            _ => u32::MAX - 3,
        };
        front.start_at(memory.ram(), start);
        let protocol = match layout {
            Layout::X86_64 => Protocol::X86_64,
            Layout::X86_32 => Protocol::X86_32,
        };
        let queue = Queue::attach(&memory, &gpas, protocol, segments);
        memory.take_seen();
        let judge = Judge {
            layout,
            segments,
            is_read_only: kind & 1 != 0,
            has_discard: kind & 2 != 0,
            has_secure: kind & 4 != 0,
        };
        Self {
            memory,
            grants,
            front,
            layout,
            disk: disk(&judge),
            judge,
            queue: queue.expect("the ring is empty"),
            ring: Ring::new(pages, layout.slot_bytes(), start),
            open: Vec::new(),
        }
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        match tape.below(14) {
            0 | 1 => {
                let request = self.transfer(tape);
                self.put(&request);
            }
            2 => {
                let request = self.indirect(tape);
                self.put(&request);
            }
            3 => {
                let flag = tape.byte();
                let place = (tape.byte().into(), sector(tape));
                let request = discard(self.layout, flag, place, sector(tape));
                self.put(&request);
            }
            4 => self.put(tape.bytes(112)),
            5..=7 => self.serve(),
            8 => self.answer(tape),
            9 => self.publish(),
            10 => self.sleep(),
            11 => {
                let (at, bytes) = place(tape);
                // Outside of RAM it is nobody's.
                let _ = self.memory.ram().write(at, &bytes);
            }
            12 => {
                let after = usize::from(tape.below(8));
                let (at, bytes) = place(tape);
                self.memory.change_after(after, at, &bytes);
            }
            _ => {
                let reference = u32::from(tape.byte() & 0x1F);
                match tape.below(3) {
                    0 => self.grants.revoke(reference),
                    how => {
                        let at = Gpa(u64::from(reference) << 12);
                        self.grants.grant(reference, at, how == 1);
                    }
                }
            }
        }
    }

    fn transfer(&self, tape: &mut Tape<'_>) -> Vec<u8> {
        let operation = tape.byte() & 7;
        let place = (tape.byte().into(), sector(tape));
        let segments: Vec<_> = (0..tape.below(14)).map(|_| any_segment(tape)).collect();
        transfer(self.layout, operation, place, &segments)
    }

    /// Fills a page with segments, and asks for them.
    fn indirect(&self, tape: &mut Tape<'_>) -> Vec<u8> {
        let operation = tape.byte() & 3;
        let place = (tape.byte().into(), sector(tape));
        let references = [u32::from(tape.byte() & 0x1F), u32::from(tape.byte() & 0x1F)];
        let count = tape.half();
        let segments: Vec<_> = (0..tape.below(8)).map(|_| any_segment(tape)).collect();
        let all: Vec<_> = segments
            .iter()
            .cycle()
            .take(512.min(count.into()))
            .collect();
        let at = Gpa(u64::from(references[0]) << 12);
        let bytes: Vec<u8> = all.into_iter().flatten().copied().collect();
        let _ = self.memory.ram().write(at, &bytes);
        indirect(self.layout, operation, place, (count, &references))
    }

    fn put(&mut self, request: &[u8]) {
        let len = request.len().min(size_of_slot(self.layout));
        self.front.put(self.memory.ram(), &request[..len]);
        self.front.publish(self.memory.ram());
    }

    fn serve(&mut self) {
        let next = self.queue.next(&self.memory, &self.grants, &self.disk);
        let mut record = Record::new(self.memory.take_seen());
        let taken = self.grants.taken();
        let raw = match self.ring.take(&mut record) {
            Ok(Some(raw)) => raw,
            Ok(None) => {
                assert!(matches!(next, Ok(Next::Empty)), "{next:?}");
                return record.finish();
            }
            Err(error) => {
                assert!(matches!(next, Err(is) if is == error), "{next:?}");
                return record.finish();
            }
        };
        let wanted = self.judge.judge(&raw, &self.grants, &mut record);
        assert_eq!(taken, wanted.taken, "the pages that were taken");
        // An indirect request (6) is answered by the read or write that it holds.
        let operation = if raw[0] == 6 { raw[1] } else { raw[0] };
        let id = self.judge.id(&raw);
        match (next, wanted.result) {
            (Ok(Next::Refused(_)), Err(status)) => {
                let in_use = self.respond(&mut record, id, operation, status);
                assert_eq!(in_use, self.in_use(), "pages of a refused request");
            }
            (Ok(Next::Request(request)), Ok(wanted)) => {
                check(&request.action, &wanted);
                self.open.push(Open {
                    request,
                    pieces: wanted.pieces.len(),
                    id,
                    operation,
                });
            }
            (next, wanted) => panic!("{next:?} instead of {wanted:?}"),
        }
        record.finish();
        assert_eq!(self.grants.in_use(), self.in_use());
        assert_eq!(self.queue.unanswered(), self.ring.unanswered());
    }

    fn answer(&mut self, tape: &mut Tape<'_>) {
        let (which, how) = (usize::from(tape.byte()), usize::from(tape.below(3)));
        if self.open.is_empty() {
            return;
        }
        let open = self.open.swap_remove(which % self.open.len());
        let statuses = [Status::Okay, Status::Error, Status::NotSupported];
        let (id, operation) = (open.id, open.operation);
        let done = self.queue.answer(&self.memory, open.request, statuses[how]);
        done.expect("the request was taken");
        let mut record = Record::new(self.memory.take_seen());
        let status = [0, -1, -2][how];
        let in_use = self.respond(&mut record, id, operation, status);
        assert_eq!(
            in_use,
            self.in_use(),
            "the pages go back before the response"
        );
        record.finish();
    }

    /// Takes a response out of the record, every byte of it.
    fn respond(&mut self, record: &mut Record, id: [u8; 8], operation: u8, status: i16) -> usize {
        let mut bytes = id.to_vec();
        bytes.extend([operation, 0]);
        bytes.extend(status.to_le_bytes());
        bytes.resize(self.layout.response_bytes(), 0);
        self.ring.put(record, &bytes)
    }

    fn publish(&mut self) {
        let notify = self.queue.publish(&self.memory);
        let mut record = Record::new(self.memory.take_seen());
        assert_eq!(notify, Ok(self.ring.publish(&mut record)));
        record.finish();
    }

    fn sleep(&mut self) {
        let is: Result<bool, RingError> = self.queue.wants_service(&self.memory);
        let mut record = Record::new(self.memory.take_seen());
        assert_eq!(is, self.ring.wait(&mut record, 1));
        record.finish();
    }

    /// The pages that open requests hold.
    fn in_use(&self) -> usize {
        self.open.iter().map(|open| open.pieces).sum()
    }

    fn finish(mut self) {
        while !self.open.is_empty() {
            self.answer(&mut Tape::new(&[]));
        }
        self.publish();
        assert_eq!(self.grants.in_use(), 0, "a page stays in use");
    }
}

/// Compares a request that was taken with what it is to be.
fn check(action: &Action<GrantedFrame>, wanted: &Wanted) {
    let (operation, io) = match action {
        Action::Read(io) => (Operation::READ, Some(io)),
        Action::Write(io) => (Operation::WRITE, Some(io)),
        Action::Flush(io) => (Operation::FLUSH_DISKCACHE, io.as_ref()),
        Action::Discard { area, is_secure } => {
            let found = (
                Operation::DISCARD.0,
                area.offset,
                area.len_bytes,
                *is_secure,
            );
            let Wanted {
                operation,
                offset,
                len_bytes,
                is_secure,
                ..
            } = *wanted;
            return assert_eq!(found, (operation, offset, len_bytes, is_secure));
        }
    };
    assert_eq!(operation.0, wanted.operation);
    let Some(io) = io else {
        return assert_eq!((wanted.len_bytes, wanted.pieces.len()), (0, 0));
    };
    assert_eq!(
        (io.area.offset, io.area.len_bytes),
        (wanted.offset, wanted.len_bytes)
    );
    let pieces = io.pieces.iter().map(|piece| (piece.at.0, piece.len_bytes));
    assert_eq!(pieces.collect::<Vec<_>>(), wanted.pieces);
}

fn disk(judge: &Judge) -> Disk {
    let disk = Disk::new(SECTORS * 512).expect("the size is right");
    let disk = match judge.has_discard {
        true => disk.with_discard(DiscardSupport {
            granularity_bytes: 512,
            alignment_bytes: 0,
            has_secure: judge.has_secure,
        }),
        false => disk,
    };
    if judge.is_read_only {
        disk.read_only()
    } else {
        disk
    }
}

/// A sector or a number of them: mostly of the disk, or any number.
fn sector(tape: &mut Tape<'_>) -> u64 {
    match tape.byte() {
        255 => tape.long(),
        near => u64::from(near & 0x7F),
    }
}

fn any_segment(tape: &mut Tape<'_>) -> [u8; 8] {
    let (reference, sectors) = (tape.byte(), tape.byte());
    // One bit beyond the page's last sector.
    segment(u32::from(reference & 0x1F), sectors & 7, sectors >> 3 & 15)
}

/// Bytes of the guest's, and where: an index, the ring, or a granted page.
fn place(tape: &mut Tape<'_>) -> (Gpa, Vec<u8>) {
    let page = match tape.byte() {
        index @ 0..=63 => {
            let at = RING[0] + u64::from(index & 3) * 4;
            return (Gpa(at), tape.word().to_le_bytes().to_vec());
        }
        ring @ 64..=191 => RING[usize::from(ring & 3)],
        page => u64::from(page & 0x1F) << 12,
    };
    let offset = u64::from(tape.half() & 0xFFF);
    let len = usize::from(tape.byte() & 31);
    (Gpa(page + offset), tape.bytes(len).to_vec())
}

fn size_of_slot(layout: Layout) -> usize {
    usize::try_from(layout.slot_bytes()).unwrap_or(0)
}
