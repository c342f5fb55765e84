//! Requests: the message types of xs_wire.h, answered as Xen 4.17's C xenstored does.

use pvh_abi::{DomId, Errno};

use crate::{
    client::Caller,
    node::Node,
    path,
    permission::{self, OWNER, Permission, READ, WRITE, is_privileged},
    store::Store,
    text::{atoi, first_string, only_string, strings},
    transaction::Reach,
    watch::Watch,
    wire::{Header, MAX_PAYLOAD_BYTES, MessageType, error_payload},
};

/// Why a request was not taken; nothing was done, and no reply is queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// The domain is not connected.
    #[error("domain {} is not connected to the store", .0.0)]
    NoSuchDomain(DomId),
    /// Too much waits for the domain: fetch messages first, see [`Store::is_ready`].
    #[error("too many messages wait for domain {}", .0.0)]
    NotReady(DomId),
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`]: the connection is to be ended.
    #[error("a payload of {len_bytes} bytes is longer than 4096")]
    TooLong {
        /// Its length in bytes.
        len_bytes: usize,
    },
}

const OK: &[u8] = b"OK\0";

impl Store {
    /// Answers a request: its reply, and the events it causes, wait to be taken by
    /// [`Store::take_message`].
    ///
    /// Events for the caller's own change come before the reply, the first event of a new watch after it.
    /// The payload is `payload`, whatever length the header names.
    ///
    /// # Errors
    ///
    /// See [`NotTaken`]. A request that is refused is taken, and answered by an ERROR message.
    pub fn handle(
        &mut self,
        caller: DomId,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), NotTaken> {
        let len_bytes = payload.len();
        if !self.clients.contains_key(&caller) {
            return Err(NotTaken::NoSuchDomain(caller));
        }
        if len_bytes > MAX_PAYLOAD_BYTES {
            return Err(NotTaken::TooLong { len_bytes });
        }
        if !self.is_ready(caller) {
            return Err(NotTaken::NotReady(caller));
        }
        let kind = MessageType(header.kind.get());
        let answer = self.answer(caller, header, payload);
        let answer = answer.and_then(|reply| match reply.len() {
            0..=MAX_PAYLOAD_BYTES => Ok(reply),
            _ => Err(Errno::E2BIG),
        });
        let is_new_watch = kind == MessageType::WATCH && answer.is_ok();
        let (kind, reply) = match answer {
            Ok(reply) => (kind, reply),
            Err(errno) => (MessageType::ERROR, error_payload(errno)),
        };
        let ids = (header.request_id.get(), header.transaction_id.get());
        let header = Header::new(kind, ids.0, ids.1, &reply);
        if let Some(client) = self.clients.get_mut(&caller) {
            client.outbox.reply(header, reply);
        }
        if is_new_watch {
            self.fire_first(Caller {
                domid: caller,
                transaction: None,
            });
        }
        Ok(())
    }

    /// The refusals that come before a request is looked at, in their order, and the reply.
    fn answer(&mut self, domid: DomId, header: &Header, payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let kind = MessageType(header.kind.get());
        match kind {
            MessageType::WATCH_EVENT | MessageType::ERROR | MessageType::RESTRICT => {
                return Err(Errno::ENOSYS);
            }
            _ if kind.0 > MessageType::DIRECTORY_PART.0 => return Err(Errno::ENOSYS),
            _ if is_for_toolstack(kind) && !is_privileged(domid) => return Err(Errno::EACCES),
            _ => {}
        }
        let is_outside = matches!(kind, MessageType::WATCH | MessageType::UNWATCH);
        let transaction = match header.transaction_id.get() {
            0 => None,
            _ if is_outside => None,
            id => {
                let client = self.clients.get(&domid).ok_or(Errno::ENOENT)?;
                client.transactions.get(&id).ok_or(Errno::ENOENT)?;
                Some(id)
            }
        };
        self.dispatch(Caller { domid, transaction }, kind, payload)
    }

    fn dispatch(
        &mut self,
        by: Caller,
        kind: MessageType,
        payload: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        match kind {
            MessageType::DIRECTORY => self.directory(by, payload),
            MessageType::DIRECTORY_PART => self.directory_part(by, payload),
            MessageType::READ => {
                let path = self.absolute(by, only_string(payload).ok_or(Errno::EINVAL)?);
                Ok(self.node(by, &path, READ)?.value.clone())
            }
            MessageType::GET_PERMS => self.permissions(by, payload),
            MessageType::GET_DOMAIN_PATH => {
                let domid = only_string(payload).ok_or(Errno::EINVAL)?;
                Ok([&path::home(atoi(domid))[..], b"\0"].concat())
            }
            MessageType::IS_DOMAIN_INTRODUCED => {
                let domid = atoi(only_string(payload).ok_or(Errno::EINVAL)?);
                Ok(if self.is_known(domid) { b"T\0" } else { b"F\0" }.to_vec())
            }
            MessageType::TRANSACTION_START => {
                let id = self.start_transaction(by)?;
                Ok(format!("{id}\0").into_bytes())
            }
            _ => {
                match kind {
                    MessageType::WRITE => self.write_value(by, payload)?,
                    MessageType::MKDIR => self.mkdir(by, payload)?,
                    MessageType::RM => self.rm(by, payload)?,
                    MessageType::SET_PERMS => self.set_perms(by, payload)?,
                    MessageType::WATCH => self.add_watch(by, payload)?,
                    MessageType::UNWATCH => self.remove_watch(by, payload)?,
                    MessageType::TRANSACTION_END => self.end_transaction(by, payload)?,
                    MessageType::RESET_WATCHES => {
                        if let Some(client) = self.client(by) {
                            client.drop_requests();
                        }
                    }
                    _ => return Err(Errno::ENOSYS),
                }
                Ok(OK.to_vec())
            }
        }
    }

    fn directory(&mut self, by: Caller, payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let path = self.absolute(by, only_string(payload).ok_or(Errno::EINVAL)?);
        Ok(self.node(by, &path, READ)?.children().to_vec())
    }

    /// Whole names from an offset on, as many as fit, and an empty one after the last.
    fn directory_part(&mut self, by: Caller, payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let (raw, rest) = two_strings(payload)?;
        let path = self.absolute(by, raw);
        let node = self.node(by, &path, READ)?;
        let offset = usize::try_from(atoi(rest)).unwrap_or(usize::MAX);
        let mut reply = format!("{}\0", node.generation).into_bytes();
        let mut left = node.children().get(offset..).unwrap_or_default();
        // One byte is kept for the empty name.
        let room = MAX_PAYLOAD_BYTES.saturating_sub(1);
        while let Some((name, after)) = first_string(left) {
            if reply.len().saturating_add(name.len()) >= room {
                return Ok(reply);
            }
            reply.extend_from_slice(name);
            reply.push(0);
            left = after;
        }
        reply.push(0);
        Ok(reply)
    }

    fn permissions(&mut self, by: Caller, payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let path = self.absolute(by, only_string(payload).ok_or(Errno::EINVAL)?);
        let node = self.node(by, &path, READ)?;
        let mut reply = Vec::new();
        for entry in &node.permissions {
            entry.print(&mut reply);
        }
        Ok(reply)
    }

    fn write_value(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let (raw, value) = first_string(payload).ok_or(Errno::EINVAL)?;
        let path = self.absolute(by, raw);
        self.set_value(by, &path, value)
    }

    /// Gives a node a value, and makes it if need be.
    pub(crate) fn set_value(&mut self, by: Caller, path: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self.node(by, path, WRITE) {
            Ok(node) => {
                let mut node = Node::clone(&node);
                node.value = value.to_vec();
                self.replace(by, path, node)?;
            }
            Err(Errno::ENOENT) => self.create(by, path, value)?,
            Err(errno) => return Err(errno),
        }
        self.fire(by, path, (None, None), Reach::Upwards);
        Ok(())
    }

    fn mkdir(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let path = self.absolute(by, only_string(payload).ok_or(Errno::EINVAL)?);
        match self.node(by, &path, WRITE) {
            Ok(_) => Ok(()),
            Err(Errno::ENOENT) => {
                self.create(by, &path, b"")?;
                self.fire(by, &path, (None, None), Reach::Upwards);
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    fn rm(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let path = self.absolute(by, only_string(payload).ok_or(Errno::EINVAL)?);
        self.remove_path(by, &path)
    }

    /// Removes a node and all below; one that is not there is fine if the node above is.
    pub(crate) fn remove_path(&mut self, by: Caller, path: &[u8]) -> Result<(), Errno> {
        match self.node(by, path, WRITE) {
            Ok(_) if path == b"/" => Err(Errno::EINVAL),
            Ok(_) => self.remove_tree(by, path),
            Err(Errno::ENOENT) => {
                let above = self.look(by, path::parent(path))?;
                above.map(|_| ()).ok_or(Errno::ENOENT)
            }
            Err(errno) => Err(errno),
        }
    }

    fn set_perms(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let (raw, _) = first_string(payload).ok_or(Errno::EINVAL)?;
        let count = strings(payload).count().saturating_sub(1);
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        if !is_privileged(by.domid) && count > self.limits.permissions {
            return Err(Errno::ENOSPC);
        }
        let entries = strings(payload).skip(1).map(Permission::parse);
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        self.set_entries(by, raw, entries)
    }

    /// Gives a node permissions, or a special event.
    pub(crate) fn set_entries(
        &mut self,
        by: Caller,
        raw: &[u8],
        mut entries: Vec<Permission>,
    ) -> Result<(), Errno> {
        for entry in &mut entries {
            if !self.is_known(entry.domid()) {
                entry.make_void();
            }
        }
        let owner = *entries.first().ok_or(Errno::EINVAL)?;
        if owner.is_void() {
            return Err(Errno::ENOENT);
        }
        if path::is_special(raw) {
            let special = self.special.get_mut(raw).ok_or(Errno::EINVAL)?;
            let needs = WRITE | OWNER;
            if permission::allowed(special, by.domid) & needs != needs {
                return Err(Errno::EACCES);
            }
            *special = entries;
            return Ok(());
        }
        let path = self.absolute(by, raw);
        let before = self.node(by, &path, WRITE | OWNER)?;
        if !is_privileged(by.domid) && owner.domid() != before.owner() {
            return Err(Errno::EPERM);
        }
        let mut node = Node::clone(&before);
        node.permissions = entries;
        self.replace(by, &path, node)?;
        self.fire(by, &path, (None, Some(&before.permissions)), Reach::Upwards);
        Ok(())
    }

    fn add_watch(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let (raw, token) = two_strings(payload)?;
        let path = self.absolute(by, raw);
        let is_allowed = if path::is_special(&path) {
            path::is_short(&path)
        } else {
            path::is_valid(&path)
        };
        if !is_allowed {
            return Err(Errno::EINVAL);
        }
        let limits = self.limits;
        let client = self.client(by).ok_or(Errno::ENOENT)?;
        if client.watches.iter().any(|watch| watch.is(&path, token)) {
            return Err(Errno::EEXIST);
        }
        let is_relative = !raw.starts_with(b"/") && !path::is_special(raw);
        let hidden = if is_relative { client.home.len() } else { 0 };
        let watch = Watch::new(path, token, hidden);
        if !is_privileged(by.domid) {
            if client.watches.len() > limits.watches {
                return Err(Errno::E2BIG);
            }
            if client.memory_bytes().saturating_add(watch.bytes()) > limits.memory_bytes {
                return Err(Errno::ENOMEM);
            }
        }
        client.bytes = client.bytes.saturating_add(watch.bytes());
        client.watches.push(watch);
        Ok(())
    }

    fn remove_watch(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let (raw, token) = two_strings(payload)?;
        let path = self.absolute(by, raw);
        let client = self.client(by).ok_or(Errno::ENOENT)?;
        let mut watches = client.watches.iter();
        let at = watches.position(|watch| watch.is(&path, token));
        let watch = client.watches.remove(at.ok_or(Errno::ENOENT)?);
        client.bytes = client.bytes.saturating_sub(watch.bytes());
        Ok(())
    }

    /// Makes a relative path of the caller absolute.
    fn absolute(&self, by: Caller, raw: &[u8]) -> Vec<u8> {
        let home = self.clients.get(&by.domid).map(|client| &client.home);
        path::canonical(home.map_or(b"/", Vec::as_slice), raw)
    }

    /// Whether a number is that of a connected domain.
    fn is_known(&self, domid: u32) -> bool {
        u16::try_from(domid).is_ok_and(|id| self.clients.contains_key(&DomId(id)))
    }
}

/// The two strings of a payload that has exactly two.
fn two_strings(payload: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let mut found = strings(payload);
    match (found.next(), found.next(), found.next()) {
        (Some(first), Some(second), None) => Ok((first, second)),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether only the toolstack may ask so.
fn is_for_toolstack(kind: MessageType) -> bool {
    matches!(
        kind,
        MessageType::CONTROL
            | MessageType::INTRODUCE
            | MessageType::RELEASE
            | MessageType::IS_DOMAIN_INTRODUCED
            | MessageType::RESUME
            | MessageType::SET_TARGET
    )
}
