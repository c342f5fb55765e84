//! Tests of the back end against a front end in a domain without a machine.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use pvh_xenbus::Change;

use super::*;
use crate::{
    model::{ARG, ModelGuest, ModelHost, numbers},
    net::{Link, MacAddress},
    threads::DeviceThreads,
};

/// A guest with a network device whose link is a stream.
struct Machine {
    guest: Arc<ModelGuest>,
    back_end: NetBackEnd<ModelGuest>,
    host: Arc<ModelHost>,
    link: Arc<Link>,
    other: UnixStream,
    /// How many requests each ring has had.
    sent: u32,
    offered: u32,
}

impl Machine {
    fn new() -> Self {
        let (ours, other) = UnixStream::pair().unwrap();
        other
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let link = Arc::new(Link::stream(ours, "test").unwrap());
        let network = Network {
            link: Arc::clone(&link),
            number: 0,
            mac: MacAddress([0, 0x16, 0x3E, 1, 2, 3]),
        };
        let guest = Arc::new(ModelGuest::new("vif", 0));
        let host = Arc::new(ModelHost::default());
        let back_end = NetBackEnd::attach(Arc::clone(&guest), &network, host.clone()).unwrap();
        Self {
            guest,
            back_end,
            host,
            link,
            other,
            sent: 0,
            offered: 0,
        }
    }

    /// Lets the back end work until it would sleep; the events of the link that it waits for.
    fn run(&mut self) -> PollFlags {
        let link = Arc::clone(&self.link);
        let mut buffers = link.lock();
        for _ in 0..10_000 {
            if let Step::Wait(events) = self.back_end.step(&mut buffers)
                && !self.back_end.rings.bell.has_store_event()
            {
                return events;
            }
        }
        panic!("the back end does not sleep");
    }

    /// Publishes rings with split event channels, as a front end does; answers its ports.
    fn publish(&mut self, keys: &[(&str, u32)]) -> [u32; 2] {
        for (reference, ring) in [(8, TX), (9, RX)] {
            self.guest.put(ring, &[0; 4096]);
            self.guest.put(ring + 4, &1_u32.to_le_bytes());
            self.guest.put(ring + 12, &1_u32.to_le_bytes());
            self.guest
                .grant(reference, 1, u32::try_from(ring >> 12).unwrap());
        }
        (self.sent, self.offered) = (0, 0);
        let ports = [0, 1].map(|_| {
            // EVTCHNOP_alloc_unbound for domain 0.
            assert_eq!(self.guest.call(32, 6, &[0x7ff0, 0]), 0);
            self.guest.word(ARG + 4)
        });
        self.guest.write_key("tx-ring-ref", 8);
        self.guest.write_key("rx-ring-ref", 9);
        self.guest.write_key("event-channel-tx", ports[0]);
        self.guest.write_key("event-channel-rx", ports[1]);
        self.guest.write_key("request-rx-copy", 1);
        self.guest.write_key("feature-sg", 1);
        for (key, value) in keys {
            self.guest.write_key(key, value);
        }
        self.guest.write_key("state", 4);
        self.run();
        ports
    }

    fn connected() -> Self {
        let mut machine = Self::new();
        machine.publish(&[]);
        assert_eq!(machine.guest.back_key("state").as_deref(), Some("4"));
        machine
    }

    /// Puts a packet in page 0x30, which reference 10 grants, into the ring.
    fn put(&mut self, packet: &[u8], flags: u16) {
        self.guest.put(0x3_0000, packet);
        self.guest.grant(10, 1, 0x30);
        let slot = TX + 64 + 12 * u64::from(self.sent % 256);
        self.guest.put(slot, &10_u32.to_le_bytes());
        self.guest.put(slot + 4, &0_u16.to_le_bytes());
        self.guest.put(slot + 6, &flags.to_le_bytes());
        self.guest.put(slot + 8, &7_u16.to_le_bytes());
        let size = u16::try_from(packet.len()).unwrap();
        self.guest.put(slot + 10, &size.to_le_bytes());
        self.sent += 1;
        self.guest.put(TX, &self.sent.to_le_bytes());
    }

