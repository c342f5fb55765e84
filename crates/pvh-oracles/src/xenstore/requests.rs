//! The requests of a guest, each with what the model says of its answer.

use std::collections::BTreeSet;

use pvh_xenstore::MessageType;

use super::{
    Answer, Client,
    model::Change,
    quota::WATCH_BYTES,
    setup::{GUEST, HOME, OTHER, lossy, nul},
};

impl Client {
    /// Compares an answer with what the model says: a refusal for want of room is right at a limit
    /// only.
    ///
    /// Tells whether watches were to fire at once.
    fn changed(&mut self, answer: &Answer, tx: u32, change: Change) -> bool {
        self.model.touch_for(tx, &change);
        match answer.reply.as_ref().map_err(String::as_str) {
            Err(name @ ("ENOSPC" | "ENOMEM")) => {
                assert!(
                    self.lacks_room(name, tx, &change),
                    "{name} for {change:?}, with {:?} of {:?}",
                    self.before,
                    self.store.limits()
                );
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

    pub(super) fn write(&mut self, path: &str, tx: u32, value: &[u8]) {
        let payload = [path.as_bytes(), b"\0", value].concat();
        let answer = self.ask(GUEST, MessageType::WRITE, tx, &payload);
        // A node's record and one permission entry cost 32 bytes beside the value.
        let is_large = value.len() + 32 >= self.store.limits().node_bytes;
        assert!(!(is_large && answer.reply.is_ok()), "a node without bound");
        if self.changed(&answer, tx, Change::Write(path.into(), value.into())) {
            self.check_change(&answer, &[(path.into(), true)]);
        }
    }

    pub(super) fn mkdir(&mut self, path: &str, tx: u32) {
        let was_there = self.model.has(tx, path);
        let answer = self.ask(GUEST, MessageType::MKDIR, tx, &nul(path));
        if self.changed(&answer, tx, Change::Make(path.into())) && !was_there {
            self.check_change(&answer, &[(path.into(), true)]);
        }
    }

    pub(super) fn remove(&mut self, path: &str, tx: u32) {
        let gone = self.model.removals(path);
        let answer = self.ask(GUEST, MessageType::RM, tx, &nul(path));
        if self.changed(&answer, tx, Change::Remove(path.into())) {
            self.check_change(&answer, &gone);
        }
    }

    pub(super) fn read(&mut self, path: &str, tx: u32) {
        let answer = self.ask(GUEST, MessageType::READ, tx, &nul(path));
        self.compare(&answer, tx, path, self.model.value(tx, path));
    }

    pub(super) fn directory(&mut self, path: &str, tx: u32) {
        let mut answer = self.ask(GUEST, MessageType::DIRECTORY, tx, &nul(path));
        if let Ok(names) = &mut answer.reply {
            let mut sorted: Vec<&[u8]> = names.split_inclusive(|&byte| byte == 0).collect();
            sorted.sort_unstable();
            *names = sorted.concat();
        }
        self.compare(&answer, tx, path, self.model.children(tx, path));
    }

    /// In a transaction only while nothing outside of it has changed. One with no room for what is
    /// read cannot be committed.
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

    pub(super) fn share(&mut self, path: &str, tx: u32, how: u8) {
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

    pub(super) fn watch(&mut self, path: &str, token: u8) {
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
            Err(name) => {
                assert_eq!(name, "ENOMEM");
                let room = self.before.memory_bytes + WATCH_BYTES;
                assert!(room > self.store.limits().memory_bytes, "there is room");
            }
        }
    }

    pub(super) fn unwatch(&mut self, path: &str, token: u8) {
        let path = match token & 4 {
            0 => path.to_owned(),
            _ => format!("{HOME}/{path}"),
        };
        let token = format!("t{}", token & 3);
        let payload = [nul(&path), nul(&token)].concat();
        let answer = self.ask(GUEST, MessageType::UNWATCH, 0, &payload);
        assert_eq!(answer.reply.is_ok(), self.model.unwatch(&path, &token));
    }

    pub(super) fn start(&mut self, tx: u32) {
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

    pub(super) fn end(&mut self, tx: u32, is_commit: bool) {
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
    pub(super) fn pry(&mut self, path: &str, writes: bool) {
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

    pub(super) fn anything(&mut self, kind: MessageType, payload: &[u8]) {
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
}
