//! The console: guest output goes to standard output, typed keys go to the guest.

mod escape;
mod input;
mod output;
mod screen;

pub(crate) use escape::HELP;
pub(crate) use input::{Command, Input};
pub(crate) use output::{Output, Writer};
pub(crate) use screen::{SCREEN, Stream, is_shared};
