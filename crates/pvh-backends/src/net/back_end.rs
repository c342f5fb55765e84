//! The back end of one network device: the handshake with the guest, its rings, packets both ways.

use std::{error::Error, os::fd::AsFd, sync::Arc};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pvh_abi::{Errno, ErrorLine, event_channel::Port};
use pvh_domain::{GrantError, HostGrants, HostPage, HostPort};
use pvh_kvm::GuestRam;
use pvh_memory::GuestMemory;
use pvh_netif::{
    Channels, Checksum, DeliverError, Features, Frame, Front, Next, Packet, Receive, Status,
    Transmit, TransmitError,
};
use pvh_ring::{Access, AttachError as RingAttachError, GrantedPage, Grants, RingError};
use pvh_xenbus::Device as Nodes;

use super::{
    Network,
    link::{Buffers, LinkError, Topic},
};
use crate::{
    bell::Bell,
    guest::Guest,
    handshake::{Handshake, Keys, Rings, keys},
    host::{DeviceKind, Host},
    threads::{AttachError, Device},
};

/// Makes a network device in the guest's store, before the guest runs. Its back end waits for the
/// guest's driver once its thread runs.
///
/// # Errors
///
/// [`AttachError`].
pub fn attach_network<G: Guest>(
    guest: Arc<G>,
    network: &Network,
    host: Arc<dyn Host>,
) -> Result<Device, AttachError> {
    NetBackEnd::attach(guest, network, host).map(NetBackEnd::into_device)
}

/// The back end of one network device, which one thread runs.
///
/// It takes at most 64 packets of each end before it looks at the other one, and waits for neither:
/// packets that one end does not take stay in the ring or in the socket of the other. It holds the
/// pages of the rings (2), those of the packet that it copies (18), and the link's buffers.
struct NetBackEnd<G> {
    handshake: Handshake<G, Front>,
    rings: NetRings<G>,
    /// The packet of the guest that is being copied.
    packet: Vec<u8>,
}

/// The device, and the rings of a front end that is connected.
struct NetRings<G> {
    guest: Arc<G>,
    grants: HostGrants<Arc<GuestRam>>,
    network: Network,
    /// The other end of the link is there.
    is_up: bool,
    connection: Option<Connection>,
    bell: Arc<Bell>,
    host: Arc<dyn Host>,
}

/// A connection to the rings of a front end.
struct Connection {
    transmit: Transmit,
    receive: Receive,
    /// The ports of the two rings, which may be one.
    ports: [HostPort; 2],
    /// The guest offers no page for the packet that is the next.
    waits_for_room: bool,
    /// The pages of the rings, in use.
    _pages: Vec<HostPage<Arc<GuestRam>>>,
}

