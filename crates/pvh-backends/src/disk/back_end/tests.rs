//! Tests of the back end against a front end in a domain without a machine.

mod any_front_end;
mod kills;
mod threads;

use std::{
    fs::{self, OpenOptions},
    path::Path,
    time::Duration,
};

use pvh_xenbus::Change;
use tempfile::TempDir;

use super::*;
use crate::{
    disk::ImageOptions,
    model::{ARG, ModelGuest, ModelHost, TABLE, numbers},
    threads::DeviceThreads,
};

/// A guest with a disk of 16 sectors, each filled with its number.
struct Machine {
    guest: Arc<ModelGuest>,
    back_end: DiskBackEnd<ModelGuest>,
    host: Arc<ModelHost>,
    path: std::path::PathBuf,
    requests: u32,
    _dir: Option<TempDir>,
}

impl Machine {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ImageOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let bytes: Vec<u8> = (0..16).flat_map(|sector| [sector; 512]).collect();
        fs::write(&path, bytes).unwrap();
        let machine = Self::on(&path, change);
        Self {
            _dir: Some(dir),
            ..machine
        }
    }

    /// A guest whose disk is this file.
    fn on(path: &Path, change: impl FnOnce(&mut ImageOptions)) -> Self {
        let mut options = ImageOptions::default();
        change(&mut options);
        let disk = Disk {
            image: Arc::new(Image::open(path, &options).unwrap()),
            name: "xvda".into(),
            number: 51712,
        };
        let guest = Arc::new(ModelGuest::new("vbd", 51712));
        let host = Arc::new(ModelHost::default());
        let back_end = DiskBackEnd::attach(Arc::clone(&guest), &disk, host.clone()).unwrap();
        Self {
            guest,
            back_end,
            host,
            path: path.to_owned(),
            requests: 0,
            _dir: None,
        }
    }

    /// Lets the back end work until it would sleep.
    fn run(&mut self) {
        for _ in 0..1000 {
            if !self.back_end.step() && !self.back_end.ring.bell.has_store_event() {
                return;
            }
        }
        panic!("the back end does not sleep");
    }

    fn grant(&self, reference: u64, word: u32, gfn: u32) {
        self.guest.grant(reference, word, gfn);
    }

    /// Publishes a ring, as a front end does; answers its port.
    fn publish(&mut self) -> u32 {
        self.guest.put(RING, &[0; 4096]);
        self.guest.put(RING + 4, &1_u32.to_le_bytes());
        self.guest.put(RING + 12, &1_u32.to_le_bytes());
        self.requests = 0;
        self.grant(8, 1, u32::try_from(RING >> 12).unwrap());
        // EVTCHNOP_alloc_unbound for domain 0.
        assert_eq!(self.guest.call(32, 6, &[0x7ff0, 0]), 0);
        let port = self.guest.word(ARG + 4);
        self.guest.write_key("ring-ref", 8);
        self.guest.write_key("event-channel", port);
        self.guest.write_key("protocol", "x86_64-abi");
        self.guest.write_key("state", 3);
        self.run();
        port
    }

    fn connected() -> Self {
        let mut machine = Self::new();
        machine.publish();
        assert_eq!(machine.guest.back_key("state").as_deref(), Some("4"));
        machine
    }

    /// Makes a request for sectors of page 0x30, which reference 9 grants; answers its status.
    fn request(&mut self, operation: u8, sector: u64, count: u8) -> i16 {
        let slot = RING + 64 + 112 * u64::from(self.requests % 32);
        self.guest.put(slot, &[0; 112]);
        let segments = u8::from(operation != 3);
        self.guest.put(slot, &[operation, segments, 0, 0]);
        self.guest.put(slot + 8, &77_u64.to_le_bytes());
        self.guest.put(slot + 16, &sector.to_le_bytes());
        self.guest.put(slot + 24, &9_u32.to_le_bytes());
        self.guest.put(slot + 28, &[0, count - 1]);
        self.requests += 1;
        self.guest.put(RING, &self.requests.to_le_bytes());
        self.run();
        self.status(slot, operation)
    }

    /// The status of the response to the last request.
    fn status(&self, slot: u64, operation: u8) -> i16 {
        assert_eq!(self.guest.word(RING + 8), self.requests, "answered");
        let response = self.guest.bytes(slot, 16);
        assert_eq!(response[..8], 77_u64.to_le_bytes());
        assert_eq!(response[8], operation);
        i16::from_le_bytes([response[10], response[11]])
    }

    /// Discards sectors; answers the status. `blkif_request_discard`: id, sector, number of sectors.
    fn discard(&mut self, sector: u64, count: u64) -> i16 {
        let slot = RING + 64 + 112 * u64::from(self.requests % 32);
        self.guest.put(slot, &[0; 112]);
        self.guest.put(slot, &[5]);
        self.guest.put(slot + 8, &77_u64.to_le_bytes());
        self.guest.put(slot + 16, &sector.to_le_bytes());
        self.guest.put(slot + 24, &count.to_le_bytes());
        self.requests += 1;
        self.guest.put(RING, &self.requests.to_le_bytes());
        self.run();
        self.status(slot, 5)
    }

    fn said(&self) -> String {
        self.host.said()
    }

    fn is_used(&self, reference: u64) -> bool {
        self.guest.is_used(reference)
    }
}

