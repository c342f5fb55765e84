//! Host connections: calls, transactions and watches.

use pvh_abi::{DomId, Errno};
use pvh_xenstore::{Access, Header, HostId, MessageType, Permission, Store, StoreError};

use crate::client::{Client, GUEST, booted};

const DATA: &str = "/local/domain/1/data";

/// Makes a store with a booted guest, and a host connection.
fn connected() -> (Client, HostId) {
    let mut client = booted();
    let host = client.store.connect_host();
    (client, host)
}

/// Takes the waiting events, as paths and tokens.
pub(crate) fn drain(store: &mut Store, host: HostId) -> Vec<(String, String)> {
    let mut host = store.host(host);
    let events = std::iter::from_fn(|| host.take_event());
    let text = |token: &[u8]| String::from_utf8(token.to_vec()).unwrap();
    events
        .map(|event| (event.path().to_owned(), text(event.token())))
        .collect()
}

fn paths(store: &mut Store, host: HostId) -> Vec<String> {
    let events = drain(store, host).into_iter();
    events.map(|(path, _)| path).collect()
}

fn refused<T>(errno: Errno) -> Result<T, StoreError> {
    Err(errno.into())
}

#[test]
fn a_watch_reports_its_path_first_and_then_each_change_in_order() {
    let (mut client, host) = connected();
    client.store.host(host).watch(DATA, b"t").unwrap();
    client.ask(11, 0, b"data/b\0v").unwrap();
    client.store.write("/local/domain/1/data/a", b"v").unwrap();
    client.store.host(host).write("/tool/x", b"").unwrap();
    client.ask(12, 0, b"data/c/d\0").unwrap();
    client.ask(14, 0, b"data/b\0n1\0").unwrap();
    let told = drain(&mut client.store, host);
    let told: Vec<_> = told.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    // The second event of data/b equals the first one, which was waiting, and is not queued.
    assert_eq!(
        told,
        [
            (DATA, "t"),
            ("/local/domain/1/data/b", "t"),
            ("/local/domain/1/data/a", "t"),
            ("/local/domain/1/data/c/d", "t"),
        ]
    );
}

#[test]
fn a_committed_transaction_fires_in_the_order_of_its_nodes_and_an_aborted_one_does_not() {
    let (mut client, host) = connected();
    client.store.host(host).watch(DATA, b"t").unwrap();
    drain(&mut client.store, host);
    for (end, count) in [(&b"F\0"[..], 0), (b"T\0", 3)] {
        let id = client.start();
        for path in ["data/z", "data/a", "data/m"] {
            client.ask(11, id, format!("{path}\0v").as_bytes()).unwrap();
        }
        assert_eq!(paths(&mut client.store, host), [""; 0]);
        client.ask(7, id, end).unwrap();
        let want: Vec<_> = ["z", "a", "m"].map(|name| format!("{DATA}/{name}")).into();
        assert_eq!(paths(&mut client.store, host), want[..count]);
    }
}

#[test]
fn a_removal_fires_the_watches_of_each_removed_node_and_of_nodes_above_once() {
    let (mut client, host) = connected();
    for path in ["data/a/b/c", "data/a/d"] {
        client.ask(12, 0, format!("{path}\0").as_bytes()).unwrap();
    }
    for (path, token) in [
        ("/local/domain/1", "home"),
        ("/local/domain/1/data/a", "a"),
        ("/local/domain/1/data/a/b/c", "c"),
        ("/local/domain/1/data/a/d", "d"),
    ] {
        let mut host = client.store.host(host);
        host.watch(path, token.as_bytes()).unwrap();
    }
    drain(&mut client.store, host);
    client.ask(13, 0, b"data/a\0").unwrap();
    let told = drain(&mut client.store, host);
    let told: Vec<_> = told.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    assert_eq!(
        told,
        [
            ("/local/domain/1/data/a/b/c", "c"),
            ("/local/domain/1/data/a/d", "d"),
            ("/local/domain/1/data/a", "home"),
            ("/local/domain/1/data/a", "a"),
        ]
    );
}

