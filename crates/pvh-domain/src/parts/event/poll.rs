//! `SCHEDOP_poll`: vCPUs that wait for ports.

use pvh_abi::{Errno, event_channel::Port};

use super::{Delivery, EventChannels, Signal, channel::Channel, two_level};

/// The ports that a vCPU polls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Poller {
    /// Any port: the vCPU named none or several, and looks for itself once it is woken.
    Any,
    /// This one.
    Port(u32),
}

/// The result of `SCHEDOP_poll`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "it waits or it does not")]
pub enum PollAnswer {
    /// An event is pending: answer 0 at once.
    Ready,
    /// The vCPU is to block until [`Signal::Unblock`], an upcall, or its timeout.
    Wait,
}

impl EventChannels {
    /// `SCHEDOP_poll`: looks for a pending event, masked or not, and notes the vCPU as a poller if
    /// there is none.
    ///
    /// The caller has tested the vCPU for a deliverable event. When the vCPU goes on for another
    /// reason than [`Signal::Unblock`], [`stop_poll`](Self::stop_poll) ends it. The ports are
    /// looked at in order, as they are read: `ports` may end early with the error of its pointer.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a port that is not valid, what `ports` says, and `ENOENT` for a vCPU that does
    /// not exist.
    pub fn poll(
        &mut self,
        delivery: &Delivery<'_>,
        vcpu: u32,
        ports: impl IntoIterator<Item = Result<Port, Errno>>,
    ) -> Result<PollAnswer, Errno> {
        self.check_vcpu(vcpu)?;
        let mut poller = None;
        for port in ports {
            let Port(port) = port?;
            let channel = self.ports.get(port).ok_or(Errno::EINVAL)?;
            if channel.is_usable() && self.is_pending(delivery, port) {
                return Ok(PollAnswer::Ready);
            }
            poller = match poller {
                None => Some(Poller::Port(port)),
                Some(_) => Some(Poller::Any),
            };
        }
        if let Some(slot) = self.pollers.get_mut(vcpu as usize) {
            *slot = Some(poller.unwrap_or(Poller::Any));
        }
        Ok(PollAnswer::Wait)
    }

    /// Ends the poll of a vCPU that goes on: an upcall came, its timeout passed, or it was reset.
    pub fn stop_poll(&mut self, vcpu: u32) {
        if let Some(slot) = self.pollers.get_mut(vcpu as usize) {
            *slot = None;
        }
    }

    /// Tells whether the event of a port is pending; false for a port that no guest uses.
    pub fn is_port_pending(&self, delivery: &Delivery<'_>, port: Port) -> bool {
        let channel = self.ports.get(port.0);
        channel.is_some_and(Channel::is_usable) && self.is_pending(delivery, port.0)
    }

    /// Wakes the vCPUs that poll a port, each once.
    #[inline(never)]
    pub(super) fn wake_pollers(&mut self, delivery: &mut Delivery<'_>, port: u32) {
        for (vcpu, slot) in (0_u32..).zip(&mut self.pollers) {
            if slot
                .is_some_and(|poller| matches!(poller, Poller::Any) || poller == Poller::Port(port))
            {
                *slot = None;
                delivery.signals.push(Signal::Unblock(vcpu));
            }
        }
    }

    fn is_pending(&self, delivery: &Delivery<'_>, port: u32) -> bool {
        match &self.fifo {
            None => two_level::is_pending(delivery, port),
            Some(fifo) => fifo.is_pending(delivery.memory, port),
        }
    }
}
