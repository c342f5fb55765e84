//! Records what a domain is asked and answers, and plays it again without a guest.
//!
//! A domain does nothing by itself: it is called with a moment and guest memory, and answers. So a list of its calls, with what each
//! found in guest memory, is all that is needed to have it do the same again, on any machine. [`Domain::recorded`](crate::Domain::recorded)
//! writes such a list, [`replay`] plays it and compares the answers, the effects and every access to guest memory.
//!
//! A trace holds what the guest passed and what the domain read of its memory: rings and hypercall arguments, and with
//! them whatever was typed at the console.

mod convert;
mod file;
mod record;
mod recorder;
mod replay;
mod script;
mod tap;
mod wire;

pub use file::{RecordError, Recorded, TraceError};
pub(crate) use record::{record, record_new};
pub use recorder::Recorder;
pub use replay::{Divergence, ReplayError, Replayed, replay};
