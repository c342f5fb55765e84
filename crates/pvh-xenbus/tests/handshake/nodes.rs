//! The nodes of a device, as libxl writes them.

use pvh_abi::DomId;
use pvh_xenbus::{Device, apply};
use pvh_xenstore::{Header, Limits, MessageType, Store};

const GUEST: DomId = DomId(1);
const NIC: Device = Device {
    guest: GUEST,
    class: "vif",
    id: 0,
};

fn store() -> Store {
    let mut store = Store::new(Limits::default());
    store.introduce(GUEST);
    let host = store.connect_host();
    let changes = NIC.create(&[("mac", "00:16:3e:00:00:01")], &[("handle", "0")]);
    apply(&changes, &mut store.host(host)).unwrap();
    store
}

fn ask(store: &mut Store, kind: MessageType, payload: &[u8]) -> String {
    let header = Header::new(kind, 1, 0, payload);
    store.handle(GUEST, &header, payload).unwrap();
    let reply = store.take_message(GUEST).unwrap();
    String::from_utf8(reply.payload.to_vec()).unwrap()
}

#[test]
fn the_nodes_and_permissions_are_those_of_libxl() {
    let mut store = store();
    let back = "/local/domain/0/backend/vif/1/0";
    let front = "/local/domain/1/device/vif/0";
    let libxl = "/libxl/1/device/vif/0";
    for (path, value) in [
        (format!("{front}/backend"), back),
        (format!("{front}/backend-id"), "0"),
        (format!("{front}/state"), "1"),
        (format!("{front}/mac"), "00:16:3e:00:00:01"),
        (format!("{back}/frontend"), front),
        (format!("{back}/frontend-id"), "1"),
        (format!("{back}/online"), "1"),
        (format!("{back}/state"), "1"),
        (format!("{back}/handle"), "0"),
        (format!("{libxl}/frontend"), front),
        (format!("{libxl}/backend"), back),
        (format!("{libxl}/handle"), "0"),
    ] {
        assert_eq!(store.read(&path), Some(value.as_bytes()), "{path}");
    }
    for (path, permissions) in [(front, "n1\0r0\0"), (back, "n0\0r1\0")] {
        let payload = format!("{path}\0");
        let found = ask(&mut store, MessageType::GET_PERMS, payload.as_bytes());
        assert_eq!(found, permissions);
        let payload = format!("{path}/state\0");
        let found = ask(&mut store, MessageType::GET_PERMS, payload.as_bytes());
        assert_eq!(found, permissions, "nodes inherit");
    }
    let hidden = format!("{libxl}/backend\0");
    let found = ask(&mut store, MessageType::READ, hidden.as_bytes());
    assert_eq!(found, "EACCES\0");
    let state = format!("{front}/state\x003");
    assert_eq!(
        ask(&mut store, MessageType::WRITE, state.as_bytes()),
        "OK\0"
    );
    let state = format!("{back}/state\x003");
    let found = ask(&mut store, MessageType::WRITE, state.as_bytes());
    assert_eq!(found, "EACCES\0");
}

#[test]
fn a_removal_takes_all_folders_and_can_be_repeated() {
    let mut store = store();
    let host = store.connect_host();
    for _ in 0..2 {
        apply(&NIC.remove(), &mut store.host(host)).unwrap();
    }
    for path in [NIC.front_path(), NIC.back_path(), NIC.libxl_path()] {
        assert_eq!(store.read(&path), None);
    }
}

#[test]
fn a_device_that_is_made_again_has_no_old_nodes() {
    let mut store = store();
    let host = store.connect_host();
    let left = format!("{}/tx-ring-ref", NIC.front_path());
    store.write(&left, b"8").unwrap();
    apply(&NIC.create(&[], &[]), &mut store.host(host)).unwrap();
    assert_eq!(store.read(&left), None);
}
