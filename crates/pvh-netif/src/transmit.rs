//! Packets from the guest: requests of the transmit ring, put together and checked.

mod error;

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use pvh_ring::{Access, AttachError, BackRing, GrantedPage, Grants, RingError};

use crate::{
    Checksum, Gso, MAX_SLOTS,
    wire::{
        EXTRA_GSO, EXTRA_LAST, EXTRA_MCAST_ADD, EXTRA_MCAST_DEL, Extra, RSP_DROPPED, RSP_ERROR,
        RSP_NULL, RSP_OKAY, TX_SLOT, TXF_EXTRA_INFO, TXF_MORE_DATA, TxRequest, tx_response,
    },
};

pub use error::{Refusal, TransmitError};

/// The transmit ring of one queue.
///
/// One thread uses it at a time. One call puts together one packet: at most 20 requests and 20
/// extra-infos are taken, and at most 18 pages are in use until the packet is answered.
#[derive(Debug)]
pub struct Transmit {
    ring: BackRing,
}

/// A packet that the guest sends.
///
/// It holds its granted pages until it is answered; one that is dropped instead is never answered,
/// and its buffers stay the back end's in the guest's eyes.
#[derive(Debug)]
#[must_use = "the guest waits for an answer"]
pub struct Packet<P> {
    requests: Requests,
    /// Its parts in order, together [`len_bytes`](Self::len_bytes) long; 1 to 18.
    pub pieces: Vec<Piece<P>>,
    /// Its length in bytes, 14 to 65535.
    pub len_bytes: u16,
    /// What is known of its checksum.
    pub checksum: Checksum,
    /// Whether it is to be cut up, and how.
    pub gso: Option<Gso>,
}

/// A part of a granted page.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a page and a range in it")]
pub struct Piece<P> {
    /// The page, in use as long as this lives.
    pub page: P,
    /// Where the data begins in guest memory.
    pub at: Gpa,
    /// How long it is, in bytes: 0 to 4096, inside the page.
    pub len_bytes: u16,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "netif.h has these three")]
pub enum Status {
    /// It was sent on.
    Okay,
    /// It was thrown away for want of room.
    Dropped,
    /// It was wrong.
    Error,
}

/// What came out of the ring.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a packet, or why none")]
pub enum Next<P, E: core::error::Error + 'static> {
    /// A packet to send on and [answer](Transmit::answer).
    Packet(Packet<P>),
    /// A packet that was refused; its answers are in the ring.
    Refused(Refusal<E>),
    /// No packet waits.
    Empty,
}

/// The requests of one packet, which all want an answer.
#[derive(Clone, Debug, Default)]
struct Requests {
    ids: Vec<u16>,
    extras: usize,
}

/// A packet as it stands in the ring.
struct Taken {
    requests: Vec<TxRequest>,
    extras: usize,
    gso: Option<Gso>,
    is_multicast: bool,
}

