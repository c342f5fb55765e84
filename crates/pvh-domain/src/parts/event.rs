//! Event channels (xen/include/public/event_channel.h): ports, every operation of
//! `event_channel_op`, and both ABIs that notify a guest of events, two-level and FIFO.
//!
//! [`EventChannels`] holds the hypervisor's half. The half that it shares with the guest (pending
//! and mask bits, event words, control blocks, upcall flags) lies in guest memory and changes while
//! the guest runs. A [`Delivery`] gives access to it, and gathers the signals of a call.
//!
//! # Order of accesses
//!
//! Every access to a shared word is one sequentially consistent operation, and they happen in this
//! order, on which the guest's own order (clear MASKED, then test PENDING; clear the upcall flag,
//! then take the selector or the ready word) relies:
//!
//! - two-level: pending bit, mask bit tested, selector bit, upcall flag, the signal;
//! - FIFO: PENDING, MASKED tested, LINKED, the link in the old tail or the head, ready bit, upcall
//!   flag, the signal;
//! - both: a poller is woken last.
//!
//! One lock around [`EventChannels`] takes the place of Xen's locks of queues, ports and the
//! domain: no operation waits for the guest while it is held, and retries on a word that the guest
//! may write end after five.

mod bind;
mod channel;
mod delivery;
mod describe;
mod fifo;
mod host;
mod ops;
mod poll;
mod ports;
mod two_level;

use pvh_abi::{DomId, Errno, event_channel::Virq};

use channel::Channel;
use fifo::Fifo;
use host::HostEnd;
use poll::Poller;
use ports::Ports;

pub use delivery::{Delivery, Signal};
pub use host::HostPort;
pub use poll::PollAnswer;

/// How many bits of an event word hold a link; `init_control` returns this number.
#[doc(alias = "EVTCHN_FIFO_LINK_BITS")]
pub const LINK_BITS: u8 = 17;

/// The ports of the FIFO ABI.
#[doc(alias = "EVTCHN_FIFO_NR_CHANNELS")]
pub const FIFO_PORTS: u32 = 0x2_0000;

/// What a domain's event channels are made with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// The domain's id.
    pub domain: DomId,
    /// How many vCPUs it has.
    pub vcpus: u32,
    /// The highest port; a toolstack gives a guest 1023.
    pub max_port: u32,
    /// How many physical interrupt numbers it has. Xen gives an HVM domain some, though no
    /// interrupt of that kind ever reaches one.
    pub pirqs: u32,
}

/// The event channels of one domain.
///
/// The memory it takes is bounded by [`Config`]: a guest cannot make it grow past `max_port` ports.
#[derive(Debug)]
pub struct EventChannels {
    domain: DomId,
    pirqs: u32,
    ports: Ports,
    /// By vCPU and virtual interrupt: the port, or 0.
    virqs: Vec<[u32; Virq::COUNT as usize]>,
    /// By vCPU.
    pollers: Vec<Option<Poller>>,
    hosts: Vec<HostEnd>,
    /// `None` while the two-level ABI is in use.
    fifo: Option<Fifo>,
}

impl EventChannels {
    /// Makes the event channels of a new domain: the two-level ABI, port 0 reserved, no other in
    /// use.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let vcpus = config.vcpus as usize;
        Self {
            domain: config.domain,
            pirqs: config.pirqs,
            ports: Ports::new(config.max_port),
            virqs: vec![[0; Virq::COUNT as usize]; vcpus],
            pollers: vec![None; vcpus],
            hosts: Vec::new(),
            fifo: None,
        }
    }

    /// Tells whether the FIFO ABI is in use.
    #[must_use]
    pub const fn is_fifo(&self) -> bool {
        self.fifo.is_some()
    }

    fn check_vcpu(&self, vcpu: u32) -> Result<(), Errno> {
        let exists = self.virqs.get(vcpu as usize).is_some();
        exists.then_some(()).ok_or(Errno::ENOENT)
    }

    /// Raises the event of a port for a vCPU, if the port is one that a guest uses.
    fn set_pending(&mut self, delivery: &mut Delivery<'_>, port: u32, vcpu: u32) {
        if self.ports.get(port).is_some_and(Channel::is_usable) {
            self.raise(delivery, port, vcpu);
        }
    }

    /// Raises the event of a port for a vCPU, and wakes the vCPUs that poll it if it was not
    /// pending.
    fn raise(&mut self, delivery: &mut Delivery<'_>, port: u32, vcpu: u32) {
        let Some(channel) = self.ports.get_mut(port) else {
            return;
        };
        let is_new = match &mut self.fifo {
            None => two_level::raise(delivery, port, vcpu),
            Some(fifo) => fifo.raise(delivery, (port, channel), vcpu),
        };
        if is_new {
            self.wake_pollers(delivery, port);
        }
    }
}