/// Why a front end cannot be connected.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("a ring is not granted")]
    Grant(#[source] GrantError),
    #[error("a ring cannot be used")]
    Ring(#[source] RingAttachError),
    #[error("an event channel cannot be bound: error {}", .0.0)]
    Port(Errno),
    #[error("the host refuses the offloads of the tap")]
    Offloads(#[source] std::io::Error),
}

/// What the thread does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// It looks again at once.
    Again,
    /// It waits for the bell and for these events of the link.
    Wait(PollFlags),
}

/// Why a connection has to be closed.
#[derive(Debug, thiserror::Error)]
enum QueueError {
    #[error(transparent)]
    Transmit(TransmitError),
    #[error("a ring cannot be used")]
    Ring(#[source] RingError),
}

impl<G: Guest> NetBackEnd<G> {
    /// Makes the device in the guest's store, with the nodes that libxl writes, and waits for its
    /// front end.
    fn attach(guest: Arc<G>, network: &Network, host: Arc<dyn Host>) -> Result<Self, AttachError> {
        let device = Nodes {
            guest: guest.domid(),
            class: "vif",
            id: network.number,
        };
        let (mac, handle) = (network.mac.to_string(), network.number.to_string());
        let front = [("handle", handle.as_str()), ("mac", mac.as_str())];
        let back = [("mac", mac.as_str()), ("handle", &handle), ("type", "vif")];
        let bell = Arc::new(Bell::new().map_err(AttachError::Event)?);
        let handshake = Handshake::begin(Arc::clone(&guest), &bell, device, &front, &back);
        let mut back_end = Self {
            handshake: handshake.map_err(AttachError::Store)?,
            rings: NetRings {
                grants: guest.host_grants(),
                guest,
                is_up: !network.link.lock().is_closed(),
                network: network.clone(),
                connection: None,
                bell,
                host,
            },
            packet: Vec::new(),
        };
        let Self {
            handshake, rings, ..
        } = &mut back_end;
        handshake.ready(keys(rings.offered().keys()), rings);
        Ok(back_end)
    }

    /// The network as a device whose thread can be started.
    fn into_device(self) -> Device {
        Device {
            kind: DeviceKind::Network,
            title: self.rings.title(),
            bell: Arc::clone(&self.rings.bell),
            life: Box::new(move || self.run()),
        }
    }

    /// Serves the guest until the bell says stop. The body of the device's thread.
    fn run(mut self) {
        let link = Arc::clone(&self.rings.network.link);
        // The thread of the machine before a reboot has ended, so nobody else has them.
        let mut buffers = link.lock();
        while !self.rings.bell.is_stopped() {
            if let Step::Wait(events) = self.step(&mut buffers) {
                self.rings.wait(events);
            }
        }
        self.rings.disconnect();
    }

    /// Follows the front end, then moves some packets each way.
    fn step(&mut self, buffers: &mut Buffers) -> Step {
        let Self {
            handshake,
            rings,
            packet,
        } = self;
        let offered = rings.offered();
        handshake.follow(rings, |key| Front::read(&offered, key));
        let moved = rings.send(buffers, packet).and_then(|sent| {
            let received = rings.receive(buffers)?;
            Ok(sent | received)
        });
        match moved {
            Ok(true) => return Step::Again,
            Ok(false) => {}
            Err(MoveError::Queue(error)) => {
                rings.tell(Topic::Connection, &error);
                handshake.fail(&error, rings);
            }
            Err(MoveError::Link(error)) => {
                buffers.close();
                rings.tell(Topic::Lost, &error);
                rings.is_up = false;
                handshake.update(&rings.carrier(), rings);
                return Step::Again;
            }
        }
        let mut events = PollFlags::empty();
        if let Some(connection) = &rings.connection
            && !buffers.is_closed()
        {
            events.set(PollFlags::POLLIN, !connection.waits_for_room);
            events.set(PollFlags::POLLOUT, buffers.has_out());
        }
        Step::Wait(events)
    }
}

/// Why packets cannot be moved.
enum MoveError {
    Queue(QueueError),
    Link(LinkError),
}

impl<G: Guest> Rings<Front> for NetRings<G> {
    fn connect(&mut self, front: &Front) -> Result<Keys, String> {
        match self.attach(front) {
            Ok(connection) => {
                self.connection = Some(connection);
                Ok(self.carrier())
            }
            Err(error) => {
                self.tell(Topic::Connection, &error);
                Err(ErrorLine(&error).to_string())
            }
        }
    }

    /// Lets go of the rings. No packet is open: each is copied and answered before the next one.
    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            let [transmit, receive] = connection.ports;
            self.guest.unbind_port(transmit);
            if receive != transmit {
                self.guest.unbind_port(receive);
            }
        }
    }
}

impl<G: Guest> NetRings<G> {
    /// The name of the device in messages.
    fn title(&self) -> String {
        let Network { link, number, .. } = &self.network;
        format!("network {number} ({})", link.title())
    }

    /// One queue; large packets where the other end cuts them up.
    fn offered(&self) -> Features {
        match self.network.link.is_tap() {
            true => Features::new(1),
            false => Features::new(1).without_segmentation(),
        }
    }

    /// The key of the link's state.
    fn carrier(&self) -> Keys {
        keys(std::iter::once(Features::carrier(self.is_up)))
    }

