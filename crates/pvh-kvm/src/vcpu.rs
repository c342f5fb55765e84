//! A virtual CPU: how it is set up, run and stopped.

mod clock;
mod counters;
mod cpu;
mod crash;
mod debug;
mod decode;
mod error;
mod events;
mod exit;
mod halts;
pub(crate) mod kick;
mod pending;
mod registers;
mod run;
mod run_page;
mod setup;
pub(crate) mod sync_registers;

pub use clock::GuestClock;
pub use counters::{CountersError, VcpuCounters};
pub use cpu::Vcpu;
pub use crash::{Crash, Failure};
pub use debug::GuestDebug;
pub use error::VcpuError;
pub use events::Activity;
pub use exit::{ExitData, HypercallState, InternalError, SystemEventKind, VmEntry, VmExit};
pub use halts::Halts;
pub use kick::{KickError, Kicker, kick_signal};
pub use registers::Registers;
