//! The operations on a port that exists.

use pvh_abi::{
    DomId, Errno,
    event_channel::{Port, PortStatus, Virq},
};
use pvh_hypercall::group::{ControlBlock, PortState};

use super::{
    Delivery, EventChannels, LINK_BITS, Signal,
    channel::{Channel, State, is_global},
    fifo::Fifo,
    host::HostEnd,
    two_level,
};
use crate::parts::target::{HOST, Target};

/// The operations on a port that exists.
impl EventChannels {
    /// `close`: frees a port. One that was joined leaves its peer waiting for the closer.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a port that is not valid, not in use, reserved or the hypervisor's.
    pub fn close(&mut self, delivery: &Delivery<'_>, port: Port) -> Result<(), Errno> {
        let Port(port) = port;
        let channel = *self.ports.get(port).ok_or(Errno::EINVAL)?;
        if !channel.is_usable() {
            return Err(Errno::EINVAL);
        }
        self.free(delivery, port, &channel);
        Ok(())
    }

    /// `send`: raises the event of the port's other end; does nothing if there is no other end yet.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a port that is not valid, the hypervisor's, or neither joined, waiting nor one
    /// for signals between vCPUs.
    #[inline]
    pub fn send(&mut self, delivery: &mut Delivery<'_>, port: Port) -> Result<(), Errno> {
        let Port(port) = port;
        let channel = *self.ports.get(port).ok_or(Errno::EINVAL)?;
        if channel.is_hypervisors {
            return Err(Errno::EINVAL);
        }
        match channel.state {
            State::Local(peer) => {
                let vcpu = self.ports.get(peer).map_or(0, |peer| peer.vcpu);
                self.set_pending(delivery, peer, vcpu);
            }
            State::Host(host) => delivery.signals.push(Signal::Host(host)),
            State::Ipi => self.set_pending(delivery, port, channel.vcpu),
            State::Unbound(_) => {}
            State::Free | State::Reserved | State::Pirq(_) | State::Virq(_) => {
                return Err(Errno::EINVAL);
            }
        }
        Ok(())
    }

    /// `status`: the state of a port.
    ///
    /// # Errors
    ///
    /// `ESRCH` for a domain that does not exist; `EPERM` for another than the caller's; `EINVAL`
    /// for a port that is not valid; `EACCES` for one of the hypervisor's.
    pub fn status(&self, domain: DomId, port: Port) -> Result<PortState, Errno> {
        if self.target(domain)? != Target::Own {
            return Err(Errno::EPERM);
        }
        let channel = self.ports.get(port.0).ok_or(Errno::EINVAL)?;
        if channel.is_hypervisors {
            return Err(Errno::EACCES);
        }
        let (status, detail, remote_port) = match channel.state {
            State::Free | State::Reserved => (PortStatus::CLOSED, 0, 0),
            State::Unbound(remote) => (PortStatus::UNBOUND, remote.0.into(), 0),
            State::Local(peer) => (PortStatus::INTERDOMAIN, self.domain.0.into(), peer),
            State::Host(peer) => (PortStatus::INTERDOMAIN, HOST.0.into(), peer.0),
            State::Pirq(pirq) => (PortStatus::PIRQ, pirq, 0),
            State::Virq(virq) => (PortStatus::VIRQ, virq.0, 0),
            State::Ipi => (PortStatus::IPI, 0, 0),
        };
        Ok(PortState {
            status,
            vcpu: channel.vcpu,
            detail,
            remote_port: Port(remote_port),
        })
    }

    /// `bind_vcpu`: chooses the vCPU that the port notifies from now on.
    ///
    /// # Errors
    ///
    /// `ENOENT` for the vCPU; `EINVAL` for a port that is not valid, not in use or the
    /// hypervisor's, or belongs to one vCPU.
    pub fn bind_vcpu(&mut self, port: Port, vcpu: u32) -> Result<(), Errno> {
        self.check_vcpu(vcpu)?;
        let channel = self.ports.get_mut(port.0);
        let channel = channel.filter(|channel| !channel.is_hypervisors);
        let channel = channel.ok_or(Errno::EINVAL)?;
        match channel.state {
            State::Virq(virq) if is_global(virq) => {}
            State::Unbound(_) | State::Local(_) | State::Host(_) | State::Pirq(_) => {}
            State::Virq(_) | State::Ipi | State::Free | State::Reserved => {
                return Err(Errno::EINVAL);
            }
        }
        channel.vcpu = vcpu;
        Ok(())
    }

    /// `unmask`: clears the mask of a port and notifies its vCPU of a pending event. A port that is
    /// not in use stays as it is.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a port that is not valid.
    pub fn unmask(&mut self, delivery: &mut Delivery<'_>, port: Port) -> Result<(), Errno> {
        let Port(port) = port;
        let channel = *self.ports.get(port).ok_or(Errno::EINVAL)?;
        if !channel.is_usable() {
            return Ok(());
        }
        match &self.fifo {
            None => two_level::unmask(delivery, port, channel.vcpu),
            Some(fifo) => {
                if fifo.unmask(delivery.memory, port) {
                    self.raise(delivery, port, channel.vcpu);
                }
            }
        }
        Ok(())
    }

