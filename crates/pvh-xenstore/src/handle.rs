//! Reads requests, the message types of xs_wire.h, and answers them as Xen 4.17's C xenstored does.

use pvh_abi::Errno;

use crate::{
    client::{Caller, ClientId},
    path,
    permission::{Permission, READ},
    store::Store,
    text::{atoi, first_string, only_string, strings},
    wire::{Header, MAX_PAYLOAD_BYTES, MessageType, error_payload},
};

/// Why the store did not take a request. Then it has done nothing and queues no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    /// The client is not connected.
    #[error("{0} is not connected to the store")]
    NotConnected(ClientId),
    /// Too many messages wait for the client. Take some first; see [`Store::is_ready`].
    #[error("too many messages wait for {0}: take some first")]
    NotReady(ClientId),
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`]. The protocol ends such a connection.
    #[error("a payload of {len_bytes} bytes is longer than 4096: end the connection")]
    TooLong {
        /// The payload's length in bytes.
        len_bytes: usize,
    },
}

const OK: &[u8] = b"OK\0";

impl Store {
    /// Answers a request. [`Store::take_message`] returns the reply and the events it causes.
    ///
    /// Events for the caller's own change come before the reply. The first event of a new watch
    /// comes after it. The length in the header is ignored: `payload` is the payload.
    ///
    /// # Errors
    ///
    /// See [`NotTaken`]. A request with a mistake in it is taken, and the reply is an ERROR
    /// message.
    pub fn handle(
        &mut self,
        caller: impl Into<ClientId>,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), NotTaken> {
        self.take_request(caller.into(), header, payload)
    }

    fn take_request(
        &mut self,
        caller: ClientId,
        header: &Header,
        payload: &[u8],
    ) -> Result<(), NotTaken> {
        let len_bytes = payload.len();
        if !self.clients.contains_key(&caller) {
            return Err(NotTaken::NotConnected(caller));
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
            self.fire_first(caller);
        }
        Ok(())
    }

    /// Makes the refusals that come before the payload is read, in xenstored's order, or the reply.
    fn answer(
        &mut self,
        client: ClientId,
        header: &Header,
        payload: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        let kind = MessageType(header.kind.get());
        let by = Caller {
            client,
            transaction: None,
        };
        match kind {
            MessageType::WATCH_EVENT | MessageType::ERROR | MessageType::RESTRICT => {
                return Err(Errno::ENOSYS);
            }
            _ if kind.0 > MessageType::DIRECTORY_PART.0 => return Err(Errno::ENOSYS),
            _ if is_for_toolstack(kind) && !by.is_privileged() => return Err(Errno::EACCES),
            _ => {}
        }
        let is_outside = matches!(kind, MessageType::WATCH | MessageType::UNWATCH);
        let transaction = match header.transaction_id.get() {
            0 => None,
            _ if is_outside => None,
            id => {
                let client = self.clients.get(&client).ok_or(Errno::ENOENT)?;
                client.transactions.get(&id).ok_or(Errno::ENOENT)?;
                Some(id)
            }
        };
        self.dispatch(Caller { transaction, ..by }, kind, payload)
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
                self.change(by, kind, payload)?;
                Ok(OK.to_vec())
            }
        }
    }

    /// Carries out the requests whose reply is `OK`.
    fn change(&mut self, by: Caller, kind: MessageType, payload: &[u8]) -> Result<(), Errno> {
        match kind {
            MessageType::WRITE => self.write_value(by, payload),
            MessageType::MKDIR => self.mkdir(by, payload),
            MessageType::RM => self.rm(by, payload),
            MessageType::SET_PERMS => self.set_perms(by, payload),
            MessageType::WATCH => {
                let (raw, token) = two_strings(payload)?;
                self.add_watch(by, raw, token)
            }
            MessageType::UNWATCH => {
                let (raw, token) = two_strings(payload)?;
                self.remove_watch(by, raw, token)
            }
            MessageType::TRANSACTION_END => {
                let is_commit = match only_string(payload) {
                    Some(b"T") => true,
                    Some(b"F") => false,
                    _ => return Err(Errno::EINVAL),
                };
                self.end_transaction(by, is_commit)
            }
            MessageType::RESET_WATCHES => {
                if let Some(client) = self.client(by) {
                    client.drop_requests();
                }
                Ok(())
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn directory(&mut self, by: Caller, payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let path = self.absolute(by, only_string(payload).ok_or(Errno::EINVAL)?);
        Ok(self.node(by, &path, READ)?.children().to_vec())
    }

    /// Returns whole names from an offset on, as many as fit, and an empty name after the last one.
    fn directory_part(&mut self, by: Caller, payload: &[u8]) -> Result<Vec<u8>, Errno> {
        let (raw, rest) = two_strings(payload)?;
        let path = self.absolute(by, raw);
        let node = self.node(by, &path, READ)?;
        let offset = usize::try_from(atoi(rest)).unwrap_or(usize::MAX);
        let mut reply = format!("{}\0", node.generation).into_bytes();
        let mut left = node.children().get(offset..).unwrap_or_default();
        // Keep one byte for the empty name.
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

    fn mkdir(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let path = self.absolute(by, only_string(payload).ok_or(Errno::EINVAL)?);
        self.make(by, &path)
    }

    fn rm(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let path = self.absolute(by, only_string(payload).ok_or(Errno::EINVAL)?);
        self.remove_path(by, &path)
    }

    fn set_perms(&mut self, by: Caller, payload: &[u8]) -> Result<(), Errno> {
        let (raw, _) = first_string(payload).ok_or(Errno::EINVAL)?;
        let count = strings(payload).count().saturating_sub(1);
        if count == 0 {
            return Err(Errno::EINVAL);
        }
        if !by.is_privileged() && count > self.limits.permissions {
            return Err(Errno::ENOSPC);
        }
        let entries = strings(payload).skip(1).map(Permission::parse);
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        self.set_entries(by, raw, entries)
    }
}

/// Returns the two strings of a payload that has exactly two.
fn two_strings(payload: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let mut found = strings(payload);
    match (found.next(), found.next(), found.next()) {
        (Some(first), Some(second), None) => Ok((first, second)),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether only domain 0 may send this type of request.
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
