//! The ring that carries the store's messages: the server's end of a page that the guest shares.

use pvh_abi::{DomId, Gpa};
use pvh_memory::GuestMemory;
use pvh_xenstore::{Header, MAX_PAYLOAD_BYTES, Store};
use zerocopy::{FromBytes, IntoBytes};

use super::ring::{Ring, RingError, load, store};

/// Offsets in the page (xen/include/public/io/xs_wire.h).
const REQUESTS: Ring = Ring {
    data: 0,
    size_bytes: 1024,
    cons: 2048,
    prod: 2052,
};
const RESPONSES: Ring = Ring {
    data: 1024,
    size_bytes: 1024,
    cons: 2056,
    prod: 2060,
};
const SERVER_FEATURES: u64 = 2064;
const CONNECTION: u64 = 2068;
const ERROR: u64 = 2072;

/// The ring may be reconnected, and the error word is valid.
const FEATURES: u32 = 0b11;

const CONNECTED: u32 = 0;
const RECONNECT: u32 = 1;

const ERROR_NONE: u32 = 0;
const ERROR_RING_INDEX: u32 = 2;
const ERROR_PROTOCOL: u32 = 3;

/// How many turns of taking and giving one call makes at most; a turn moves one ring's worth each
/// way.
const MAX_TURNS: usize = 64;

/// The server's end of the page that a guest finds by the HVM params `STORE_PFN` and
/// `STORE_EVTCHN`.
///
/// It keeps at most one request that has not all arrived and one message that has not all left.
#[doc(alias = "xenstore_domain_interface")]
#[derive(Debug)]
pub struct StoreRing {
    page: Gpa,
    domid: DomId,
    /// What has arrived of a request.
    request: Vec<u8>,
    /// What has not left of a message.
    response: Vec<u8>,
    /// The guest broke the protocol: nothing moves until it asks for a new connection.
    is_broken: bool,
}

/// What a call of [`StoreRing::service`] came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Whether the guest's store port has to be notified.
    pub notify: bool,
    /// Whether there may be more to do at once: the call ended because it had done enough for one.
    pub again: bool,
}

impl StoreRing {
    /// Serves `domid` through the page at `page`.
    #[must_use]
    pub const fn new(page: Gpa, domid: DomId) -> Self {
        Self {
            page,
            domid,
            request: Vec::new(),
            response: Vec::new(),
            is_broken: false,
        }
    }

    /// Writes what a guest expects before it runs: empty rings, the server's features, "connected".
    ///
    /// # Errors
    ///
    /// [`RingError::Memory`] if the page is not RAM.
    pub fn connect(&mut self, memory: &dyn GuestMemory) -> Result<(), RingError> {
        self.request.clear();
        self.response.clear();
        self.is_broken = false;
        REQUESTS.clear(memory, self.page)?;
        RESPONSES.clear(memory, self.page)?;
        store(memory, self.page, SERVER_FEATURES, FEATURES)?;
        store(memory, self.page, ERROR, ERROR_NONE)?;
        store(memory, self.page, CONNECTION, CONNECTED)
    }

    /// Tells whether the guest broke the protocol and has not asked for a new connection since.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Moves what can be moved: requests to the store, replies and events to the guest.
    ///
    /// Call it when the guest notifies its store port, and after whatever else may have fired a
    /// watch. A guest notifies for a request only if the ring was empty before, and for a response
    /// it took only if the ring was full. So after each move of an index the other side's is read
    /// again, until nothing moves.
    ///
    /// Order of accesses in a turn: the connection word; then for responses `rsp_prod`, `rsp_cons`,
    /// the bytes, `rsp_prod`; for requests `req_cons`, `req_prod`, the bytes, `req_cons`.
    ///
    /// # Errors
    ///
    /// [`RingError::Memory`] if the page is not RAM. A guest's mistake is no error: it is told in
    /// the page's error word, its watches and transactions are dropped, and it may reconnect.
    pub fn service(
        &mut self,
        memory: &dyn GuestMemory,
        store: &mut Store,
    ) -> Result<Progress, RingError> {
        let mut progress = Progress::default();
        for _ in 0..MAX_TURNS {
            match self.turn(memory, store) {
                Ok(true) => progress.notify = true,
                Ok(false) => return Ok(progress),
                Err(fault) => {
                    self.fail(memory, store, fault)?;
                    progress.notify = true;
                    return Ok(progress);
                }
            }
        }
        progress.again = true;
        Ok(progress)
    }