    /// The status of the last packet, once all of them have been answered.
    fn status(&self) -> i16 {
        assert_eq!(self.guest.word(TX + 8), self.sent, "answered");
        let slot = TX + 64 + 12 * u64::from((self.sent - 1) % 256);
        let bytes = self.guest.bytes(slot, 4);
        assert_eq!(bytes[..2], [7, 0]);
        i16::from_le_bytes([bytes[2], bytes[3]])
    }

    /// Offers a page to receive into: page 0x40 plus the number of the slot.
    fn offer(&mut self) {
        let number = self.offered % 256;
        let (reference, slot) = (16 + number % 64, RX + 64 + 8 * u64::from(number));
        self.guest.grant(reference.into(), 1, 0x40 + number % 64);
        self.guest
            .put(slot, &u16::try_from(number).unwrap().to_le_bytes());
        self.guest.put(slot + 4, &reference.to_le_bytes());
        self.offered += 1;
        self.guest.put(RX, &self.offered.to_le_bytes());
    }

    /// The packet in the slot with this number, and its flags.
    fn received(&self, number: u32) -> (Vec<u8>, u16) {
        assert!(self.guest.word(RX + 8) > number, "received");
        let slot = self.guest.bytes(RX + 64 + 8 * u64::from(number % 256), 8);
        let len = i16::from_le_bytes([slot[6], slot[7]]);
        let page = u64::from(0x40 + number % 64) << 12;
        let bytes = self.guest.bytes(page, usize::try_from(len).unwrap());
        (bytes, u16::from_le_bytes([slot[4], slot[5]]))
    }

    /// The next packet on the stream.
    fn framed(&mut self) -> Vec<u8> {
        let mut prefix = [0; 4];
        self.other.read_exact(&mut prefix).unwrap();
        let mut packet = vec![0; usize::try_from(u32::from_be_bytes(prefix)).unwrap()];
        self.other.read_exact(&mut packet).unwrap();
        packet
    }

    fn frame(&mut self, packet: &[u8]) {
        let len = u32::try_from(packet.len()).unwrap();
        self.other.write_all(&len.to_be_bytes()).unwrap();
        self.other.write_all(packet).unwrap();
    }
}

impl Machine {
    /// Does one thing that a front end or the other end can do, whether it is sensible or not.
    fn do_anything(&mut self, below: &mut impl FnMut(u64) -> u64) {
        let word = |value: u64| u32::try_from(value).unwrap();
        match below(12) {
            0 => self.guest.write_key("state", below(10)),
            1 => {
                self.guest.write_key("state", 1);
                self.run();
                for port in self.publish(&[]) {
                    assert_eq!(self.guest.call(32, 3, &[port]), 0);
                }
            }
            2 => {
                let keys = [
                    "tx-ring-ref",
                    "rx-ring-ref",
                    "event-channel-tx",
                    "feature-sg",
                ];
                let key = keys[usize::try_from(below(4)).unwrap()];
                self.guest.write_key(key, below(20));
            }
            3 => self
                .guest
                .grant(8 + below(10), word(below(64)), word(0x20 + below(0x30))),
            4 => {
                let ring = [TX, RX][usize::try_from(below(2)).unwrap()];
                let index = self.guest.word(ring + 8).wrapping_add(word(below(300)));
                self.guest.put(ring, &index.to_le_bytes());
            }
            5 => {
                let byte = u8::try_from(below(256)).unwrap();
                self.guest.put(
                    [TX, RX][usize::try_from(below(2)).unwrap()] + 64 + below(4000),
                    &[byte],
                );
            }
            6 => {
                let path = self.back_end.handshake.state.device().front_path();
                self.guest.change_store(&[Change::Remove { path }]).unwrap();
            }
            7 => self.frame(&vec![9; 1 + usize::try_from(below(200)).unwrap()]),
            8 => self.offer(),
            _ => {
                let flags = u16::try_from(below(16)).unwrap();
                self.put(&udp(), flags);
            }
        }
    }
}

/// A UDP packet over IPv4 whose checksum is blank.
fn udp() -> Vec<u8> {
    let mut packet = vec![2; 12];
    packet.extend([8, 0, 0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 10, 0, 0]);
    packet.extend(b"hi");
    packet
}

