//! The store: requests against a model of the tree, and bytes against the ring.

use std::collections::BTreeSet;

use pvh_abi::DomId;
use pvh_xenstore::{Access, Header, Limits, Message, MessageType, Permission, Store};

use self::{
    model::{Change, Model, Node},
    wire::wire,
};
use crate::Tape;

mod model;
mod wire;

pub(super) const GUEST: DomId = DomId(1);
const OTHER: DomId = DomId(2);
/// More than any event costs.
const EVENT_BYTES: usize = 200;
const HOME: &str = "/local/domain/1";

/// Sends requests: the first byte says whether whole ones or bytes through the ring.
///
/// # Panics
///
/// If an answer or an event is not the model's, another domain reads what it may not, a limit is passed, or
/// what was counted is not what is there.
pub fn xenstore(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    if tape.flag() {
        wire(&mut tape);
    } else {
        structured(&mut tape);
    }
}

/// A store with two guests, the first of which owns `data` below its home.
pub(super) fn store() -> Store {
    let mut limits = Limits::default();
    limits.nodes = 24;
    limits.watches = 3;
    limits.transactions = 1;
    limits.transaction_nodes = 20;
    limits.node_bytes = 160;
    limits.memory_bytes = 3000;
    let mut store = Store::new(limits);
    for domid in [GUEST, OTHER] {
        store.introduce(domid);
    }
    let shared = [
        Permission::new(DomId(0), Access::None),
        Permission::new(GUEST, Access::Read),
    ];
    let data = format!("{HOME}/data");
    let done = store
        .write(HOME, b"")
        .and_then(|()| store.set_permissions(HOME, &shared))
        .and_then(|()| store.write(&data, b""))
        .and_then(|()| store.set_permissions(&data, &[Permission::new(GUEST, Access::None)]));
    done.expect("the toolstack is refused nothing");
    while store.take_message(DomId(0)).is_some() {}
    store
}

struct Client {
    store: Store,
    model: Model,
    next_id: u32,
}

fn structured(tape: &mut Tape<'_>) {
    let mut client = Client {
        store: store(),
        model: Model::new(),
        next_id: 1,
    };
    for _ in 0..64 {
        if tape.is_empty() {
            break;
        }
        client.step(tape);
        client.check_limits();
    }
    client.finish();
}

/// What came of a request: its reply's payload or error name, and the events beside it.
struct Answer {
    reply: Result<Vec<u8>, String>,
    events: BTreeSet<(String, String)>,
}

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
            let wanted = self.model.told(&[(path, true)]);
            self.check_events(&answer.events, &wanted);
        }
    }

    fn mkdir(&mut self, path: &str, tx: u32) {
        let was_there = self.model.has(tx, path);
        let answer = self.ask(GUEST, MessageType::MKDIR, tx, &nul(path));
        if self.changed(&answer, tx, Change::Make(path.into())) && !was_there {
            let wanted = self.model.told(&[(path, true)]);
            self.check_events(&answer.events, &wanted);
        }
    }

    fn remove(&mut self, path: &str, tx: u32) {
        let gone = self.model.below(path);
        let answer = self.ask(GUEST, MessageType::RM, tx, &nul(path));
        if self.changed(&answer, tx, Change::Remove(path.into())) {
            let changes: Vec<(&str, bool)> = gone
                .iter()
                .map(|gone| (gone.as_str(), gone == path))
                .collect();
            let wanted = self.model.told(&changes);
            self.check_events(&answer.events, &wanted);
        }
    }

    fn read(&mut self, path: &str, tx: u32) {
        let answer = self.ask(GUEST, MessageType::READ, tx, &nul(path));
        self.compare(&answer, tx, self.model.value(tx, path));
    }

    fn directory(&mut self, path: &str, tx: u32) {
        let mut answer = self.ask(GUEST, MessageType::DIRECTORY, tx, &nul(path));
        if let Ok(names) = &mut answer.reply {
            let mut sorted: Vec<&[u8]> = names.split_inclusive(|&byte| byte == 0).collect();
            sorted.sort_unstable();
            *names = sorted.concat();
        }
        self.compare(&answer, tx, self.model.children(tx, path));
    }

    /// In a transaction only while nothing outside of it has changed. One with no room for what is read cannot be committed.
    fn compare(&mut self, answer: &Answer, tx: u32, wanted: Option<Vec<u8>>) {
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
            let wanted = self.model.told(&[(path, true)]);
            self.check_events(&answer.events, &wanted);
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
        let is_done = answer.reply.is_ok();
        match answer.reply {
            Ok(_) => {}
            Err(name) if name == "EAGAIN" => assert!(is_behind, "nothing has changed outside"),
            Err(name) if name == "ENOMEM" => assert!(is_doomed),
            Err(name) => assert_eq!(name, "ENOSPC"),
        }
        self.model.end(is_commit && is_done);
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

pub(super) fn check_limits(store: &Store) {
    let (usage, limits) = (store.usage(GUEST), store.limits());
    let usage = usage.expect("it is connected");
    assert!(usage.nodes <= limits.nodes, "{usage:?}");
    assert!(usage.watches <= limits.watches + 1, "{usage:?}");
    assert!(usage.transactions <= limits.transactions + 1, "{usage:?}");
    assert!(usage.outstanding <= limits.outstanding, "{usage:?}");
    // One reply may lie beyond it.
    assert!(
        usage.memory_bytes <= limits.memory_bytes + 4300,
        "{usage:?}"
    );
}

/// A path below `data`, of up to three names of one letter.
fn path(tape: &mut Tape<'_>) -> String {
    let which = tape.byte();
    let names = [which & 3, which >> 2 & 3, which >> 4 & 3];
    let mut path = String::from("data");
    for name in names.into_iter().take_while(|&name| name > 0) {
        path.push('/');
        path.push(char::from(b'`' + name));
    }
    path
}

fn event(message: &Message) -> (String, String) {
    let text = lossy(&message.payload);
    let mut parts = text.split('\0').map(str::to_owned);
    let mut next = || parts.next().expect("a path and a token");
    (next(), next())
}

fn nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn lossy(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    match text.strip_suffix('\0') {
        Some(name) if name.starts_with('E') => name.to_owned(),
        _ => text,
    }
}
