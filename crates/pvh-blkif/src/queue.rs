//! A queue of a disk: requests come out of its ring checked, answers go back.

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use pvh_ring::{Access, AttachError, BackRing, Grants, RingError};

use crate::{
    Action, Disk, Io, MAX_INDIRECT_SEGMENTS, Operation, Protocol, Refusal, Request, Status,
    segments,
    wire::{RawRequest, RawResponse, RawSegment},
};

/// One ring of a disk.
///
/// One thread uses it at a time; queues of a disk are independent. [`next`](Self::next) looks at
/// one request and takes no lock but what the embedder's [`Grants`] takes. At most it copies 112
/// bytes and one page of 512 segments, and allocates 256 pieces.
#[derive(Debug)]
pub struct Queue {
    ring: BackRing,
    protocol: Protocol,
    max_indirect_segments: u16,
}

/// What came out of a ring.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a request, or why none")]
pub enum Next<P, E: core::error::Error + 'static> {
    /// A request to carry out and [answer](Queue::answer).
    Request(Request<P>),
    /// A request that was refused; its answer is in the ring.
    Refused(Refusal<E>),
    /// No request waits.
    Empty,
}

impl Queue {
    /// Attaches to the ring in these pages. `max_indirect_segments` is what was offered, 0 to 256.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn attach(
        memory: &(impl GuestMemory + ?Sized),
        pages: &[Gpa],
        protocol: Protocol,
        max_indirect_segments: u16,
    ) -> Result<Self, AttachError> {
        Ok(Self {
            ring: BackRing::attach(memory, pages, protocol.slot_bytes())?,
            protocol,
            max_indirect_segments: max_indirect_segments.min(MAX_INDIRECT_SEGMENTS),
        })
    }

    /// Takes the next request and checks all of it: operation, segments, the area of the disk, and
    /// the grant of every page, before anything is read or written.
    ///
    /// A guest can put requests for ever: the caller bounds how many it takes before it looks at
    /// something else.
    ///
    /// # Errors
    ///
    /// [`RingError`]: the ring is unusable; the back end disconnects.
    pub fn next<G: Grants>(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        grants: &G,
        disk: &Disk,
    ) -> Result<Next<G::Page, G::Error>, RingError> {
        let mut raw = RawRequest::new(self.protocol);
        if self.ring.take(memory, raw.as_mut())?.is_none() {
            return Ok(Next::Empty);
        }
        let (id, operation) = (raw.id(), raw.answered_operation());
        match self.check((memory, grants), disk, &raw) {
            Ok(action) => Ok(Next::Request(Request {
                id,
                operation,
                action,
            })),
            Err(refusal) => {
                let status = match refusal {
                    Refusal::Unsupported { .. } => Status::NotSupported,
                    _ => Status::Error,
                };
                self.put(memory, (id, operation), status)?;
                Ok(Next::Refused(refusal))
            }
        }
    }

    /// Answers a request: gives its pages back, then puts the response. Requests may be answered in
    /// any order. The guest sees the answers after [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`RingError`], also for a request of another queue once this one has nothing left to answer.
    pub fn answer<P>(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        request: Request<P>,
        status: Status,
    ) -> Result<(), RingError> {
        let Request {
            id,
            operation,
            action,
        } = request;
        // Before the response: the guest may end the grants as soon as it sees that.
        drop(action);
        self.put(memory, (id, operation), status)
    }

    /// Shows the guest all answers so far; `true` if its event channel has to be notified.
    ///
    /// # Errors
    ///
    /// [`RingError::Memory`].
    pub fn publish(&mut self, memory: &(impl GuestMemory + ?Sized)) -> Result<bool, RingError> {
        self.ring.publish(memory)
    }

    /// Asks for a notification with the next request; `true` if one waits already, and the caller
    /// is to go on instead of sleeping.
    ///
    /// # Errors
    ///
    /// [`RingError`].
    pub fn wants_service(&self, memory: &(impl GuestMemory + ?Sized)) -> Result<bool, RingError> {
        self.ring.wants_service(memory)
    }

    /// Returns how many requests have been taken and not answered.
    #[must_use]
    pub const fn unanswered(&self) -> u32 {
        self.ring.unanswered()
    }

    fn check<G: Grants>(
        &self,
        guest: (&(impl GuestMemory + ?Sized), &G),
        disk: &Disk,
        raw: &RawRequest,
    ) -> Result<Action<G::Page>, Refusal<G::Error>> {
        let operation = raw.operation();
        match operation {
            Operation::READ => {
                let io = io(guest.1, disk, (raw, Access::Write), &segments::direct(raw)?)?;
                Ok(Action::Read(io))
            }
            Operation::WRITE => {
                let io = io(guest.1, disk, (raw, Access::Read), &segments::direct(raw)?)?;
                Ok(Action::Write(io))
            }
            Operation::FLUSH_DISKCACHE => {
                let segments = segments::direct(raw)?;
                if segments.is_empty() {
                    return Ok(Action::Flush(None));
                }
                let io = io(guest.1, disk, (raw, Access::Read), &segments)?;
                Ok(Action::Flush(Some(io)))
            }
            Operation::DISCARD => discard(disk, raw),
            Operation::INDIRECT if self.max_indirect_segments > 0 => {
                self.check_indirect(guest, disk, raw)
            }
            _ => Err(Refusal::Unsupported { operation }),
        }
    }

    fn check_indirect<G: Grants>(
        &self,
        guest: (&(impl GuestMemory + ?Sized), &G),
        disk: &Disk,
        raw: &RawRequest,
    ) -> Result<Action<G::Page>, Refusal<G::Error>> {
        let operation = raw.indirect_operation();
        let access = match operation {
            Operation::READ => Access::Write,
            Operation::WRITE => Access::Read,
            _ => return Err(Refusal::Indirect { operation }),
        };
        let segments = segments::indirect(raw, guest, self.max_indirect_segments)?;
        let io = io(guest.1, disk, (raw, access), &segments)?;
        Ok(match access {
            Access::Write => Action::Read(io),
            Access::Read => Action::Write(io),
        })
    }

    fn put(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        (id, operation): (u64, Operation),
        status: Status,
    ) -> Result<(), RingError> {
        let response = RawResponse::new(self.protocol, id, operation, status.code());
        self.ring.put(memory, response.bytes())
    }
}

