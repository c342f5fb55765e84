//! The limits of what a guest can make grow.

use pvh_abi::DomId;
use pvh_xenstore::{Header, Limits, MessageType, NotTaken};

use crate::client::{Client, GUEST, booted, refused};

/// Repeats a request until it is refused. Returns how often it succeeded, and the error.
fn until_refused(
    client: &mut Client,
    mut ask: impl FnMut(&mut Client, usize) -> Result<Vec<u8>, String>,
) -> (usize, String) {
    for count in 0..100_000 {
        if let Err(name) = ask(client, count) {
            return (count, name);
        }
    }
    panic!("no limit");
}

#[test]
fn the_limits_are_those_of_xen_4_17() {
    let limits = Limits::default();
    assert_eq!(
        (limits.nodes, limits.watches, limits.transactions),
        (1000, 128, 10)
    );
    assert_eq!((limits.transaction_nodes, limits.permissions), (1024, 5));
    assert_eq!((limits.node_bytes, limits.outstanding), (2048, 20));
    assert_eq!(limits.memory_bytes, 2560 * 1024);
}

#[test]
fn a_guest_owns_1000_nodes() {
    let mut client = booted();
    let before = client.store.usage(GUEST).unwrap().nodes;
    let (count, name) = until_refused(&mut client, |client, index| {
        client.ask(11, 0, format!("data/{}/{index}\0", index % 10).as_bytes())
    });
    assert_eq!((count, name.as_str()), (1000 - before - 10, "ENOSPC"));
    assert_eq!(client.store.usage(GUEST).unwrap().nodes, 1000);
    // No limit holds for the toolstack. The guest owns the nodes that it makes below the guest's.
    client
        .store
        .write("/local/domain/1/data/more", b"")
        .unwrap();
    assert_eq!(client.store.usage(GUEST).unwrap().nodes, 1001);
    // A refused request makes nothing.
    client.ask(13, 0, b"data/more\0").unwrap();
    client.ask(13, 0, b"data/0/0\0").unwrap();
    assert_eq!(client.ask(12, 0, b"data/one/two\0"), refused("ENOSPC"));
    assert_eq!(client.ask(2, 0, b"data/one\0"), refused("ENOENT"));
    assert_eq!(client.ask(12, 0, b"data/one\0"), Ok(b"OK\0".to_vec()));
    // A commit that adds no node is not compared with the limit.
    assert_eq!(client.store.usage(GUEST).unwrap().nodes, 1000);
    let id = client.start();
    client.ask(11, id, b"data/one\0v").unwrap();
    assert_eq!(client.ask(7, id, b"T\0"), Ok(b"OK\0".to_vec()));
}

#[test]
fn a_commit_cannot_reach_1000_nodes() {
    let mut client = booted();
    let before = client.store.usage(GUEST).unwrap().nodes;
    for index in 0..960 - before {
        client
            .ask(12, 0, format!("data/{}/{index}\0", index % 10).as_bytes())
            .ok();
    }
    let owned = client.store.usage(GUEST).unwrap().nodes;
    let id = client.start();
    for index in 0..1000 - owned {
        client
            .ask(12, id, format!("feature/{index}\0").as_bytes())
            .unwrap();
    }
    assert_eq!(client.ask(7, id, b"T\0"), refused("ENOSPC"));
    assert_eq!(client.store.usage(GUEST).unwrap().nodes, owned);
}

#[test]
fn a_node_is_smaller_than_2048_bytes() {
    let mut client = booted();
    let value = |len| [b"data/x\0".to_vec(), vec![b'v'; len]].concat();
    // 24 for the record and 8 for the one permission.
    assert_eq!(client.ask(11, 0, &value(2015)), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(11, 0, &value(2016)), refused("ENOSPC"));
    assert_eq!(client.ask(2, 0, b"data/x\0").unwrap().len(), 2015);
    let big = [b"data/big\0".to_vec(), vec![b'v'; 2016]].concat();
    assert_eq!(client.ask(11, 0, &big), refused("ENOSPC"));
    assert_eq!(client.ask(2, 0, b"data/big\0"), refused("ENOENT"));
    // The names of children count, each with a NUL.
    client.ask(13, 0, b"data/x\0").unwrap();
    client.ask(12, 0, b"feature/long\0").unwrap();
    let name = |len| [b"feature/long/".to_vec(), vec![b'n'; len], b"\0".to_vec()].concat();
    assert_eq!(client.ask(12, 0, &name(2015)), refused("ENOSPC"));
    assert_eq!(client.ask(12, 0, &name(2014)), Ok(b"OK\0".to_vec()));
}

