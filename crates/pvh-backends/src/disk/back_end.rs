//! The back end of one disk: the handshake with the guest, its ring, its requests.

use std::{error::Error, sync::Arc};

use pvh_abi::{Errno, ErrorLine, GuestRange, event_channel::Port};
use pvh_blkif::{
    Action as Transfer, DiscardSupport, Disk as Geometry, Features, Front, Io, Next, Queue, Status,
};
use pvh_domain::{GrantError, HostGrants, HostPage, HostPort};
use pvh_kvm::GuestRam;
use pvh_ring::{Access, AttachError as RingAttachError, GrantedPage, Grants, RingError};
use pvh_xenbus::Device as Nodes;

use super::{
    Disk,
    image::{Image, IoError, Topic},
};
use crate::{
    bell::Bell,
    guest::Guest,
    handshake::{Handshake, Keys, Rings, keys},
    host::{DeviceKind, Host},
    threads::{AttachError, Device},
};

/// Makes a disk in the guest's store, before the guest runs. Its back end waits for the guest's
/// driver once its thread runs.
///
/// # Errors
///
/// [`AttachError`].
pub fn attach_disk<G: Guest>(
    guest: Arc<G>,
    disk: &Disk,
    host: Arc<dyn Host>,
) -> Result<Device, AttachError> {
    DiskBackEnd::attach(guest, disk, host).map(DiskBackEnd::into_device)
}

/// The back end of one disk, which one thread runs.
///
/// It works on one request at a time, without the domain's lock: the thread waits for the host's
/// file, the guest's vCPUs do not. It holds the pages of that request (257 at most) and of the ring
/// (16), and no queue that grows.
struct DiskBackEnd<G> {
    handshake: Handshake<G, Front>,
    ring: DiskRing<G>,
}

/// The disk, and the ring of a front end that is connected.
struct DiskRing<G> {
    guest: Arc<G>,
    grants: HostGrants<Arc<GuestRam>>,
    disk: Disk,
    geometry: Geometry,
    link: Option<Link>,
    bell: Arc<Bell>,
    host: Arc<dyn Host>,
}

/// A connection to the ring of a front end.
struct Link {
    queue: Queue,
    port: HostPort,
    /// The pages of the ring, in use.
    _pages: Vec<HostPage<Arc<GuestRam>>>,
}

/// Why a front end cannot be connected.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the ring is not granted")]
    Grant(#[source] GrantError),
    #[error("the ring cannot be used")]
    Ring(#[source] RingAttachError),
    #[error("the event channel cannot be bound: error {}", .0.0)]
    Port(Errno),
}

impl<G: Guest> DiskBackEnd<G> {
    /// Makes the device in the guest's store, before the guest runs, and waits for its front end.
    ///
    /// Its nodes are those that libxl writes, but for the path of the file: it is not the guest's to
    /// read.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    fn attach(guest: Arc<G>, disk: &Disk, host: Arc<dyn Host>) -> Result<Self, AttachError> {
        let image = &disk.image;
        let geometry = Geometry::new(image.len_bytes()).map_err(AttachError::Disk)?;
        let geometry = match image.discard_bytes() {
            Some(granularity_bytes) => geometry.with_discard(DiscardSupport {
                granularity_bytes,
                alignment_bytes: 0,
                has_secure: false,
            }),
            None => geometry,
        };
        let (geometry, mode) = match image.is_read_only() {
            true => (geometry.read_only(), "r"),
            false => (geometry, "w"),
        };
        let device = Nodes {
            guest: guest.domid(),
            class: "vbd",
            id: disk.number,
        };
        let number = disk.number.to_string();
        let front = [("virtual-device", number.as_str()), ("device-type", "disk")];
        let back = [
            ("bootable", "1"),
            ("dev", disk.name.as_str()),
            ("type", "qdisk"),
            ("mode", mode),
            ("device-type", "disk"),
        ];
        let bell = Arc::new(Bell::new().map_err(AttachError::Event)?);
        let handshake = Handshake::begin(Arc::clone(&guest), &bell, device, &front, &back);
        let mut back_end = Self {
            handshake: handshake.map_err(AttachError::Store)?,
            ring: DiskRing {
                grants: guest.host_grants(),
                guest,
                disk: disk.clone(),
                geometry,
                link: None,
                bell,
                host,
            },
        };
        let Self { handshake, ring } = &mut back_end;
        handshake.ready(keys(offered().keys()), ring);
        Ok(back_end)
    }

    /// The disk as a device whose thread can be started.
    fn into_device(self) -> Device {
        Device {
            kind: DeviceKind::Disk,
            title: self.ring.title(),
            bell: Arc::clone(&self.ring.bell),
            life: Box::new(move || self.run()),
        }
    }

    /// Serves the guest until the bell says stop. The body of the disk's thread.
    fn run(mut self) {
        while !self.ring.bell.is_stopped() {
            if !self.step() {
                self.ring.bell.wait();
            }
        }
        self.ring.disconnect();
    }

    /// Follows the front end, then serves at most one request. Returns whether to go on at once.
    fn step(&mut self) -> bool {
        let Self { handshake, ring } = self;
        handshake.follow(ring, |key| Front::read(&offered(), key));
        match ring.serve() {
            Ok(Served::Done) => true,
            Ok(Served::Idle) => false,
            Ok(Served::Failed(error)) => {
                ring.tell(Topic::Failure, &error);
                true
            }
            Ok(Served::Refused(why)) => {
                ring.tell(Topic::Refusal, &*why);
                true
            }
            Err(error) => {
                ring.tell(Topic::Connection, &error);
                handshake.fail(&error, ring);
                false
            }
        }
    }
}

