//! A device's nodes in the store, and the handshake with the guest's driver.

use std::{collections::VecDeque, error::Error, sync::Arc};

use pvh_abi::ErrorLine;
use pvh_xenbus::{Action, BackEnd, Change, Device, State};
use pvh_xenstore::StoreError;

use crate::{
    bell::{Bell, StoreBell},
    guest::Guest,
};

/// The keys of one end, with their values.
pub(crate) type Keys = Vec<(String, String)>;

/// Follows a front end through the states of XenBus. `P` is what a front end tells when it connects.
pub(crate) struct Handshake<G, P> {
    pub(crate) guest: Arc<G>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) state: BackEnd<P>,
}

/// The rings of a device.
pub(crate) trait Rings<P> {
    /// Attaches to the rings of a front end. Returns the properties that are published once that is
    /// done, or why it failed; the user has been told.
    fn connect(&mut self, front: &P) -> Result<Keys, String>;

    /// Lets go of the rings.
    fn disconnect(&mut self);
}

impl<G: Guest, P: Clone + PartialEq> Handshake<G, P> {
    /// Makes a device with these keys of both ends, and watches its front end.
    ///
    /// # Errors
    ///
    /// The store refuses the nodes.
    pub(crate) fn begin(
        guest: Arc<G>,
        bell: &Arc<Bell>,
        device: Device,
        front: &[(&str, &str)],
        back: &[(&str, &str)],
    ) -> Result<Self, StoreError> {
        guest.change_store(&device.create(front, back))?;
        let store_bell = Arc::new(StoreBell(Arc::clone(bell)));
        guest.watch_store(&device.front_path(), store_bell)?;
        Ok(Self {
            guest,
            bell: Arc::clone(bell),
            state: BackEnd::new(device),
        })
    }

    /// Offers features, and waits for the front end.
    pub(crate) fn ready(&mut self, features: Keys, rings: &mut impl Rings<P>) {
        let actions = self.state.ready(features);
        self.carry_out(actions, rings);
    }

    /// Looks at the front end's state if the store has changed, and does what follows from it.
    /// `read` reads what the front end tells, through a function that reads one of its keys.
    pub(crate) fn follow<E: Error + 'static>(
        &mut self,
        rings: &mut impl Rings<P>,
        read: impl FnOnce(&dyn Fn(&str) -> Option<String>) -> Result<P, E>,
    ) {
        if !self.bell.take_store_event() {
            return;
        }
        let folder = self.state.device().front_path();
        let guest = &self.guest;
        let key = |key: &str| guest.key(&format!("{folder}/{key}"));
        let state = key("state");
        let state = State::read(state.as_deref().map(str::as_bytes));
        let actions = self.state.front_changed(state, || read(&key));
        self.carry_out(actions, rings);
    }

    /// Publishes properties that have changed; they are offered to later front ends, too.
    pub(crate) fn update(&mut self, properties: &Keys, rings: &mut impl Rings<P>) {
        let actions = self.state.update(properties);
        self.carry_out(actions, rings);
    }

    /// The rings cannot be used any more: says why in the store, and closes the device.
    pub(crate) fn fail(&mut self, why: &dyn Error, rings: &mut impl Rings<P>) {
        let actions = self.state.failed(&ErrorLine(why).to_string());
        self.carry_out(actions, rings);
    }

    /// Does what the handshake says, in its order.
    fn carry_out(&mut self, actions: Vec<Action<P>>, rings: &mut impl Rings<P>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Change(change) => self.change(change, &mut actions),
                Action::Connect {
                    attempt,
                    parameters,
                } => actions.extend(match rings.connect(&parameters) {
                    Ok(properties) => self.state.connected(attempt, &properties),
                    Err(why) => self.state.failed(&why),
                }),
                Action::Disconnect => rings.disconnect(),
                // The device stays until the end of the machine.
                _ => {}
            }
        }
    }

    /// Makes a change of the store, together with the changes that follow it.
    fn change(&self, first: Change, actions: &mut VecDeque<Action<P>>) {
        let mut changes = vec![first];
        while let Some(Action::Change(_)) = actions.front() {
            if let Some(Action::Change(change)) = actions.pop_front() {
                changes.push(change);
            }
        }
        // The paths are our own and no limit holds for the host, so the store takes every change.
        let _ = self.guest.change_store(&changes);
    }
}

/// Keys as they go to the store.
pub(crate) fn keys(keys: impl Iterator<Item = (&'static str, String)>) -> Keys {
    keys.map(|(key, value)| (key.to_owned(), value)).collect()
}
