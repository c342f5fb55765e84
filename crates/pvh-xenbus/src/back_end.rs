//! The back end of one device: which state follows from what the front end and the host do.

use std::fmt;

use crate::{Change, Device, State};

/// What the embedder has to do, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Action<P> {
    /// Make a change of the store.
    Change(Change),
    /// Attach to the front end's rings and bind its event channels. Then call
    /// [`BackEnd::connected`] or [`BackEnd::failed`] with the attempt.
    Connect {
        /// Names this connection in the answer.
        attempt: Attempt,
        /// What the front end has published.
        parameters: P,
    },
    /// Let go of the rings and event channels of the last [`Action::Connect`], also if it has not
    /// been answered. Wait until no request of the front end uses its pages.
    Disconnect,
    /// The device is gone: apply [`Device::remove`] and drop the back end.
    Gone,
}

/// The number of an attempt to connect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt(u64);

/// The back end of one device. `P` is what a front end of its class publishes to connect.
///
/// Watch the front end's folder, and call [`BackEnd::front_changed`] for each event. One call
/// returns a bounded number of actions: those that the keys of the back end need, and at most four
/// more.
#[derive(Debug)]
pub struct BackEnd<P> {
    device: Device,
    state: State,
    /// Published again each time the back end gets ready for a front end.
    features: Vec<(String, String)>,
    link: Link<P>,
    attempts: u64,
    is_online: bool,
}

/// The rings that the front end has published last.
#[derive(Debug)]
enum Link<P> {
    None,
    /// The embedder attaches to them.
    Pending(P),
    Up(P),
}

impl<P: Clone + PartialEq> BackEnd<P> {
    /// Makes the back end of a device that [`Device::create`] has made.
    #[must_use]
    pub const fn new(device: Device) -> Self {
        Self {
            device,
            state: State::Initialising,
            features: Vec::new(),
            link: Link::None,
            attempts: 0,
            is_online: true,
        }
    }

    /// Returns the device.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the back end's own state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Returns what the front end has published, while the back end is connected to it.
    #[must_use]
    pub const fn connection(&self) -> Option<&P> {
        match &self.link {
            Link::Up(parameters) => Some(parameters),
            Link::None | Link::Pending(_) => None,
        }
    }

