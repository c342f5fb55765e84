//! A guest and a host for tests: a domain without vCPUs that run, and what it is told.

use std::{
    collections::HashMap,
    io,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

use pvh_abi::{DomId, Errno, Gpa, GuestRange, event_channel::Port};
use pvh_domain::{Config, Domain, Effect, HostGrants, HostPort, MemoryConfig, Now, Origin};
use pvh_hypercall::{Call, Outcome, Width};
use pvh_kvm::GuestRam;
use pvh_memory::{GuestMemory, LinearMemory, PagingPolicy, PagingState};
use pvh_vcpu::CpuPolicy;
use pvh_xen::Doorbell;
use pvh_xenbus::Change;
use pvh_xenstore::{HostId, StoreError};

use crate::{
    guest::Guest,
    host::{DeviceKind, Host},
};

/// A function that returns numbers below its argument, the same ones in each run.
pub(crate) fn numbers() -> impl FnMut(u64) -> u64 {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    move |limit| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) % limit
    }
}

/// A domain without vCPUs that run, as the back end sees it.
pub(crate) struct ModelGuest {
    ram: Arc<GuestRam>,
    pub(crate) inner: Mutex<Inner>,
    /// A notification of the guest waits for this.
    pub(crate) gate: Mutex<()>,
    /// The front end's folder in the store, and the back end's.
    folders: [String; 2],
}

pub(crate) struct Inner {
    domain: Domain,
    connection: HostId,
    store_bells: Vec<Arc<dyn Doorbell>>,
    pub(crate) bells: HashMap<HostPort, Arc<dyn Doorbell>>,
}

impl ModelGuest {
    /// A guest with the device `class`/`id`, and a page of its grant table at [`TABLE`].
    pub(crate) fn new(class: &str, id: u32) -> Self {
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
            xen: pvh_hypercall::XenVersion::V4_17,
        };
        let mut domain = Domain::new(config, &*ram, Now::default()).unwrap();
        let connection = domain.connect_to_store();
        let inner = Mutex::new(Inner {
            domain,
            connection,
            store_bells: Vec::new(),
            bells: HashMap::new(),
        });
        let guest = Self {
            ram,
            inner,
            gate: Mutex::new(()),
            folders: [
                format!("/local/domain/1/device/{class}/{id}"),
                format!("/local/domain/0/backend/{class}/1/{id}"),
            ],
        };
        // XENMEM_add_to_physmap: frame 0 of the grant table.
        assert_eq!(guest.call(12, 7, &[0x7ff0, 1, 0, 0x20]), 0);
        guest
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
    pub(crate) fn call(&self, number: u64, op: u64, words: &[u32]) -> i64 {
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

    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        self.ram.write(Gpa(at), bytes).unwrap();
    }

    pub(crate) fn word(&self, at: u64) -> u32 {
        let mut word = [0; 4];
        self.ram.read(Gpa(at), &mut word).unwrap();
        u32::from_le_bytes(word)
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    pub(crate) fn write_key(&self, key: &str, value: impl ToString) {
        let path = format!("{}/{key}", self.folders[0]);
        let value = value.to_string();
        self.change_store(&[Change::Write { path, value }]).unwrap();
    }

    pub(crate) fn back_key(&self, key: &str) -> Option<String> {
        self.key(&format!("{}/{key}", self.folders[1]))
    }
}

impl Guest for ModelGuest {
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

impl ModelGuest {
    /// Writes an entry of the grant table.
    pub(crate) fn grant(&self, reference: u64, word: u32, gfn: u32) {
        let at = TABLE + 8 * reference;
        self.put(at + 4, &gfn.to_le_bytes());
        self.put(at, &word.to_le_bytes());
    }

    /// Whether an entry of the grant table is marked as in use.
    pub(crate) fn is_used(&self, reference: u64) -> bool {
        self.word(TABLE + 8 * reference) & 0x18 != 0
    }
}

/// A host that keeps what it is told.
#[derive(Debug, Default)]
pub(crate) struct ModelHost {
    said: Mutex<String>,
    has_panicked: Arc<AtomicBool>,
}

impl ModelHost {
    /// Takes the lines that were reported.
    pub(crate) fn said(&self) -> String {
        std::mem::take(&mut *self.said.lock().unwrap())
    }

    /// Whether the thread of a device has panicked.
    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked.load(SeqCst)
    }
}

impl Host for ModelHost {
    #[expect(clippy::disallowed_methods, reason = "a test may start threads")]
    fn start_thread(
        &self,
        _: DeviceKind,
        _: u8,
        life: Box<dyn FnOnce() + Send>,
    ) -> io::Result<JoinHandle<()>> {
        let has_panicked = Arc::clone(&self.has_panicked);
        std::thread::Builder::new().spawn(move || {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(life));
            has_panicked.fetch_or(ended.is_err(), SeqCst);
        })
    }

    fn report(&self, line: &str) {
        let mut said = self.said.lock().unwrap();
        said.push_str(line);
        said.push('\n');
    }
}

/// Where calls have their arguments, and the guest its grant table.
pub(crate) const ARG: u64 = 0x8000;
pub(crate) const TABLE: u64 = 0x2_0000;
const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 48,
    is_amd: false,
    has_gib_pages: false,
    has_pse36: false,
};