    /// `reset`: closes every port but the hypervisor's and goes back to the two-level ABI.
    ///
    /// Xen may also answer `EBUSY` and `EAGAIN`, when another vCPU resets or binds meanwhile: here
    /// one call is over before the next begins.
    ///
    /// # Errors
    ///
    /// `ESRCH` for a domain that does not exist; `EPERM` for another than the caller's.
    pub fn reset(&mut self, delivery: &Delivery<'_>, domain: DomId) -> Result<(), Errno> {
        if self.target(domain)? != Target::Own {
            return Err(Errno::EPERM);
        }
        for port in 1..self.ports.count() {
            let channel = self.ports.get(port).copied();
            if let Some(channel) = channel.filter(Channel::is_usable) {
                self.free(delivery, port, &channel);
            }
        }
        self.fifo = None;
        Ok(())
    }

    /// `init_control`: gives a vCPU its control block; the first one turns the FIFO ABI on for the
    /// domain. Answers the number of link bits.
    ///
    /// # Errors
    ///
    /// `ENOENT` for the vCPU; `EINVAL` for a block that crosses its page or is not aligned to 8, a
    /// vCPU that has one, and a frame that is not RAM.
    pub fn init_control(
        &mut self,
        delivery: &Delivery<'_>,
        block: &ControlBlock,
    ) -> Result<u8, Errno> {
        self.check_vcpu(block.vcpu)?;
        let vcpus = self.virqs.len();
        match &mut self.fifo {
            Some(fifo) => fifo.init_control(delivery.memory, block)?,
            None => {
                let mut fifo = Fifo::new(vcpus);
                fifo.init_control(delivery.memory, block)?;
                self.take_over(delivery);
                self.fifo = Some(fifo);
            }
        }
        Ok(LINK_BITS)
    }

    /// `expand_array`: adds a page of 1024 event words, and raises what was raised before they were
    /// there.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` with the two-level ABI; `ENOSPC` after 128 pages; `EINVAL` for a frame that is
    /// not RAM.
    pub fn expand_array(&mut self, delivery: &mut Delivery<'_>, gfn: u64) -> Result<(), Errno> {
        let fifo = self.fifo.as_mut().ok_or(Errno::EOPNOTSUPP)?;
        let new = fifo.expand(delivery.memory, gfn)?;
        for port in new {
            let channel = self.ports.get(port);
            if let Some(&channel) = channel.filter(|channel| channel.is_saved) {
                self.raise(delivery, port, channel.vcpu);
            }
        }
        Ok(())
    }

    /// `set_priority`: chooses the queue of a port, from the next time on that it is linked.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a port that is not valid; `ENOSYS` with the two-level ABI; `EACCES` for a port
    /// that is not in use or the hypervisor's; `EINVAL` for a priority above 15.
    pub fn set_priority(&mut self, port: Port, priority: u32) -> Result<(), Errno> {
        let channel = self.ports.get_mut(port.0);
        let channel = channel.ok_or(Errno::EINVAL)?;
        if self.fifo.is_none() {
            return Err(Errno::ENOSYS);
        }
        if !channel.is_usable() {
            return Err(Errno::EACCES);
        }
        let priority = u8::try_from(priority).ok();
        let priority = priority.filter(|priority| *priority <= super::channel::LAST_PRIORITY);
        channel.priority = priority.ok_or(Errno::EINVAL)?;
        Ok(())
    }

    /// Raises a virtual interrupt: on the vCPU, or on the domain if it is a global one. Dropped if
    /// no port is bound.
    pub fn raise_virq(&mut self, delivery: &mut Delivery<'_>, vcpu: u32, virq: Virq) {
        let holder = if is_global(virq) { 0 } else { vcpu };
        let port = self.virq_port(holder, virq).map_or(0, |port| *port);
        if port != 0 {
            let told = self.ports.get(port).map_or(0, |channel| channel.vcpu);
            self.set_pending(delivery, port, told);
        }
    }

    /// Frees a port that is in use.
    fn free(&mut self, delivery: &Delivery<'_>, port: u32, channel: &Channel) {
        match channel.state {
            State::Virq(virq) => {
                let holder = if is_global(virq) { 0 } else { channel.vcpu };
                if let Some(bound) = self.virq_port(holder, virq) {
                    *bound = 0;
                }
            }
            State::Local(peer) => {
                let domain = self.domain;
                if let Some(peer) = self.ports.get_mut(peer) {
                    peer.state = State::Unbound(domain);
                }
            }
            State::Host(host) => {
                if let Some(end) = self.host_end(host) {
                    *end = HostEnd::Unbound;
                }
            }
            State::Free | State::Reserved | State::Unbound(_) | State::Pirq(_) | State::Ipi => {}
        }
        match &self.fifo {
            None => two_level::clear_pending(delivery, port),
            Some(fifo) => fifo.clear_pending(delivery.memory, port),
        }
        if let Some(channel) = self.ports.get_mut(port) {
            channel.state = State::Free;
            channel.vcpu = 0;
        }
    }

    /// Keeps what is pending in the two-level words for when the event words are there: for every
    /// port that is valid, used or not, below the limit of the two-level ABI.
    fn take_over(&mut self, delivery: &Delivery<'_>) {
        for port in 1..self.ports.count() {
            let Some(word) = delivery.shared_info.pending_word(port) else {
                return;
            };
            if let Some(channel) = self.ports.get_mut(port) {
                channel.is_saved |= word.has_bit(delivery.memory, port % 32);
                channel.priority = super::channel::DEFAULT_PRIORITY;
            }
        }
    }
}
