//! The back end's half of a ring: it takes requests and puts responses.

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, WordOp};

use crate::{AttachError, RingError, RingPages};

/// A ring as its back end sees it.
///
/// The front end owns `req_prod` and `rsp_event`, the back end `rsp_prod` and `req_event`. Only the
/// front end's two words are ever read back; what this end wrote is remembered here, so that a
/// guest that changes it cannot mislead the host.
///
/// One call moves at most one slot. The ring owns no memory but 160 bytes of its own and takes no
/// lock; a queue of a device is used by one thread at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackRing {
    pages: RingPages,
    slot_bytes: u32,
    slots: u32,
    /// The next request to take.
    req_cons: u32,
    /// The next response to put.
    rsp_prod: u32,
    /// The responses that the front end has been shown.
    published: u32,
}

/// Which slot a request came from. The front end of some rings names its buffers by it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot(pub u32);

impl BackRing {
    /// Attaches to a ring whose slots have `slot_bytes` bytes: the larger of request and response.
    ///
    /// The ring has as many slots as fit behind its header, rounded down to a power of two.
    /// Requests that the front end has put already are found; a ring that was in use before goes on
    /// behind the responses it has, as after a restart of the back end.
    ///
    /// # Errors
    ///
    /// [`AttachError`]: the shape is impossible, the pages are not RAM, or the indices are further
    /// apart than the ring has slots. Nothing has been written then.
    pub fn attach(
        memory: &(impl GuestMemory + ?Sized),
        pages: &[Gpa],
        slot_bytes: u32,
    ) -> Result<Self, AttachError> {
        let pages = RingPages::new(pages)?;
        let room = pages.len_bytes().saturating_sub(HEADER_BYTES);
        let fitting = room.checked_div(slot_bytes).unwrap_or(0);
        let slots = fitting
            .checked_ilog2()
            .and_then(|log| 1_u32.checked_shl(log));
        let slots = slots.ok_or(AttachError::Slot { slot_bytes })?;
        let load = |offset| {
            let word = pages.word(memory, offset, WordOp::Load);
            word.map_err(|error| AttachError::Ring(RingError::Memory(error)))
        };
        let rsp_prod = load(RSP_PROD)?;
        let ring = Self {
            pages,
            slot_bytes,
            slots,
            req_cons: rsp_prod,
            rsp_prod,
            published: rsp_prod,
        };
        ring.waiting(memory).map_err(AttachError::Ring)?;
        Ok(ring)
    }

