#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod domain;
pub mod parts;
#[cfg(feature = "trace")]
mod trace;

pub use domain::{Answer, Config, Domain, DomainError, Effect, Now, Observe, Origin, Sleep};
pub use parts::{
    event::HostPort,
    grant::{GrantError, HostGrants, HostPage},
    memory::MemoryConfig,
    ring::RingError,
    runstate::RunState,
    time::TscScale,
};
pub use pvh_xenstore::Shutdown;
#[cfg(feature = "trace")]
pub use trace::{
    Divergence, LineSink, LiveLog, RecordError, Recorded, Recorder, ReplayError, Replayed,
    TraceError, TraceLine, TraceLines, replay,
};
