//! A guest that sends requests and takes the replies.

use std::sync::Arc;

use pvh_abi::DomId;
use pvh_xenstore::{ConsoleKeys, DomainKeys, Header, Limits, MessageType, RingKeys, Store};

pub(crate) const GUEST: DomId = DomId(1);

/// Makes a store with one guest, domain 1, and the keys of a PVH domain.
pub(crate) fn booted() -> Client {
    limited(Limits::default())
}

/// Does the same with other limits.
pub(crate) fn limited(limits: Limits) -> Client {
    let mut store = Store::new(limits);
    keys(GUEST).write(&mut store).unwrap();
    Client {
        store,
        domid: GUEST,
    }
}

pub(crate) fn keys(domid: DomId) -> DomainKeys<'static> {
    DomainKeys {
        domid,
        name: "probe",
        uuid: "11111111-2222-3333-4444-555555555555",
        cpus: 1,
        max_cpus: 2,
        memory_kib: 32768,
        store: RingKeys {
            gfn: 0xf_effc,
            port: 1,
        },
        console: Some(ConsoleKeys {
            ring: RingKeys {
                gfn: 0xf_efff,
                port: 2,
            },
            output: "pty",
        }),
    }
}

pub(crate) struct Client {
    pub(crate) store: Store,
    pub(crate) domid: DomId,
}

impl Client {
    /// Sends a request and takes all waiting messages, as numbers of types and payloads.
    pub(crate) fn all(
        &mut self,
        kind: u32,
        transaction: u32,
        payload: &[u8],
    ) -> Vec<(u32, Arc<[u8]>)> {
        let header = Header::new(MessageType(kind), 7, transaction, payload);
        self.store.handle(self.domid, &header, payload).unwrap();
        let found = std::iter::from_fn(|| self.store.take_message(self.domid));
        found
            .map(|message| (message.header.kind.get(), message.payload))
            .collect()
    }

    /// Sends a request and returns the reply.
    pub(crate) fn ask(
        &mut self,
        kind: u32,
        transaction: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut replies = self.all(kind, transaction, payload);
        replies.retain(|(kind, _)| *kind != 15);
        assert_eq!(replies.len(), 1, "one request, one reply");
        let (found, reply) = replies.remove(0);
        if found == 16 {
            let name = reply
                .strip_suffix(b"\0")
                .expect("an error name ends in a NUL");
            return Err(String::from_utf8(name.to_vec()).unwrap());
        }
        assert_eq!(found, kind, "a reply has the type of its request");
        Ok(reply.to_vec())
    }

    /// Starts a transaction.
    pub(crate) fn start(&mut self) -> u32 {
        let reply = self.ask(6, 0, b"\0").unwrap();
        let id = reply.strip_suffix(b"\0").expect("an id ends in a NUL");
        std::str::from_utf8(id).unwrap().parse().unwrap()
    }

    /// Sends a request and returns the events that it causes.
    pub(crate) fn events(&mut self, kind: u32, transaction: u32, payload: &[u8]) -> Vec<Vec<u8>> {
        let mut found = self.all(kind, transaction, payload);
        found.retain(|(kind, _)| *kind == 15);
        found
            .into_iter()
            .map(|(_, payload)| payload.to_vec())
            .collect()
    }
}

pub(crate) fn refused<T>(name: &str) -> Result<T, String> {
    Err(name.to_owned())
}
