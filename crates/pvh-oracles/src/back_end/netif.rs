//! A network device's back end against a guest that changes everything while it is read.

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use pvh_netif::{
    Checksum, FillsChecksums, GsoKind, Next, Offloads, Packet, Receive, Refusal, Status, Transmit,
    TransmitError,
};
use pvh_testkit::{
    grants::{GrantTable, GrantedFrame, NotGranted},
    netif::{extra, receive, transmit},
    racing::RacingMemory,
    ring::FrontRing,
};

use self::judge::{Fault, Kind, Wanted, judge};
use super::{Record, Ring};
use crate::tape::Tape;

mod deliver;
mod judge;

/// Lets a guest and the back end of its network device take turns.
///
/// # Panics
///
/// If a packet is judged otherwise than by a second reading of netif.h, a byte is read twice, an
/// access is not the rings' or a granted page's, a response is wrong, or a page stays in use.
pub fn netif(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut world = World::new(&mut tape);
    for _ in 0..96 {
        if tape.is_empty() {
            break;
        }
        world.step(&mut tape);
    }
    world.finish();
}

const TX: u64 = 0x1000;
const RX: u64 = 0x2000;
/// Granted for writing, by number.
const WRITABLE: std::ops::Range<u32> = 0x10..0x18;
/// Granted for reading.
const READ_ONLY: std::ops::Range<u32> = 0x18..0x1E;
/// Granted, but no memory.
const NO_RAM: u32 = 0x1E;
const RAM: u64 = 0x1_E000;

struct World {
    memory: RacingMemory,
    grants: GrantTable,
    offloads: Offloads,
    start: u32,
    tx: Direction<Transmit>,
    rx: Direction<Receive>,
    open: Vec<(Packet<GrantedFrame>, Wanted)>,
}

/// A ring: its front end, its back end, and the model of the back end.
struct Direction<B> {
    front: FrontRing,
    back: B,
    ring: Ring,
}

