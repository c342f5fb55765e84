#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod back_ends;
mod clock;
mod cpu;
mod effects;
#[cfg(test)]
mod fixture;
mod host;
mod lifecycle;
mod parts;
mod platform;
mod requests;
mod run;
mod timer;
mod transport;
mod vcpu;

pub use back_ends::Doorbell;
pub use host::{EndReason, Host, Notice};
pub use parts::{Parts, memory_config, vm_config};
pub use platform::{PlatformError, XenPlatform};
pub use run::{ExitHandler, NoDevices, VcpuEnd};
pub use transport::{GuestKind, MAX_VCPUS, TransportError, choose_transport};
pub use vcpu::XenVcpu;
