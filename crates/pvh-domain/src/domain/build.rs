//! Makes a domain, as Xen's toolstack does.

use core::num::NonZeroU64;

use pvh_abi::{
    DomId, Errno, Gpa,
    address::PAGE_SIZE,
    event_channel::Port,
    hvm::HvmParam,
    special_pages::{
        BUFIOREQ_GFN, CONSOLE_GFN, IDENTITY_PAGE_TABLE_GFN, IOREQ_GFN, MONITOR_RING_GFN,
        PAGING_RING_GFN, SHARING_RING_GFN, SPECIAL_GFNS, STORE_GFN,
    },
};
use pvh_memory::{FrameError, Frames, MemoryError};
use pvh_vcpu::{Vcpu, VcpuSet};
use pvh_xenstore::{ConsoleKeys, DomainKeys, Limits, RingKeys, Store, StoreError};

use super::{Config, Console, Domain, Log, Now, VcpuData, Watchdogs, areas::REFRESH_NS};
use crate::parts::{
    console::ConsoleRing,
    event::{self, Delivery, EventChannels, HostPort},
    grant::{CONSOLE_REFERENCE, GrantTable, MAX_FRAMES, XENSTORE_REFERENCE},
    hvm::HvmState,
    memory::MemoryOps,
    ring::RingError,
    runstate::RunState,
    shared_info::SharedInfo,
    store_ring::StoreRing,
    time::{TSC_STABLE, TimeInfo, TscScale, Wallclock},
    vcpu_info::VcpuInfos,
};