    /// Returns how many slots the ring has, a power of two.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns how many requests have been taken and not answered.
    #[must_use]
    pub const fn unanswered(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod)
    }

    /// Returns how many requests wait to be taken.
    ///
    /// # Errors
    ///
    /// [`RingError::Overflow`] if the front end claims more than the ring holds, and
    /// [`RingError::Memory`].
    pub fn waiting(&self, memory: &(impl GuestMemory + ?Sized)) -> Result<u32, RingError> {
        let req_prod = self.pages.word(memory, REQ_PROD, WordOp::Load)?;
        let in_use = req_prod.wrapping_sub(self.rsp_prod);
        let waiting = req_prod.wrapping_sub(self.req_cons);
        // The first catches an index ahead of the ring, the second one behind what was taken.
        if in_use > self.slots || waiting > self.slots {
            return Err(RingError::Overflow {
                req_prod,
                rsp_prod: self.rsp_prod,
                slots: self.slots,
            });
        }
        Ok(waiting)
    }

    /// Takes a request: copies its slot into `request`, at most the slot's size, and moves on.
    /// `None` if no request waits.
    ///
    /// The slot is read once. What the front end writes there afterwards changes nothing.
    ///
    /// # Errors
    ///
    /// As [`waiting`](Self::waiting); no request is lost then.
    pub fn take(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        request: &mut [u8],
    ) -> Result<Option<Slot>, RingError> {
        if self.waiting(memory)? == 0 {
            return Ok(None);
        }
        self.take_counted(memory, request).map(Some)
    }

    /// Takes a request that [`has_waiting`](Self::has_waiting) has counted, without another look at the
    /// front end's index: a front end that moves its index back meanwhile takes nothing back.
    ///
    /// # Errors
    ///
    /// [`RingError::Memory`], and [`RingError::Overflow`] if the ring holds no more requests.
    pub fn take_counted(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        request: &mut [u8],
    ) -> Result<Slot, RingError> {
        if self.unanswered() >= self.slots {
            return Err(RingError::Overflow {
                req_prod: self.req_cons.wrapping_add(1),
                rsp_prod: self.rsp_prod,
                slots: self.slots,
            });
        }
        let len = self.clip(request.len());
        let request = request.get_mut(..len).unwrap_or_default();
        self.pages
            .read(memory, self.offset(self.req_cons), request)?;
        let slot = Slot(self.position(self.req_cons));
        self.req_cons = self.req_cons.wrapping_add(1);
        Ok(slot)
    }

    /// Puts a response into the next slot, for any request that was taken. The front end sees it
    /// after [`publish`](Self::publish).
    ///
    /// Only the bytes given are written, at most the slot's size. They are to hold the whole
    /// response with its padding cleared, or the guest would read what lay there before: its own
    /// request.
    ///
    /// # Errors
    ///
    /// [`RingError::NothingToAnswer`] if every request has its response, and [`RingError::Memory`].
    pub fn put(
        &mut self,
        memory: &(impl GuestMemory + ?Sized),
        response: &[u8],
    ) -> Result<(), RingError> {
        if self.unanswered() == 0 {
            return Err(RingError::NothingToAnswer);
        }
        let response = response
            .get(..self.clip(response.len()))
            .unwrap_or_default();
        self.pages
            .write(memory, self.offset(self.rsp_prod), response)?;
        self.rsp_prod = self.rsp_prod.wrapping_add(1);
        Ok(())
    }

    /// Shows the front end all responses so far. Tells whether its event channel has to be
    /// notified: the front end asked to hear of one of them, by `rsp_event`.
    ///
    /// # Errors
    ///
    /// [`RingError::Memory`].
    pub fn publish(&mut self, memory: &(impl GuestMemory + ?Sized)) -> Result<bool, RingError> {
        let (old, new) = (self.published, self.rsp_prod);
        if old == new {
            return Ok(false);
        }
        // Words are accessed in one total order: the responses are seen before the index, and the
        // index before the front end's wish is read.
        self.pages.word(memory, RSP_PROD, WordOp::Swap(new))?;
        self.published = new;
        let rsp_event = self.pages.word(memory, RSP_EVENT, WordOp::Load)?;
        Ok(new.wrapping_sub(rsp_event) < new.wrapping_sub(old))
    }

    /// Asks the front end to notify with its next request, then looks once more whether one waits.
    /// A back end goes to sleep only if this says `false`.
    ///
    /// # Errors
    ///
    /// As [`waiting`](Self::waiting).
    pub fn wants_service(&self, memory: &(impl GuestMemory + ?Sized)) -> Result<bool, RingError> {
        self.has_waiting(memory, 1)
    }

    /// Tells whether `count` requests wait, 1 to the number of slots. If not, asks the front end to
    /// notify when the last of them is there, and looks once more. A back end that needs several
    /// requests for one message sleeps only if this says `false`.
    ///
    /// # Errors
    ///
    /// As [`waiting`](Self::waiting).
    pub fn has_waiting(
        &self,
        memory: &(impl GuestMemory + ?Sized),
        count: u32,
    ) -> Result<bool, RingError> {
        if self.waiting(memory)? >= count {
            return Ok(true);
        }
        let last = self.req_cons.wrapping_add(count);
        self.pages.word(memory, REQ_EVENT, WordOp::Swap(last))?;
        Ok(self.waiting(memory)? >= count)
    }

    /// The place of a free-running index among the slots.
    const fn position(&self, index: u32) -> u32 {
        index & self.slots.saturating_sub(1)
    }

    /// Where the slot of a free-running index begins.
    const fn offset(&self, index: u32) -> u32 {
        let slot = self.position(index).saturating_mul(self.slot_bytes);
        HEADER_BYTES.saturating_add(slot)
    }

    fn clip(&self, len: usize) -> usize {
        len.min(usize::try_from(self.slot_bytes).unwrap_or(usize::MAX))
    }
}

/// The slots begin here.
const HEADER_BYTES: u32 = 64;
const REQ_PROD: u32 = 0;
const REQ_EVENT: u32 = 4;
const RSP_PROD: u32 = 8;
const RSP_EVENT: u32 = 12;