#[test]
fn packets_go_both_ways_and_the_store_has_what_libxl_writes() {
    let mut machine = Machine::connected();
    assert_eq!(
        machine.guest.back_key("mac").as_deref(),
        Some("00:16:3e:01:02:03")
    );
    assert_eq!(
        machine.guest.back_key("feature-gso-tcpv4").as_deref(),
        Some("0")
    );
    assert_eq!(machine.guest.back_key("carrier").as_deref(), Some("1"));
    let front = "/local/domain/1/device/vif/0/mac";
    assert_eq!(
        machine.guest.key(front).as_deref(),
        Some("00:16:3e:01:02:03")
    );
    machine.put(&[5; 60], 0);
    assert_eq!(machine.run(), PollFlags::POLLIN);
    assert_eq!(machine.status(), 0);
    assert_eq!(machine.framed(), [5; 60]);
    machine.offer();
    machine.frame(&[6; 61]);
    machine.run();
    assert_eq!(machine.received(0), (vec![6; 61], 0));
    assert!(!machine.guest.is_used(10) && machine.guest.is_used(8));
    assert_eq!(machine.host.said(), "");
}

#[test]
fn a_blank_checksum_is_filled_in_for_a_stream() {
    let mut machine = Machine::connected();
    // NETTXF_csum_blank and NETTXF_data_validated.
    machine.put(&udp(), 3);
    machine.run();
    assert_eq!(machine.status(), 0);
    let packet = machine.framed();
    // 0a00+1+0a00+2+11+a + 1+2+a + 6869, complemented.
    let sum = 0x0A00 + 1 + 0x0A00 + 2 + 0x11 + 0xA + 1 + 2 + 0xA + 0x6869_u16;
    assert_eq!(packet[40..42], (!sum).to_be_bytes());
    machine.put(&[0; 60], 1);
    machine.run();
    assert_eq!(machine.status(), -1, "neither TCP nor UDP");
    machine.put(&[0; 60], 1);
    machine.run();
    let said = machine.host.said();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("network 0 (test): a blank checksum"),
        "{said}"
    );
}

#[test]
fn a_guest_that_offers_no_pages_stops_the_stream_and_loses_nothing() {
    let mut machine = Machine::connected();
    for number in 0..100 {
        machine.frame(&[number; 60]);
    }
    assert_eq!(machine.run(), PollFlags::empty(), "nothing more is read");
    for number in 0..100 {
        machine.offer();
        machine.run();
        assert_eq!(machine.received(number.into()).0, [number; 60]);
    }
    assert_eq!(machine.run(), PollFlags::POLLIN);
}

#[test]
fn an_end_that_does_not_read_stops_the_guest_and_loses_nothing() {
    let mut machine = Machine::connected();
    let mut taken = 0_u16;
    // More than the socket and the buffer hold.
    let blocked = (0..2000).find(|_| {
        let mut packet = [0; 4000];
        packet[..2].copy_from_slice(&taken.to_be_bytes());
        machine.put(&packet, 0);
        let events = machine.run();
        taken += 1;
        machine.guest.word(TX + 8) != machine.sent && events.contains(PollFlags::POLLOUT)
    });
    assert!(blocked.is_some(), "the guest's packets wait in its ring");
    for number in 0..taken {
        assert_eq!(machine.framed()[..2], number.to_be_bytes());
        machine.run();
    }
    assert_eq!(machine.status(), 0);
}

#[test]
fn a_link_that_ends_is_told_and_packets_are_dropped() {
    let mut machine = Machine::connected();
    let (_other, gone) = UnixStream::pair().unwrap();
    drop(std::mem::replace(&mut machine.other, gone));
    assert_eq!(machine.run(), PollFlags::empty());
    assert_eq!(machine.guest.back_key("carrier").as_deref(), Some("0"));
    machine.put(&[5; 60], 0);
    machine.run();
    assert_eq!(machine.status(), -2, "NETIF_RSP_DROPPED");
    let said = machine.host.said();
    assert_eq!(
        said,
        "network 0 (test): the other end has gone: the guest's link is down from now on\n"
    );
    // A front end that comes later hears of it.
    machine.guest.write_key("state", 6);
    machine.run();
    machine.guest.write_key("state", 1);
    machine.run();
    machine.publish(&[]);
    assert_eq!(machine.guest.back_key("carrier").as_deref(), Some("0"));
}

