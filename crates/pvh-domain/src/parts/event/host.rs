//! Ports of domain 0, which the embedder serves.

use pvh_abi::{DomId, Errno, event_channel::Port};

use super::{Delivery, EventChannels, channel::State};
use crate::parts::target::HOST;

/// A port of domain 0, which is the embedder: the other end of the console's, xenstore's or a
/// device's port.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct HostPort(pub u32);

/// The embedder's end of a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HostEnd {
    /// Not in use.
    Free,
    /// The guest has closed its end, and may join again.
    Unbound,
    /// Joined to this port of the guest.
    Bound(u32),
}

impl EventChannels {
    /// Makes a port for the guest whose other end is the embedder's, as a toolstack does for the
    /// console and for xenstore before the guest runs.
    ///
    /// # Errors
    ///
    /// `ENOSPC`.
    pub fn open_service(&mut self, delivery: &Delivery<'_>) -> Result<(Port, HostPort), Errno> {
        let port = self.alloc_unbound(delivery, DomId::SELF, HOST)?;
        Ok((port, self.connect_host(port)?))
    }

    /// Joins an end of the embedder's to a port that the guest has made for domain 0.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a port that does not wait for domain 0.
    pub fn connect_host(&mut self, port: Port) -> Result<HostPort, Errno> {
        let channel = self.ports.get_mut(port.0).ok_or(Errno::EINVAL)?;
        if channel.state != State::Unbound(HOST) {
            return Err(Errno::EINVAL);
        }
        let free = self.hosts.iter().position(|end| *end == HostEnd::Free);
        let slot = free.unwrap_or(self.hosts.len());
        let number = u32::try_from(slot).map_err(|_| Errno::ENOSPC)?;
        let host = HostPort(number.checked_add(1).ok_or(Errno::ENOSPC)?);
        channel.state = State::Host(host);
        match self.hosts.get_mut(slot) {
            Some(end) => *end = HostEnd::Bound(port.0),
            None => self.hosts.push(HostEnd::Bound(port.0)),
        }
        Ok(host)
    }

    /// Gives up an end of the embedder's; the guest's port waits for domain 0 again.
    pub fn close_host(&mut self, host: HostPort) {
        let Some(end) = self.host_end(host) else {
            return;
        };
        let before = core::mem::replace(end, HostEnd::Free);
        if let HostEnd::Bound(port) = before
            && let Some(channel) = self.ports.get_mut(port)
        {
            channel.state = State::Unbound(HOST);
        }
    }

    /// Returns the guest's port that an end of the embedder's is joined to.
    #[must_use]
    pub fn host_peer(&self, host: HostPort) -> Option<Port> {
        let slot = host.0.checked_sub(1)?;
        match *self.hosts.get(slot as usize)? {
            HostEnd::Bound(port) => Some(Port(port)),
            HostEnd::Free | HostEnd::Unbound => None,
        }
    }

    /// Returns the end of the embedder's that a port of the guest is joined to.
    pub fn host_of(&self, Port(port): Port) -> Option<HostPort> {
        match self.ports.get(port)?.state {
            State::Host(host) => Some(host),
            _ => None,
        }
    }

    /// Raises the event of the guest's port that an end of the embedder's is joined to; dropped if
    /// there is none.
    pub fn send_from_host(&mut self, delivery: &mut Delivery<'_>, host: HostPort) {
        let Some(Port(port)) = self.host_peer(host) else {
            return;
        };
        let vcpu = self.ports.get(port).map_or(0, |channel| channel.vcpu);
        self.set_pending(delivery, port, vcpu);
    }

    pub(super) fn host_end(&mut self, host: HostPort) -> Option<&mut HostEnd> {
        let slot = host.0.checked_sub(1)?;
        self.hosts.get_mut(slot as usize)
    }
}
