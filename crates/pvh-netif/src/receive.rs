//! Packets to the guest: they are copied into the pages that it offers on the receive ring.

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;
use pvh_ring::{Access, AttachError, BackRing, GrantedPage, Grants, RingError};

use crate::{
    Checksum, Gso, GsoKind, MAX_PACKET_BYTES, Offloads,
    wire::{
        Extra, RSP_ERROR, RX_SLOT, RXF_EXTRA_INFO, RXF_MORE_DATA, rx_flags, rx_request, rx_response,
    },
};

/// The receive ring of one queue.
///
/// One thread uses it at a time. One call delivers one packet, into at most 17 slots; it allocates
/// room for as many references. No page is in use when it returns.
#[derive(Debug)]
pub struct Receive {
    ring: BackRing,
    offloads: Offloads,
}

/// A packet for the guest.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a packet, and what is known of it"
)]
pub struct Frame<'a> {
    /// The packet from its Ethernet header on; 1 to 65535 bytes.
    pub bytes: &'a [u8],
    /// What is known of its checksum.
    pub checksum: Checksum,
    /// Whether it is to be cut up, and how.
    pub gso: Option<Gso>,
}

/// Why a packet was not delivered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError<E: core::error::Error + 'static> {
    /// The guest offers too few pages. The packet may be tried again after the guest has notified;
    /// it has been asked to.
    #[error("the guest offers too few pages: {needed} are needed")]
    NoRoom {
        /// How many slots the packet needs.
        needed: u32,
    },
    /// A packet of a length that no slots of the guest's take. It is to be dropped.
    #[error("a packet of {len_bytes} bytes is refused: 1 to {most} are allowed")]
    Length {
        /// Its length.
        len_bytes: usize,
        /// The most this guest takes: 4096 without scatter-gather.
        most: usize,
    },
    /// The guest does not fill in checksums of this kind, or does not take large packets of this
    /// kind. The packet is to be finished by the caller, or dropped.
    #[error("the guest does not take packets with this offload")]
    Offload,
    /// The guest has not granted a page that it offers. The slots of the packet have been answered
    /// with an error; the packet is lost.
    #[error("slot {index}: grant {reference} cannot be used")]
    Grant {
        /// Which slot of the packet, from 0.
        index: usize,
        /// The grant reference.
        reference: u32,
        /// Why not.
        #[source]
        source: E,
    },
    /// A granted page cannot be written. As [`Grant`](Self::Grant).
    #[error("a page that the guest offers cannot be written")]
    Memory(#[source] pvh_memory::MemoryError),
    /// The ring is unusable; the queue is to be disconnected.
    #[error("the receive ring cannot be used")]
    Ring(#[source] RingError),
}

impl Receive {
    /// Attaches to the ring in this page, of 256 slots. `offloads` is what the front end takes.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn attach(
        memory: &(impl GuestMemory + ?Sized),
        page: Gpa,
        offloads: Offloads,
    ) -> Result<Self, AttachError> {
        let ring = BackRing::attach(memory, &[page], 8)?;
        Ok(Self { ring, offloads })
    }

    /// Copies a packet into the guest's pages and puts its responses, or leaves the ring as it is.
    /// The guest sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// [`DeliverError`]; each says what becomes of the packet.
    pub fn deliver<G: Grants>(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        grants: &G,
        frame: Frame<'_>,
    ) -> Result<(), DeliverError<G::Error>> {
        let slots = self.slots_of(&frame)?;
        let waiting = self.ring.has_waiting(memory, slots);
        if !waiting.map_err(DeliverError::Ring)? {
            return Err(DeliverError::NoRoom { needed: slots });
        }
        let mut taken = Vec::with_capacity(usize::try_from(slots).unwrap_or(0));
        for _ in 0..slots {
            let mut bytes = [0; RX_SLOT];
            // They have been counted, and the guest may have moved its index back since.
            let slot = self.ring.take_counted(memory, &mut bytes);
            slot.map_err(DeliverError::Ring)?;
            taken.push(rx_request(&bytes));
        }
        let copied = copy(memory, grants, &frame, &taken);
        let is_copied = copied.is_ok();
        let put = self.respond(memory, &frame, &taken, is_copied);
        put.map_err(DeliverError::Ring)?;
        copied
    }

    /// Shows the guest all packets so far; `true` if its event channel has to be notified.
    ///
    /// # Errors
    ///
    /// [`RingError::Memory`].
    pub fn publish(&mut self, memory: &(impl GuestMemory + ?Sized)) -> Result<bool, RingError> {
        self.ring.publish(memory)
    }

    /// Checks a packet against what the guest takes, and counts its slots.
    fn slots_of<E: core::error::Error>(&self, frame: &Frame<'_>) -> Result<u32, DeliverError<E>> {
        let Offloads {
            has_scatter_gather,
            has_tcp_v4,
            has_tcp_v6,
            fills_checksums,
        } = self.offloads;
        let len_bytes = frame.bytes.len();
        let most = if has_scatter_gather {
            MAX_PACKET_BYTES
        } else {
            PAGE_BYTES
        };
        if !(1..=most).contains(&len_bytes) {
            return Err(DeliverError::Length { len_bytes, most });
        }
        let is_taken = match frame.gso.map(|gso| gso.kind) {
            None => true,
            Some(GsoKind::TcpV4) => has_tcp_v4,
            Some(GsoKind::TcpV6) => has_tcp_v6,
        };
        // Whoever cuts a packet up has to compute its checksums.
        let is_blank = frame.checksum == Checksum::Blank;
        let is_filled = match ether_type(frame.bytes) {
            Some(IPV4) => fills_checksums.ipv4,
            Some(IPV6) => fills_checksums.ipv6,
            _ => false,
        };
        if !is_taken || (frame.gso.is_some() && !is_blank) || (is_blank && !is_filled) {
            return Err(DeliverError::Offload);
        }
        let pages = len_bytes.div_ceil(PAGE_BYTES);
        let slots = pages.saturating_add(usize::from(frame.gso.is_some()));
        Ok(u32::try_from(slots).unwrap_or(u32::MAX))
    }

    /// Puts a response into the slot of each request, in order: Linux's front end finds the page by
    /// the slot.
    fn respond(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        frame: &Frame<'_>,
        taken: &[(u16, u32)],
        is_copied: bool,
    ) -> Result<(), RingError> {
        let mut parts = frame.bytes.chunks(PAGE_BYTES).peekable();
        let mut gso = frame.gso;
        let mut is_first = true;
        for (id, _) in taken {
            if !is_first && let Some(gso) = gso.take() {
                self.ring.put(memory, &Extra::of_gso(gso))?;
                continue;
            }
            let part = parts.next().unwrap_or_default();
            let mut flags = if parts.peek().is_some() {
                RXF_MORE_DATA
            } else {
                0
            };
            if is_first {
                flags |= rx_flags(frame.checksum);
                flags |= if gso.is_some() { RXF_EXTRA_INFO } else { 0 };
            }
            let len_bytes = i16::try_from(part.len()).unwrap_or(RSP_ERROR);
            let status = if is_copied { len_bytes } else { RSP_ERROR };
            self.ring.put(memory, &rx_response(*id, flags, status))?;
            is_first = false;
        }
        Ok(())
    }
}

