//! A guest with a network device: its memory, its grants, its front end, and the back end under
//! test.

use pvh_abi::Gpa;
use pvh_memory::{GuestMemory, VecMemory};
use pvh_netif::{FillsChecksums, Next, Offloads, Packet, Receive, Refusal, Transmit};
use pvh_testkit::{
    grants::{GrantTable, GrantedFrame, NotGranted},
    netif,
    ring::FrontRing,
};

const TX: Gpa = Gpa(0x1000);
const RX: Gpa = Gpa(0x2000);

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

/// A guest, and the back end of its network device.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) memory: VecMemory,
    pub(crate) grants: GrantTable,
    pub(crate) transmit: Transmit,
    pub(crate) receive: Receive,
    pub(crate) tx: FrontRing,
    rx: FrontRing,
}

impl Guest {
    /// A guest that has granted frames 0x10 to 0x1F for reading and frames 0x20 to 0x4F for
    /// writing, by their number.
    pub(crate) fn new(offloads: Offloads) -> Self {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x5_0000)]).unwrap();
        let tx = FrontRing::new(&memory, &[TX], 12);
        let rx = FrontRing::new(&memory, &[RX], 8);
        let transmit = Transmit::attach(&memory, TX).unwrap();
        let receive = Receive::attach(&memory, RX, offloads).unwrap();
        Self {
            memory,
            grants: GrantTable::of_frames(0x10..0x20, 0x20..0x50),
            transmit,
            receive,
            tx,
            rx,
        }
    }

    /// Puts the 12-byte slots of a packet and publishes them at once.
    pub(crate) fn send(&mut self, slots: &[[u8; 12]]) {
        for slot in slots {
            self.tx.put(&self.memory, slot);
        }
        self.tx.publish(&self.memory);
    }

    pub(crate) fn next(&mut self) -> Next<GrantedFrame, NotGranted> {
        self.transmit.next(&self.memory, &self.grants).unwrap()
    }

    pub(crate) fn packet(&mut self) -> Packet<GrantedFrame> {
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
        let responses = std::iter::from_fn(|| self.tx.take(&self.memory, 4));
        let fields = responses.map(|(_, bytes)| {
            let id = u16::from_le_bytes([bytes[0], bytes[1]]);
            (id, i16::from_le_bytes([bytes[2], bytes[3]]))
        });
        fields.collect()
    }

    /// Offers pages to receive into; the id of each is its frame.
    pub(crate) fn offer(&mut self, frames: impl IntoIterator<Item = u32>) {
        for frame in frames {
            let id = u16::try_from(frame).unwrap();
            self.rx.put(&self.memory, &netif::receive(id, frame));
        }
        self.rx.publish(&self.memory);
    }

    /// The receive responses that are new, each with the slot it lies in.
    pub(crate) fn received(&mut self) -> Vec<(u32, [u8; 8])> {
        self.receive.publish(&self.memory).unwrap();
        let responses = std::iter::from_fn(|| self.rx.take(&self.memory, 8));
        responses
            .map(|(slot, bytes)| (slot, bytes.try_into().unwrap()))
            .collect()
    }

    /// The receive ring's `req_event`: when the back end wants to hear of offers.
    pub(crate) fn wanted(&self) -> u32 {
        self.rx.wanted(&self.memory)
    }

    pub(crate) fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }
}