#[test]
fn a_disk_is_read_written_and_flushed() {
    let mut machine = Machine::connected();
    assert_eq!(machine.guest.back_key("sectors").as_deref(), Some("16"));
    assert_eq!(machine.guest.back_key("dev").as_deref(), Some("xvda"));
    assert_eq!(machine.guest.back_key("params"), None);
    assert!(machine.is_used(8), "the ring");
    machine.grant(9, 1, 0x30);
    assert_eq!(machine.request(0, 3, 8), 0);
    let read = machine.guest.bytes(0x3_0000, 4096);
    assert_eq!((read[0], read[511], read[512], read[4095]), (3, 3, 4, 10));
    machine.guest.put(0x3_0000, &[0xA5; 512]);
    assert_eq!(machine.request(1, 15, 1), 0);
    assert_eq!(machine.request(3, 0, 1), 0);
    let file = fs::read(&machine.path).unwrap();
    assert_eq!(
        (file[15 * 512 - 1], file[15 * 512], file[8191]),
        (14, 0xA5, 0xA5)
    );
    assert!(!machine.is_used(9), "given back");
    assert_eq!(machine.said(), "");
}

#[test]
fn a_bad_request_is_refused_and_the_next_one_served() {
    let mut machine = Machine::connected();
    machine.grant(9, 1, 0x30);
    assert_eq!(machine.request(1, 16, 1), -1, "behind the end");
    assert_eq!(machine.request(2, 0, 1), -2, "a barrier");
    for word in [0, 1 | 1 << 2, 5 << 16 | 1] {
        machine.grant(9, word, 0x30);
        assert_eq!(machine.request(0, 0, 1), -1, "{word:#x}");
        assert!(!machine.is_used(9));
    }
    machine.grant(9, 1, 0x30);
    assert_eq!(machine.request(0, 0, 1), 0);
    let said = machine.said();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains("disk xvda (") && said.contains("outside the disk"),
        "{said}"
    );
}

#[test]
fn a_discarded_area_reads_as_zeros_and_the_rest_stays() {
    let mut machine = Machine::connected();
    assert_eq!(
        machine.guest.back_key("feature-discard").as_deref(),
        Some("1")
    );
    assert_eq!(
        machine.guest.back_key("discard-secure").as_deref(),
        Some("0")
    );
    assert_eq!(machine.discard(3, 2), 0);
    assert_eq!(machine.discard(15, 2), -1, "behind the end");
    let file = fs::read(&machine.path).unwrap();
    assert_eq!(file.len(), 16 * 512);
    let firsts: Vec<u8> = file.chunks(512).map(|sector| sector[0]).collect();
    assert_eq!(firsts[..7], [0, 1, 2, 0, 0, 5, 6]);
}

#[test]
fn a_disk_whose_user_keeps_its_room_offers_no_discard() {
    let mut machine = Machine::with(|options| options.keeps_discarded = true);
    machine.publish();
    assert_eq!(machine.guest.back_key("feature-discard"), None);
    assert_eq!(machine.discard(3, 2), -2);
    assert_eq!(fs::read(&machine.path).unwrap()[3 * 512], 3);
}

#[test]
fn a_read_only_disk_refuses_writes_and_says_so_in_the_store() {
    let mut machine = Machine::with(|options| options.is_read_only = true);
    machine.publish();
    assert_eq!(machine.guest.back_key("mode").as_deref(), Some("r"));
    assert_eq!(machine.guest.back_key("info").as_deref(), Some("4"));
    machine.grant(9, 1, 0x30);
    assert_eq!(machine.request(1, 0, 1), -1);
    assert_eq!(machine.request(0, 0, 1), 0);
}

