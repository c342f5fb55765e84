//! The table of ports.

use pvh_abi::Errno;

use super::channel::{Channel, State};

/// The ports of a domain. They are allocated 64 at a time and never freed: a port below their count
/// is valid, used or not.
#[derive(Debug)]
pub(super) struct Ports {
    channels: Vec<Channel>,
    max_port: u32,
}

impl Ports {
    pub(super) fn new(max_port: u32) -> Self {
        let mut channels = vec![Channel::FREE; PORTS_PER_STEP];
        if let Some(first) = channels.first_mut() {
            first.state = State::Reserved;
        }
        Self {
            channels,
            max_port: max_port.min(super::FIFO_PORTS.saturating_sub(1)),
        }
    }

    /// How many ports are valid.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.channels.len()).unwrap_or(u32::MAX)
    }

    /// The port, if it is valid.
    pub(super) fn get(&self, port: u32) -> Option<&Channel> {
        self.channels.get(port as usize)
    }

    /// The port, if it is valid.
    pub(super) fn get_mut(&mut self, port: u32) -> Option<&mut Channel> {
        self.channels.get_mut(port as usize)
    }

    /// Finds the lowest port that is free and not `is_busy`, and makes it valid if it was not; it
    /// stays free.
    ///
    /// `abi_ports` is how many the ABI in use has.
    pub(super) fn lowest_free(
        &mut self,
        abi_ports: u32,
        is_busy: impl Fn(u32) -> bool,
    ) -> Result<u32, Errno> {
        let numbered = (0_u32..).zip(&self.channels);
        let mut free = numbered.filter(|(_, channel)| channel.state == State::Free);
        let found = free.find(|&(port, _)| port >= abi_ports || !is_busy(port));
        let port = found.map_or(self.count(), |(port, _)| port);
        if port > self.max_port || port >= abi_ports {
            return Err(Errno::ENOSPC);
        }
        if port == self.count() {
            let grown = self.channels.len().saturating_add(PORTS_PER_STEP);
            self.channels.resize(grown, Channel::FREE);
        }
        Ok(port)
    }
}

/// An object of Xen takes 64 bytes, a page of them is one step.
const PORTS_PER_STEP: usize = 64;
