//! The operations that make a port.

use pvh_abi::{
    DomId, Errno,
    event_channel::{Port, Virq},
};

use crate::parts::{shared_info::max_ports, target::Target};

use super::{
    Delivery, EventChannels, FIFO_PORTS, HostPort,
    channel::{Channel, DEFAULT_PRIORITY, State, is_global},
    host::HostEnd,
};

/// The operations that make a port and return its number. They take the lowest port that is free
/// and, with the FIFO ABI, whose word is not linked.
impl EventChannels {
    /// `alloc_unbound`: a port that `remote_dom` may join.
    ///
    /// # Errors
    ///
    /// `ESRCH` for a domain that does not exist, `EPERM` for another than the caller's, `ENOSPC`.
    pub fn alloc_unbound(
        &mut self,
        delivery: &Delivery<'_>,
        domain: DomId,
        remote: DomId,
    ) -> Result<Port, Errno> {
        if self.target(domain)? != Target::Own {
            return Err(Errno::EPERM);
        }
        let port = self.free_port(delivery)?;
        let remote = match remote {
            DomId::SELF => self.domain,
            other => other,
        };
        self.occupy(port, State::Unbound(remote), 0);
        Ok(Port(port))
    }

    /// `bind_interdomain`: a port joined to one that waits for the caller, its own or domain 0's.
    /// It is left pending, for the other side may have raised it before.
    ///
    /// # Errors
    ///
    /// `ESRCH`, `ENOSPC`, and `EINVAL` for a port that is not valid or does not wait for the
    /// caller.
    pub fn bind_interdomain(
        &mut self,
        delivery: &mut Delivery<'_>,
        remote: DomId,
        remote_port: Port,
    ) -> Result<Port, Errno> {
        let target = self.target(remote)?;
        let port = self.free_port(delivery)?;
        match target {
            Target::Own => self.join_own(port, remote_port.0)?,
            Target::Host => self.join_host(port, HostPort(remote_port.0))?,
        }
        self.set_pending(delivery, port, 0);
        Ok(Port(port))
    }

    /// `bind_virq`: a port of a virtual interrupt. As in Xen 4.17, a guest may bind a global one,
    /// which never comes.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number of 24 or more, or a global one on another vCPU than 0; `ENOENT` for
    /// the vCPU; `EEXIST`; `ENOSPC`.
    pub fn bind_virq(
        &mut self,
        delivery: &Delivery<'_>,
        virq: Virq,
        vcpu: u32,
    ) -> Result<Port, Errno> {
        if virq.0 >= Virq::COUNT || (is_global(virq) && vcpu != 0) {
            return Err(Errno::EINVAL);
        }
        self.check_vcpu(vcpu)?;
        if self.virq_port(vcpu, virq).is_some_and(|port| *port != 0) {
            return Err(Errno::EEXIST);
        }
        let port = self.free_port(delivery)?;
        self.occupy(port, State::Virq(virq), vcpu);
        if let Some(bound) = self.virq_port(vcpu, virq) {
            *bound = port;
        }
        Ok(Port(port))
    }

    /// `bind_ipi`: a port by which vCPUs signal one of them.
    ///
    /// # Errors
    ///
    /// `ENOENT` for the vCPU; `ENOSPC`.
    pub fn bind_ipi(&mut self, delivery: &Delivery<'_>, vcpu: u32) -> Result<Port, Errno> {
        self.check_vcpu(vcpu)?;
        let port = self.free_port(delivery)?;
        self.occupy(port, State::Ipi, vcpu);
        Ok(Port(port))
    }

    /// `bind_pirq`: a port of a physical interrupt, which never comes.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number that the domain does not have; `EEXIST`; `ENOSPC`.
    pub fn bind_pirq(&mut self, delivery: &Delivery<'_>, pirq: u32) -> Result<Port, Errno> {
        if pirq >= self.pirqs {
            return Err(Errno::EINVAL);
        }
        let mut bound = (0..self.ports.count()).filter_map(|port| self.ports.get(port));
        if bound.any(|channel| channel.state == State::Pirq(pirq)) {
            return Err(Errno::EEXIST);
        }
        let port = self.free_port(delivery)?;
        self.occupy(port, State::Pirq(pirq), 0);
        Ok(Port(port))
    }

    /// Makes a port whose receiver is the hypervisor, for a device model: the guest may not touch
    /// it.
    ///
    /// # Errors
    ///
    /// `ENOENT` for the vCPU; `ENOSPC`.
    pub fn alloc_xen_port(
        &mut self,
        delivery: &Delivery<'_>,
        vcpu: u32,
        remote: DomId,
    ) -> Result<Port, Errno> {
        self.check_vcpu(vcpu)?;
        let port = self.free_port(delivery)?;
        if let Some(channel) = self.ports.get_mut(port) {
            channel.state = State::Unbound(remote);
            channel.vcpu = vcpu;
            channel.is_hypervisors = true;
        }
        Ok(Port(port))
    }

    /// Resolves a domain id of an argument.
    pub(super) fn target(&self, domain: DomId) -> Result<Target, Errno> {
        Target::of(self.domain, domain).ok_or(Errno::ESRCH)
    }

    /// The port of a vCPU's virtual interrupt, 0 for none.
    pub(super) fn virq_port(&mut self, vcpu: u32, virq: Virq) -> Option<&mut u32> {
        let ports = self.virqs.get_mut(vcpu as usize)?;
        ports.get_mut(virq.0 as usize)
    }

    fn free_port(&mut self, delivery: &Delivery<'_>) -> Result<u32, Errno> {
        match &self.fifo {
            None => {
                let count = max_ports(delivery.shared_info.width());
                self.ports.lowest_free(count, |_| false)
            }
            Some(fifo) => {
                let is_busy = |port| fifo.is_linked(delivery.memory, port);
                self.ports.lowest_free(FIFO_PORTS, is_busy)
            }
        }
    }

    /// Puts a free port to use.
    fn occupy(&mut self, port: u32, state: State, vcpu: u32) {
        if let Some(channel) = self.ports.get_mut(port) {
            *channel = Channel {
                state,
                vcpu,
                priority: DEFAULT_PRIORITY,
                ..*channel
            };
        }
    }

    fn join_own(&mut self, port: u32, remote: u32) -> Result<(), Errno> {
        let domain = self.domain;
        let peer = self.ports.get_mut(remote).ok_or(Errno::EINVAL)?;
        if peer.state != State::Unbound(domain) {
            return Err(Errno::EINVAL);
        }
        peer.state = State::Local(port);
        self.occupy(port, State::Local(remote), 0);
        Ok(())
    }

    fn join_host(&mut self, port: u32, host: HostPort) -> Result<(), Errno> {
        let end = self.host_end(host).ok_or(Errno::EINVAL)?;
        if *end != HostEnd::Unbound {
            return Err(Errno::EINVAL);
        }
        *end = HostEnd::Bound(port);
        self.occupy(port, State::Host(host), 0);
        Ok(())
    }
}