impl Transmit {
    /// Attaches to the ring in this page, of 256 slots.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn attach(memory: &(impl GuestMemory + ?Sized), page: Gpa) -> Result<Self, AttachError> {
        let ring = BackRing::attach(memory, &[page], 12)?;
        Ok(Self { ring })
    }

    /// Takes the next packet and checks all of it, the grant of every page too.
    ///
    /// A guest can send for ever: the caller bounds how many packets it takes before it looks at
    /// something else.
    ///
    /// # Errors
    ///
    /// [`TransmitError`]: the queue is unusable, and is to be disconnected.
    pub fn next<G: Grants>(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        grants: &G,
    ) -> Result<Next<G::Page, G::Error>, TransmitError> {
        let Some(taken) = self.take(memory)? else {
            return Ok(Next::Empty);
        };
        let requests = Requests {
            ids: taken.requests.iter().map(|request| request.id).collect(),
            extras: taken.extras,
        };
        let checked = match first_bytes(&taken) {
            Ok(first_bytes) => {
                inside_page(taken.requests.first(), first_bytes)?;
                pieces(grants, &taken, first_bytes)
            }
            Err(refusal) => Err(refusal),
        };
        match checked {
            Ok(pieces) => {
                let first = taken.requests.first();
                Ok(Next::Packet(Packet {
                    requests,
                    pieces,
                    len_bytes: first.map_or(0, |first| first.size),
                    checksum: first.map_or(Checksum::Complete, TxRequest::checksum),
                    gso: taken.gso,
                }))
            }
            Err(refusal) => {
                self.put(memory, &requests, RSP_ERROR)?;
                Ok(Next::Refused(refusal))
            }
        }
    }

    /// Answers a packet: gives its pages back, then puts its responses. Packets may be answered in
    /// any order.
    ///
    /// # Errors
    ///
    /// [`RingError`].
    pub fn answer<P>(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        packet: Packet<P>,
        status: Status,
    ) -> Result<(), RingError> {
        let Packet {
            requests, pieces, ..
        } = packet;
        drop(pieces);
        let status = match status {
            Status::Okay => RSP_OKAY,
            Status::Dropped => RSP_DROPPED,
            Status::Error => RSP_ERROR,
        };
        self.put(memory, &requests, status)
    }

    /// Shows the guest all answers so far; `true` if its event channel has to be notified.
    ///
    /// # Errors
    ///
    /// [`RingError::Memory`].
    pub fn publish(&mut self, memory: &(impl GuestMemory + ?Sized)) -> Result<bool, RingError> {
        self.ring.publish(memory)
    }

    /// Asks for a notification with the next packet; `true` if one waits already.
    ///
    /// # Errors
    ///
    /// [`RingError`].
    pub fn wants_service(&self, memory: &(impl GuestMemory + ?Sized)) -> Result<bool, RingError> {
        self.ring.wants_service(memory)
    }

    /// Takes all requests and extra-infos of the next packet.
    fn take(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
    ) -> Result<Option<Taken>, TransmitError> {
        let mut bytes = [0; TX_SLOT];
        if self.ring.take(memory, &mut bytes)?.is_none() {
            return Ok(None);
        }
        let mut request = TxRequest::of(&bytes);
        let mut taken = Taken {
            requests: Vec::with_capacity(1),
            extras: 0,
            gso: None,
            is_multicast: false,
        };
        if request.has(TXF_EXTRA_INFO) {
            self.take_extras(memory, &mut taken)?;
        }
        loop {
            taken.requests.push(request);
            let slots = taken.requests.len();
            if !request.has(TXF_MORE_DATA) {
                return Ok(Some(taken));
            }
            if slots >= FATAL_SLOTS {
                return Err(TransmitError::Endless);
            }
            if self.ring.take(memory, &mut bytes)?.is_none() {
                return Err(TransmitError::Truncated { slots });
            }
            request = TxRequest::of(&bytes);
            inside_page(Some(&request), request.size)?;
        }
    }

    /// Takes the extra-infos behind a packet's first request. Of each type the last one counts.
    fn take_extras(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        taken: &mut Taken,
    ) -> Result<(), TransmitError> {
        loop {
            let mut bytes = [0; TX_SLOT];
            if self.ring.take(memory, &mut bytes)?.is_none() {
                return Err(TransmitError::Truncated { slots: 1 });
            }
            taken.extras = taken.extras.saturating_add(1);
            let extra = Extra::of(&bytes);
            match extra.kind {
                EXTRA_GSO => {
                    let impossible = TransmitError::Gso {
                        kind: extra.gso_kind,
                        segment_bytes: extra.segment_bytes,
                    };
                    taken.gso = Some(extra.gso().ok_or(impossible)?);
                }
                EXTRA_MCAST_ADD | EXTRA_MCAST_DEL => taken.is_multicast = true,
                EXTRA_LAST => {}
                kind => return Err(TransmitError::ExtraType { kind }),
            }
            if !extra.has_more {
                return Ok(());
            }
            if taken.extras >= FATAL_SLOTS {
                return Err(TransmitError::Endless);
            }
        }
    }

    fn put(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        requests: &Requests,
        status: i16,
    ) -> Result<(), RingError> {
        for (index, id) in requests.ids.iter().enumerate() {
            self.ring.put(memory, &tx_response(*id, status))?;
            // The slots of extra-infos lie behind that of the first request.
            let extras = if index == 0 { requests.extras } else { 0 };
            for _ in 0..extras {
                self.ring.put(memory, &tx_response(0, RSP_NULL))?;
            }
        }
        Ok(())
    }
}

/// Checks the shape of a packet, and returns how many bytes its first part has. The first request
/// has the size of the whole packet, the others their own.
fn first_bytes<E: core::error::Error>(taken: &Taken) -> Result<u16, Refusal<E>> {
    let slots = taken.requests.len();
    let len_bytes = taken.requests.first().map_or(0, |first| first.size);
    if taken.is_multicast {
        return Err(Refusal::Multicast);
    }
    if slots > MAX_SLOTS {
        return Err(Refusal::TooManySlots { slots });
    }
    if len_bytes < ETHERNET_HEADER_BYTES {
        return Err(Refusal::TooShort { len_bytes });
    }
    let mut left = len_bytes;
    for (index, TxRequest { size, .. }) in taken.requests.iter().enumerate().skip(1) {
        let too_long = Refusal::PartTooLong {
            index,
            size: *size,
            left,
        };
        left = left.checked_sub(*size).ok_or(too_long)?;
    }
    Ok(left)
}

/// Takes the pages of a packet: all of them, or those taken are given back.
fn pieces<G: Grants>(
    grants: &G,
    taken: &Taken,
    first_bytes: u16,
) -> Result<Vec<Piece<G::Page>>, Refusal<G::Error>> {
    let others = taken.requests.iter().skip(1).map(|request| request.size);
    let sizes = core::iter::once(first_bytes).chain(others);
    let parts = taken.requests.iter().zip(sizes).enumerate();
    let pieces = parts.map(|(index, (request, len_bytes))| {
        let reference = request.reference;
        let page = grants.take(reference, Access::Read);
        let page = page.map_err(|source| Refusal::Grant {
            index,
            reference,
            source,
        })?;
        let at = page.gpa().checked_add(request.offset.into());
        Ok(Piece {
            at: at.unwrap_or_default(),
            page,
            len_bytes,
        })
    });
    pieces.collect()
}

/// Refuses a part that does not lie inside its page.
fn inside_page(request: Option<&TxRequest>, size: u16) -> Result<(), TransmitError> {
    let offset = request.map_or(0, |request| request.offset);
    if u32::from(offset).saturating_add(size.into()) > PAGE_BYTES {
        return Err(TransmitError::CrossesPage { offset, size });
    }
    Ok(())
}

const PAGE_BYTES: u32 = 4096;
/// A front end that puts more requests into a packet is not believed any more.
const FATAL_SLOTS: usize = 20;
const ETHERNET_HEADER_BYTES: u16 = 14;
