//! The handshake of a back end with a guest that writes anything into the store.

use std::collections::BTreeMap;

use pvh_abi::DomId;
use pvh_xenbus::{Action, Attempt, BackEnd, Change, Device, State, apply};
use pvh_xenstore::{Header, HostId, Limits, MessageType, Store};

use self::model::{Model, Word};
use super::keys::{Keys, MAX_QUEUES, MAX_RING_ORDER, Published};
use crate::tape::Tape;

mod model;
mod names;

/// Lets a guest, the host and the back end of one device take turns on a store.
///
/// # Panics
///
/// If an action is not the model's, the store does not hold the back end's state, what was published
/// is read otherwise than by a second reading, or a guest that keeps the order is not served at last.
pub fn xenbus(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let mut world = World::new(tape.flag());
    for _ in 0..64 {
        if tape.is_empty() {
            break;
        }
        world.step(&mut tape);
    }
    world.finish();
}

struct World {
    store: Store,
    host: HostId,
    device: Device,
    back: BackEnd<Published>,
    model: Model,
    /// All attempts so far; an answer may be to an old one.
    attempts: Vec<Attempt>,
}

const GUEST: DomId = DomId(1);

impl World {
    fn new(is_network: bool) -> Self {
        let mut store = Store::new(Limits::default());
        store.introduce(GUEST);
        let host = store.connect_host();
        let device = Device {
            guest: GUEST,
            class: if is_network { "vif" } else { "vbd" },
            id: 1,
        };
        let made = apply(&device.create(&[], &[]), &mut store.host(host));
        made.expect("the store is empty");
        let watched = store.host(host).watch(&device.front_path(), b"device");
        watched.expect("nothing is watched");
        Self {
            store,
            host,
            device,
            back: BackEnd::new(device),
            model: Model::new(),
            attempts: Vec::new(),
        }
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        match tape.below(16) {
            0..=2 => self.guest_writes("state", &[b'0' + tape.below(10)]),
            3..=5 => {
                let key = names::key(tape, self.device.class);
                let value = names::value(tape);
                self.guest_writes(key, &value);
            }
            6 => {
                let key = names::key(tape, self.device.class);
                self.ask(
                    MessageType::RM,
                    &[self.front(key).as_bytes(), b"\0"].concat(),
                );
            }
            7 => self.ask(
                MessageType::RM,
                &[self.device.front_path().as_bytes(), b"\0"].concat(),
            ),
            8 => {
                let features = pairs("feature", tape.below(3));
                let actions = self.back.ready(features.clone());
                let wanted = self.model.ready(features.len());
                self.run(actions, &wanted);
            }
            9 | 10 => self.answer(tape),
            11 => {
                let properties = pairs("property", tape.below(3));
                let actions = self.back.update(&properties);
                let wanted = self.model.update(properties.len());
                self.run(actions, &wanted);
            }
            12 => match tape.below(8) {
                0 => {
                    let actions = self.back.unplug();
                    let wanted = self.model.unplug();
                    self.run(actions, &wanted);
                }
                1 => {
                    let actions = self.back.remove();
                    let wanted = self.model.remove();
                    self.run(actions, &wanted);
                }
                2 => {
                    let actions = self.back.failed(&"the disk is gone");
                    let wanted = self.model.failed();
                    self.run(actions, &wanted);
                }
                _ => {}
            },
            13 => self.front_changed(),
            _ => self.serve(),
        }
    }

    fn front(&self, key: &str) -> String {
        format!("{}/{key}", self.device.front_path())
    }

    /// A request of the guest's; refusals are the store's business.
    fn ask(&mut self, kind: MessageType, payload: &[u8]) {
        let header = Header::new(kind, 1, 0, payload);
        let taken = self.store.handle(GUEST, &header, payload);
        taken.expect("nothing waits, and the payload is short");
        while self.store.take_message(GUEST).is_some() {}
    }

    fn guest_writes(&mut self, key: &str, value: &[u8]) {
        let payload = [self.front(key).as_bytes(), b"\0", value].concat();
        self.ask(MessageType::WRITE, &payload);
    }

    /// The host serves its watch.
    fn serve(&mut self) {
        let mut count = 0;
        while self.store.host(self.host).take_event().is_some() {
            self.front_changed();
            count += 1;
            assert!(count < 1000, "events without end");
        }
    }