#[test]
fn special_paths_report_connected_and_released_domains() {
    let (mut client, host) = connected();
    for path in ["@introduceDomain", "@releaseDomain"] {
        client.store.host(host).watch(path, b"t").unwrap();
    }
    drain(&mut client.store, host);
    client.store.introduce(DomId(2));
    client.store.introduce(DomId(3));
    client.store.release(DomId(2));
    let told = paths(&mut client.store, host);
    assert_eq!(
        told,
        ["@introduceDomain", "@introduceDomain", "@releaseDomain"]
    );
}

#[test]
fn a_release_fires_in_the_order_of_paths() {
    let (mut client, host) = connected();
    for name in ["q", "c", "x", "a"] {
        client
            .ask(12, 0, format!("data/{name}\0").as_bytes())
            .unwrap();
    }
    client.store.host(host).watch("/local", b"t").unwrap();
    drain(&mut client.store, host);
    client.store.release(GUEST);
    let told = paths(&mut client.store, host);
    let mut sorted = told.clone();
    sorted.sort_unstable();
    assert_eq!(told, sorted);
    assert!(told.contains(&DATA.to_owned()), "{told:?}");
}

#[test]
fn events_of_a_relative_watch_have_relative_paths() {
    let (mut client, host) = connected();
    client.store.host(host).watch("backend", b"t").unwrap();
    client
        .store
        .host(host)
        .write("backend/vbd/1", b"v")
        .unwrap();
    assert_eq!(paths(&mut client.store, host), ["backend", "backend/vbd/1"]);
    let value = client.store.read("/local/domain/0/backend/vbd/1");
    assert_eq!(value, Some(&b"v"[..]));
}

#[test]
fn connections_have_their_own_watches_tokens_and_transactions() {
    let (mut client, one) = connected();
    let store = &mut client.store;
    let two = store.connect_host();
    store.host(one).watch("/tool", b"t").unwrap();
    store.host(two).watch("/tool", b"t").unwrap();
    assert_eq!(store.host(one).watch("/tool", b"t"), refused(Errno::EEXIST));
    assert_eq!(
        store.host(one).unwatch("/tool", b"u"),
        refused(Errno::ENOENT)
    );
    store.host(one).unwatch("/tool", b"t").unwrap();
    store.host(one).write("/tool/x", b"1").unwrap();
    assert_eq!(paths(store, one), ["/tool"], "it waited already");
    assert_eq!(paths(store, two), ["/tool", "/tool/x"]);
    let inside = store.host(one).start().unwrap();
    let _ = store.host(one).start().unwrap();
    let busy = store.host(one).within(inside).start();
    assert_eq!(busy, refused(Errno::EBUSY));
    let foreign = store.host(two).within(inside).read("/tool/x");
    assert_eq!(foreign, refused(Errno::ENOENT));
}

#[test]
fn a_transaction_sees_its_changes_and_is_refused_after_one_outside() {
    let (mut client, host) = connected();
    let store = &mut client.store;
    store.host(host).write("/tool/x", b"old").unwrap();
    let inside = store.host(host).start().unwrap();
    store
        .host(host)
        .within(inside)
        .write("/tool/x", b"new")
        .unwrap();
    let seen = |store: &mut Store| store.host(host).within(inside).read("/tool/x");
    assert_eq!(seen(store), Ok(b"new".to_vec()));
    assert_eq!(store.host(host).read("/tool/x"), Ok(b"old".to_vec()));
    store.host(host).write("/tool/x", b"other").unwrap();
    assert_eq!(store.host(host).commit(inside), refused(Errno::EAGAIN));
    assert_eq!(store.host(host).commit(inside), refused(Errno::ENOENT));
    assert_eq!(store.host(host).read("/tool/x"), Ok(b"other".to_vec()));
    let again = store.host(host).start().unwrap();
    store.host(host).within(again).remove("/tool/x").unwrap();
    store.host(host).commit(again).unwrap();
    assert_eq!(store.host(host).read("/tool/x"), refused(Errno::ENOENT));
    let dropped = store.host(host).start().unwrap();
    store.host(host).within(dropped).mkdir("/tool/y").unwrap();
    store.host(host).abort(dropped).unwrap();
    assert_eq!(store.host(host).read("/tool/y"), refused(Errno::ENOENT));
}

