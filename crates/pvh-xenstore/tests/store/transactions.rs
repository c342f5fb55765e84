//! Transactions: what they see, when they conflict, and when watches fire.

use crate::client::{booted, refused};

#[test]
fn a_transaction_begins_with_id_0_and_ends_with_t_or_f() {
    let mut client = booted();
    let id = client.start();
    assert_ne!(id, 0);
    assert_eq!(client.ask(6, id, b"\0"), refused("EBUSY"));
    assert_eq!(client.ask(6, id + 1, b"\0"), refused("ENOENT"));
    for bad in [&b"X\0"[..], b"T", b"", b"T\0T\0"] {
        assert_eq!(client.ask(7, id, bad), refused("EINVAL"), "{bad:?}");
    }
    assert_eq!(client.ask(7, id, b"F\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(7, id, b"T\0"), refused("ENOENT"));
    assert_eq!(client.ask(7, 0, b"T\0"), refused("ENOENT"));
}

#[test]
fn changes_are_seen_outside_only_after_the_commit() {
    let mut client = booted();
    let id = client.start();
    client.ask(11, id, b"data/x\0v").unwrap();
    assert_eq!(client.ask(2, id, b"data/x\0"), Ok(b"v".to_vec()));
    assert_eq!(client.ask(2, 0, b"data/x\0"), refused("ENOENT"));
    assert_eq!(client.ask(7, id, b"T\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(2, 0, b"data/x\0"), Ok(b"v".to_vec()));
    let id = client.start();
    client.ask(13, id, b"data/x\0").unwrap();
    assert_eq!(client.ask(7, id, b"F\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(2, 0, b"data/x\0"), Ok(b"v".to_vec()));
}

#[test]
fn a_node_that_was_touched_and_changed_outside_is_a_conflict() {
    let mut client = booted();
    let touches = [
        (2, &b"data/x\0"[..]),
        (11, b"data/x\0w"),
        (1, b"data/x\0"),
        (2, b"data/absent\0"),
    ];
    let changes = [
        (11, &b"data/x\0v"[..]),
        (13, b"data/x\0"),
        (11, b"data/x/below\0v"),
    ];
    for (kind, payload) in touches {
        for (change, change_payload) in changes {
            client.ask(11, 0, b"data/x\0").unwrap();
            let id = client.start();
            let _ = client.ask(kind, id, payload);
            client.ask(change, 0, change_payload).unwrap();
            let is_conflict = payload != b"data/absent\0" || change == 13;
            let want = if is_conflict {
                refused("EAGAIN")
            } else {
                Ok(b"OK\0".to_vec())
            };
            assert_eq!(client.ask(7, id, b"T\0"), want, "{payload:?} {change}");
            assert_eq!(client.ask(7, id, b"T\0"), refused("ENOENT"), "it is gone");
            client.ask(13, 0, b"data/x\0").unwrap();
        }
    }
}

#[test]
fn two_transactions_that_add_children_to_one_node_conflict() {
    let mut client = booted();
    let (one, two) = (client.start(), client.start());
    assert_ne!(one, two);
    client.ask(11, one, b"data/one\0v").unwrap();
    client.ask(11, two, b"data/two\0v").unwrap();
    assert_eq!(client.ask(7, one, b"T\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(7, two, b"T\0"), refused("EAGAIN"));
    assert_eq!(client.ask(1, 0, b"data\0"), Ok(b"one\0".to_vec()));
}

#[test]
fn a_transaction_reads_the_same_value_again() {
    let mut client = booted();
    client.ask(11, 0, b"data/x\0old").unwrap();
    let id = client.start();
    client.ask(2, id, b"data/x\0").unwrap();
    client.ask(11, 0, b"data/x\0new").unwrap();
    assert_eq!(client.ask(2, id, b"data/x\0"), Ok(b"old".to_vec()));
}

#[test]
fn events_of_a_transaction_come_before_the_reply_to_its_commit() {
    let mut client = booted();
    client.all(4, 0, b"data\0t\0");
    let id = client.start();
    for _ in 0..2 {
        assert_eq!(client.events(11, id, b"data/x\0v").len(), 0);
    }
    let found = client.all(7, id, b"T\0");
    let found: Vec<_> = found
        .iter()
        .map(|(kind, payload)| (*kind, &**payload))
        .collect();
    assert_eq!(found, [(15, &b"data/x\0t\0"[..]), (7, b"OK\0")]);
    let id = client.start();
    client.ask(11, id, b"data/x\0v").unwrap();
    assert_eq!(client.events(7, id, b"F\0").len(), 0);
}