/// Checks a transfer and takes its pages. A page that the disk is read into needs a grant to write.
fn io<G: Grants>(
    grants: &G,
    disk: &Disk,
    (raw, access): (&RawRequest, Access),
    segments: &[RawSegment],
) -> Result<Io<G::Page>, Refusal<G::Error>> {
    if segments.is_empty() {
        let limit = u16::try_from(crate::MAX_DIRECT_SEGMENTS).unwrap_or(u16::MAX);
        return Err(Refusal::SegmentCount { count: 0, limit });
    }
    if access == Access::Read && disk.is_read_only() {
        return Err(Refusal::ReadOnly);
    }
    let count = segments::sectors(segments)?;
    let area = disk.area(raw.sector(), count);
    let area = area.ok_or_else(|| outside(disk, raw.sector(), count))?;
    let pieces = segments::pieces(grants, segments, access)?;
    Ok(Io { area, pieces })
}

fn discard<P, E: core::error::Error>(
    disk: &Disk,
    raw: &RawRequest,
) -> Result<Action<P>, Refusal<E>> {
    let Some(support) = disk.discard() else {
        let operation = raw.operation();
        return Err(Refusal::Unsupported { operation });
    };
    if disk.is_read_only() {
        return Err(Refusal::ReadOnly);
    }
    let (sector, count) = (raw.sector(), raw.discard_count());
    if count == 0 {
        return Err(Refusal::EmptyDiscard);
    }
    let area = disk.area(sector, count);
    Ok(Action::Discard {
        area: area.ok_or_else(|| outside(disk, sector, count))?,
        // blkif.h: the flag is ignored where secure discards are not offered.
        is_secure: support.has_secure && raw.is_secure(),
    })
}

const fn outside<E: core::error::Error>(disk: &Disk, sector: u64, count: u64) -> Refusal<E> {
    Refusal::OutsideDisk {
        sector,
        count,
        disk: disk.sectors(),
    }
}