impl World {
    fn new(tape: &mut Tape<'_>) -> Self {
        let flags = tape.byte();
        let grants = GrantTable::of_frames(READ_ONLY, WRITABLE);
        grants.grant(NO_RAM, Gpa(RAM), true);
        let memory = RacingMemory::new(RAM, &grants);
        let offloads = Offloads {
            has_scatter_gather: flags & 1 != 0,
            has_tcp_v4: flags & 2 != 0,
            has_tcp_v6: flags & 4 != 0,
            fills_checksums: FillsChecksums {
                ipv4: flags & 8 != 0,
                ipv6: flags & 16 != 0,
            },
        };
        let start = match flags >> 5 & 1 {
            0 => 0,
            _ => u32::MAX - 3,
        };
        let tx = transmit_ring(&memory, start);
        let rx = receive_ring(&memory, start, offloads);
        Self {
            memory,
            grants,
            offloads,
            start,
            tx,
            rx,
            open: Vec::new(),
        }
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        let ram = self.memory.ram();
        match tape.below(16) {
            0 | 1 => {
                let (reference, flags) = (reference(tape), tape.byte());
                let (offset, size) = (tape.half(), tape.half());
                // Mostly a part of a page.
                let mask = if flags & 0x80 == 0 { 0x7FF } else { 0xFFFF };
                let ids = (tape.byte().into(), size & mask);
                let request = transmit(reference, offset & mask, (flags & 15).into(), ids);
                self.tx.front.put(ram, &request);
            }
            2 => {
                let rest = [tape.byte(), tape.byte(), tape.byte(), 0];
                let kind = tape.byte() & 7;
                self.tx.front.put(ram, &extra(kind, rest[2] >> 7, rest));
            }
            3 => self.tx.front.put(ram, tape.bytes(12)),
            4 => {
                self.tx.front.publish(ram);
            }
            5 => {
                for _ in 0..tape.below(20) {
                    let id = tape.byte();
                    let request = receive(id.into(), reference(tape));
                    self.rx.front.put(ram, &request);
                }
                self.rx.front.publish(ram);
            }
            6..=8 => self.serve(),
            9 => self.answer(tape),
            10 => self.deliver(tape),
            11 => self.publish(),
            12 => {
                let is = self.tx.back.wants_service(&self.memory);
                let mut record = Record::new(self.memory.take_seen());
                let wanted = self.tx.ring.wait(&mut record, 1);
                assert_eq!(is, wanted);
                record.finish();
            }
            13 => {
                let (at, bytes) = place(tape);
                // Outside of RAM it is nobody's.
                let _ = ram.write(at, &bytes);
            }
            14 => {
                let after = usize::from(tape.below(48));
                let (at, bytes) = place(tape);
                self.memory.change_after(after, at, &bytes);
            }
            _ => {
                let reference = reference(tape);
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

    fn serve(&mut self) {
        let next = self.tx.back.next(&self.memory, &self.grants);
        let mut record = Record::new(self.memory.take_seen());
        let taken = self.grants.taken();
        let (wanted, asked) = judge(&mut self.tx.ring, &mut record, &self.grants);
        assert_eq!(taken, asked, "the pages that were taken");
        match (next, wanted) {
            (Ok(Next::Empty), Ok(None)) => {}
            (Ok(Next::Packet(packet)), Ok(Some(Kind::Packet(wanted)))) => {
                check(&packet, &wanted);
                self.open.push((packet, wanted));
            }
            (Ok(Next::Refused(why)), Ok(Some(Kind::Refused(wanted)))) => {
                assert!(is_that(&why, &wanted), "{why:?} instead of {wanted:?}");
                let in_use = respond(&mut self.tx.ring, &mut record, &wanted.slots, -1);
                assert_eq!(in_use, self.in_use(), "pages of a refused packet");
            }
            (Err(is), Err(wanted)) => {
                assert_eq!(is, wanted);
                record.finish();
                return self.connect_transmit();
            }
            (next, wanted) => panic!("{next:?} instead of {wanted:?}"),
        }
        record.finish();
        assert_eq!(self.grants.in_use(), self.in_use());
    }

    fn answer(&mut self, tape: &mut Tape<'_>) {
        let (which, how) = (usize::from(tape.byte()), usize::from(tape.below(3)));
        if self.open.is_empty() {
            return;
        }
        let (packet, wanted) = self.open.swap_remove(which % self.open.len());
        let statuses = [Status::Okay, Status::Dropped, Status::Error];
        let done = self.tx.back.answer(&self.memory, packet, statuses[how]);
        done.expect("the packet was taken");
        let mut record = Record::new(self.memory.take_seen());
        let status = [0, -2, -1][how];
        let in_use = respond(&mut self.tx.ring, &mut record, &wanted.slots, status);
        assert_eq!(
            in_use,
            self.in_use(),
            "the pages go back before the response"
        );
        record.finish();
    }

    fn publish(&mut self) {
        let notify = self.tx.back.publish(&self.memory);
        let mut record = Record::new(self.memory.take_seen());
        assert_eq!(notify, Ok(self.tx.ring.publish(&mut record)));
        record.finish();
        let notify = self.rx.back.publish(&self.memory);
        let mut record = Record::new(self.memory.take_seen());
        assert_eq!(notify, Ok(self.rx.ring.publish(&mut record)));
        record.finish();
    }

    /// The queue has ended: its packets are dropped, and the guest makes a new ring.
    fn connect_transmit(&mut self) {
        self.open.clear();
        assert_eq!(self.grants.in_use(), 0, "a page stays in use");
        self.tx = transmit_ring(&self.memory, self.start);
    }

    /// The pages that open packets hold.
    fn in_use(&self) -> usize {
        self.open
            .iter()
            .map(|(_, wanted)| wanted.pieces.len())
            .sum()
    }

    fn finish(mut self) {
        while !self.open.is_empty() {
            self.answer(&mut Tape::new(&[]));
        }
        self.publish();
        assert_eq!(self.grants.in_use(), 0, "a page stays in use");
    }
}

fn transmit_ring(memory: &RacingMemory, start: u32) -> Direction<Transmit> {
    let mut front = FrontRing::new(memory.ram(), &[Gpa(TX)], 12);
    front.start_at(memory.ram(), start);
    let back = Transmit::attach(memory, Gpa(TX)).expect("the ring is empty");
    memory.take_seen();
    let ring = Ring::new(&[TX], 12, start);
    Direction { front, back, ring }
}

fn receive_ring(memory: &RacingMemory, start: u32, offloads: Offloads) -> Direction<Receive> {
    let mut front = FrontRing::new(memory.ram(), &[Gpa(RX)], 8);
    front.start_at(memory.ram(), start);
    let back = Receive::attach(memory, Gpa(RX), offloads).expect("the ring is empty");
    memory.take_seen();
    let ring = Ring::new(&[RX], 8, start);
    Direction { front, back, ring }
}

/// Takes the responses of a packet out of the record; `None` is the slot of an extra-info.
fn respond(ring: &mut Ring, record: &mut Record, slots: &[Option<u16>], status: i16) -> usize {
    let puts = slots.iter().map(|id| {
        let (id, status) = id.map_or((0, 1), |id| (id, status));
        let bytes = [id.to_le_bytes(), status.to_le_bytes()];
        ring.put(record, bytes.as_flattened())
    });
    puts.last().unwrap_or(0)
}

/// Compares a packet that was taken with what it is to be.
fn check(packet: &Packet<GrantedFrame>, wanted: &Wanted) {
    let pieces = packet.pieces.iter();
    let pieces: Vec<_> = pieces.map(|piece| (piece.at.0, piece.len_bytes)).collect();
    assert_eq!(
        (packet.len_bytes, pieces),
        (wanted.size, wanted.pieces.clone())
    );
    let checksum = match (wanted.flags & 1, wanted.flags & 2) {
        (1, _) => Checksum::Blank,
        (_, 2) => Checksum::Validated,
        _ => Checksum::Complete,
    };
    assert_eq!(packet.checksum, checksum);
    let gso = packet.gso.map(|gso| match gso.kind {
        GsoKind::TcpV4 => (1, gso.segment_bytes),
        GsoKind::TcpV6 => (2, gso.segment_bytes),
    });
    assert_eq!(gso, wanted.gso);
}

/// Whether a packet was refused for the reason that it is to be refused for.
fn is_that(why: &Refusal<NotGranted>, wanted: &Wanted) -> bool {
    match (why, wanted.fault) {
        (Refusal::Multicast, Some(Fault::Multicast))
        | (Refusal::Grant { .. }, Some(Fault::Grant)) => true,
        (Refusal::TooManySlots { slots }, Some(Fault::Slots(wanted))) => *slots == wanted,
        (Refusal::TooShort { len_bytes }, Some(Fault::Short)) => *len_bytes == wanted.size,
        (Refusal::PartTooLong { index, .. }, Some(Fault::Part(wanted))) => *index == wanted,
        _ => false,
    }
}

fn reference(tape: &mut Tape<'_>) -> u32 {
    u32::from(tape.byte() & 0x1F)
}

/// Bytes of the guest's, and where: an index, a ring, or a granted page.
fn place(tape: &mut Tape<'_>) -> (Gpa, Vec<u8>) {
    let page = match tape.byte() {
        index @ 0..=63 => {
            let ring = if index & 4 == 0 { TX } else { RX };
            let at = ring + u64::from(index & 3) * 4;
            return (Gpa(at), tape.word().to_le_bytes().to_vec());
        }
        ring @ 64..=191 => TX + u64::from(ring & 1) * (RX - TX),
        page => u64::from(page & 0x1F) << 12,
    };
    let offset = u64::from(tape.half() & 0xFFF);
    let len = usize::from(tape.byte() & 31);
    (Gpa(page + offset), tape.bytes(len).to_vec())
}

/// An error of the transmit ring, for the model.
fn ring_error(error: pvh_ring::RingError) -> TransmitError {
    TransmitError::Ring(error)
}
