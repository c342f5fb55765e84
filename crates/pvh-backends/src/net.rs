//! Network devices: taps of the host, and streams to other programs.
//!
//! One thread for each device moves packets both ways.

mod back_end;
mod checksum;
mod link;
mod passt;

use std::{fmt, sync::Arc};

pub use back_end::attach_network;
pub use link::Link;
pub use passt::{PasstError, start_passt};

/// A network device of a guest.
#[derive(Clone, Debug)]
pub struct Network {
    /// The host's side. It stays open when the guest reboots.
    pub link: Arc<Link>,
    /// The number of the device among the guest's network devices, from 0.
    pub number: u32,
    /// Its address.
    pub mac: MacAddress,
}

/// The address of a network device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "an address has six bytes")]
pub struct MacAddress(
    /// Its bytes in order.
    pub [u8; 6],
);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