#[test]
fn a_write_that_is_too_large_dooms_its_transaction() {
    let mut client = booted();
    let id = client.start();
    let big = [b"data/big\0".to_vec(), vec![b'v'; 2016]].concat();
    assert_eq!(client.ask(11, id, &big), refused("ENOSPC"));
    assert_eq!(client.ask(7, id, b"T\0"), refused("ENOMEM"));
}

#[test]
fn there_are_129_watches() {
    let mut client = booted();
    let set =
        |client: &mut Client, index: usize| client.ask(4, 0, format!("data\0{index}\0").as_bytes());
    let (count, name) = until_refused(&mut client, set);
    assert_eq!((count, name.as_str()), (129, "E2BIG"));
    client.ask(5, 0, b"data\x000\0").unwrap();
    assert_eq!(client.ask(4, 0, b"data\0again\0"), Ok(b"OK\0".to_vec()));
}

#[test]
fn there_are_11_transactions() {
    let mut client = booted();
    let (count, name) = until_refused(&mut client, |client, _| client.ask(6, 0, b"\0"));
    assert_eq!((count, name.as_str()), (11, "ENOSPC"));
    client.ask(21, 0, b"\0").unwrap();
    client.start();
}

#[test]
fn a_transaction_touches_1024_nodes() {
    let mut client = booted();
    let id = client.start();
    let mut errors = Vec::new();
    for index in 0..1100 {
        errors.push(
            client
                .ask(2, id, format!("data/{index}\0").as_bytes())
                .unwrap_err(),
        );
    }
    // One of them is the node above: its permissions say whether the caller may learn ENOENT.
    let told = errors.iter().position(|name| name == "ENOSPC");
    assert_eq!(told, Some(1023));
    assert_eq!(client.ask(7, id, b"T\0"), refused("ENOMEM"));
}

#[test]
fn a_node_has_5_permission_entries() {
    let mut client = booted();
    let entries = |count| [&b"data\0n1\0"[..], &b"r0\0".repeat(count)].concat();
    assert_eq!(client.ask(14, 0, &entries(4)), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(14, 0, &entries(5)), refused("ENOSPC"));
}

#[test]
fn a_path_has_2048_bytes_below_home() {
    let mut client = booted();
    let read = |len| [vec![b'n'; len], b"\0".to_vec()].concat();
    assert_eq!(client.ask(2, 0, &read(2048)), refused("ENOENT"));
    assert_eq!(client.ask(2, 0, &read(2049)), refused("EINVAL"));
    let watch = |len| [b"@".to_vec(), vec![b'n'; len], b"\0t\0".to_vec()].concat();
    assert_eq!(client.ask(4, 0, &watch(2047)), Ok(b"OK\0".to_vec()));
    assert_eq!(client.ask(4, 0, &watch(2048)), refused("EINVAL"));
}

#[test]
fn no_request_is_taken_while_20_replies_wait() {
    let mut client = booted();
    let header = Header::new(MessageType::READ, 0, 0, b"name\0");
    for _ in 0..20 {
        client.store.handle(GUEST, &header, b"name\0").unwrap();
    }
    assert!(!client.store.is_ready(GUEST));
    let refused = client.store.handle(GUEST, &header, b"name\0");
    assert_eq!(refused, Err(NotTaken::NotReady(GUEST.into())));
    client.store.take_message(GUEST).unwrap();
    assert!(client.store.is_ready(GUEST));
    let long = client.store.handle(GUEST, &header, &[0; 4097]);
    assert_eq!(long, Err(NotTaken::TooLong { len_bytes: 4097 }));
}

#[test]
fn events_that_a_guest_does_not_take_are_bounded_by_the_memory_limit() {
    let mut client = booted();
    let token = [b't'; 1000];
    client.all(4, 0, &[&b"data\0"[..], &token, b"\0"].concat());
    let before = client.store.usage(GUEST).unwrap().memory_bytes;
    for index in 0..3000 {
        let path = format!("/local/domain/1/data/{index}");
        client.store.write(&path, b"").unwrap();
        client.store.remove(&path).unwrap();
    }
    let usage = client.store.usage(GUEST).unwrap();
    assert!(usage.memory_bytes <= 2_621_440 && usage.memory_bytes > 2_620_000);
    let mut taken = 0;
    while client.store.take_message(GUEST).is_some() {
        taken += 1;
    }
    assert!(taken > 2000 && taken < 2500, "{taken}");
    assert_eq!(client.store.usage(GUEST).unwrap().memory_bytes, before);
    assert!(client.store.is_ready(GUEST));
}