#[test]
fn an_image_that_was_cut_short_is_an_error_of_the_request_told_once() {
    let mut machine = Machine::connected();
    machine.grant(9, 1, 0x30);
    let file = OpenOptions::new().write(true).open(&machine.path);
    file.unwrap().set_len(1024).unwrap();
    assert_eq!(machine.request(0, 4, 1), -1);
    assert_eq!(machine.request(0, 5, 1), -1);
    assert_eq!(machine.request(0, 1, 1), 0);
    let said = machine.said();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("the file ends at byte"), "{said}");
}

#[test]
fn a_ring_that_is_not_granted_closes_the_device_and_says_why() {
    for (key, value) in [("ring-ref", "9"), ("ring-ref", "x"), ("event-channel", "1")] {
        let mut machine = Machine::new();
        machine.grant(8, 1, 0x21);
        machine.guest.write_key("ring-ref", 8);
        machine.guest.write_key("event-channel", 77);
        machine.guest.write_key("protocol", "x86_64-abi");
        machine.guest.write_key(key, value);
        machine.guest.write_key("state", 3);
        machine.run();
        assert_eq!(
            machine.guest.back_key("state").as_deref(),
            Some("5"),
            "{key}"
        );
        let error = "/local/domain/0/error/backend/vbd/1/51712/error";
        assert!(machine.guest.key(error).is_some(), "{key}");
        assert!(!machine.is_used(8), "{key}");
        // A front end that closes may start again.
        machine.guest.write_key("state", 6);
        machine.run();
        machine.guest.write_key("state", 1);
        machine.run();
        machine.publish();
        assert_eq!(
            machine.guest.back_key("state").as_deref(),
            Some("4"),
            "{key}"
        );
    }
}

#[test]
fn an_index_too_far_ahead_closes_the_device() {
    let mut machine = Machine::connected();
    machine.guest.put(RING, &1000_u32.to_le_bytes());
    machine.run();
    assert_eq!(machine.guest.back_key("state").as_deref(), Some("5"));
    assert!(!machine.is_used(8), "the ring is given back");
    assert!(machine.said().contains("ahead of the responses"));
}

#[test]
fn a_thousand_reconnections_leave_nothing_behind() {
    let mut machine = Machine::connected();
    machine.grant(9, 1, 0x30);
    for round in 0..1000_u32 {
        // A kexec forgets the ring; an orderly end closes it.
        for state in if round % 2 == 0 { &[1][..] } else { &[5, 6, 1] } {
            machine.guest.write_key("state", state);
            machine.run();
        }
        assert_eq!(machine.guest.back_key("state").as_deref(), Some("2"));
        assert!(!machine.is_used(8));
        let inner = machine.guest.inner.lock().unwrap();
        assert_eq!(inner.bells.len(), 0);
        drop(inner);
        let port = machine.publish();
        assert_eq!(machine.request(0, u64::from(round % 16), 1), 0);
        // EVTCHNOP_close, so that the guest does not run out of ports.
        assert_eq!(machine.guest.call(32, 3, &[port]), 0);
    }
    let inner = machine.guest.inner.lock().unwrap();
    assert_eq!(inner.bells.keys().map(|end| end.0).max(), Some(3));
}

#[test]
fn a_front_end_s_folder_that_is_removed_gives_the_ring_back() {
    let mut machine = Machine::connected();
    let path = machine.back_end.handshake.state.device().front_path();
    machine
        .guest
        .change_store(&[Change::Remove { path }])
        .unwrap();
    machine.run();
    assert_eq!(machine.guest.back_key("state").as_deref(), Some("6"));
    assert!(!machine.is_used(8));
}

#[test]
fn a_grant_table_and_ring_pages_that_are_taken_away_harm_only_the_guest() {
    let mut machine = Machine::connected();
    machine.grant(9, 1, 0x30);
    // XENMEM_remove_from_physmap: the ring's page is gone.
    let gfn = u32::try_from(RING >> 12).unwrap();
    assert_eq!(machine.guest.call(12, 15, &[0x7ff0, gfn]), 0);
    machine.run();
    assert_eq!(machine.guest.back_key("state").as_deref(), Some("5"));
    assert!(machine.said().contains("cannot be reached"));
}

/// Where the guest has its ring.
const RING: u64 = 0x2_1000;
