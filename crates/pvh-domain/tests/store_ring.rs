//! The page a guest shares with the server.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use proptest::prelude::*;
use pvh_abi::{DomId, Gpa};
use pvh_domain::{
    RingError,
    parts::store_ring::{Progress, StoreRing},
};
use pvh_memory::{GuestMemory, VecMemory};
use pvh_xenstore::{
    DomainKeys, Header, Limits, MessageType, RingKeys, Shutdown, Store, request_shutdown,
};
use zerocopy::{FromBytes, IntoBytes};

const GUEST: DomId = DomId(1);
const PAGE: Gpa = Gpa(0x3000);

/// A guest that speaks as Linux does: it notifies for a request only if the ring was empty.
struct Guest {
    memory: VecMemory,
    store: Store,
    ring: StoreRing,
    inbox: Vec<u8>,
}

impl Guest {
    fn new() -> Self {
        let memory = VecMemory::zeroed(&[(PAGE, 4096)]).unwrap();
        let mut ring = StoreRing::new(PAGE, GUEST);
        ring.connect(&memory).unwrap();
        Self {
            memory,
            store: booted(),
            ring,
            inbox: Vec::new(),
        }
    }

    fn word(&self, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.memory.read(Gpa(PAGE.0 + offset), &mut word).unwrap();
        u32::from_le_bytes(word)
    }

    fn set(&self, offset: u64, value: u32) {
        self.memory
            .write(Gpa(PAGE.0 + offset), &value.to_le_bytes())
            .unwrap();
    }

    fn service(&mut self) -> Progress {
        self.ring.service(&self.memory, &mut self.store).unwrap()
    }

    /// Puts as much of a request into the ring as fits.
    fn send(&self, bytes: &[u8]) -> usize {
        let (cons, prod) = (self.word(2048), self.word(2052));
        let room = 1024 - prod.wrapping_sub(cons) as usize;
        for (index, byte) in bytes.iter().take(room).enumerate() {
            let at = prod.wrapping_add(index as u32) % 1024;
            self.memory
                .write(Gpa(PAGE.0 + u64::from(at)), &[*byte])
                .unwrap();
        }
        let sent = room.min(bytes.len());
        self.set(2052, prod.wrapping_add(sent as u32));
        sent
    }

    fn receive(&mut self) {
        let (cons, prod) = (self.word(2056), self.word(2060));
        assert!(prod.wrapping_sub(cons) <= 1024);
        for index in 0..prod.wrapping_sub(cons) {
            let mut byte = [0];
            let at = 1024 + cons.wrapping_add(index) % 1024;
            self.memory
                .read(Gpa(PAGE.0 + u64::from(at)), &mut byte)
                .unwrap();
            self.inbox.push(byte[0]);
        }
        self.set(2056, prod);
    }

    fn message(&mut self) -> Option<(Header, Vec<u8>)> {
        let (header, rest) = Header::read_from_prefix(&self.inbox).ok()?;
        let payload = rest.get(..header.len_bytes.get() as usize)?.to_vec();
        self.inbox.drain(..16 + payload.len());
        Some((header, payload))
    }

    fn ask(&mut self, kind: MessageType, payload: &[u8]) -> (Header, Vec<u8>) {
        let request = [Header::new(kind, 5, 0, payload).as_bytes(), payload].concat();
        let mut left = request.as_slice();
        for _ in 0..100 {
            left = &left[self.send(left)..];
            self.service();
            self.receive();
            if let Some(message) = self.message() {
                return message;
            }
        }
        panic!("no reply");
    }
}

/// A store with the keys of domain 1.
fn booted() -> Store {
    let mut store = Store::new(Limits::default());
    let keys = DomainKeys {
        domid: GUEST,
        name: "probe",
        uuid: "11111111-2222-3333-4444-555555555555",
        cpus: 1,
        max_cpus: 2,
        memory_kib: 32768,
        store: RingKeys {
            gfn: 0xf_effc,
            port: 1,
        },
        console: None,
    };
    keys.write(&mut store).unwrap();
    store
}

