//! The store: requests compared with a model of the tree, and bytes through the ring.

use std::collections::BTreeSet;

use pvh_abi::DomId;
use pvh_xenstore::{Header, HostId, MessageType, Store, Usage};

use self::{
    host::queued,
    model::{Changes, Model, Node},
    setup::{EVENT_BYTES, GUEST, HOME, check_limits, event, lossy, path, store},
    wire::wire,
};
use crate::tape::Tape;

mod host;
mod model;
mod quota;
mod requests;
mod setup;
mod wire;

/// Sends requests; the first byte selects whole requests or bytes through the ring.
///
/// # Panics
///
/// If an answer or an event is not the model's, if another domain reads what it may not, if a limit
/// is exceeded, or if a count is wrong.
pub fn xenstore(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    if tape.flag() {
        wire(&mut tape);
    } else {
        structured(&mut tape);
    }
}

struct Client {
    store: Store,
    host: HostId,
    /// The changes whose events wait for the host.
    waiting: Changes,
    model: Model,
    next_id: u32,
    /// What the guest had before its last request.
    before: Usage,
}

fn structured(tape: &mut Tape<'_>) {
    let (store, host) = store();
    let mut client = Client {
        store,
        host,
        waiting: Changes::new(),
        model: Model::new(),
        next_id: 1,
        before: Usage::default(),
    };
    for _ in 0..64 {
        if tape.is_empty() {
            break;
        }
        client.step(tape);
        client.check_limits();
        if client.next_id.is_multiple_of(HOST_TAKES_EVERY) {
            client.check_host();
        }
    }
    client.finish();
}

/// The result of a request: the payload or error name of its reply, and the events that it caused.
struct Answer {
    reply: Result<Vec<u8>, String>,
    events: BTreeSet<(String, String)>,
}

/// The host takes its events after this many requests, so that some find no room.
const HOST_TAKES_EVERY: u32 = 32;

impl Client {
    fn ask(&mut self, by: DomId, kind: MessageType, tx: u32, payload: &[u8]) -> Answer {
        let id = self.next_id;
        self.next_id += 1;
        self.before = self.store.usage(GUEST).expect("it is connected");
        let header = Header::new(kind, id, tx, payload);
        let taken = self.store.handle(by, &header, payload);
        taken.expect("nothing waits, and the payload is short");
        let mut reply = None;
        let mut events = BTreeSet::new();
        while let Some(message) = self.store.take_message(by) {
            if message.header.kind.get() == MessageType::WATCH_EVENT.0 {
                events.insert(event(&message));
                continue;
            }
            assert_eq!(message.header.request_id.get(), id);
            assert_eq!(message.header.transaction_id.get(), tx);
            assert!(message.payload.len() <= 4096);
            let text = message.payload.to_vec();
            let answer = match MessageType(message.header.kind.get()) {
                MessageType::ERROR => Err(lossy(&text)),
                is => {
                    assert_eq!(is, kind);
                    Ok(text)
                }
            };
            assert!(reply.replace(answer).is_none(), "two replies");
        }
        let reply = reply.expect("each request is answered");
        Answer { reply, events }
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        let (what, path) = (tape.below(14), path(tape));
        let tx = match tape.byte() {
            use_it @ 0..=63 if use_it & 1 == 1 => self.model.transaction().unwrap_or(0),
            64..=67 => 77,
            _ => 0,
        };
        match what {
            0..=2 => {
                let len = usize::from(tape.byte());
                let value = tape.bytes(len);
                self.write(&path, tx, value);
            }
            3 => self.mkdir(&path, tx),
            4 if path == "data" => {} // it could not be made again
            4 => self.remove(&path, tx),
            5 => self.read(&path, tx),
            6 => self.directory(&path, tx),
            7 => self.share(&path, tx, tape.byte()),
            8 => self.watch(&path, tape.byte()),
            9 => self.unwatch(&path, tape.byte()),
            10 => self.start(tx),
            11 => self.end(tx, tape.flag()),
            12 => self.pry(&path, tape.flag()),
            _ => {
                let kind = MessageType(u32::from(tape.byte() & 31));
                let len = usize::from(tape.byte());
                self.anything(kind, tape.bytes(len));
            }
        }
    }

    /// Compares the events of a change outside of transactions.
    fn check_change(&mut self, answer: &Answer, changes: &[(String, bool)]) {
        self.check_events(&answer.events, &self.model.told(changes));
        self.waiting.extend_from_slice(changes);
    }

    /// The host takes all its events: they are those of the changes, in their order.
    fn check_host(&mut self) {
        let room_bytes = self.store.limits().memory_bytes;
        let wanted = queued(&self.waiting, room_bytes);
        assert_eq!(self.host_events(), wanted);
        self.waiting.clear();
    }

    fn host_events(&mut self) -> Vec<(String, String)> {
        let mut host = self.store.host(self.host);
        let told = std::iter::from_fn(|| host.take_event());
        told.map(|event| (event.path().to_owned(), lossy(event.token())))
            .collect()
    }

    fn check_events(&self, told: &BTreeSet<(String, String)>, wanted: &BTreeSet<(String, String)>) {
        if told == wanted {
            return;
        }
        // One that does not fit below the memory limit is dropped.
        let usage = self.store.usage(GUEST).expect("it is connected");
        // Each waited in the ring's queue when the next one was to be told.
        let queued = (wanted.len() + 1) * EVENT_BYTES;
        let is_full = usage.memory_bytes + queued > self.store.limits().memory_bytes;
        assert!(
            told.is_subset(wanted) && is_full,
            "told {told:?}, not {wanted:?}"
        );
    }

    fn check_limits(&self) {
        check_limits(&self.store);
        let usage = self.store.usage(GUEST).expect("it is connected");
        assert_eq!(usage.watches, self.model.watches());
        assert_eq!(usage.transactions, self.model.open());
        assert_eq!(usage.outstanding, 0);
        assert!(
            usage.memory_bytes <= self.store.limits().memory_bytes,
            "{usage:?}"
        );
    }

    fn finish(mut self) {
        self.check_host();
        for (path, Node { value, .. }) in self.model.nodes() {
            let is = self.store.read(&format!("{HOME}/{path}"));
            assert_eq!(is, Some(&value[..]), "{path}");
        }
        let usage = self.store.usage(GUEST).expect("it is connected");
        assert_eq!(usage.nodes, self.model.nodes().count());
        self.store.reset(GUEST);
        self.store.release(GUEST);
        assert!(self.store.usage(GUEST).is_none());
        let left = self.store.read(&format!("{HOME}/data"));
        assert_eq!(left, None, "a domain's nodes go with it");
    }
}
