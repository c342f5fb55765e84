//! The console: what the guest writes goes to standard output, what the user types goes to the guest.

mod escape;
mod input;
mod output;

pub(crate) use escape::HELP;
pub(crate) use input::{Command, Input};
pub(crate) use output::{Output, Writer};