#[test]
fn the_server_says_that_it_reconnects_and_tells_errors() {
    let guest = Guest::new();
    assert_eq!(guest.word(2064), 3);
    assert_eq!((guest.word(2068), guest.word(2072)), (0, 0));
}

#[test]
fn a_request_goes_in_and_its_reply_comes_out() {
    let mut guest = Guest::new();
    let (header, value) = guest.ask(MessageType::READ, b"name\0");
    assert_eq!(
        (header.kind.get(), header.request_id.get(), &value[..]),
        (2, 5, &b"probe"[..])
    );
    assert_eq!(guest.service(), Progress::default());
}

#[test]
fn messages_longer_than_the_ring_go_in_pieces_and_indices_wrap() {
    let mut guest = Guest::new();
    for start in [0_u32, 1000, u32::MAX - 700] {
        for offset in [2048, 2052, 2056, 2060] {
            guest.set(offset, start);
        }
        let value = vec![start.to_le_bytes()[0]; 2000];
        let (header, _) = guest.ask(MessageType::WRITE, &[b"data/x\0", &value[..]].concat());
        assert_eq!(header.kind.get(), 11);
        let (_, read) = guest.ask(MessageType::READ, b"data/x\0");
        assert_eq!(read, value);
    }
}

#[test]
fn what_is_in_the_ring_when_the_port_fires_is_all_answered() {
    let mut guest = Guest::new();
    let request = [
        Header::new(MessageType::READ, 1, 0, b"name\0").as_bytes(),
        b"name\0",
    ]
    .concat();
    guest.send(&request.repeat(40)); // 40 of 21 bytes; their replies are as long
    let progress = guest.service();
    assert!(progress.notify && !progress.again);
    assert_eq!((guest.word(2048), guest.word(2060)), (840, 840));
}

#[test]
fn a_full_response_ring_stops_requests_and_loses_nothing() {
    let mut guest = Guest::new();
    guest.ask(
        MessageType::WRITE,
        &[b"data/x\0", &[b'v'; 500][..]].concat(),
    );
    let request = [
        Header::new(MessageType::READ, 1, 0, b"data/x\0").as_bytes(),
        b"data/x\0",
    ]
    .concat();
    let mut sent = 0;
    let mut got = 0;
    for _ in 0..200 {
        while sent < 100 && 1024 - guest.word(2052).wrapping_sub(guest.word(2048)) >= 23 {
            guest.send(&request);
            sent += 1;
        }
        guest.service();
        guest.receive();
        while let Some((_, value)) = guest.message() {
            assert_eq!(value.len(), 500);
            got += 1;
        }
    }
    assert_eq!((sent, got), (100, 100));
}

#[test]
fn a_full_response_ring_is_no_reason_to_go_on() {
    let mut guest = Guest::new();
    assert!(!guest.ring.is_broken());
    for _ in 0..60 {
        let header = Header::new(MessageType::READ, 1, 0, b"name\0");
        guest.send(&[header.as_bytes(), b"name\0"].concat());
        guest.service();
    }
    assert_eq!(guest.word(2060).wrapping_sub(guest.word(2056)), 1024);
    assert_eq!(guest.service(), Progress::default());
}

#[test]
fn a_payload_of_4096_bytes_is_taken() {
    let mut guest = Guest::new();
    let payload = [b"data/x\0".to_vec(), vec![b'v'; 4089]].concat();
    let (header, reply) = guest.ask(MessageType::WRITE, &payload);
    assert_eq!((header.kind.get(), &*reply), (16, &b"ENOSPC\0"[..]));
    assert!(!guest.ring.is_broken());
}