impl<G: Guest> Rings<Front> for DiskRing<G> {
    fn connect(&mut self, front: &Front) -> Result<Keys, String> {
        match self.attach(front) {
            Ok(link) => {
                self.link = Some(link);
                Ok(keys(self.geometry.keys()))
            }
            Err(error) => {
                self.tell(Topic::Connection, &error);
                Err(ErrorLine(&error).to_string())
            }
        }
    }

    /// Lets go of the ring. No request is open: they are served one at a time.
    fn disconnect(&mut self) {
        if let Some(link) = self.link.take() {
            self.guest.unbind_port(link.port);
        }
    }
}

impl<G: Guest> DiskRing<G> {
    /// The name of the disk in messages.
    fn title(&self) -> String {
        let (name, path) = (&self.disk.name, self.disk.image.path().display());
        format!("disk {name} ({path})")
    }

    fn attach(&self, front: &Front) -> Result<Link, LinkError> {
        // One queue is offered, so there is one.
        let queue = front.queues.first();
        let references = queue.map_or(&[][..], |queue| queue.ring_references.as_slice());
        let pages = references
            .iter()
            .map(|reference| self.grants.take(*reference, Access::Write));
        let pages: Vec<_> = pages.collect::<Result<_, _>>().map_err(LinkError::Grant)?;
        let places: Vec<_> = pages.iter().map(GrantedPage::gpa).collect();
        let ram = &**self.guest.ram();
        let attached = Queue::attach(ram, &places, front.protocol, SEGMENTS_MAX);
        let attached = attached.map_err(LinkError::Ring)?;
        let port = Port(queue.map_or(0, |queue| queue.event_channel));
        let port = self
            .guest
            .bind_port(port, self.bell.clone())
            .map_err(LinkError::Port)?;
        Ok(Link {
            queue: attached,
            port,
            _pages: pages,
        })
    }

    /// Serves at most one request, and tells the guest if it wants to be told.
    fn serve(&mut self) -> Result<Served, RingError> {
        let Some(link) = &mut self.link else {
            return Ok(Served::Idle);
        };
        let ram = &**self.guest.ram();
        let served = match link.queue.next(ram, &self.grants, &self.geometry)? {
            Next::Request(request) => {
                let done = perform(ram, &self.disk.image, &request.action);
                let status = match done {
                    Ok(()) => Status::Okay,
                    Err(IoError::NoDiscard) => Status::NotSupported,
                    Err(_) => Status::Error,
                };
                link.queue.answer(ram, request, status)?;
                done.map_or_else(Served::Failed, |()| Served::Done)
            }
            Next::Refused(why) => Served::Refused(Box::new(why)),
            Next::Empty if link.queue.wants_service(ram)? => Served::Done,
            Next::Empty => Served::Idle,
        };
        if link.queue.publish(ram)? {
            self.guest.notify_port(link.port);
        }
        Ok(served)
    }

    /// Tells the user what happened first of its kind.
    fn tell(&self, topic: Topic, what: &dyn Error) {
        if !self.disk.image.is_news(topic) {
            return;
        }
        let (title, what) = (self.title(), ErrorLine(what).to_string());
        let follows = match topic {
            Topic::Failure => "the guest gets an I/O error; later errors are not reported",
            Topic::Refusal => "the guest's request was refused; later ones are not reported",
            Topic::Connection => "the guest's driver is not connected",
        };
        self.host.report(&format!("{title}: {what}: {follows}"));
    }
}

/// The result of one look at the ring.
enum Served {
    /// A request was answered.
    Done,
    /// No request waits; the guest will ring the bell.
    Idle,
    /// A request failed, and was answered with an error.
    Failed(IoError),
    /// A request was refused, and was answered with an error.
    Refused(Box<dyn Error>),
}

fn perform<P>(ram: &GuestRam, image: &Image, action: &Transfer<P>) -> Result<(), IoError> {
    match action {
        Transfer::Read(io) => image.read(ram, io.area.offset, &ranges(io)),
        Transfer::Write(io) => image.write(ram, io.area.offset, &ranges(io)),
        Transfer::Flush(io) => {
            image.flush()?;
            match io {
                Some(io) => image.write(ram, io.area.offset, &ranges(io)),
                None => Ok(()),
            }
        }
        // Secure discards are not offered.
        Transfer::Discard { area, .. } => image.discard(*area),
    }
}

fn ranges<P>(io: &Io<P>) -> Vec<GuestRange> {
    let pieces = io.pieces.iter();
    let ranges = pieces.map(|piece| GuestRange::new(piece.at, piece.len_bytes.into()));
    ranges.collect()
}

/// One queue, with rings of up to 16 pages.
fn offered() -> Features {
    Features::new(1, 4, SEGMENTS_MAX)
}

/// The most segments of a request.
const SEGMENTS_MAX: u16 = 256;

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]
mod tests;