    fn attach(&self, front: &Front) -> Result<Connection, ConnectError> {
        // One queue is offered, so there is one.
        let queue = front.queues.first().copied();
        let references = queue.map(|queue| [queue.transmit_reference, queue.receive_reference]);
        let pages = references.into_iter().flatten();
        let pages = pages.map(|reference| self.grants.take(reference, Access::Write));
        let pages: Vec<_> = pages
            .collect::<Result<_, _>>()
            .map_err(ConnectError::Grant)?;
        let [transmit, receive] = [0, 1].map(|index| {
            let page = pages.get(index);
            page.map_or_else(Default::default, GrantedPage::gpa)
        });
        let ram = &**self.guest.ram();
        let transmit = Transmit::attach(ram, transmit).map_err(ConnectError::Ring)?;
        let receive = Receive::attach(ram, receive, front.offloads).map_err(ConnectError::Ring)?;
        let offloads = self.network.link.set_offloads(front.offloads);
        offloads.map_err(ConnectError::Offloads)?;
        let ports = match queue.map_or(Channels::Joint(0), |queue| queue.channels) {
            Channels::Joint(port) => [self.bind(port)?; 2],
            Channels::Split { transmit, receive } => {
                let transmit = self.bind(transmit)?;
                let receive = self.bind(receive).inspect_err(|_| {
                    self.guest.unbind_port(transmit);
                })?;
                [transmit, receive]
            }
        };
        Ok(Connection {
            transmit,
            receive,
            ports,
            waits_for_room: false,
            _pages: pages,
        })
    }

    fn bind(&self, port: u32) -> Result<HostPort, ConnectError> {
        let bound = self.guest.bind_port(Port(port), self.bell.clone());
        bound.map_err(ConnectError::Port)
    }

    /// Moves packets of the guest to the link. Returns whether more of them can be moved at once.
    fn send(&mut self, buffers: &mut Buffers, bytes: &mut Vec<u8>) -> Result<bool, MoveError> {
        let link = Arc::clone(&self.network.link);
        let queue = |error| MoveError::Queue(QueueError::Ring(error));
        let mut has_more = false;
        let mut is_down = link.flush(buffers).map_err(MoveError::Link)?;
        for _ in 0..BATCH_PACKETS {
            let Some(connection) = &mut self.connection else {
                return Ok(false);
            };
            has_more = buffers.is_closed() || link.has_room(buffers);
            if !has_more {
                break;
            }
            let ram = &**self.guest.ram();
            let next = connection.transmit.next(ram, &self.grants);
            match next.map_err(|error| MoveError::Queue(QueueError::Transmit(error)))? {
                Next::Packet(packet) => {
                    let mut refused = None;
                    let status = match copy(ram, &packet, bytes) {
                        false => Status::Error,
                        true if buffers.is_closed() => Status::Dropped,
                        true => match link.push(buffers, bytes, packet.checksum, packet.gso) {
                            Ok(()) => Status::Okay,
                            Err(error) => {
                                refused = Some(error);
                                Status::Error
                            }
                        },
                    };
                    let answered = connection.transmit.answer(ram, packet, status);
                    answered.map_err(queue)?;
                    if let Some(error) = refused {
                        self.tell(Topic::Refusal, &error);
                    }
                    if !link.has_room(buffers) {
                        is_down |= link.flush(buffers).map_err(MoveError::Link)?;
                    }
                }
                Next::Refused(why) => self.tell(Topic::Refusal, &why),
                Next::Empty => {
                    has_more = connection.transmit.wants_service(ram).map_err(queue)?;
                    break;
                }
            }
        }
        is_down |= link.flush(buffers).map_err(MoveError::Link)?;
        if is_down {
            self.tell(Topic::Down, &LinkDown);
        }
        self.publish(|connection, ram| connection.transmit.publish(ram), 0)?;
        Ok(has_more && (buffers.is_closed() || link.has_room(buffers)))
    }

