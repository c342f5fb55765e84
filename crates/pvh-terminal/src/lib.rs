#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod escape;
mod guest_log;
mod input;
mod printable;
mod query;
mod queue;
mod raw;
mod screen;
mod writer;

pub use escape::HELP;
pub use guest_log::GuestLog;
pub use input::{Command, Input};
pub use printable::Printable;
pub use queue::ConsoleQueue;
pub use raw::{RawTerminal, is_ours, restore_in_handler};
pub use screen::{SCREEN, Screen, Stream, is_shared};
pub use writer::{Writer, WriterHost};
