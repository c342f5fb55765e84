//! The store that the oracle asks, its limits, and the text of requests and replies.

use pvh_abi::DomId;
use pvh_xenstore::{Access, HostId, Limits, Message, Permission, Store};

use super::host::{WATCHES, token};
use crate::tape::Tape;

pub(super) const GUEST: DomId = DomId(1);
pub(super) const OTHER: DomId = DomId(2);
/// More than any event costs.
pub(super) const EVENT_BYTES: usize = 200;
pub(super) const HOME: &str = "/local/domain/1";

/// Makes a store with two guests, the first of which owns `data` below its home, and a connection
/// of the host with [`WATCHES`].
pub(super) fn store() -> (Store, HostId) {
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
    done.expect("domain 0 may do everything");
    let host = store.connect_host();
    for (node, len) in WATCHES {
        let path = format!("{HOME}/{node}");
        let done = store.host(host).watch(&path, token(len).as_bytes());
        done.expect("the host may watch every path");
    }
    while store.host(host).take_event().is_some() {}
    while store.take_message(DomId(0)).is_some() {}
    (store, host)
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
pub(super) fn path(tape: &mut Tape<'_>) -> String {
    let which = tape.byte();
    let names = [which & 3, which >> 2 & 3, which >> 4 & 3];
    let mut path = String::from("data");
    for name in names.into_iter().take_while(|&name| name > 0) {
        path.push('/');
        path.push(char::from(b'`' + name));
    }
    path
}

pub(super) fn event(message: &Message) -> (String, String) {
    let text = lossy(&message.payload);
    let mut parts = text.split('\0').map(str::to_owned);
    let mut next = || parts.next().expect("a path and a token");
    (next(), next())
}

pub(super) fn nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    match text.strip_suffix('\0') {
        Some(name) if name.starts_with('E') => name.to_owned(),
        _ => text,
    }
}
