//! A domain with its memory, and what has to be so after each call.

use std::{collections::BTreeMap, num::NonZeroU64, ops::Range};

use pvh_abi::DomId;
use pvh_domain::{Config, Domain, Effect, MemoryConfig, Now, Recorder, Shutdown};
use pvh_hypercall::{Width, XenVersion};
use pvh_vcpu::{CpuPolicy, Orders, State};

use super::{clocks::Clocks, params::Params};
use crate::memory::SparseMemory;

pub(super) const COUNT: u32 = 3;
pub(super) const SHARED_INFO: u64 = 0x1000;
pub(super) const ARG: u64 = 0x8000;

const RAM_PAGES: u64 = 64;
pub(super) const MAX_PAGES: u64 = 80;
const SPARE_FRAMES: u64 = 40;
pub(super) const START_NS: u64 = 1 << 32;
/// `CALLBACK_IRQ` as the guest's first call sets it: by a vector.
pub(super) const CALLBACK: u64 = 2 << 56 | 0xf3;
pub(super) const VCPUS: Range<u32> = 0..COUNT;

/// What a port is, by `EVTCHNOP_status`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Port {
    Unbound,
    Interdomain(u32),
    Virq,
    Ipi,
}

impl Port {
    pub(super) const fn status(self) -> u32 {
        match self {
            Self::Unbound => 1,
            Self::Interdomain(_) => 2,
            Self::Virq => 4,
            Self::Ipi => 5,
        }
    }
}

pub(super) struct World {
    pub(super) domain: Domain,
    pub(super) memory: SparseMemory,
    pub(super) now: Now,
    pub(super) effects: Vec<Effect>,
    /// Which vCPUs run 32-bit code; bit 3: high halves are dirty; bit 6: Xen 4.20 answers.
    pub(super) narrow: u8,
    pub(super) up: [bool; COUNT as usize],
    pub(super) asleep: [bool; COUNT as usize],
    pub(super) is_over: bool,
    /// The guest's own ports, while they are known.
    pub(super) ports: Option<BTreeMap<u32, Port>>,
    /// Shared info is where it was mapped at first, and the two-level ABI in use.
    pub(super) has_shared_info: bool,
    pub(super) clocks: Clocks,
    /// The effects that the clocks have been told of.
    noted: usize,
    pub(super) params: Params,
    /// The ports that get the timer's event of a vCPU.
    pub(super) timer_ports: BTreeMap<u32, u32>,
}

impl World {
    /// A domain that has done nothing yet.
    pub(super) fn new(narrow: u8, recorder: Option<Recorder>) -> Option<Self> {
        let memory = SparseMemory::new(&[(0, RAM_PAGES << 12)], 0).with_spare_frames(SPARE_FRAMES);
        let now = Now {
            system_ns: START_NS,
            tsc: START_NS,
            wall_ns: 1 << 60,
        };
        let config = Config {
            domid: DomId(7),
            uuid: [0x11; 16],
            name: "fuzzed".to_owned(),
            vcpus: COUNT,
            cpu: CpuPolicy {
                cr4_bits: 0x7ff,
                efer_bits: 0x901,
                physical_address_bits: 39,
            },
            tsc_hz: NonZeroU64::new(1_000_000_000)?,
            is_tsc_stable: true,
            memory_kib: RAM_PAGES * 4,
            memory: MemoryConfig {
                pages: RAM_PAGES + 8,
                max_pages: MAX_PAGES,
                max_gfn: 0xf_efff,
                host_pages: 1 << 20,
                memory_map: Vec::new(),
            },
            may_log: narrow & 16 != 0,
            xen: if narrow & 64 == 0 {
                XenVersion::V4_17
            } else {
                XenVersion::V4_20
            },
        };
        let domain = Domain::recorded(config, &memory, now, recorder);
        let domain = domain.expect("it is a sound configuration");
        Some(Self {
            domain,
            memory,
            now,
            effects: Vec::new(),
            narrow,
            up: [true, false, false],
            asleep: [false; COUNT as usize],
            is_over: false,
            ports: Some(BTreeMap::new()),
            has_shared_info: true,
            clocks: Clocks::new(),
            noted: 0,
            params: Params::new(CALLBACK),
            timer_ports: BTreeMap::new(),
        })
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) const fn now_ns(&self) -> u64 {
        self.now.system_ns
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.now.system_ns += ns;
        self.now.tsc += ns;
        self.now.wall_ns += ns;
    }

    pub(super) fn tick(&mut self) {
        let now = self.now;
        let timers = self.timers_before();
        self.domain.tick(&self.memory, now, &mut self.effects);
        self.note();
        self.check_timers(&timers);
        self.check();
        // What is due is done, or said to be due at once.
        let due = || self.domain.next_deadline_ns();
        let is_done = due().is_none_or(|due| due > now.system_ns || due == 0);
        assert!(is_done, "due at {:?}, now {}", due(), now.system_ns);
        // The time gets a new stamp every second while the guest has a page to read it from.
        if self.has_shared_info && !self.is_over {
            let limit = now.system_ns + 1_000_000_000;
            assert!(due().is_some_and(|due| due <= limit), "due at {:?}", due());
        }
    }

    pub(super) fn enter(&mut self, vcpu: u32) {
        let now = self.now;
        self.domain
            .entered(&self.memory, vcpu, now, &mut self.effects);
        self.clocks.runs(vcpu, now.system_ns);
        if let Some(asleep) = self.asleep.get_mut(vcpu as usize) {
            *asleep = false;
        }
    }

