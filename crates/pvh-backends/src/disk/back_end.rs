//! The back end of one disk: the handshake with the guest, its ring, its requests.

use std::{collections::VecDeque, error::Error, fmt::Write, sync::Arc};

use pvh_abi::{Errno, GuestRange, event_channel::Port};
use pvh_blkif::{
    Action as Transfer, ConnectError, Disk as Geometry, Features, Front, Io, Next, Queue, Status,
};
use pvh_domain::{GrantError, HostGrants, HostPage, HostPort};
use pvh_kvm::GuestRam;
use pvh_ring::{Access, AttachError as RingAttachError, GrantedPage, Grants, RingError};
use pvh_xenbus::{Action, BackEnd, Change, Device as Nodes, State};
use pvh_xenstore::StoreError;

use super::{
    Disk,
    image::{Image, IoError, Topic},
};
use crate::{
    bell::{Bell, StoreBell},
    guest::Guest,
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
    guest: Arc<G>,
    grants: HostGrants<Arc<GuestRam>>,
    disk: Disk,
    geometry: Geometry,
    state: BackEnd<Front>,
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
    /// # Errors
    ///
    /// [`AttachError`].
    fn attach(guest: Arc<G>, disk: &Disk, host: Arc<dyn Host>) -> Result<Self, AttachError> {
        let image = &disk.image;
        let geometry = Geometry::new(image.len_bytes()).map_err(AttachError::Disk)?;
        let geometry = if image.is_read_only() {
            geometry.read_only()
        } else {
            geometry
        };
        let device = Nodes {
            guest: guest.domid(),
            class: "vbd",
            id: disk.number,
        };
        let bell = Arc::new(Bell::new().map_err(AttachError::Event)?);
        let mut back_end = Self {
            grants: guest.host_grants(),
            guest,
            disk: disk.clone(),
            geometry,
            state: BackEnd::new(device),
            link: None,
            bell,
            host,
        };
        back_end.make_device(&device).map_err(AttachError::Store)?;
        let features = offered().keys();
        let features = features.map(|(key, value)| (key.to_owned(), value));
        let actions = back_end.state.ready(features.collect());
        back_end.carry_out(actions);
        Ok(back_end)
    }

    /// Writes the nodes that libxl writes, but for the path of the file: it is not the guest's to
    /// read.
    fn make_device(&self, device: &Nodes) -> Result<(), StoreError> {
        let number = self.disk.number.to_string();
        let mode = if self.geometry.is_read_only() {
            "r"
        } else {
            "w"
        };
        let front = [("virtual-device", number.as_str()), ("device-type", "disk")];
        let back = [
            ("bootable", "1"),
            ("dev", self.disk.name.as_str()),
            ("type", "qdisk"),
            ("mode", mode),
            ("device-type", "disk"),
        ];
        self.guest.change_store(&device.create(&front, &back))?;
        let bell = Arc::new(StoreBell(Arc::clone(&self.bell)));
        self.guest.watch_store(&device.front_path(), bell)
    }

    /// The disk as a device whose thread can be started.
    fn into_device(self) -> Device {
        Device {
            kind: DeviceKind::Disk,
            title: self.title(),
            bell: Arc::clone(&self.bell),
            life: Box::new(move || self.run()),
        }
    }

    /// What messages call the disk.
    fn title(&self) -> String {
        let (name, path) = (&self.disk.name, self.disk.image.path().display());
        format!("disk {name} ({path})")
    }

    /// Serves the guest until the bell says stop. The body of the disk's thread.
    fn run(mut self) {
        while !self.bell.is_stopped() {
            if !self.step() {
                self.bell.wait();
            }
        }
        self.disconnect();
    }

    /// Follows the front end, then serves at most one request. Returns whether to go on at once.
    fn step(&mut self) -> bool {
        if self.bell.take_store_event() {
            self.follow_front();
        }
        let served = match &mut self.link {
            Some(link) => serve(
                link,
                &self.guest,
                &self.grants,
                (&self.geometry, &self.disk.image),
            ),
            None => return false,
        };
        match served {
            Ok(Served::Done) => true,
            Ok(Served::Idle) => false,
            Ok(Served::Failed(error)) => {
                self.tell(Topic::Failure, &error);
                true
            }
            Ok(Served::Refused(why)) => {
                self.tell(Topic::Refusal, &*why);
                true
            }
            Err(error) => {
                self.tell(Topic::Connection, &error);
                let actions = self.state.failed(&error);
                self.carry_out(actions);
                false
            }
        }
    }

    /// Looks at the front end's state, and does what follows from it.
    fn follow_front(&mut self) {
        let folder = self.state.device().front_path();
        let state = self.guest.key(&format!("{folder}/state"));
        let state = State::read(state.as_deref().map(str::as_bytes));
        let guest = &self.guest;
        let offered = offered();
        let read = || -> Result<Front, ConnectError> {
            Front::read(&offered, |key| guest.key(&format!("{folder}/{key}")))
        };
        let actions = self.state.front_changed(state, read);
        self.carry_out(actions);
    }

    /// Does what the handshake says, in its order.
    fn carry_out(&mut self, actions: Vec<Action<Front>>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Change(change) => self.change(change, &mut actions),
                Action::Connect {
                    attempt,
                    parameters,
                } => actions.extend(match self.connect(&parameters) {
                    Ok(link) => {
                        self.link = Some(link);
                        let keys = self.geometry.keys();
                        let keys = keys.map(|(key, value)| (key.to_owned(), value));
                        self.state.connected(attempt, &keys.collect::<Vec<_>>())
                    }
                    Err(error) => {
                        self.tell(Topic::Connection, &error);
                        self.state.failed(&chain(&error))
                    }
                }),
                Action::Disconnect => self.disconnect(),
                // The device stays until the end of the machine.
                _ => {}
            }
        }
    }

    /// Makes a change of the store, together with the changes that follow it.
    fn change(&self, first: Change, actions: &mut VecDeque<Action<Front>>) {
        let mut changes = vec![first];
        while let Some(Action::Change(_)) = actions.front() {
            if let Some(Action::Change(change)) = actions.pop_front() {
                changes.push(change);
            }
        }
        // The paths are our own and no limit holds for the host, so the store takes every change.
        let _ = self.guest.change_store(&changes);
    }

    fn connect(&self, front: &Front) -> Result<Link, LinkError> {
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

    /// Lets go of the ring. No request is open: they are served one at a time.
    fn disconnect(&mut self) {
        if let Some(link) = self.link.take() {
            self.guest.unbind_port(link.port);
        }
    }

    /// Tells the user what happened first of its kind.
    fn tell(&self, topic: Topic, what: &dyn Error) {
        if !self.disk.image.is_news(topic) {
            return;
        }
        let (title, what) = (self.title(), chain(what));
        let follows = match topic {
            Topic::Failure => "the guest gets an I/O error; later errors are not reported",
            Topic::Refusal => "the guest's request was refused; later ones are not reported",
            Topic::Connection => "the guest's driver is not connected",
        };
        self.host.report(&format!("{title}: {what}: {follows}"));
    }
}

