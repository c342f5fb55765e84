//! Records what a domain is asked and answers, and plays it again without a guest.
//!
//! A domain does nothing by itself: each call brings a time and guest memory, and gets an answer.
//! So a list of its calls, with what each read from guest memory, is enough to have it do the same
//! again on any machine. [`Domain::recorded`](crate::Domain::recorded) writes such a list,
//! [`replay`] plays it and compares the answers, the effects and every access to guest memory.
//!
//! A trace holds hypercall arguments and what the domain read of guest memory, rings included:
//! everything that was typed at the console is in it.
//!
//! Of the host's back ends, a trace holds what they change: the store and the ports. It holds neither
//! their rings and data nor the marks that [`HostGrants`](crate::HostGrants) makes in entries of the
//! grant table: those are other threads' accesses to guest memory, like the guest's own.

mod back_ends;
mod convert;
mod file;
mod lines;
mod live;
mod record;
mod recorder;
mod replay;
mod script;
mod tap;
mod upcalls;
mod wire;
mod words;

pub use file::{RecordError, Recorded, TraceError};
pub use lines::{TraceLine, TraceLines};
pub use live::{LineSink, LiveLog};
pub(crate) use record::{record, record_new};
pub use recorder::Recorder;
pub use replay::{Divergence, ReplayError, Replayed, replay};
