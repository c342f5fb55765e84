//! Limits to the exact byte, and cases beside them.

use pvh_abi::DomId;
use pvh_xenstore::{Access, Header, Limits, MessageType, Permission};

use crate::client::{Client, GUEST, booted, limited, refused};

/// Requests before the tested one, and the tested one.
type Ask = fn(&mut Client) -> Result<Vec<u8>, String>;

fn with_memory(memory_bytes: usize) -> Client {
    let mut limits = Limits::default();
    limits.memory_bytes = memory_bytes;
    limited(limits)
}

fn used(client: &Client) -> usize {
    client.store.usage(GUEST).unwrap().memory_bytes
}

#[test]
fn a_store_returns_its_limits() {
    let mut limits = Limits::default();
    limits.nodes = 7;
    assert_eq!(limited(limits).store.limits().nodes, 7);
}

#[test]
fn a_guest_may_use_exactly_its_limit_of_memory() {
    let asks: [(&str, Ask); 4] = [
        ("a node", |client| client.ask(11, 0, b"data/x\0value")),
        ("a watch", |client| client.ask(4, 0, b"data\0token\0")),
        ("a look", |client| {
            let id = client.start();
            client.ask(2, id, b"name\0").and_then(|_| {
                // The view holds the node by now, so nothing more is touched.
                client.ask(2, id, b"name\0")
            })
        }),
        ("a version", |client| {
            let id = client.start();
            client.ask(11, id, b"data\0value")
        }),
    ];
    for (name, ask) in asks {
        let mut measured = booted();
        let before = used(&measured);
        ask(&mut measured).unwrap();
        let peak = used(&measured);
        assert!(peak > before, "{name}");
        assert!(ask(&mut with_memory(peak)).is_ok(), "{name}");
        let mut short = with_memory(peak - 1);
        assert_eq!(ask(&mut short), refused("ENOMEM"), "{name}");
        assert!(used(&short) < peak, "{name}");
    }
}

#[test]
fn a_watch_costs_its_path_its_token_and_64_bytes() {
    let mut client = booted();
    let before = used(&client);
    client.ask(4, 0, b"/local/domain/1/data\0token\0").unwrap();
    assert_eq!(used(&client) - before, 20 + 5 + 64);
}

#[test]
fn a_guest_above_its_limit_may_write_values_that_are_not_longer() {
    // The toolstack gave it more than its limit.
    let mut client = with_memory(1);
    client
        .store
        .write("/local/domain/1/data/x", b"value")
        .unwrap();
    assert_eq!(client.ask(11, 0, b"data/x\0VALUE"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(11, 0, b"data/x\0VALUE+"), refused("ENOMEM"));
    assert_eq!(client.ask(11, 0, b"data/x\0VAL"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(2, 0, b"data/x\0"), Ok(b"VAL".to_vec()));
}

#[test]
fn a_guest_above_its_limit_must_take_waiting_messages_first() {
    let mut client = with_memory(1);
    let header = Header::new(MessageType::READ, 0, 0, b"name\0");
    assert!(client.store.is_ready(GUEST));
    client.store.handle(GUEST, &header, b"name\0").unwrap();
    assert!(!client.store.is_ready(GUEST));
    client.store.take_message(GUEST).unwrap();
    assert!(client.store.is_ready(GUEST));
    // Domain 0 has no limit.
    let header = Header::new(MessageType::READ, 0, 0, b"/tool\0");
    client.store.handle(DomId(0), &header, b"/tool\0").unwrap();
    assert!(client.store.is_ready(DomId(0)));
}

#[test]
fn a_payload_has_4096_bytes_at_most() {
    let mut client = booted();
    let payload = [b"data/x\0".to_vec(), vec![b'v'; 4089]].concat();
    assert_eq!(client.ask(11, 0, &payload), refused("ENOSPC"));
}

#[test]
fn domain_0_and_unknown_domains_cannot_be_released() {
    let mut client = booted();
    client.domid = DomId(0);
    client.all(4, 0, b"@releaseDomain\0t\0");
    for absent in [DomId(0), DomId(9)] {
        client.store.release(absent);
        assert_eq!(client.store.take_message(DomId(0)), None);
    }
    assert_eq!(client.store.read("/tool/xenstored"), Some(&b""[..]));
}

#[test]
fn a_released_domain_leaves_the_root_and_other_owners_alone() {
    let mut client = booted();
    let other = DomId(2);
    client.store.introduce(other);
    let read = |domid| Permission::new(domid, Access::Read);
    client.store.set_permissions("/", &[read(GUEST)]).unwrap();
    client.store.write("/shared", b"").unwrap();
    client
        .store
        .set_permissions("/shared", &[read(other), read(GUEST), read(DomId(3))])
        .unwrap();
    client.store.release(GUEST);
    client.domid = DomId(0);
    assert_eq!(client.ask(3, 0, b"/\0"), Ok(b"r0\0".to_vec()));
    assert_eq!(client.ask(3, 0, b"/shared\0"), Ok(b"r2\0r3\0".to_vec()));
}

#[test]
fn is_watched_knows_the_node_and_the_domain() {
    let mut client = booted();
    let path = "/local/domain/1/data";
    assert!(!client.store.is_watched(GUEST, path));
    client.all(4, 0, b"data\0t\0");
    assert!(client.store.is_watched(GUEST, path));
    assert!(!client.store.is_watched(GUEST, "/tool"));
    assert!(!client.store.is_watched(DomId(0), path));
}