/// Copies the parts of a packet into the pages of its slots. All pages are taken before the first
/// byte is written.
fn copy<G: Grants>(
    memory: &(impl GuestMemory + ?Sized),
    grants: &G,
    frame: &Frame<'_>,
    taken: &[(u16, u32)],
) -> Result<(), DeliverError<G::Error>> {
    // The second slot of a large packet holds its extra-info, and its page stays as it is.
    let is_data = |index: &usize| frame.gso.is_none() || *index != 1;
    let slots = taken.iter().enumerate().filter(|(index, _)| is_data(index));
    let pages = slots.map(|(index, (_, reference))| {
        let page = grants.take(*reference, Access::Write);
        page.map_err(|source| DeliverError::Grant {
            index,
            reference: *reference,
            source,
        })
    });
    let pages = pages.collect::<Result<Vec<_>, _>>()?;
    for (page, part) in pages.iter().zip(frame.bytes.chunks(PAGE_BYTES)) {
        let written = memory.write(page.gpa(), part);
        written.map_err(DeliverError::Memory)?;
    }
    Ok(())
}

/// The type of a packet, behind at most two VLAN tags.
fn ether_type(bytes: &[u8]) -> Option<[u8; 2]> {
    let mut types = bytes.get(12..)?.as_chunks::<4>().0.iter();
    let mut first = types.next()?;
    for _ in 0..2 {
        if !matches!(first, [0x81, 0x00, ..] | [0x88, 0xA8, ..]) {
            break;
        }
        first = types.next()?;
    }
    let [high, low, ..] = *first;
    Some([high, low])
}

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xDD];
const PAGE_BYTES: usize = 4096;
