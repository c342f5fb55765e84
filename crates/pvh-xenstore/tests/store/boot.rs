//! The keys that a guest reads at boot, and shutdown requests.

use pvh_abi::DomId;
use pvh_xenstore::{Limits, Shutdown, Store, pending_shutdown, request_shutdown};

use crate::client::{GUEST, booted, keys, refused};

#[test]
fn a_guest_finds_the_keys_libxl_writes() {
    let mut client = booted();
    let vm = "/vm/11111111-2222-3333-4444-555555555555";
    let table = [
        ("vm", vm),
        ("name", "probe"),
        ("domid", "1"),
        ("cpu/0/availability", "online"),
        ("cpu/1/availability", "offline"),
        ("memory/static-max", "32768"),
        ("memory/target", "32768"),
        ("memory/videoram", "0"),
        ("store/port", "1"),
        ("store/ring-ref", "1044476"),
        ("control/shutdown", ""),
        ("control/feature-poweroff", ""),
        ("control/feature-reboot", ""),
        ("control/feature-suspend", ""),
        ("control/sysrq", ""),
        ("device", ""),
        ("device/suspend/event-channel", ""),
        ("data", ""),
        ("drivers", ""),
        ("feature", ""),
        ("attr", ""),
        ("error", ""),
        ("control/platform-feature-multiprocessor-suspend", "1"),
        ("control/platform-feature-xs_reset_watches", "1"),
        ("console/backend", "/local/domain/0/backend/console/1/0"),
        ("console/backend-id", "0"),
        ("console/limit", "1048576"),
        ("console/type", "xenconsoled"),
        ("console/output", "pty"),
        ("console/tty", ""),
        ("console/port", "2"),
        ("console/ring-ref", "1044479"),
        ("/vm/11111111-2222-3333-4444-555555555555/uuid", &vm[4..]),
        ("/vm/11111111-2222-3333-4444-555555555555/name", "probe"),
        (
            "/local/domain/0/backend/console/1/0/frontend",
            "/local/domain/1/console",
        ),
        ("/local/domain/0/backend/console/1/0/frontend-id", "1"),
        ("/local/domain/0/backend/console/1/0/online", "1"),
        ("/local/domain/0/backend/console/1/0/state", "1"),
        ("/local/domain/0/backend/console/1/0/protocol", "vt100"),
    ];
    for (key, value) in table {
        let found = client.ask(2, 0, format!("{key}\0").as_bytes());
        assert_eq!(found, Ok(value.as_bytes().to_vec()), "{key}");
    }
}

#[test]
fn a_guest_writes_only_nodes_that_it_owns() {
    let mut client = booted();
    let own = [
        "control/shutdown",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "control/sysrq",
        "data/x",
        "drivers/x",
        "feature/x",
        "attr/x",
        "error/x",
        "device/suspend/event-channel",
    ];
    for key in own {
        let written = client.ask(11, 0, format!("{key}\x001").as_bytes());
        assert_eq!(written, Ok(b"OK\0".to_vec()), "{key}");
    }
    for key in [
        "name",
        "vm",
        "domid",
        "cpu/0/availability",
        "memory/target",
        "store/port",
        "console/tty",
        "control/new",
        "new",
        "device/new",
    ] {
        let written = client.ask(11, 0, format!("{key}\x001").as_bytes());
        assert_eq!(written, refused("EACCES"), "{key}");
    }
}

#[test]
fn linux_takes_a_shutdown_request_in_a_transaction() {
    let mut client = booted();
    let words = [
        (Shutdown::PowerOff, "poweroff"),
        (Shutdown::Reboot, "reboot"),
        (Shutdown::Halt, "halt"),
        (Shutdown::Suspend, "suspend"),
    ];
    for (shutdown, word) in words {
        request_shutdown(&mut client.store, GUEST, shutdown).unwrap();
        assert_eq!(
            pending_shutdown(&client.store, GUEST),
            Some(word.as_bytes())
        );
        let id = client.start();
        assert_eq!(client.ask(2, id, b"control/shutdown\0"), Ok(word.into()));
        client.ask(11, id, b"control/shutdown\0").unwrap();
        client.ask(7, id, b"T\0").unwrap();
        assert_eq!(pending_shutdown(&client.store, GUEST), None);
    }
}

#[test]
fn a_uuid_that_cannot_be_part_of_a_path_is_refused() {
    let mut store = Store::new(Limits::default());
    let mut keys = keys(DomId(3));
    keys.uuid = "not a path";
    let error = keys.write(&mut store).unwrap_err();
    assert_eq!(error.errno.name(), Some("EINVAL"));
    assert_eq!(error.to_string(), "the store answered EINVAL");
}
