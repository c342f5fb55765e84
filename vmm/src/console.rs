//! The console: guest output goes to standard output, typed keys go to the guest.

mod end;
mod escape;
mod input;
mod query;
mod screen;
mod writer;

pub(crate) use end::ConsoleEnd;
pub(crate) use escape::HELP;
pub(crate) use input::{Command, Input};
pub(crate) use pvh_xen::ConsoleQueue;
pub(crate) use screen::{SCREEN, Stream, is_shared};
pub(crate) use writer::Writer;