    /// Moves packets of the link to the guest. Returns whether more of them may be there.
    fn receive(&mut self, buffers: &mut Buffers) -> Result<bool, MoveError> {
        let link = Arc::clone(&self.network.link);
        let mut has_more = false;
        for _ in 0..BATCH_PACKETS {
            let Some(connection) = &mut self.connection else {
                return Ok(false);
            };
            let Some(packet) = link.first(buffers).map_err(MoveError::Link)? else {
                has_more = false;
                break;
            };
            let ram = &**self.guest.ram();
            let frame = Frame {
                bytes: buffers.bytes(&packet),
                checksum: packet.checksum,
                gso: packet.gso,
            };
            let mut delivered = connection.receive.deliver(ram, &self.grants, frame);
            // A checksum that the guest does not fill in is filled in here.
            if matches!(delivered, Err(DeliverError::Offload))
                && packet.gso.is_none()
                && buffers.fill_checksum(&packet)
            {
                let frame = Frame {
                    bytes: buffers.bytes(&packet),
                    checksum: Checksum::Complete,
                    gso: None,
                };
                delivered = connection.receive.deliver(ram, &self.grants, frame);
            }
            connection.waits_for_room = false;
            match delivered {
                Err(DeliverError::NoRoom { .. }) => {
                    connection.waits_for_room = true;
                    has_more = false;
                    break;
                }
                Err(DeliverError::Ring(error)) => {
                    return Err(MoveError::Queue(QueueError::Ring(error)));
                }
                // A packet that the guest cannot take is lost, as on a wire.
                Ok(()) | Err(_) => buffers.drop_first(),
            }
            has_more = true;
        }
        self.publish(|connection, ram| connection.receive.publish(ram), 1)?;
        Ok(has_more)
    }

    /// Shows the guest the answers of a ring, and notifies it if it wants to be.
    fn publish(
        &mut self,
        publish: impl FnOnce(&mut Connection, &GuestRam) -> Result<bool, RingError>,
        ring: usize,
    ) -> Result<(), MoveError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let is_wanted = publish(connection, self.guest.ram());
        let is_wanted = is_wanted.map_err(|error| MoveError::Queue(QueueError::Ring(error)))?;
        if is_wanted && let Some(port) = connection.ports.get(ring) {
            self.guest.notify_port(*port);
        }
        Ok(())
    }

    /// Waits for the bell, or for events of the link if there are any.
    fn wait(&self, events: PollFlags) {
        let bell = PollFd::new(self.bell.as_fd(), PollFlags::POLLIN);
        let link = PollFd::new(self.network.link.as_fd(), events);
        let mut fds = [bell, link];
        let watched = if events.is_empty() { 1 } else { 2 };
        let watched = fds.get_mut(..watched).unwrap_or_default();
        // After an error, such as a signal, the thread looks once more and waits again.
        let _ = poll(watched, PollTimeout::NONE);
        self.bell.clear();
    }

    /// Tells the user what happened first of its kind.
    fn tell(&self, topic: Topic, what: &dyn Error) {
        if !self.network.link.is_news(topic) {
            return;
        }
        let (title, what) = (self.title(), ErrorLine(what).to_string());
        let follows = match topic {
            Topic::Lost => "the guest's link is down from now on",
            Topic::Refusal => "the guest's packet was refused; later ones are not reported",
            Topic::Connection => "the guest's driver is not connected",
            Topic::Down => "packets of the guest are dropped until it is up",
        };
        self.host.report(&format!("{title}: {what}: {follows}"));
    }
}

/// A tap that takes no packets.
#[derive(Debug, thiserror::Error)]
#[error("the interface takes no packets, so it is probably down (ip link set NAME up)")]
struct LinkDown;

/// Copies a packet of the guest, once: what is checked later is the copy. Returns whether all of it
/// could be read.
fn copy<P>(ram: &GuestRam, packet: &Packet<P>, bytes: &mut Vec<u8>) -> bool {
    bytes.clear();
    bytes.resize(packet.len_bytes.into(), 0);
    let mut rest = &mut bytes[..];
    packet.pieces.iter().all(|piece| {
        let Some((part, behind)) =
            std::mem::take(&mut rest).split_at_mut_checked(piece.len_bytes.into())
        else {
            return false;
        };
        rest = behind;
        ram.read(piece.at, part).is_ok()
    })
}

/// The most packets of one end before the other one is looked at.
const BATCH_PACKETS: usize = 64;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests;
