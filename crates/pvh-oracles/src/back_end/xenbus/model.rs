//! A second reading of the handshake: what a back end does, by its state and the front end's.

use crate::back_end::keys::Published;

/// An action, without its details.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Word {
    State(String),
    /// A feature or a property.
    Key,
    Offline,
    Error,
    Connect(Published),
    Disconnect,
    Gone,
}

/// A back end.
pub(super) struct Model {
    state: &'static str,
    features: usize,
    /// What it is connected to, or will be.
    link: Option<Published>,
    is_up: bool,
    is_online: bool,
}

impl Model {
    pub(super) const fn new() -> Self {
        Self {
            state: "1",
            features: 0,
            link: None,
            is_up: false,
            is_online: true,
        }
    }

    pub(super) const fn state(&self) -> &'static str {
        self.state
    }

    pub(super) const fn is_online(&self) -> bool {
        self.is_online
    }

    pub(super) fn connection(&self) -> Option<&Published> {
        self.link.as_ref().filter(|_| self.is_up)
    }

    pub(super) fn ready(&mut self, features: usize) -> Vec<Word> {
        self.features = features;
        match self.state {
            "1" => self.wait(),
            _ => vec![],
        }
    }

    pub(super) fn front_changed(&mut self, front: &str, keys: Option<Published>) -> Vec<Word> {
        let is_waiting = matches!(self.state, "1" | "2") && self.link.is_none();
        match (front, self.state) {
            // States that ask for nothing.
            ("2" | "7" | "8", _) => vec![],
            ("1", _) if is_waiting => vec![],
            ("1", _) if self.is_online => [self.unlink(), self.wait()].concat(),
            // Not ready yet.
            (_, "1") if self.is_online => vec![],
            ("3" | "4", "1" | "5") => vec![],
            ("4", _) if self.link.is_some() => vec![],
            ("3" | "4", "6") if !self.is_online => vec![],
            ("3" | "4", "6") => {
                let words = self.wait();
                [words, self.connect(keys)].concat()
            }
            ("3" | "4", _) => self.connect(keys),
            ("5", _) => self.close("5"),
            _ => self.close("6"),
        }
    }

    pub(super) fn connected(&mut self, is_last: bool, properties: usize) -> Vec<Word> {
        if !is_last || self.link.is_none() || self.is_up {
            return vec![];
        }
        self.is_up = true;
        let mut words = vec![Word::Key; properties];
        words.push(self.write("4"));
        words
    }

    pub(super) fn update(&mut self, properties: usize) -> Vec<Word> {
        if self.state != "4" {
            return vec![];
        }
        let mut words = vec![Word::Key; properties];
        words.push(self.write("4"));
        words
    }

    pub(super) fn failed(&mut self) -> Vec<Word> {
        let mut words = self.unlink();
        words.push(Word::Error);
        if self.state != "6" {
            words.extend(self.change("5"));
        }
        words
    }

    pub(super) fn unplug(&mut self) -> Vec<Word> {
        if !self.is_online {
            return vec![];
        }
        self.is_online = false;
        let then = match self.state {
            "6" => vec![Word::Gone],
            _ => self.change("5"),
        };
        [vec![Word::Offline], then].concat()
    }

    pub(super) fn remove(&mut self) -> Vec<Word> {
        self.is_online = false;
        [self.unlink(), self.change("6"), vec![Word::Gone]].concat()
    }

    fn wait(&mut self) -> Vec<Word> {
        [vec![Word::Key; self.features], self.change("2")].concat()
    }

    fn connect(&mut self, keys: Option<Published>) -> Vec<Word> {
        match keys {
            None => self.failed(),
            keys if keys == self.link => vec![],
            Some(keys) => {
                let mut words = self.unlink();
                self.link = Some(keys.clone());
                words.push(Word::Connect(keys));
                words
            }
        }
    }

    /// The front end closes or has closed.
    fn close(&mut self, state: &'static str) -> Vec<Word> {
        let mut words = self.unlink();
        if self.state == "6" {
            return words;
        }
        words.extend(self.change(state));
        if state == "6" && !self.is_online {
            words.push(Word::Gone);
        }
        words
    }

    fn unlink(&mut self) -> Vec<Word> {
        self.is_up = false;
        self.link
            .take()
            .map(|_| Word::Disconnect)
            .into_iter()
            .collect()
    }

    fn change(&mut self, state: &'static str) -> Vec<Word> {
        if self.state == state {
            return vec![];
        }
        vec![self.write(state)]
    }

    fn write(&mut self, state: &'static str) -> Word {
        self.state = state;
        Word::State(state.into())
    }
}