    pub(super) fn orders(&mut self, vcpu: u32) {
        let orders = self.domain.orders(vcpu);
        let is_up = self.up.get(vcpu as usize).copied();
        match orders {
            Orders::End => assert!(self.is_over || is_up.is_none()),
            Orders::Run(_) => assert_eq!(is_up, Some(true)),
            Orders::Park => assert_eq!(is_up, Some(false)),
        }
    }

    /// INIT, or the start-up interrupt with a vector.
    pub(super) fn interrupt(&mut self, vcpu: u32, vector: Option<u8>) {
        let (memory, now) = (&self.memory, self.now);
        match vector {
            Some(vector) => self
                .domain
                .sipi(memory, vcpu, vector, now, &mut self.effects),
            None => {
                self.domain.init(memory, vcpu, now, &mut self.effects);
                self.clocks.init(vcpu);
                if let Some(asleep) = self.asleep.get_mut(vcpu as usize) {
                    *asleep = false;
                }
            }
        }
    }

    pub(super) fn find_running(&mut self, vcpu: u32) {
        self.domain.found_running(&self.memory, vcpu, self.now);
        let is_over = self.is_over;
        if let Some(up) = self.up.get_mut(vcpu as usize)
            && !is_over
            && !std::mem::replace(up, true)
        {
            self.clocks.found_running(vcpu, self.now.system_ns);
        }
    }

    pub(super) fn halt(&mut self, vcpu: u32) {
        let now = self.now;
        self.domain
            .halted(&self.memory, vcpu, now, &mut self.effects);
    }

    pub(super) fn type_in(&mut self, text: &[u8]) {
        let now = self.now;
        let taken = self
            .domain
            .console_input(&self.memory, now, text, &mut self.effects);
        assert!(taken <= text.len());
    }

    pub(super) fn ask_to_stop(&mut self, how: Shutdown) {
        let now = self.now;
        self.domain
            .request_shutdown(&self.memory, now, how, &mut self.effects);
    }

    pub(super) fn debug(&mut self, byte: u8) {
        self.domain.debug_port(byte, &mut self.effects);
    }

    pub(super) fn latch(&mut self, width: Width) {
        self.domain
            .hypercall_page_written(&self.memory, width, self.now);
    }

    /// Ports, areas, parameters and timers are not known any more.
    pub(super) fn forget(&mut self) {
        self.params.forget();
        self.clocks.forget_timers();
        self.clocks.may_reset();
        self.ports = None;
        self.has_shared_info = false;
    }

    pub(super) fn forget_shared_info(&mut self) {
        self.has_shared_info = false;
    }

    /// Tells the clocks of the effects that are new.
    pub(super) fn note(&mut self) {
        for effect in self.effects.iter().skip(self.noted) {
            self.clocks.effect(effect, self.now.system_ns);
        }
        self.noted = self.effects.len();
    }

    /// What holds after everything that happens.
    pub(super) fn check(&mut self) {
        self.note();
        self.noted = 0;
        for effect in std::mem::take(&mut self.effects) {
            self.check_effect(&effect);
        }
        assert_eq!(self.domain.is_over(), self.is_over);
        for vcpu in VCPUS {
            let state = self.domain.lifecycle(vcpu);
            let is_up = state == Some(State::Up);
            // The last one to go down ends the domain, and is not told.
            assert!(
                self.is_over || is_up == self.up[vcpu as usize],
                "vCPU {vcpu}: {state:?}"
            );
        }
        assert!(self.memory.added() <= SPARE_FRAMES);
        let latest_ns = self.clocks.latest_ns(self.now.system_ns);
        if let Some(latest_ns) = latest_ns.filter(|_| !self.is_over) {
            let due_ns = self.domain.next_deadline_ns();
            let is_early = due_ns.is_some_and(|due_ns| due_ns <= latest_ns);
            assert!(is_early, "due at {due_ns:?}, not by {latest_ns}");
        }
    }

    fn check_effect(&mut self, effect: &Effect) {
        match *effect {
            Effect::GlobalVector { vcpu, vector } => {
                assert!(vcpu < COUNT && vector >= 0x10, "{effect:?}");
            }
            Effect::VcpuVector { vcpu, vector } => {
                assert!(vcpu < COUNT && vector >= 0x10, "{effect:?}");
            }
            Effect::Wake(vcpu) => {
                let asleep = &mut self.asleep[vcpu as usize];
                // One that would sleep may be woken in the same call.
                *asleep = false;
            }
            Effect::Start(vcpu) | Effect::Resume(vcpu) => {
                let was_up = std::mem::replace(&mut self.up[vcpu as usize], true);
                assert!(!was_up, "vCPU {vcpu} was up");
            }
            Effect::Stop(vcpu) => {
                let was_up = std::mem::replace(&mut self.up[vcpu as usize], false);
                assert!(was_up, "vCPU {vcpu} was down");
            }
            Effect::Park(vcpu) | Effect::StartExpected(vcpu) => {
                assert!(!self.up[vcpu as usize], "vCPU {vcpu} is up: {effect:?}");
            }
            Effect::Nmi(vcpu) => assert!(vcpu < COUNT),
            Effect::Output(ref text) | Effect::Log(ref text) => assert!(text.len() <= 4096),
            Effect::Shutdown(_) => {
                assert!(!self.is_over, "the end was told twice");
                self.is_over = true;
            }
            _ => {}
        }
    }
}