    /// Does one turn and tells whether anything moved.
    fn turn(&mut self, memory: &dyn GuestMemory, store: &mut Store) -> Result<bool, Fault> {
        if load(memory, self.page, CONNECTION)? == RECONNECT {
            store.reset(self.domid);
            self.connect(memory)?;
            return Ok(true);
        }
        if self.is_broken {
            // What was fired meanwhile would reach a new connection.
            store.reset(self.domid);
            return Ok(false);
        }
        let sent = self.send(memory, store)?;
        let received = self.receive(memory, store)?;
        Ok(sent || received)
    }

    /// Gives the guest what waits for it, as far as the ring has room.
    fn send(&mut self, memory: &dyn GuestMemory, store: &mut Store) -> Result<bool, Fault> {
        while self.response.len() < len(RESPONSES.size_bytes) {
            let Some(message) = store.take_message(self.domid) else {
                break;
            };
            self.response.extend_from_slice(message.header.as_bytes());
            self.response.extend_from_slice(&message.payload);
        }
        if self.response.is_empty() {
            return Ok(false);
        }
        let sent = RESPONSES.put(memory, self.page, &self.response)?;
        self.response.drain(..sent);
        Ok(sent > 0)
    }

    /// Takes bytes of requests while the store takes requests.
    fn receive(&mut self, memory: &dyn GuestMemory, store: &mut Store) -> Result<bool, Fault> {
        let mut moved = false;
        while store.is_ready(self.domid) {
            let missing = self.missing()?;
            let mut chunk = [0; MAX_CHUNK];
            let chunk = chunk.get_mut(..missing.min(MAX_CHUNK)).unwrap_or_default();
            let taken = REQUESTS.take(memory, self.page, chunk)?;
            self.request.extend(chunk.iter().take(taken));
            moved |= taken > 0;
            if self.missing()? == 0 {
                self.hand_over(store)?;
                break;
            }
            if taken == 0 {
                break;
            }
        }
        Ok(moved)
    }

    /// How many bytes the request still needs; the length is looked at as soon as the header is
    /// there.
    fn missing(&self) -> Result<usize, Fault> {
        let Ok((header, payload)) = Header::read_from_prefix(&self.request) else {
            return Ok(HEADER_BYTES.saturating_sub(self.request.len()));
        };
        let len = len(header.len_bytes.get());
        if len > MAX_PAYLOAD_BYTES {
            return Err(Fault::Protocol);
        }
        Ok(len.saturating_sub(payload.len()))
    }

    /// Hands a whole request to the store.
    fn hand_over(&mut self, store: &mut Store) -> Result<(), Fault> {
        if let Ok((header, payload)) = Header::read_from_prefix(&self.request) {
            let taken = store.handle(self.domid, &header, payload);
            taken.map_err(|_| Fault::Protocol)?;
        }
        self.request.clear();
        Ok(())
    }

    /// Ends the connection and says why in the page.
    fn fail(
        &mut self,
        memory: &dyn GuestMemory,
        xenstore: &mut Store,
        fault: Fault,
    ) -> Result<(), RingError> {
        let error = match fault {
            Fault::Ring(error @ RingError::Memory(_)) => return Err(error),
            Fault::Ring(RingError::Inconsistent { .. }) => ERROR_RING_INDEX,
            Fault::Protocol => ERROR_PROTOCOL,
        };
        self.is_broken = true;
        self.request.clear();
        self.response.clear();
        xenstore.reset(self.domid);
        store(memory, self.page, ERROR, error)
    }
}

/// Size of a header in bytes.
const HEADER_BYTES: usize = size_of::<Header>();

/// How many bytes of a request are taken at once.
const MAX_CHUNK: usize = 1024;

/// Why the connection cannot go on.
enum Fault {
    Ring(RingError),
    /// A payload that is too long.
    Protocol,
}

impl From<RingError> for Fault {
    fn from(error: RingError) -> Self {
        Self::Ring(error)
    }
}

fn len(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