    /// The host reads what the guest has published now.
    fn front_changed(&mut self) {
        let class = self.device.class;
        let read = |key: &str| {
            let value = self.store.read(&self.front(key));
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let state = State::read(self.store.read(&self.front("state")));
        let is: Result<Published, String> = match class {
            "vif" => pvh_netif::Front::read(&pvh_netif::Features::new(MAX_QUEUES), read)
                .map(Published::from)
                .map_err(|error| error.to_string()),
            _ => pvh_blkif::Front::read(
                &pvh_blkif::Features::new(MAX_QUEUES, MAX_RING_ORDER, 0),
                read,
            )
            .map(Published::from)
            .map_err(|error| error.to_string()),
        };
        let names = names::all(class).map(|key| (key.to_owned(), read(key)));
        let keys: BTreeMap<_, _> = names
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let keys = Keys(keys);
        let wanted = if class == "vif" {
            keys.network()
        } else {
            keys.disk()
        };
        match (&is, &wanted) {
            (Ok(is), Ok(wanted)) => assert_eq!(is, wanted),
            (Err(text), Err(key)) => {
                assert!(text.contains(key.as_str()), "{text:?} is not about {key}")
            }
            _ => panic!("{is:?} instead of {wanted:?}"),
        }
        let actions = self.back.front_changed(state, || is);
        let wanted = self.model.front_changed(state.as_str(), wanted.ok());
        self.run(actions, &wanted);
    }

    /// The embedder has attached to the rings, or could not.
    fn answer(&mut self, tape: &mut Tape<'_>) {
        let (which, is_fine) = (usize::from(tape.byte()), tape.flag());
        let last = self.attempts.len().saturating_sub(1);
        // Mostly the last one.
        let which = if which < 128 {
            last
        } else {
            which % (last + 1)
        };
        let Some(attempt) = self.attempts.get(which) else {
            return;
        };
        if is_fine || which != last {
            let properties = pairs("property", tape.below(3));
            let actions = self.back.connected(*attempt, &properties);
            let wanted = self.model.connected(which == last, properties.len());
            self.run(actions, &wanted);
        } else {
            let actions = self.back.failed(&"no such page");
            let wanted = self.model.failed();
            self.run(actions, &wanted);
        }
    }

    /// Carries actions out, and compares them with the model's.
    fn run(&mut self, actions: Vec<Action<Published>>, wanted: &[Word]) {
        let words: Vec<Word> = actions.iter().map(|action| self.word(action)).collect();
        assert_eq!(words, wanted);
        for action in actions {
            match action {
                Action::Change(change) => {
                    let done = apply([&change], &mut self.store.host(self.host));
                    done.expect("the host may write");
                }
                Action::Connect { attempt, .. } => self.attempts.push(attempt),
                _ => {}
            }
        }
        let own = State::read(
            self.store
                .read(&format!("{}/state", self.device.back_path())),
        );
        assert_eq!((own, own.as_str()), (self.back.state(), self.model.state()));
        assert_eq!(self.back.connection(), self.model.connection());
    }

    fn word(&self, action: &Action<Published>) -> Word {
        let back = self.device.back_path();
        match action {
            Action::Change(Change::Write { path, value }) => match path.strip_prefix(&back) {
                Some("/state") => Word::State(value.clone()),
                Some("/online") => Word::Offline,
                Some(_) => Word::Key,
                None => {
                    let error = back.replacen("/local/domain/0", "/local/domain/0/error", 1);
                    assert_eq!(*path, format!("{error}/error"));
                    Word::Error
                }
            },
            Action::Connect { parameters, .. } => Word::Connect(parameters.clone()),
            Action::Disconnect => Word::Disconnect,
            Action::Gone => Word::Gone,
            other => panic!("{other:?}"),
        }
    }

    /// A device that has not been removed serves a guest that keeps the order, whatever came before.
    fn finish(mut self) {
        if !self.model.is_online() {
            return;
        }
        let actions = self.back.ready(Vec::new());
        let wanted = self.model.ready(0);
        self.run(actions, &wanted);
        self.serve();
        for key in names::all(self.device.class) {
            // Most are not there.
            let _ = self.store.remove(&self.front(key));
        }
        for state in ["5", "6", "1"] {
            self.host_writes("state", state);
        }
        assert_eq!(self.back.state(), State::InitWait);
        for key in ["ring-ref", "tx-ring-ref", "rx-ring-ref", "event-channel"] {
            self.host_writes(key, "7");
        }
        self.host_writes("request-rx-copy", "1");
        self.host_writes("state", "3");
        self.answer(&mut Tape::new(&[0, 1]));
        assert_eq!(self.back.state(), State::Connected);
        assert!(self.back.connection().is_some());
    }

    /// The guest writes, for which there is room for certain; the host hears of it.
    fn host_writes(&mut self, key: &str, value: &str) {
        let written = self.store.write(&self.front(key), value.as_bytes());
        written.expect("the path is right");
        self.serve();
    }
}

fn pairs(name: &str, count: u8) -> Vec<(String, String)> {
    (0..count)
        .map(|index| (format!("{name}-{index}"), index.to_string()))
        .collect()
}
