//! Tests of the back end against a front end in a domain without a machine.

mod any_front_end;
mod threads;

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    num::NonZeroU64,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use pvh_abi::{DomId, Gpa};
use pvh_config::{CacheMode, DiskArgument};
use pvh_domain::{Config, Domain, Effect, MemoryConfig, Now, Origin};
use pvh_hypercall::{Call, Outcome, Width};
use pvh_memory::{GuestMemory, LinearMemory, PagingPolicy, PagingState};
use pvh_vcpu::CpuPolicy;
use pvh_xen::Doorbell;
use pvh_xenstore::HostId;
use tempfile::TempDir;

use super::*;
use crate::{
    console::ConsoleQueue,
    disk::{DiskThreads, Disks},
    machine::Board,
};

/// A domain without vCPUs that run, as the back end sees it.
struct Guest {
    ram: Arc<GuestRam>,
    inner: Mutex<Inner>,
    /// A notification of the guest waits for this.
    gate: Mutex<()>,
}

struct Inner {
    domain: Domain,
    connection: HostId,
    store_bells: Vec<Arc<dyn Doorbell>>,
    bells: HashMap<HostPort, Arc<dyn Doorbell>>,
}

impl Guest {
    fn new() -> Self {
        let ram = GuestRange::new(Gpa(0), 16 << 20);
        let special = GuestRange::new(Gpa(0xFEFF_8000), 0x8000);
        let ram = Arc::new(GuestRam::with_ranges(&[ram], &[special], 48).unwrap());
        let config = Config {
            domid: DomId(1),
            uuid: [0; 16],
            name: "guest".into(),
            vcpus: 1,
            cpu: CpuPolicy {
                cr4_bits: 0x6f8,
                efer_bits: 0xd01,
                physical_address_bits: 48,
            },
            tsc_hz: NonZeroU64::new(1_000_000_000).unwrap(),
            is_tsc_stable: true,
            memory_kib: 16 << 10,
            memory: MemoryConfig {
                pages: 0x1008,
                max_pages: 0x1100,
                max_gfn: 0xF_EFFF,
                host_pages: 0xF_F000,
                memory_map: Vec::new(),
            },
            may_log: false,
        };
        let mut domain = Domain::new(config, &*ram, Now::default()).unwrap();
        let connection = domain.connect_to_store();
        let inner = Mutex::new(Inner {
            domain,
            connection,
            store_bells: Vec::new(),
            bells: HashMap::new(),
        });
        Self {
            ram,
            inner,
            gate: Mutex::new(()),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner, &mut Vec<Effect>) -> T) -> T {
        let mut inner: MutexGuard<'_, Inner> = self.inner.lock().unwrap();
        let mut effects = Vec::new();
        let answer = act(&mut inner, &mut effects);
        let connection = inner.connection;
        while inner.domain.take_store_event(connection).is_some() {
            inner.store_bells.iter().for_each(|bell| bell.ring());
        }
        for effect in effects {
            if let Effect::Notified(end) = effect
                && let Some(bell) = inner.bells.get(&end)
            {
                bell.ring();
            }
        }
        answer
    }

    /// Makes a hypercall whose argument is these words.
    fn call(&self, number: u64, op: u64, words: &[u32]) -> i64 {
        for (index, word) in (0_u64..).zip(words) {
            self.put(ARG + 4 * index, &word.to_le_bytes());
        }
        self.with(|inner, effects| {
            let io = LinearMemory::new(&*self.ram, &PagingState::UNPAGED, &POLICY);
            let origin = Origin {
                vcpu: 0,
                io: &io,
                takes_interrupts: false,
                now: Now::default(),
            };
            let call = Call::new(Width::Compat, number, [op, ARG, 0, 0, 0]);
            let answer = inner.domain.hypercall(&*self.ram, &origin, call, effects);
            match answer.outcome {
                Outcome::Return(value) => value,
                Outcome::Again(_) => panic!("a short call"),
            }
        })
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.ram.write(Gpa(at), bytes).unwrap();
    }

    fn word(&self, at: u64) -> u32 {
        let mut word = [0; 4];
        self.ram.read(Gpa(at), &mut word).unwrap();
        u32::from_le_bytes(word)
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    fn write_key(&self, key: &str, value: impl ToString) {
        let path = format!("/local/domain/1/device/vbd/51712/{key}");
        let value = value.to_string();
        self.change_store(&[Change::Write { path, value }]).unwrap();
    }

    fn back_key(&self, key: &str) -> Option<String> {
        self.key(&format!("/local/domain/0/backend/vbd/1/51712/{key}"))
    }
}

impl GuestSide for Guest {
    fn domid(&self) -> DomId {
        DomId(1)
    }

    fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }

    fn host_grants(&self) -> HostGrants<Arc<GuestRam>> {
        self.with(|inner, _| inner.domain.host_grants(Arc::clone(&self.ram)))
    }

    fn key(&self, path: &str) -> Option<String> {
        self.with(|inner, _| {
            let value = inner.domain.store().read(path)?;
            String::from_utf8(value.to_vec()).ok()
        })
    }

    fn change_store(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.with(|inner, effects| {
            let domain = &mut inner.domain;
            domain.change_store(&*self.ram, Now::default(), changes, effects)
        })
    }

    fn watch_store(&self, path: &str, bell: Arc<dyn Doorbell>) -> Result<(), StoreError> {
        self.with(|inner, _| {
            inner.store_bells.push(bell);
            inner.domain.watch_store(inner.connection, path, b"0")
        })
    }

    fn bind_port(&self, port: Port, bell: Arc<dyn Doorbell>) -> Result<HostPort, Errno> {
        self.with(|inner, _| {
            let end = inner.domain.bind_port(port)?;
            inner.bells.insert(end, bell);
            Ok(end)
        })
    }

    fn notify_port(&self, end: HostPort) {
        let _open = self.gate.lock().unwrap();
        self.with(|inner, effects| {
            let domain = &mut inner.domain;
            domain.notify_port(&*self.ram, Now::default(), end, effects);
        });
    }

    fn unbind_port(&self, end: HostPort) {
        self.with(|inner, _| {
            inner.bells.remove(&end);
            inner.domain.unbind_port(end);
        });
    }
}

/// A guest with a disk of 16 sectors, each filled with its number.
struct Machine {
    guest: Arc<Guest>,
    back_end: DiskBackEnd<Guest>,
    said: ConsoleQueue,
    path: std::path::PathBuf,
    requests: u32,
    _dir: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut DiskArgument)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let bytes: Vec<u8> = (0..16).flat_map(|sector| [sector; 512]).collect();
        fs::write(&path, bytes).unwrap();
        let mut argument = DiskArgument {
            path: path.clone(),
            is_read_only: false,
            is_raw: false,
            cache: CacheMode::Writeback,
            device: None,
        };
        change(&mut argument);
        let disks = Disks::open(&[argument]).unwrap();
        let guest = Arc::new(Guest::new());
        let said = ConsoleQueue::default();
        let log = GuestLog::new(said.clone(), true);
        let back_end = DiskBackEnd::attach(Arc::clone(&guest), &disks.0[0], &log).unwrap();
        // XENMEM_add_to_physmap: frame 0 of the grant table.
        assert_eq!(guest.call(12, 7, &[0x7ff0, 1, 0, 0x20]), 0);
        Self {
            guest,
            back_end,
            said,
            path,
            requests: 0,
            _dir: dir,
        }
    }

    /// Lets the back end work until it would sleep.
    fn run(&mut self) {
        for _ in 0..1000 {
            if !self.back_end.step() && !self.back_end.bell.has_store_event() {
                return;
            }
        }
        panic!("the back end does not sleep");
    }

    fn grant(&self, reference: u64, word: u32, gfn: u32) {
        let at = TABLE + 8 * reference;
        self.guest.put(at + 4, &gfn.to_le_bytes());
        self.guest.put(at, &word.to_le_bytes());
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
        assert_eq!(self.guest.word(RING + 8), self.requests, "answered");
        let response = self.guest.bytes(slot, 16);
        assert_eq!(response[..8], 77_u64.to_le_bytes());
        assert_eq!(response[8], operation);
        i16::from_le_bytes([response[10], response[11]])
    }

    fn said(&self) -> String {
        String::from_utf8(self.said.take(usize::MAX)).unwrap()
    }

    /// Whether an entry of the grant table is marked as in use.
    fn is_used(&self, reference: u64) -> bool {
        self.guest.word(TABLE + 8 * reference) & 0x18 != 0
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
fn a_read_only_disk_refuses_writes_and_says_so_in_the_store() {
    let mut machine = Machine::with(|argument| argument.is_read_only = true);
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
    let path = machine.back_end.state.device().front_path();
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

/// Where calls have their arguments, the guest its grant table, and the ring.
const ARG: u64 = 0x8000;
const TABLE: u64 = 0x2_0000;
const RING: u64 = 0x2_1000;
const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 48,
    is_amd: false,
    has_gib_pages: false,
    has_pse36: false,
};