    /// The back end can serve front ends: it publishes its features, and waits for one.
    ///
    /// Features are what a front end reads before it makes its rings, `max-ring-page-order` and
    /// `max-ring-pages` for example. A front end may have been faster: call
    /// [`BackEnd::front_changed`] after this.
    #[must_use]
    pub fn ready(&mut self, features: Vec<(String, String)>) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        self.features = features;
        if self.state == State::Initialising {
            self.wait_for_front(&mut actions);
        }
        actions
    }

    /// The front end's state, or another key of its folder, may have changed.
    ///
    /// `read` reads what the front end has published; it is called only where that matters.
    #[must_use]
    pub fn front_changed<E: fmt::Display>(
        &mut self,
        front: State,
        read: impl FnOnce() -> Result<P, E>,
    ) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        match front {
            State::Initialising => self.front_starts(&mut actions),
            State::Initialised | State::Connected => self.front_connects(front, read, &mut actions),
            State::Closing => self.front_closes(State::Closing, &mut actions),
            // A front end without a state, or whose folder is gone, uses nothing any more.
            State::Closed | State::Unknown => self.front_closes(State::Closed, &mut actions),
            // No front end of a disk or a network has these states; they ask for nothing.
            State::InitWait | State::Reconfiguring | State::Reconfigured => {}
        }
        actions
    }

    /// The embedder has attached to the rings: publishes the device's properties, and is connected.
    ///
    /// The answer to an attempt that was ended by [`Action::Disconnect`] does nothing.
    #[must_use]
    pub fn connected(
        &mut self,
        attempt: Attempt,
        properties: &[(String, String)],
    ) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        let is_last = attempt.0 == self.attempts;
        self.link = match std::mem::replace(&mut self.link, Link::None) {
            Link::Pending(parameters) if is_last => {
                self.publish(properties, &mut actions);
                // Written also if the state is the same: the front end reads the properties again.
                self.write_state(State::Connected, &mut actions);
                Link::Up(parameters)
            }
            link => link,
        };
        actions
    }

    /// The embedder could not attach to the rings, or can no longer serve them: says why in the
    /// store, and closes. A front end that closes, too, may start again.
    #[must_use]
    pub fn failed(&mut self, why: &dyn fmt::Display) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        self.fail(why, &mut actions);
        actions
    }

    /// Publishes properties that have changed while the device is in use, a new size for example.
    /// The front end reads them again because the state is written again.
    #[must_use]
    pub fn update(&mut self, properties: &[(String, String)]) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        if self.state == State::Connected {
            self.publish(properties, &mut actions);
            self.write_state(State::Connected, &mut actions);
        }
        actions
    }

    /// The host wants to remove the device: asks the front end to close it. [`Action::Gone`] comes
    /// once the front end has closed, which it may never do; see [`BackEnd::remove`]. Call
    /// [`BackEnd::front_changed`] after this: a front end that has not started has nothing to
    /// close.
    #[must_use]
    pub fn unplug(&mut self) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        if !std::mem::replace(&mut self.is_online, false) {
            return actions;
        }
        let online = format!("{}/online", self.device.back_path());
        actions.push(Action::Change(Change::write(online, "0")));
        if self.state == State::Closed {
            actions.push(Action::Gone);
        } else {
            self.set_state(State::Closing, &mut actions);
        }
        actions
    }

    /// Removes the device at once, whatever the front end does with it.
    #[must_use]
    pub fn remove(&mut self) -> Vec<Action<P>> {
        let mut actions = Vec::new();
        self.is_online = false;
        self.disconnect(&mut actions);
        self.set_state(State::Closed, &mut actions);
        actions.push(Action::Gone);
        actions
    }

    /// A front end begins: after a boot, a kexec, or once it has closed.
    fn front_starts(&mut self, actions: &mut Vec<Action<P>>) {
        match self.state {
            State::Initialising | State::InitWait if self.is_unlinked() => {}
            _ if self.is_online => {
                // The front end has forgotten its rings, even if it has not closed them.
                self.disconnect(actions);
                self.wait_for_front(actions);
            }
            // The guest has nothing to close.
            _ => self.front_closes(State::Closed, actions),
        }
    }

    /// A front end has published its rings, or says that it uses them.
    fn front_connects<E: fmt::Display>(
        &mut self,
        front: State,
        read: impl FnOnce() -> Result<P, E>,
        actions: &mut Vec<Action<P>>,
    ) {
        let is_in_use = !self.is_unlinked();
        match self.state {
            // Not ready, or the front end has not seen yet that this end closes.
            State::Initialising | State::Closing => return,
            // Keys that change under a connection in use change nothing.
            _ if is_in_use && front == State::Connected => return,
            // It has left states out: this end does what belongs to them first.
            State::Closed if self.is_online => self.wait_for_front(actions),
            State::Closed => return,
            _ => {}
        }
        match read() {
            Ok(parameters) if self.is_linked_by(&parameters) => {}
            Ok(parameters) => {
                self.disconnect(actions);
                self.attempts = self.attempts.wrapping_add(1);
                self.link = Link::Pending(parameters.clone());
                let attempt = Attempt(self.attempts);
                actions.push(Action::Connect {
                    attempt,
                    parameters,
                });
            }
            Err(why) => self.fail(&why, actions),
        }
    }

    /// The front end closes, or has closed.
    fn front_closes(&mut self, state: State, actions: &mut Vec<Action<P>>) {
        if self.state == State::Initialising && self.is_online {
            return;
        }
        self.disconnect(actions);
        if self.state == State::Closed {
            return;
        }
        self.set_state(state, actions);
        if state == State::Closed && !self.is_online {
            actions.push(Action::Gone);
        }
    }

    fn wait_for_front(&mut self, actions: &mut Vec<Action<P>>) {
        let features = std::mem::take(&mut self.features);
        self.publish(&features, actions);
        self.features = features;
        self.set_state(State::InitWait, actions);
    }

    fn fail(&mut self, why: &dyn fmt::Display, actions: &mut Vec<Action<P>>) {
        self.disconnect(actions);
        // Xen's tools read errors there.
        let folder = self.device.back_path();
        let folder = folder.trim_start_matches("/local/domain/0/");
        let path = format!("/local/domain/0/error/{folder}/error");
        actions.push(Action::Change(Change::write(path, why.to_string())));
        if self.state != State::Closed {
            self.set_state(State::Closing, actions);
        }
    }

    fn disconnect(&mut self, actions: &mut Vec<Action<P>>) {
        if !self.is_unlinked() {
            self.link = Link::None;
            actions.push(Action::Disconnect);
        }
    }

    fn publish(&self, keys: &[(String, String)], actions: &mut Vec<Action<P>>) {
        let folder = self.device.back_path();
        let writes = keys.iter().map(|(key, value)| {
            let change = Change::write(format!("{folder}/{key}"), value.as_str());
            Action::Change(change)
        });
        actions.extend(writes);
    }

    fn set_state(&mut self, state: State, actions: &mut Vec<Action<P>>) {
        if self.state != state {
            self.write_state(state, actions);
        }
    }

    fn write_state(&mut self, state: State, actions: &mut Vec<Action<P>>) {
        self.state = state;
        let path = format!("{}/state", self.device.back_path());
        actions.push(Action::Change(Change::write(path, state.as_str())));
    }

    const fn is_unlinked(&self) -> bool {
        matches!(self.link, Link::None)
    }

    fn is_linked_by(&self, parameters: &P) -> bool {
        match &self.link {
            Link::None => false,
            Link::Pending(linked) | Link::Up(linked) => linked == parameters,
        }
    }
}
