//! The store: requests compared with a model of the tree, and bytes through the ring.

use std::collections::BTreeSet;

use pvh_abi::DomId;
use pvh_xenstore::{Header, HostId, MessageType, Store};

use self::{
    host::queued,
    model::{Change, Changes, Model, Node},
    setup::{EVENT_BYTES, GUEST, HOME, OTHER, check_limits, event, lossy, nul, path, store},
    wire::wire,
};
use crate::tape::Tape;

mod host;
mod model;
mod setup;
mod wire;

/// Sends requests; the first byte selects whole requests or bytes through the ring.
///
/// # Panics
///
/// If an answer or an event is not the model's, if another domain reads what it may not, if a limit is exceeded, or if a
/// count is wrong.
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
}

fn structured(tape: &mut Tape<'_>) {
    let (store, host) = store();
    let mut client = Client {
        store,
        host,
        waiting: Changes::new(),
        model: Model::new(),
        next_id: 1,
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

    /// Compares an answer with what the model says: a refusal for want of room is always possible near a limit.
    ///
    /// Tells whether watches were to fire at once.
    fn changed(&mut self, answer: &Answer, tx: u32, change: Change) -> bool {
        self.model.touch_for(tx, &change);
        match answer.reply.as_ref().map_err(String::as_str) {
            Err("ENOSPC" | "ENOMEM") => {
                self.model.doom(tx);
                return false;
            }
            Err(name) if !self.model.knows(tx) => {
                assert_eq!(name, "ENOENT");
                return false;
            }
            Err(_) if tx != 0 && self.model.is_behind() => return false,
            _ => {}
        }
        let is_behind = tx != 0 && self.model.is_behind();
        let is_fine = self.model.apply(tx, change);
        assert!(
            is_behind || answer.reply.is_ok() == is_fine,
            "{:?}",
            answer.reply
        );
        is_fine && tx == 0
    }

    fn write(&mut self, path: &str, tx: u32, value: &[u8]) {
        let payload = [path.as_bytes(), b"\0", value].concat();
        let answer = self.ask(GUEST, MessageType::WRITE, tx, &payload);
        // A node's record and one permission entry cost 32 bytes beside the value.
        let is_large = value.len() + 32 >= self.store.limits().node_bytes;
        assert!(!(is_large && answer.reply.is_ok()), "a node without bound");
        if self.changed(&answer, tx, Change::Write(path.into(), value.into())) {
            self.check_change(&answer, &[(path.into(), true)]);
        }
    }

    fn mkdir(&mut self, path: &str, tx: u32) {
        let was_there = self.model.has(tx, path);
        let answer = self.ask(GUEST, MessageType::MKDIR, tx, &nul(path));
        if self.changed(&answer, tx, Change::Make(path.into())) && !was_there {
            self.check_change(&answer, &[(path.into(), true)]);
        }
    }

    fn remove(&mut self, path: &str, tx: u32) {
        let gone = self.model.removals(path);
        let answer = self.ask(GUEST, MessageType::RM, tx, &nul(path));
        if self.changed(&answer, tx, Change::Remove(path.into())) {
            self.check_change(&answer, &gone);
        }
    }

    fn read(&mut self, path: &str, tx: u32) {
        let answer = self.ask(GUEST, MessageType::READ, tx, &nul(path));
        self.compare(&answer, tx, path, self.model.value(tx, path));
    }

    fn directory(&mut self, path: &str, tx: u32) {
        let mut answer = self.ask(GUEST, MessageType::DIRECTORY, tx, &nul(path));
        if let Ok(names) = &mut answer.reply {
            let mut sorted: Vec<&[u8]> = names.split_inclusive(|&byte| byte == 0).collect();
            sorted.sort_unstable();
            *names = sorted.concat();
        }
        self.compare(&answer, tx, path, self.model.children(tx, path));
    }

    /// In a transaction only while nothing outside of it has changed. One with no room for what is read cannot be committed.
    fn compare(&mut self, answer: &Answer, tx: u32, path: &str, wanted: Option<Vec<u8>>) {
        self.model.touch(tx, path);
        let error = answer.reply.as_ref().err().map(String::as_str);
        if let Some("ENOSPC" | "ENOMEM") = error {
            assert_ne!(tx, 0);
            return self.model.doom(tx);
        }
        if tx != 0 && (self.model.is_behind() || !self.model.knows(tx)) {
            return;
        }
        match &answer.reply {
            Ok(reply) => assert_eq!(Some(reply), wanted.as_ref()),
            Err(name) => assert_eq!((name.as_str(), wanted), ("ENOENT", None)),
        }
    }

    fn share(&mut self, path: &str, tx: u32, how: u8) {
        let is_open = how & 1 == 1;
        let entries: &[u8] = match how & 3 {
            0 => b"n1\0",
            1 => b"r1\0",
            2 => b"r1\0n2\0",
            _ => b"n1\0r2\0",
        };
        let payload = [&nul(path)[..], entries].concat();
        let answer = self.ask(GUEST, MessageType::SET_PERMS, tx, &payload);
        if self.changed(&answer, tx, Change::Share(path.into(), is_open)) {
            self.check_change(&answer, &[(path.into(), true)]);
        }
    }

    fn watch(&mut self, path: &str, token: u8) {
        let path = match token & 4 {
            0 => path.to_owned(),
            _ => format!("{HOME}/{path}"),
        };
        let token = format!("t{}", token & 3);
        let payload = [nul(&path), nul(&token)].concat();
        let answer = self.ask(GUEST, MessageType::WATCH, 0, &payload);
        let is_valid = !path.contains("//") && !path.ends_with('/');
        match answer.reply.as_ref().map_err(String::as_str) {
            Ok(_) => {
                assert!(is_valid && self.model.watch(&path, &token), "it was there");
                let first = BTreeSet::from([(path, token)]);
                self.check_events(&answer.events, &first);
            }
            Err("EINVAL") => assert!(!is_valid),
            Err("EEXIST") => assert!(self.model.has_watch(&path, &token)),
            Err("E2BIG") => assert!(self.model.watches() > self.store.limits().watches),
            Err(name) => assert_eq!(name, "ENOMEM"),
        }
    }

    fn unwatch(&mut self, path: &str, token: u8) {
        let path = match token & 4 {
            0 => path.to_owned(),
            _ => format!("{HOME}/{path}"),
        };
        let token = format!("t{}", token & 3);
        let payload = [nul(&path), nul(&token)].concat();
        let answer = self.ask(GUEST, MessageType::UNWATCH, 0, &payload);
        assert_eq!(answer.reply.is_ok(), self.model.unwatch(&path, &token));
    }

    fn start(&mut self, tx: u32) {
        let answer = self.ask(GUEST, MessageType::TRANSACTION_START, tx, b"\0");
        match answer.reply {
            Ok(id) => {
                let id = lossy(&id).trim_end_matches('\0').parse();
                self.model.start(id.expect("a number"));
            }
            Err(name) if name == "ENOSPC" => assert!(self.model.open() > 1),
            Err(name) if name == "EBUSY" => assert!(self.model.knows(tx) && tx != 0),
            Err(name) => assert!(name == "ENOENT" && !self.model.knows(tx)),
        }
    }

    fn end(&mut self, tx: u32, is_commit: bool) {
        let payload: &[u8] = if is_commit { b"T\0" } else { b"F\0" };
        let answer = self.ask(GUEST, MessageType::TRANSACTION_END, tx, payload);
        if tx == 0 || !self.model.knows(tx) {
            return assert_eq!(answer.reply, Err("ENOENT".into()));
        }
        let (is_behind, is_doomed) = (self.model.is_behind(), self.model.is_doomed());
        let is_done = answer.reply.is_ok() && is_commit;
        match &answer.reply {
            // Other nodes have changed: the model does not know what the transaction has seen.
            Ok(_) if is_done && is_behind => {
                self.host_events();
                self.waiting.clear();
            }
            Ok(_) if is_done => {
                let (all, seen) = self.model.committed();
                self.waiting.extend(all);
                self.check_events(&answer.events, &self.model.told(&seen));
            }
            _ => {}
        }
        match answer.reply {
            Ok(_) => {}
            Err(name) if name == "EAGAIN" => assert!(is_behind, "nothing has changed outside"),
            Err(name) if name == "ENOMEM" => assert!(is_doomed),
            Err(name) => assert_eq!(name, "ENOSPC"),
        }
        self.model.end(is_done);
    }

    /// The other guest tries to read or to write.
    fn pry(&mut self, path: &str, writes: bool) {
        let full = format!("{HOME}/{path}");
        let (kind, payload) = match writes {
            true => (MessageType::WRITE, [&nul(&full)[..], b"mine"].concat()),
            false => (MessageType::READ, nul(&full)),
        };
        let answer = self.ask(OTHER, kind, 0, &payload);
        let may = !writes && self.model.is_open(path);
        match answer.reply {
            Ok(value) => {
                assert!(may, "the other guest may not");
                assert_eq!(Some(value), self.model.value(0, path));
            }
            Err(name) => assert!(!may, "{name}"),
        }
    }

    fn anything(&mut self, kind: MessageType, payload: &[u8]) {
        let is_safe = matches!(
            kind,
            MessageType::READ | MessageType::DIRECTORY | MessageType::GET_PERMS
        ) || kind.0 > MessageType::RESET_WATCHES.0
            || matches!(kind.0, 0 | 8 | 9 | 10 | 15..=20);
        if is_safe {
            let answer = self.ask(GUEST, kind, 0, payload);
            assert!(answer.events.is_empty());
            let is_privileged = matches!(kind.0, 0 | 8 | 9 | 17..=19);
            assert!(
                !(is_privileged && answer.reply.is_ok()),
                "only the toolstack may"
            );
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