/// Why a domain cannot be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// The id is domain 0's, or outside the range of guests.
    #[error("domain id {id:#x} is out of range: 1 to 0x7fef are guests")]
    Id {
        /// The id that was given.
        id: u16,
    },
    /// More vCPUs than Xen allows, or none.
    #[error("a domain has 1 to 128 vCPUs, not {vcpus}")]
    Vcpus {
        /// The number that was given.
        vcpus: u32,
    },
    /// A special page cannot be backed.
    #[error("guest memory cannot have a page at frame {gfn:#x}")]
    Frame {
        /// Which frame.
        gfn: u64,
        /// Why not.
        #[source]
        source: FrameError,
    },
    /// The special pages cannot be written.
    #[error("the special pages cannot be written")]
    Memory(#[source] MemoryError),
    /// The store's ring cannot be written.
    #[error("the page of the store's ring cannot be written")]
    Ring(#[source] RingError),
    /// The store refuses a key of the domain.
    #[error("the store refuses the domain's keys")]
    Store(#[source] StoreError),
    /// The domain's own parts refuse a step that the toolstack does.
    #[error("{what} is refused with error {}", .errno.0)]
    Refused {
        /// Which step.
        what: &'static str,
        /// Xen's error for it.
        errno: Errno,
    },
}

impl Domain {
    pub(super) fn build(
        mut config: Config,
        memory: &dyn Frames,
        now: Now,
    ) -> Result<Self, DomainError> {
        let storage = check(&config)?;
        let vcpus = config.vcpus;
        clear_special_pages(memory)?;
        let mut shared_info = SharedInfo::new();
        let wallclock = Wallclock::at_system_time_0(now.wall_ns, now.system_ns);
        shared_info.set_wallclock(memory, wallclock);
        let vcpu_infos = VcpuInfos::new(vcpus).of_version(config.xen);
        let mut events = EventChannels::new(&event::Config {
            domain: config.domid,
            vcpus,
            max_port: MAX_PORT,
            pirqs: PIRQS,
        });
        let mut open = || {
            let opened = events.open_service(&Delivery::new(memory, &shared_info, &vcpu_infos));
            opened.map_err(|errno| refused("a service's port", errno))
        };
        let (store_port, console_port): ((Port, HostPort), (Port, HostPort)) = (open()?, open()?);
        let mut store_ring = StoreRing::new(gpa(STORE_GFN), config.domid);
        store_ring.connect(memory).map_err(DomainError::Ring)?;
        let mut domain = Self {
            set: VcpuSet::new(vec![Vcpu::RESET; storage]),
            vcpus: (0..storage).map(|_| VcpuData::new(now.system_ns)).collect(),
            shared_info,
            vcpu_infos,
            events,
            hvm: HvmState::new(config.domid, vcpus).of_version(config.xen),
            grants: GrantTable::new(config.domid, MAX_FRAMES),
            memory_ops: MemoryOps::new(config.domid, core::mem::take(&mut config.memory))
                .of_version(config.xen),
            time: time(config.tsc_hz, config.is_tsc_stable, now),
            time_due_ns: now.system_ns.saturating_add(REFRESH_NS),
            watchdogs: Watchdogs::default(),
            has_runstate_flag: false,
            console: Console::new(ConsoleRing::new(gpa(CONSOLE_GFN))),
            console_end: console_port.1,
            store: Store::new(Limits::default()),
            store_ring,
            store_end: store_port.1,
            has_ring_work: false,
            log: Log::default(),
            reason: None,
            is_over: false,
            parked: Vec::new(),
            observes: true,
            refreshes: true,
            has_budget: true,
            #[cfg(feature = "trace")]
            recorder: None,
            config,
        };
        domain.preset_params(store_port.0, console_port.0)?;
        domain.grant_rings(memory)?;
        domain.fill_store(store_port.0, console_port.0)?;
        domain.change_runstate(memory, 0, RunState::Runnable, now.system_ns);
        for vcpu in 0..vcpus {
            domain.write_time(memory, vcpu);
        }
        Ok(domain)
    }

    pub(super) fn preset_params(&mut self, store: Port, console: Port) -> Result<(), DomainError> {
        let mut effects = Vec::new();
        for (param, value) in [
            (HvmParam::STORE_PFN, STORE_GFN),
            (HvmParam::STORE_EVTCHN, store.0.into()),
            (HvmParam::CONSOLE_PFN, CONSOLE_GFN),
            (HvmParam::CONSOLE_EVTCHN, console.0.into()),
            (HvmParam::PAGING_RING_PFN, PAGING_RING_GFN),
            (HvmParam::MONITOR_RING_PFN, MONITOR_RING_GFN),
            (HvmParam::SHARING_RING_PFN, SHARING_RING_GFN),
            (HvmParam::BUFIOREQ_PFN, BUFIOREQ_GFN),
            (HvmParam::IOREQ_PFN, IOREQ_GFN),
            (HvmParam::IDENT_PT, gpa(IDENTITY_PAGE_TABLE_GFN).0),
        ] {
            let preset = self.hvm.preset(param, value, &mut effects);
            preset.map_err(|errno| refused("an HVM parameter", errno))?;
        }
        Ok(())
    }

    pub(super) fn grant_rings(&self, memory: &dyn Frames) -> Result<(), DomainError> {
        for (reference, gfn) in [
            (CONSOLE_REFERENCE, CONSOLE_GFN),
            (XENSTORE_REFERENCE, STORE_GFN),
        ] {
            let frame = u32::try_from(gfn).unwrap_or(u32::MAX);
            let granted = self.grants.grant_to_host(memory, reference, frame);
            granted.map_err(|errno| refused("a grant", errno))?;
        }
        Ok(())
    }

    pub(super) fn fill_store(&mut self, store: Port, console: Port) -> Result<(), DomainError> {
        let config = &self.config;
        let keys = DomainKeys {
            domid: config.domid,
            name: &config.name,
            uuid: &uuid_text(&config.uuid),
            cpus: config.vcpus,
            max_cpus: config.vcpus,
            memory_kib: config.memory_kib,
            store: RingKeys {
                gfn: STORE_GFN,
                port: store.0,
            },
            console: Some(ConsoleKeys {
                ring: RingKeys {
                    gfn: CONSOLE_GFN,
                    port: console.0,
                },
                output: "pty",
            }),
        };
        keys.write(&mut self.store).map_err(DomainError::Store)
    }
}

/// Checks what does not depend on memory; answers how many vCPUs there are.
fn check(config: &Config) -> Result<usize, DomainError> {
    let (DomId(id), vcpus) = (config.domid, config.vcpus);
    if !(1..DomId::SELF.0).contains(&id) {
        return Err(DomainError::Id { id });
    }
    let count = usize::try_from(vcpus).unwrap_or(usize::MAX);
    if !(1..=pvh_vcpu::MAX_VCPUS).contains(&count) {
        return Err(DomainError::Vcpus { vcpus });
    }
    Ok(count)
}

/// The time as all vCPUs read it: one stamp for all of them, so that they never disagree.
fn time(tsc_hz: NonZeroU64, is_tsc_stable: bool, now: Now) -> TimeInfo {
    TimeInfo {
        tsc_timestamp: now.tsc,
        system_time_ns: now.system_ns,
        scale: TscScale::of(tsc_hz),
        flags: if is_tsc_stable { TSC_STABLE } else { 0 },
    }
}

fn clear_special_pages(memory: &dyn Frames) -> Result<(), DomainError> {
    for gfn in SPECIAL_GFNS {
        let at = gpa(gfn);
        if memory.is_ram(at, PAGE_SIZE) {
            memory.zero(at, PAGE_SIZE).map_err(DomainError::Memory)?;
        } else {
            let added = memory.add_frame(gfn);
            added.map_err(|source| DomainError::Frame { gfn, source })?;
        }
    }
    // Linear addresses are physical ones: 1024 pages of 4 MiB, present, writable, for users,
    // accessed and dirty.
    let entries = (0..1024_u32).map(|index| index << 22 | 0xe7);
    let table: Vec<u8> = entries.flat_map(u32::to_le_bytes).collect();
    let written = memory.write(gpa(IDENTITY_PAGE_TABLE_GFN), &table);
    written.map_err(DomainError::Memory)
}

/// A UUID as text: five groups of hexadecimal digits.
fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::new();
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0xf] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text
}

pub(super) const fn refused(what: &'static str, errno: Errno) -> DomainError {
    DomainError::Refused { what, errno }
}

const fn gpa(gfn: u64) -> Gpa {
    Gpa(gfn.saturating_mul(PAGE_SIZE))
}

/// The highest port of a guest, as the toolstack sets it by default.
const MAX_PORT: u32 = 1023;
/// Xen gives a domain as many as the host has global system interrupts, and 32; no interrupt of
/// that kind reaches it.
const PIRQS: u32 = 24 + 32;
