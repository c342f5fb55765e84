//! Watches: when they fire, with what path, and in what order.

use pvh_abi::DomId;

use crate::client::{booted, refused};

#[test]
fn a_watch_fires_at_once_after_its_reply() {
    let mut client = booted();
    let found = client.all(4, 0, b"data\0token\0");
    let found: Vec<_> = found
        .iter()
        .map(|(kind, payload)| (*kind, &**payload))
        .collect();
    assert_eq!(found, [(4, &b"OK\0"[..]), (15, b"data\0token\0")]);
}

#[test]
fn an_event_has_both_ids_0() {
    let mut client = booted();
    client.all(4, 0, b"data\0token\0");
    client.store.write("/local/domain/1/data/x", b"").unwrap();
    let event = client.store.take_message(client.domid).unwrap();
    let header = event.header;
    assert_eq!(
        (
            header.kind.get(),
            header.request_id.get(),
            header.transaction_id.get()
        ),
        (15, 0, 0)
    );
}

#[test]
fn events_of_the_callers_own_change_come_before_the_reply() {
    let mut client = booted();
    client.all(4, 0, b"data\0t\0");
    let found = client.all(11, 0, b"data/x\0v");
    let found: Vec<_> = found
        .iter()
        .map(|(kind, payload)| (*kind, &**payload))
        .collect();
    assert_eq!(found, [(15, &b"data/x\0t\0"[..]), (11, b"OK\0")]);
}

#[test]
fn events_of_a_relative_watch_have_relative_paths() {
    let mut client = booted();
    client.all(4, 0, b"data\0r\0");
    client.all(4, 0, b"/local/domain/1/data\0a\0");
    let events = client.events(11, 0, b"data/x\0v");
    assert_eq!(
        events,
        [&b"data/x\0r\0"[..], b"/local/domain/1/data/x\0a\0"]
    );
}

#[test]
fn a_watch_fires_for_changes_below_and_not_beside() {
    let mut client = booted();
    client.all(4, 0, b"data/a\0t\0");
    for (payload, fires) in [
        (&b"data/a\0v"[..], 1),
        (b"data/a/b/c\0v", 1),
        (b"data/ab\0v", 0),
        (b"data\0v", 0),
    ] {
        assert_eq!(client.events(11, 0, payload).len(), fires, "{payload:?}");
    }
    assert_eq!(client.events(12, 0, b"data/a/new\0"), [b"data/a/new\0t\0"]);
    assert_eq!(client.events(12, 0, b"data/a/new\0").len(), 0, "it existed");
    assert_eq!(
        client.events(14, 0, b"data/a/new\0n1\0"),
        [b"data/a/new\0t\0"]
    );
}

#[test]
fn removing_a_parent_fires_with_the_watchs_own_path() {
    let mut client = booted();
    client.ask(11, 0, b"data/a/b/c\0v").unwrap();
    client.all(4, 0, b"data/a/b\0below\0");
    client.all(4, 0, b"data\0above\0");
    let events = client.events(13, 0, b"data/a\0");
    assert_eq!(events, [&b"data/a/b\0below\0"[..], b"data/a\0above\0"]);
}

#[test]
fn the_same_path_and_token_twice_is_eexist() {
    let mut client = booted();
    assert_eq!(client.ask(4, 0, b"data\0t\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(4, 0, b"data\0t\0"), refused("EEXIST"));
    assert_eq!(
        client.ask(4, 0, b"/local/domain/1/data\0t\0"),
        refused("EEXIST")
    );
    assert_eq!(client.ask(4, 0, b"data\0other\0"), Ok(b"OK\0".to_vec()));
}

#[test]
fn a_watch_takes_two_strings_and_no_depth() {
    let mut client = booted();
    for bad in [
        &b"data\0"[..],
        b"data",
        b"",
        b"data\0t\x001\0",
        b"\0t\0",
        b"a b\0t\0",
    ] {
        assert_eq!(client.ask(4, 0, bad), refused("EINVAL"), "{bad:?}");
    }
    // The transaction id is ignored.
    assert_eq!(client.ask(4, 99, b"data\0t\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(5, 99, b"data\0t\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(5, 0, b"data\0t\0"), refused("ENOENT"));
    assert_eq!(client.ask(5, 0, b"data\0"), refused("EINVAL"));
}

#[test]
fn a_client_that_may_not_read_a_node_gets_no_event() {
    let mut client = booted();
    client.all(4, 0, b"/\0t\0");
    client.store.write("/tool/secret", b"").unwrap();
    assert_eq!(client.store.take_message(client.domid), None);
    client.store.write("/local/domain/1/name", b"new").unwrap();
    let event = client.store.take_message(client.domid).unwrap();
    assert_eq!(&*event.payload, b"/local/domain/1/name\0t\0");
}

#[test]
fn special_events_are_for_domain_0_unless_permissions_let_others() {
    let mut client = booted();
    assert_eq!(
        client.ask(4, 0, b"@releaseDomain\0g\0"),
        Ok(b"OK\0".to_vec())
    );
    client.domid = DomId(0);
    client.all(4, 0, b"@releaseDomain\0t\0");
    client.all(4, 0, b"@introduceDomain\0i\0");
    client.store.introduce(DomId(2));
    client.store.release(DomId(2));
    let mut told = || {
        client
            .store
            .take_message(DomId(0))
            .map(|message| message.payload.to_vec())
    };
    assert_eq!(told().unwrap(), b"@introduceDomain\0i\0");
    assert_eq!(told().unwrap(), b"@releaseDomain\0t\0");
    assert_eq!(client.store.take_message(DomId(1)), None);
    client.ask(14, 0, b"@releaseDomain\0n0\0r1\0").unwrap();
    client.store.introduce(DomId(2));
    client.store.release(DomId(2));
    let told = client.store.take_message(DomId(1)).unwrap();
    assert_eq!(&*told.payload, b"@releaseDomain\0g\0");
}

#[test]
fn reset_watches_drops_watches_and_transactions() {
    let mut client = booted();
    client.all(4, 0, b"data\0t\0");
    let id = client.start();
    assert_eq!(client.ask(21, 0, b"\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(2, id, b"name\0"), refused("ENOENT"));
    assert_eq!(client.events(11, 0, b"data/x\0v").len(), 0);
    let usage = client.store.usage(client.domid).unwrap();
    assert_eq!((usage.watches, usage.transactions), (0, 0));
}