#[test]
fn events_that_a_guest_causes_for_domain_0_are_bounded() {
    let mut client = booted();
    client.domid = DomId(0);
    client.all(4, 0, &[&b"/\0"[..], &[b't'; 1000], b"\0"].concat());
    client.domid = GUEST;
    for index in 0..3000 {
        client
            .ask(11, 0, format!("data/{index}\0").as_bytes())
            .unwrap();
        client
            .ask(13, 0, format!("data/{index}\0").as_bytes())
            .unwrap();
    }
    let waiting = std::iter::from_fn(|| client.store.take_message(DomId(0))).count();
    assert!(waiting > 2000 && waiting < 2500, "{waiting}");
}

#[test]
fn a_guest_that_uses_all_its_memory_gets_enomem_and_is_served_again() {
    let mut client = booted();
    let value = |path: &str| [path.as_bytes(), b"\0", &[b'v'; 2000][..]].concat();
    for index in 0..900 {
        let path = format!("data/{}/{index}", index % 60);
        client.ask(11, 0, &value(&path)).unwrap();
    }
    let id = client.start();
    let (count, name) = until_refused(&mut client, |client, index| {
        client.ask(11, id, &value(&format!("data/{}/{index}", index % 60)))
    });
    assert_eq!(name, "ENOMEM");
    assert!(count > 100 && count < 400, "{count}");
    assert!(client.store.usage(GUEST).unwrap().memory_bytes <= 2_621_440);
    assert_eq!(client.ask(7, id, b"T\0"), refused("ENOMEM"));
    assert_eq!(client.ask(2, 0, b"name\0"), Ok(b"probe".to_vec()));
}

#[test]
fn a_removal_in_a_transaction_needs_room_for_the_node_above() {
    let mut client = booted();
    let value = |path: &str, len| [path.as_bytes(), b"\0", &vec![b'v'; len][..]].concat();
    client.ask(11, 0, &value("data/p", 2000)).unwrap();
    client.ask(11, 0, b"data/p/c\0").unwrap();
    let id = client.start();
    let used = |client: &Client| client.store.usage(GUEST).unwrap().memory_bytes;
    // Another transaction reads until little memory is left.
    let filler = client.start();
    for (count, len) in [(700, 2000), (40, 200)] {
        for index in 0..count {
            let path = format!("data/{len}/{}/{index}", index % 40);
            client.ask(11, 0, &value(&path, len)).unwrap();
        }
    }
    for (count, len) in [(700, 2000), (40, 200)] {
        for index in 0..count {
            if used(&client) + len + 4000 > 2_621_440 {
                break;
            }
            let path = format!("data/{len}/{}/{index}\0", index % 40);
            client.ask(2, filler, path.as_bytes()).unwrap();
        }
    }
    // The transaction can touch both nodes, but cannot keep a second version of the upper one.
    assert_eq!(client.ask(13, id, b"data/p/c\0"), refused("ENOMEM"));
    assert!(used(&client) <= 2_621_440 && used(&client) > 2_619_000);
    assert_eq!(client.ask(7, id, b"T\0"), refused("ENOMEM"));
    assert_eq!(client.ask(13, 0, b"data/p/c\0"), Ok(b"OK\0".to_vec()));
}

#[test]
fn a_version_of_the_same_size_needs_no_room_in_its_transaction() {
    let mut client = booted();
    let value = |path: &str| [path.as_bytes(), b"\0", &[b'v'; 2000][..]].concat();
    for index in 0..400 {
        client
            .ask(11, 0, &value(&format!("data/tree/{index}")))
            .unwrap();
    }
    let id = client.start();
    client.ask(11, id, &value("data/own")).unwrap();
    let filler = client.start();
    let (_, name) = until_refused(&mut client, |client, index| {
        client.ask(11, filler, &value(&format!("data/{}/{index}", index % 40)))
    });
    assert_eq!(name, "ENOMEM");
    let used = client.store.usage(GUEST).unwrap().memory_bytes;
    assert!(used > 2_621_440 - 2000 && used <= 2_621_440, "{used}");
    assert_eq!(client.ask(11, id, &value("data/own")), Ok(b"OK\0".to_vec()));
    assert_eq!(client.store.usage(GUEST).unwrap().memory_bytes, used);
}
