//! A guest with a front end: its memory, its grants, and two rings that it fills byte by byte.

use std::{cell::Cell, rc::Rc};

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, VecMemory};
use pvh_netif::{FillsChecksums, Next, Offloads, Packet, Receive, Refusal, Transmit};
use pvh_ring::{Access, GrantedPage, Grants};

const TX: u64 = 0x1000;
const RX: u64 = 0x2000;

/// Grants frames 0x10 to 0x2F for reading and 0x20 to 0x4F for writing, by their number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    in_use: Rc<Cell<usize>>,
}

#[derive(Debug)]
pub(crate) struct Page {
    table: Table,
    at: Gpa,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not granted")]
pub(crate) struct NotGranted;

impl Table {
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.get()
    }
}

impl Grants for Table {
    type Page = Page;
    type Error = NotGranted;

    fn take(&self, reference: u32, access: Access) -> Result<Page, NotGranted> {
        let granted = match access {
            Access::Read => 0x10..0x30,
            Access::Write => 0x20..0x50,
        };
        if !granted.contains(&reference) {
            return Err(NotGranted);
        }
        self.in_use.set(self.in_use.get() + 1);
        let at = Gpa(u64::from(reference) << 12);
        Ok(Page {
            table: self.clone(),
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
        self.table.in_use.set(self.table.in_use.get() - 1);
    }
}

/// What a front end takes if it takes everything.
pub(crate) const ALL: Offloads = Offloads {
    has_scatter_gather: true,
    has_tcp_v4: true,
    has_tcp_v6: true,
    fills_checksums: FillsChecksums {
        ipv4: true,
        ipv6: true,
    },
};

#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) memory: VecMemory,
    pub(crate) grants: Table,
    pub(crate) transmit: Transmit,
    pub(crate) receive: Receive,
    tx_prod: u32,
    tx_cons: u32,
    rx_prod: u32,
    rx_cons: u32,
}

impl Guest {
    pub(crate) fn new(offloads: Offloads) -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x5_0000)]).unwrap();
        for ring in [TX, RX] {
            for event in [4, 12] {
                memory
                    .write(Gpa(ring + event), &1_u32.to_le_bytes())
                    .unwrap();
            }
        }
        let transmit = Transmit::attach(&memory, Gpa(TX)).unwrap();
        let receive = Receive::attach(&memory, Gpa(RX), offloads).unwrap();
        let grants = Table::default();
        Self {
            memory,
            grants,
            transmit,
            receive,
            tx_prod: 0,
            tx_cons: 0,
            rx_prod: 0,
            rx_cons: 0,
        }
    }

    /// Puts the 12-byte slots of a packet and publishes them at once.
    pub(crate) fn send(&mut self, slots: &[[u8; 12]]) {
        for slot in slots {
            let at = TX + 64 + u64::from(self.tx_prod % 256) * 12;
            self.memory.write(Gpa(at), slot).unwrap();
            self.tx_prod = self.tx_prod.wrapping_add(1);
        }
        self.memory
            .write(Gpa(TX), &self.tx_prod.to_le_bytes())
            .unwrap();
    }

    /// Writes `req_prod` of the transmit ring as it pleases.
    pub(crate) fn claim(&mut self, req_prod: u32) {
        self.memory.write(Gpa(TX), &req_prod.to_le_bytes()).unwrap();
    }

    pub(crate) fn next(&mut self) -> Next<Page, NotGranted> {
        self.transmit.next(&self.memory, &self.grants).unwrap()
    }

    pub(crate) fn packet(&mut self) -> Packet<Page> {
        match self.next() {
            Next::Packet(packet) => packet,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refusal(&mut self) -> Refusal<NotGranted> {
        match self.next() {
            Next::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// The transmit responses that are new: id and status.
    pub(crate) fn sent(&mut self) -> Vec<(u16, i16)> {
        self.transmit.publish(&self.memory).unwrap();
        let prod = self.word(TX + 8);
        let mut all = Vec::new();
        while self.tx_cons != prod {
            let at = TX + 64 + u64::from(self.tx_cons % 256) * 12;
            let [a, b, c, d] = self.bytes(at);
            all.push((u16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])));
            self.tx_cons = self.tx_cons.wrapping_add(1);
        }
        all
    }

    /// Offers pages to receive into; the id of each is its frame.
    pub(crate) fn offer(&mut self, frames: impl IntoIterator<Item = u32>) {
        for frame in frames {
            let at = RX + 64 + u64::from(self.rx_prod % 256) * 8;
            let [id, ..] = frame.to_le_bytes();
            let mut slot = [id, 0, 0xEE, 0xEE, 0, 0, 0, 0];
            slot[4..].copy_from_slice(&frame.to_le_bytes());
            self.memory.write(Gpa(at), &slot).unwrap();
            self.rx_prod = self.rx_prod.wrapping_add(1);
        }
        self.memory
            .write(Gpa(RX), &self.rx_prod.to_le_bytes())
            .unwrap();
    }

    /// The receive responses that are new, each with the slot it lies in.
    pub(crate) fn received(&mut self) -> Vec<(u32, [u8; 8])> {
        self.receive.publish(&self.memory).unwrap();
        let prod = self.word(RX + 8);
        let mut all = Vec::new();
        while self.rx_cons != prod {
            let slot = self.rx_cons % 256;
            all.push((slot, self.bytes(RX + 64 + u64::from(slot) * 8)));
            self.rx_cons = self.rx_cons.wrapping_add(1);
        }
        all
    }

    /// The receive ring's `req_event`: when the back end wants to hear of offers.
    pub(crate) fn wanted(&self) -> u32 {
        self.word(RX + 4)
    }

    pub(crate) fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    fn word(&self, at: u64) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }
}

/// A transmit request: frame, offset, flags, id, size.
pub(crate) fn request(frame: u32, offset: u16, flags: u16, (id, size): (u16, u16)) -> [u8; 12] {
    let mut slot = [0; 12];
    slot[..4].copy_from_slice(&frame.to_le_bytes());
    for (at, field) in [(4, offset), (6, flags), (8, id), (10, size)] {
        slot[at..at + 2].copy_from_slice(&field.to_le_bytes());
    }
    slot
}

/// An extra-info: type, flags, then four bytes of its own.
pub(crate) fn extra(kind: u8, flags: u8, rest: [u8; 4]) -> [u8; 12] {
    let [a, b, c, d] = rest;
    [kind, flags, a, b, c, d, 0, 0, 0xEE, 0xEE, 0xEE, 0xEE]
}
