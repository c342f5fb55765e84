//! A guest with a front end: its memory, its grants, and a ring that it fills byte by byte.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use pvh_abi::Gpa;
use pvh_blkif::{Disk, Next, Protocol, Queue, Refusal, Request};
use pvh_memory::{GuestMemory, VecMemory};
use pvh_ring::{Access, GrantedPage, Grants};

/// Where the ring lies.
pub(crate) const RING: Gpa = Gpa(0x1000);

/// Grants that count how often each page is in use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    entries: Rc<RefCell<HashMap<u32, (Gpa, bool)>>>,
    in_use: Rc<RefCell<HashMap<u32, u32>>>,
}

#[derive(Debug)]
pub(crate) struct Page {
    table: Table,
    reference: u32,
    at: Gpa,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not granted")]
pub(crate) struct NotGranted;

impl Table {
    pub(crate) fn grant(&self, reference: u32, at: Gpa, is_writable: bool) {
        self.entries
            .borrow_mut()
            .insert(reference, (at, is_writable));
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.in_use.borrow().values().sum()
    }
}

impl Grants for Table {
    type Page = Page;
    type Error = NotGranted;

    fn take(&self, reference: u32, access: Access) -> Result<Page, NotGranted> {
        let entry = self.entries.borrow().get(&reference).copied();
        let (at, is_writable) = entry.ok_or(NotGranted)?;
        if access == Access::Write && !is_writable {
            return Err(NotGranted);
        }
        *self.in_use.borrow_mut().entry(reference).or_default() += 1;
        let table = self.clone();
        Ok(Page {
            table,
            reference,
            at,
        })
    }
}

impl GrantedPage for Page {
    fn gpa(&self) -> Gpa {
        self.at
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        *self
            .table
            .in_use
            .borrow_mut()
            .get_mut(&self.reference)
            .unwrap() -= 1;
    }
}

/// A guest, and the back end of its disk.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) memory: VecMemory,
    pub(crate) grants: Table,
    pub(crate) protocol: Protocol,
    pub(crate) queue: Queue,
    pub(crate) disk: Disk,
    req_prod: u32,
    rsp_cons: u32,
}

impl Guest {
    /// A guest of one page of ring, pages 0x10 to 0x1F granted for writing by references of their
    /// frame number, and 0x20 to 0x2F for reading.
    pub(crate) fn new(protocol: Protocol, disk: Disk) -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x3_0000)]).unwrap();
        memory.write(Gpa(RING.0 + 4), &1_u32.to_le_bytes()).unwrap();
        memory
            .write(Gpa(RING.0 + 12), &1_u32.to_le_bytes())
            .unwrap();
        let grants = Table::default();
        for frame in 0x10..0x30 {
            grants.grant(frame, Gpa(u64::from(frame) << 12), frame < 0x20);
        }
        let queue = Queue::attach(&memory, &[RING], protocol, 256).unwrap();
        Self {
            memory,
            grants,
            protocol,
            queue,
            disk,
            req_prod: 0,
            rsp_cons: 0,
        }
    }

    /// Puts a request's bytes into the next slot and publishes it.
    pub(crate) fn put(&mut self, request: &[u8]) {
        let slot = match self.protocol {
            Protocol::X86_64 => 112,
            Protocol::X86_32 => 108,
        };
        let at = RING.0 + 64 + u64::from(self.req_prod % 32) * slot;
        self.memory.write(Gpa(at), request).unwrap();
        self.req_prod = self.req_prod.wrapping_add(1);
        self.memory
            .write(RING, &self.req_prod.to_le_bytes())
            .unwrap();
    }

    /// Takes the next request out of the ring.
    pub(crate) fn next(&mut self) -> Next<Page, NotGranted> {
        self.queue
            .next(&self.memory, &self.grants, &self.disk)
            .unwrap()
    }

    /// The next request, which is expected to be fine.
    pub(crate) fn request(&mut self) -> Request<Page> {
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
        let mut word = [0; 4];
        self.memory.read(Gpa(RING.0 + 8), &mut word).unwrap();
        assert_ne!(u32::from_le_bytes(word), self.rsp_cons, "no response");
        let (slot, len) = match self.protocol {
            Protocol::X86_64 => (112, 16),
            Protocol::X86_32 => (108, 12),
        };
        let mut bytes = vec![0; len];
        let at = RING.0 + 64 + u64::from(self.rsp_cons % 32) * slot;
        self.memory.read(Gpa(at), &mut bytes).unwrap();
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        bytes
    }

    /// The id and the status of the next response.
    pub(crate) fn status(&mut self) -> (u64, i16) {
        let bytes = self.response();
        let id = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        (id, i16::from_le_bytes([bytes[10], bytes[11]]))
    }
}

/// A segment as it stands in a request.
pub(crate) fn segment(reference: u32, first: u8, last: u8) -> [u8; 8] {
    let [a, b, c, d] = reference.to_le_bytes();
    [a, b, c, d, first, last, 0, 0]
}

/// A read or write of segments, laid out after blkif.h by hand.
pub(crate) fn transfer(
    protocol: Protocol,
    operation: u8,
    (id, sector): (u64, u64),
    segments: &[[u8; 8]],
) -> Vec<u8> {
    let mut bytes = vec![operation, u8::try_from(segments.len()).unwrap(), 0, 0xCA];
    if protocol == Protocol::X86_64 {
        bytes.extend([0xEE; 4]); // padding, which nobody has to clear
    }
    bytes.extend(id.to_le_bytes());
    bytes.extend(sector.to_le_bytes());
    bytes.extend(segments.as_flattened());
    bytes
}

/// An indirect request.
pub(crate) fn indirect(
    protocol: Protocol,
    operation: u8,
    (id, sector): (u64, u64),
    (count, references): (u16, &[u32]),
) -> Vec<u8> {
    let [low, high] = count.to_le_bytes();
    let mut bytes = vec![6, operation, low, high];
    if protocol == Protocol::X86_64 {
        bytes.extend([0xEE; 4]);
    }
    bytes.extend(id.to_le_bytes());
    bytes.extend(sector.to_le_bytes());
    bytes.extend([0, 0xCA, 0xEE, 0xEE]); // the handle, and padding
    bytes.extend(
        references
            .iter()
            .flat_map(|reference| reference.to_le_bytes()),
    );
    bytes
}

/// A discard.
pub(crate) fn discard(
    protocol: Protocol,
    flag: u8,
    (id, sector): (u64, u64),
    count: u64,
) -> Vec<u8> {
    let mut bytes = transfer(protocol, 5, (id, sector), &[]);
    bytes[1] = flag;
    bytes.extend(count.to_le_bytes());
    bytes
}
