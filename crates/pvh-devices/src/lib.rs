#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod ports;
mod power;
mod print_port;
mod rtc;
mod serial;

pub use ports::{Ports, Request, read_unclaimed};
pub use rtc::Rtc;
pub use serial::{InputWanted, IrqLine, SerialPort};