#[test]
fn nodes_are_listed_in_their_order_and_permissions_are_read_back() {
    let (mut client, host) = connected();
    let mut host = client.store.host(host);
    for name in ["b", "a", "c"] {
        host.mkdir(&format!("/tool/dir/{name}")).unwrap();
    }
    assert_eq!(host.directory("/tool/dir").unwrap(), ["b", "a", "c"]);
    assert_eq!(host.directory("/tool/none"), refused(Errno::ENOENT));
    let entries = [
        Permission::new(GUEST, Access::None),
        Permission::new(DomId(0), Access::Read),
    ];
    host.set_permissions("/tool/dir", &entries).unwrap();
    let found = host.permissions("/tool/dir").unwrap();
    assert_eq!(found, entries);
    assert_eq!((found[1].domid(), found[1].access()), (0, Access::Read));
    assert_eq!(
        host.set_permissions("/tool/dir", &[]),
        refused(Errno::EINVAL)
    );
}

#[test]
fn invalid_paths_and_tokens_are_einval() {
    let (mut client, host) = connected();
    let mut host = client.store.host(host);
    for bad in ["/a b", "/a//b", "/a/", "", "/a\0b"] {
        assert_eq!(host.write(bad, b""), refused(Errno::EINVAL), "{bad}");
        assert_eq!(host.read(bad), refused(Errno::EINVAL), "{bad}");
        assert_eq!(host.watch(bad, b"t"), refused(Errno::EINVAL), "{bad}");
    }
    assert_eq!(host.remove("/"), refused(Errno::EINVAL));
    assert_eq!(host.remove("/a/b"), refused(Errno::ENOENT));
    assert_eq!(host.watch("/a", b"t\0"), refused(Errno::EINVAL));
    assert_eq!(host.watch("/a", &[b't'; 1025]), refused(Errno::EINVAL));
    host.watch("/a", &[b't'; 1024]).unwrap();
}

#[test]
fn an_ended_connection_returns_enoent_and_no_events() {
    let (mut client, old) = connected();
    client.store.host(old).watch("/tool", b"t").unwrap();
    let inside = client.store.host(old).start().unwrap();
    client.store.disconnect_host(old);
    let new = client.store.connect_host();
    assert_ne!(old, new);
    let mut host = client.store.host(old);
    assert_eq!(host.read("/tool"), refused(Errno::ENOENT));
    assert_eq!(host.write("/tool/x", b""), refused(Errno::ENOENT));
    assert_eq!(host.watch("/tool", b"t"), refused(Errno::ENOENT));
    assert_eq!(host.start(), refused(Errno::ENOENT));
    assert_eq!(host.commit(inside), refused(Errno::ENOENT));
    assert_eq!(host.take_event(), None);
    assert!(client.store.usage(old).is_none() && !client.store.is_ready(old));
}

#[test]
fn a_host_connection_can_use_messages() {
    let (mut client, host) = connected();
    let store = &mut client.store;
    let payload = b"/local/domain/1/name\0";
    let header = Header::new(MessageType::READ, 3, 0, payload);
    store.handle(host, &header, payload).unwrap();
    let reply = store.take_message(host).unwrap();
    assert_eq!(&*reply.payload, b"probe");
    assert_eq!(store.take_message(host), None);
}

#[test]
fn the_host_gets_an_event_for_a_node_that_one_transaction_made_and_removed() {
    let (mut client, host) = connected();
    client.all(4, 0, b"data\0t\0");
    client.store.host(host).watch(DATA, b"t").unwrap();
    drain(&mut client.store, host);
    let id = client.start();
    client.ask(11, id, b"data/new/x\0v").unwrap();
    client.ask(13, id, b"data/new/x\0").unwrap();
    assert_eq!(client.events(7, id, b"T\0"), [b""; 0]);
    let told = paths(&mut client.store, host);
    assert_eq!(told, ["/local/domain/1/data/new/x"]);
    assert_eq!(client.store.read(&format!("{DATA}/new")), Some(&b""[..]));
}
