//! The back end of one disk: the handshake with the guest, its ring, its requests.

use std::{collections::VecDeque, io, sync::Arc};

use pvh_abi::{Errno, GuestRange, event_channel::Port};
use pvh_blkif::{
    Action as Transfer, ConnectError, Disk, DiskError, Features, Front, Io, Next, Queue, Status,
};
use pvh_domain::{GrantError, HostGrants, HostPage, HostPort};
use pvh_kvm::GuestRam;
use pvh_ring::{Access, AttachError as RingAttachError, GrantedPage, Grants, RingError};
use pvh_xenbus::{Action, BackEnd, Change, Device, State};
use pvh_xenstore::StoreError;

use super::{
    bell::{Bell, StoreBell},
    guest::GuestSide,
    image::{Image, IoError, Topic},
    names::NamedDisk,
};
use crate::{
    exit::{Chain, Printable},
    platform::GuestLog,
};

/// The back end of one disk, which one thread runs.
///
/// It works on one request at a time, without the domain's lock: the thread waits for the host's
/// file, the guest's vCPUs do not. It holds the pages of that request (257 at most) and of the ring
/// (16), and no queue that grows.
pub(crate) struct DiskBackEnd<G> {
    guest: Arc<G>,
    grants: HostGrants<Arc<GuestRam>>,
    named: NamedDisk,
    disk: Disk,
    state: BackEnd<Front>,
    link: Option<Link>,
    bell: Arc<Bell>,
    log: GuestLog,
}

/// A connection to the ring of a front end.
struct Link {
    queue: Queue,
    port: HostPort,
    /// The pages of the ring, in use.
    _pages: Vec<HostPage<Arc<GuestRam>>>,
}

/// Why a guest does not get its disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The host has no more descriptors.
    #[error("cannot create an eventfd for a disk")]
    Event(#[source] io::Error),
    /// The image has a size that no disk has.
    #[error("the disk cannot be shown to the guest")]
    Disk(#[source] DiskError),
    /// The store refuses the device.
    #[error("the store refuses the nodes of a disk")]
    Store(#[source] StoreError),
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

impl<G: GuestSide> DiskBackEnd<G> {
    /// Makes the device in the guest's store, before the guest runs, and waits for its front end.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub(crate) fn attach(
        guest: Arc<G>,
        named: &NamedDisk,
        log: &GuestLog,
    ) -> Result<Self, AttachError> {
        let image = &named.image;
        let disk = Disk::new(image.len_bytes()).map_err(AttachError::Disk)?;
        let disk = if image.is_read_only() {
            disk.read_only()
        } else {
            disk
        };
        let device = Device {
            guest: guest.domid(),
            class: "vbd",
            id: named.number,
        };
        let bell = Arc::new(Bell::new().map_err(AttachError::Event)?);
        let mut back_end = Self {
            grants: guest.host_grants(),
            guest,
            named: named.clone(),
            disk,
            state: BackEnd::new(device),
            link: None,
            bell,
            log: log.clone(),
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
    fn make_device(&self, device: &Device) -> Result<(), StoreError> {
        let number = self.named.number.to_string();
        let mode = if self.disk.is_read_only() { "r" } else { "w" };
        let front = [("virtual-device", number.as_str()), ("device-type", "disk")];
        let back = [
            ("bootable", "1"),
            ("dev", self.named.name.as_str()),
            ("type", "qdisk"),
            ("mode", mode),
            ("device-type", "disk"),
        ];
        self.guest.change_store(&device.create(&front, &back))?;
        let bell = Arc::new(StoreBell(Arc::clone(&self.bell)));
        self.guest.watch_store(&device.front_path(), bell)
    }

    /// The name of the disk, for messages.
    pub(super) fn named(&self) -> &NamedDisk {
        &self.named
    }

    /// What stops the thread.
    pub(super) fn stopper(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// Serves the guest until the bell says stop. The body of the disk's thread.
    pub(super) fn run(mut self) {
        while !self.bell.is_stopped() {
            if !self.step() {
                self.bell.wait();
            }
        }
        self.disconnect();
    }

    /// Follows the front end, then serves at most one request. Returns whether to go on at once.
    pub(super) fn step(&mut self) -> bool {
        if self.bell.take_store_event() {
            self.follow_front();
        }
        let served = match &mut self.link {
            Some(link) => serve(
                link,
                &self.guest,
                &self.grants,
                (&self.disk, &self.named.image),
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
                        let keys = self.disk.keys();
                        let keys = keys.map(|(key, value)| (key.to_owned(), value));
                        self.state.connected(attempt, &keys.collect::<Vec<_>>())
                    }
                    Err(error) => {
                        self.tell(Topic::Connection, &error);
                        self.state.failed(&Chain(&error))
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
    fn tell(&self, topic: Topic, what: &dyn std::error::Error) {
        if !self.named.image.is_news(topic) {
            return;
        }
        let path = self.named.image.path().display().to_string();
        let (name, path) = (&self.named.name, Printable(&path));
        let what = Chain(what).to_string();
        let what = Printable(&what);
        let follows = match topic {
            Topic::Failure => "the guest gets an I/O error; later errors are not reported",
            Topic::Refusal => "the guest's request was refused; later ones are not reported",
            Topic::Connection => "the guest's driver is not connected",
        };
        self.log
            .say(&format!("disk {name} ({path}): {what}: {follows}"));
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
    Refused(Box<dyn std::error::Error>),
}

/// Serves at most one request, and tells the guest if it wants to be told.
fn serve<G: GuestSide>(
    link: &mut Link,
    guest: &Arc<G>,
    grants: &HostGrants<Arc<GuestRam>>,
    (disk, image): (&Disk, &Image),
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
