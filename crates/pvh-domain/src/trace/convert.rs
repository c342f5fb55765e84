//! Conversions between the types of a trace and those of a domain.

mod input;
mod memory;
mod output;

use core::num::NonZeroU64;

use pvh_abi::{DomId, memory::E820Entry};
use pvh_hypercall::{Call, Width, XenVersion};
use pvh_vcpu::CpuPolicy;

use super::wire::{WireCall, WireConfig, WireInput, WireMemory, WireNow};
use crate::{
    MemoryConfig,
    domain::{Config, Now},
};

impl From<&Config> for WireConfig {
    fn from(config: &Config) -> Self {
        Self {
            domid: config.domid.0,
            uuid: config.uuid,
            name: config.name.clone(),
            vcpus: config.vcpus,
            cr4_bits: config.cpu.cr4_bits,
            efer_bits: config.cpu.efer_bits,
            physical_address_bits: config.cpu.physical_address_bits,
            tsc_hz: config.tsc_hz.get(),
            is_tsc_stable: config.is_tsc_stable,
            memory_kib: config.memory_kib,
            memory: WireMemory::from(&config.memory),
            may_log: config.may_log,
        }
    }
}

impl WireInput {
    /// The record that makes a domain: for Xen 4.17 the one that every version of traces has.
    pub(super) fn of_domain(config: &Config, now: Now) -> Self {
        let (wire, now) = (WireConfig::from(config), now.into());
        match config.xen {
            XenVersion::V4_17 => Self::New { config: wire, now },
            other => {
                let (major, minor) = other.answers().release;
                Self::NewOf {
                    config: wire,
                    now,
                    major,
                    minor,
                }
            }
        }
    }
}

impl WireInput {
    /// The Xen of the domain that the record makes: 4.17 unless it names another; `None` if its
    /// answers are not known here.
    pub(super) fn xen(&self) -> Option<XenVersion> {
        match self {
            Self::NewOf { major, minor, .. } => XenVersion::of_release((*major, *minor)),
            _ => Some(XenVersion::V4_17),
        }
    }
}

impl WireConfig {
    /// The configuration for a Xen, if a domain can have it.
    pub(super) fn config(&self, xen: XenVersion) -> Option<Config> {
        let bits = self.physical_address_bits;
        let is_sound = (32..=52).contains(&bits) && self.domid != 0;
        let cpu = CpuPolicy {
            cr4_bits: self.cr4_bits,
            efer_bits: self.efer_bits,
            physical_address_bits: bits,
        };
        let config = Config {
            domid: DomId(self.domid),
            uuid: self.uuid,
            name: self.name.clone(),
            vcpus: self.vcpus,
            cpu,
            tsc_hz: NonZeroU64::new(self.tsc_hz)?,
            is_tsc_stable: self.is_tsc_stable,
            memory_kib: self.memory_kib,
            memory: MemoryConfig::from(&self.memory),
            may_log: self.may_log,
            xen,
        };
        is_sound.then_some(config)
    }
}

impl From<&MemoryConfig> for WireMemory {
    fn from(config: &MemoryConfig) -> Self {
        let entries = config.memory_map.iter();
        let entries = entries.map(|entry| (entry.addr.get(), entry.size.get(), entry.kind.get()));
        Self {
            pages: config.pages,
            max_pages: config.max_pages,
            max_gfn: config.max_gfn,
            host_pages: config.host_pages,
            memory_map: entries.collect(),
        }
    }
}

impl From<&WireMemory> for MemoryConfig {
    fn from(config: &WireMemory) -> Self {
        let entries = config.memory_map.iter();
        let entries = entries.map(|&(addr, size, kind)| E820Entry {
            addr: addr.into(),
            size: size.into(),
            kind: kind.into(),
        });
        Self {
            pages: config.pages,
            max_pages: config.max_pages,
            max_gfn: config.max_gfn,
            host_pages: config.host_pages,
            memory_map: entries.collect(),
        }
    }
}

impl From<Now> for WireNow {
    fn from(now: Now) -> Self {
        let Now {
            system_ns,
            tsc,
            wall_ns,
        } = now;
        Self {
            system_ns,
            tsc,
            wall_ns,
        }
    }
}

impl From<WireNow> for Now {
    fn from(now: WireNow) -> Self {
        let WireNow {
            system_ns,
            tsc,
            wall_ns,
        } = now;
        Self {
            system_ns,
            tsc,
            wall_ns,
        }
    }
}

impl From<Call> for WireCall {
    fn from(call: Call) -> Self {
        Self {
            is_native: call.width == Width::Native,
            number: call.number.0,
            args: call.args,
        }
    }
}

impl From<WireCall> for Call {
    fn from(call: WireCall) -> Self {
        Self::new(width(call.is_native), call.number, call.args)
    }
}

const fn width(is_native: bool) -> Width {
    if is_native {
        Width::Native
    } else {
        Width::Compat
    }
}