/// What came of one look at the ring.
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

/// Serves at most one request, and tells the guest if it wants to be told.
fn serve<G: Guest>(
    link: &mut Link,
    guest: &Arc<G>,
    grants: &HostGrants<Arc<GuestRam>>,
    (disk, image): (&Geometry, &Image),
) -> Result<Served, RingError> {
    let ram = &**guest.ram();
    let served = match link.queue.next(ram, grants, disk)? {
        Next::Request(request) => {
            let done = perform(ram, image, &request.action);
            let status = if done.is_ok() {
                Status::Okay
            } else {
                Status::Error
            };
            link.queue.answer(ram, request, status)?;
            done.map_or_else(Served::Failed, |()| Served::Done)
        }
        Next::Refused(why) => Served::Refused(Box::new(why)),
        Next::Empty if link.queue.wants_service(ram)? => Served::Done,
        Next::Empty => Served::Idle,
    };
    if link.queue.publish(ram)? {
        guest.notify_port(link.port);
    }
    Ok(served)
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
        // Not offered, so pvh-blkif refuses it.
        Transfer::Discard { .. } => Ok(()),
    }
}

fn ranges<P>(io: &Io<P>) -> Vec<GuestRange> {
    let pieces = io.pieces.iter();
    let ranges = pieces.map(|piece| GuestRange::new(piece.at, piece.len_bytes.into()));
    ranges.collect()
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _ = write!(line, ": {cause}");
        source = cause.source();
    }
    line
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