#[test]
fn a_payload_over_4096_bytes_ends_the_connection_with_error_3() {
    let mut guest = Guest::new();
    guest.ask(MessageType::WATCH, b"data\0t\0");
    let mut header = Header::new(MessageType::READ, 1, 0, b"");
    header.len_bytes.set(4097);
    guest.send(header.as_bytes());
    assert!(guest.service().notify);
    assert!(guest.ring.is_broken());
    assert_eq!(guest.word(2072), 3);
    assert_eq!(guest.store.usage(GUEST).unwrap().watches, 0);
    assert_eq!(guest.service(), Progress::default());
}

#[test]
fn indices_too_far_apart_end_the_connection_with_error_2() {
    for (offset, index) in [(2052, 1025), (2048, 1), (2056, 1), (2060, 1025)] {
        let mut guest = Guest::new();
        let request = Header::new(MessageType::READ, 1, 0, b"");
        guest.store.handle(GUEST, &request, b"").unwrap();
        guest.set(offset, index);
        assert!(guest.service().notify, "{offset}");
        assert_eq!(guest.word(2072), 2);
        assert_eq!(guest.service(), Progress::default());
    }
}

#[test]
fn a_reconnect_drops_all_and_begins_at_0() {
    let mut guest = Guest::new();
    guest.ask(MessageType::WATCH, b"data\0t\0");
    guest.ask(MessageType::TRANSACTION_START, b"\0");
    guest.send(b"half a head");
    guest.set(2052, 5000);
    guest.service();
    assert!(guest.ring.is_broken());
    guest.set(2068, 1);
    assert!(guest.service().notify);
    for offset in [2048, 2052, 2056, 2060, 2068, 2072] {
        assert_eq!(guest.word(offset), 0, "{offset}");
    }
    let usage = guest.store.usage(GUEST).unwrap();
    assert_eq!((usage.watches, usage.transactions), (0, 0));
    guest.inbox.clear();
    assert_eq!(guest.ask(MessageType::READ, b"name\0").1, b"probe");
}

#[test]
fn a_shutdown_request_reaches_a_guest_that_watches() {
    let mut guest = Guest::new();
    guest.ask(MessageType::WATCH, b"control/shutdown\0FFFF\0");
    guest.service();
    guest.receive();
    guest.message().expect("the first event");
    request_shutdown(&mut guest.store, GUEST, Shutdown::PowerOff).unwrap();
    assert!(guest.service().notify);
    guest.receive();
    let (header, event) = guest.message().unwrap();
    assert_eq!(
        (header.kind.get(), &event[..]),
        (15, &b"control/shutdown\0FFFF\0"[..])
    );
    assert_eq!(
        guest.ask(MessageType::READ, b"control/shutdown\0").1,
        b"poweroff"
    );
}

#[test]
fn a_page_that_is_no_ram_is_an_error() {
    let memory = VecMemory::zeroed(&[(Gpa(0), 4096)]).unwrap();
    let mut ring = StoreRing::new(PAGE, GUEST);
    assert!(matches!(ring.connect(&memory), Err(RingError::Memory(_))));
    let served = ring.service(&memory, &mut booted());
    assert!(matches!(served, Err(RingError::Memory(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a guest writes into the page, each call ends and nothing but the page changes.
    #[test]
    fn hostile_pages_never_hang(
        pages in proptest::collection::vec((any::<[u32; 8]>(), proptest::collection::vec(any::<u8>(), 0..1024)), 1..8),
        near in any::<bool>(),
    ) {
        let mut guest = Guest::new();
        for (words, bytes) in pages {
            guest.memory.write(PAGE, &bytes).unwrap();
            for (index, word) in words.iter().enumerate() {
                let word = if near { word % 1100 } else { *word };
                let word = if index == 5 { word % 3 } else { word };
                guest.set(2048 + 4 * index as u64, word);
            }
            for _ in 0..3 {
                guest.service();
            }
            let usage = guest.store.usage(GUEST).unwrap();
            prop_assert!(usage.outstanding <= 20 && usage.watches <= 129);
        }
        guest.set(2068, 1);
        guest.service();
        guest.inbox.clear();
        prop_assert_eq!(guest.ask(MessageType::READ, b"name\0").1, b"probe");
    }
}
