//! The queue of a host connection is bounded, and no change is missed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pvh_xenstore::{HostId, Limits, Store};

use crate::{
    client::{GUEST, booted, limited},
    host::drain,
};

const DATA: &str = "/local/domain/1/data";

/// Returns limits with this much room for waiting messages.
fn room(memory_bytes: usize) -> Limits {
    let mut limits = Limits::default();
    limits.memory_bytes = memory_bytes;
    limits
}

#[test]
fn events_without_room_become_one_event_with_the_watched_path() {
    // An event costs 114 bytes beside `/tool/N` and `t`.
    let mut client = limited(room(16384));
    let store = &mut client.store;
    let host = store.connect_host();
    let other = store.connect_host();
    store.host(host).watch("/tool", b"t").unwrap();
    store.host(other).watch("/tool", b"t").unwrap();
    drain(store, host);
    drain(store, other);
    for index in 0..200 {
        store.write(&format!("/tool/{index}"), b"").unwrap();
        if index % 10 == 0 {
            drain(store, other);
        }
    }
    let usage = store.usage(host).unwrap();
    assert!(usage.memory_bytes <= 16384 + 200, "{usage:?}");
    let told = drain(store, host);
    assert!(told.len() > 100 && told.len() < 200, "{}", told.len());
    let (last, before) = told.split_last().unwrap();
    assert_eq!(last.0, "/tool");
    for (index, (path, _)) in before.iter().enumerate() {
        assert_eq!(*path, format!("/tool/{index}"));
    }
    let told = drain(store, other);
    assert_eq!(told.len(), 9, "a connection that keeps up misses nothing");
    store.write("/tool/0", b"").unwrap();
    assert_eq!(drain(store, host), [("/tool/0".into(), "t".into())]);
}

#[test]
fn a_removed_watch_reports_no_missed_events() {
    let mut client = limited(room(16384));
    let store = &mut client.store;
    let host = store.connect_host();
    store.host(host).watch("/tool", b"t").unwrap();
    for index in 0..200 {
        store.write(&format!("/tool/{index}"), b"").unwrap();
    }
    store.host(host).unwatch("/tool", b"t").unwrap();
    let told = drain(store, host);
    assert_eq!(told.iter().filter(|(path, _)| path == "/tool").count(), 1);
    let empty = store.usage(host).unwrap();
    assert_eq!((empty.memory_bytes, empty.watches), (0, 0));
}

/// A copy of a subtree. It is kept up to date by reading again the nodes that events name.
#[derive(Default)]
struct Mirror(BTreeMap<String, Vec<u8>>);

impl Mirror {
    fn reread(&mut self, store: &mut Store, host: HostId, path: &str) {
        let below = format!("{path}/");
        self.0
            .retain(|key, _| key != path && !key.starts_with(&below));
        // A write makes missing nodes above without events for them.
        let above = path.rsplit_once('/').unwrap().0;
        if path != DATA && !self.0.contains_key(above) {
            return self.reread(store, host, above);
        }
        let Ok(value) = store.host(host).read(path) else {
            return;
        };
        self.0.insert(path.to_owned(), value);
        for name in store.host(host).directory(path).unwrap() {
            self.reread(store, host, &format!("{path}/{name}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// A client that reads again each node that an event names has an exact copy of the tree once
    /// it has taken all events, also if events found no room.
    #[test]
    fn a_client_that_reads_nodes_again_after_events_misses_no_change(
        steps in proptest::collection::vec((0_u8..9, "[ab](/[ab]){0,2}", any::<u8>()), 1..80),
        room_bytes in 12_000_usize..20_000,
    ) {
        let mut client = limited(room(room_bytes));
        let host = client.store.connect_host();
        client.store.host(host).watch(DATA, b"mirror").unwrap();
        let mut mirror = Mirror::default();
        mirror.reread(&mut client.store, host, DATA);
        drain(&mut client.store, host);
        let mut inside = None;
        // Fill the queue but for one or two events, so that later events find no room.
        for index in 0..200 {
            if client.store.usage(host).unwrap().memory_bytes + 400 > room_bytes {
                break;
            }
            client.store.write(&format!("{DATA}/filler{index}"), b"").unwrap();
            client.store.remove(&format!("{DATA}/filler{index}")).unwrap();
        }
        for (what, path, value) in steps {
            let id = inside.unwrap_or(0);
            let path = format!("data/{path}\0");
            match what {
                0..=2 => drop(client.ask(11, id, &[path.as_bytes(), &[value]].concat())),
                3 | 4 => drop(client.ask(13, id, path.as_bytes())),
                5 if inside.is_none() => inside = Some(client.start()),
                6 => {
                    if let Some(id) = inside.take() {
                        let end = if value > 60 { b"T\0" } else { b"F\0" };
                        let _ = client.ask(7, id, end);
                    }
                }
                7 => {
                    if let Some(event) = client.store.host(host).take_event() {
                        mirror.reread(&mut client.store, host, event.path());
                    }
                }
                _ => {}
            }
        }
        while let Some(event) = client.store.host(host).take_event() {
            mirror.reread(&mut client.store, host, event.path());
        }
        let mut whole = Mirror::default();
        whole.reread(&mut client.store, host, DATA);
        prop_assert_eq!(mirror.0, whole.0);
    }
}

#[test]
fn no_limit_but_that_of_waiting_events_holds_for_the_host() {
    let mut client = booted();
    let host = client.store.connect_host();
    for index in 0..1100 {
        let path = format!("/tool/host/{index}");
        client.store.host(host).write(&path, &[0; 3000]).unwrap();
        client.store.host(host).watch(&path, b"t").unwrap();
        client.store.host(host).start().unwrap();
    }
    let usage = client.store.usage(host).unwrap();
    assert_eq!(
        (usage.nodes, usage.watches, usage.transactions),
        (0, 1100, 1100)
    );
    let guest = client.store.usage(GUEST).unwrap();
    assert!(guest.memory_bytes < 10_000, "nothing of it is the guest's");
    client.store.reset(host);
    assert_eq!(client.store.usage(host).unwrap().memory_bytes, 0);
}