#[test]
fn rings_that_cannot_be_used_close_the_device_and_say_why() {
    for (key, value) in [
        ("tx-ring-ref", 77),
        ("event-channel-rx", 999),
        ("request-rx-copy", 0),
    ] {
        let mut machine = Machine::new();
        machine.publish(&[(key, value)]);
        assert_eq!(
            machine.guest.back_key("state").as_deref(),
            Some("5"),
            "{key}"
        );
        assert!(
            !machine.guest.is_used(8) && !machine.guest.is_used(9),
            "{key}"
        );
        assert_eq!(machine.guest.inner.lock().unwrap().bells.len(), 0, "{key}");
        machine.guest.write_key("state", 6);
        machine.run();
        machine.guest.write_key("state", 1);
        machine.run();
        machine.publish(&[]);
        assert_eq!(
            machine.guest.back_key("state").as_deref(),
            Some("4"),
            "{key}"
        );
    }
    let mut machine = Machine::connected();
    machine.guest.put(TX, &1000_u32.to_le_bytes());
    machine.run();
    assert_eq!(machine.guest.back_key("state").as_deref(), Some("5"));
    assert!(
        machine
            .host
            .said()
            .contains("the guest's driver is not connected")
    );
}

#[test]
fn a_thousand_reconnections_leave_nothing_behind() {
    let mut machine = Machine::connected();
    for round in 0..1000_u16 {
        for state in if round % 2 == 0 { &[1][..] } else { &[5, 6, 1] } {
            machine.guest.write_key("state", state);
            machine.run();
        }
        assert!(!machine.guest.is_used(8) && !machine.guest.is_used(9));
        assert_eq!(machine.guest.inner.lock().unwrap().bells.len(), 0);
        let ports = machine.publish(&[]);
        machine.put(&round.to_be_bytes().repeat(30), 0);
        machine.run();
        assert_eq!(machine.framed(), round.to_be_bytes().repeat(30));
        for port in ports {
            // EVTCHNOP_close, so that the guest does not run out of ports.
            assert_eq!(machine.guest.call(32, 3, &[port]), 0);
        }
    }
}

/// A front end that does anything in any order. Nothing panics or spins, and when it has closed,
/// nothing is in use.
#[test]
fn any_front_end_is_survived_and_leaves_nothing_in_use() {
    let mut machine = Machine::new();
    let mut below = numbers();
    let mut connected = 0;
    for _ in 0..10_000 {
        machine.do_anything(&mut below);
        machine.run();
        connected += u32::from(machine.back_end.rings.connection.is_some());
        // The other end reads what there is.
        machine.other.set_nonblocking(true).unwrap();
        let _ = machine.other.read(&mut [0; 4096]);
        machine.other.set_nonblocking(false).unwrap();
    }
    assert!(connected > 500, "{connected}");
    machine.guest.write_key("state", 6);
    machine.run();
    assert!(machine.back_end.rings.connection.is_none());
    assert_eq!(machine.guest.inner.lock().unwrap().bells.len(), 0);
    let lines = machine.host.said().lines().count();
    assert!(lines <= 4, "each topic is told once: {lines}");
}

#[test]
fn a_thread_moves_packets_and_ends() {
    let mut machine = Machine::new();
    let ports = machine.publish(&[]);
    for _ in 0..4 {
        machine.offer();
    }
    machine.put(&[5; 60], 0);
    let Machine {
        guest,
        back_end,
        host,
        mut other,
        ..
    } = machine;
    let mut threads = DeviceThreads::start(vec![back_end.into_device()], &*host).unwrap();
    // EVTCHNOP_send by the transmit ring's port.
    assert_eq!(guest.call(32, 4, &[ports[0]]), 0);
    let mut packet = [0; 64];
    other.read_exact(&mut packet).unwrap();
    assert_eq!(packet[4..], [5; 60]);
    other.write_all(&[0, 0, 0, 2, 6, 6]).unwrap();
    let begun = Instant::now();
    while guest.word(RX + 8) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "no packet");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(guest.bytes(0x4_0000, 2), [6, 6]);
    assert!(threads.stop().is_none());
    assert!(
        !guest.is_used(8) && !guest.is_used(9),
        "the rings are given back"
    );
    assert!(!host.has_panicked());
}

/// Where the guest has its rings.
const TX: u64 = 0x2_1000;
const RX: u64 = 0x2_2000;
