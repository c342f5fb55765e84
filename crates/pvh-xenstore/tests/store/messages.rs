//! Each message type: its number, its reply and its errors.

use pvh_abi::DomId;
use pvh_xenstore::{Access, Header, MessageType, NotTaken, Permission};

use crate::client::{GUEST, booted, refused};

const OK: &[u8] = b"OK\0";

#[test]
fn a_header_is_type_request_transaction_and_length() {
    use zerocopy::IntoBytes;
    let header = Header::new(MessageType::READ, 0x0403_0201, 0x0807_0605, b"name\0");
    let bytes = [2, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 0, 0, 0];
    assert_eq!(header.as_bytes(), bytes);
}

#[test]
fn a_reply_echoes_both_ids() {
    let mut client = booted();
    for (kind, payload) in [(2, &b"name\0"[..]), (2, b"nothing\0"), (99, b""), (2, b"")] {
        let header = Header::new(MessageType(kind), 0xdead_beef, 0, payload);
        client.store.handle(GUEST, &header, payload).unwrap();
        let reply = client.store.take_message(GUEST).unwrap();
        assert_eq!(reply.header.request_id.get(), 0xdead_beef);
        assert_eq!(reply.header.transaction_id.get(), 0);
        assert_eq!(reply.header.len_bytes.get() as usize, reply.payload.len());
    }
    let header = Header::new(MessageType::READ, 1, 77, b"name\0");
    client.store.handle(GUEST, &header, b"name\0").unwrap();
    let reply = client.store.take_message(GUEST).unwrap();
    assert_eq!(
        (reply.header.kind.get(), reply.header.transaction_id.get()),
        (16, 77)
    );
    assert_eq!(&*reply.payload, b"ENOENT\0");
}

#[test]
fn privileged_messages_are_eacces_for_a_guest() {
    let mut client = booted();
    for kind in [0, 8, 9, 17, 18, 19] {
        assert_eq!(client.ask(kind, 0, b"1\0"), refused("EACCES"), "{kind}");
        // This error comes before that of an unknown transaction.
        assert_eq!(client.ask(kind, 9, b"1\0"), refused("EACCES"), "{kind}");
    }
    client.domid = DomId(0);
    assert_eq!(client.ask(17, 0, b"1\0"), Ok(b"T\0".to_vec()));
    assert_eq!(client.ask(17, 0, b"2\0"), Ok(b"F\0".to_vec()));
    assert_eq!(client.ask(0, 0, b"help\0"), refused("ENOSYS"));
}

#[test]
fn an_unknown_type_is_enosys() {
    let mut client = booted();
    for kind in [15, 16, 20, 23, 24, 25, 26, 27, 65535, u32::MAX] {
        assert_eq!(client.ask(kind, 0, b"1\0"), refused("ENOSYS"), "{kind}");
        assert_eq!(client.ask(kind, 9, b""), refused("ENOSYS"), "{kind}");
    }
}

#[test]
fn read_returns_the_raw_value_without_a_terminator() {
    let mut client = booted();
    assert_eq!(client.ask(2, 0, b"name\0"), Ok(b"probe".to_vec()));
    assert_eq!(
        client.ask(2, 0, b"/local/domain/1/name\0"),
        Ok(b"probe".to_vec())
    );
    assert_eq!(client.ask(2, 0, b"nothing\0"), refused("ENOENT"));
    for bad in [
        &b""[..],
        b"name",
        b"\0",
        b"name\0name\0",
        b"name/\0",
        b"a//b\0",
        b"a.b\0",
        b"@x\0",
    ] {
        assert_eq!(client.ask(2, 0, bad), refused("EINVAL"), "{bad:?}");
    }
}

#[test]
fn a_caller_without_rights_on_the_node_above_gets_eacces() {
    let mut client = booted();
    for hidden in [
        "/nothing",
        "/",
        "/local",
        "/local/domain/0",
        "/tool/xenstored",
        "/local/domain/0/x",
    ] {
        let payload = [hidden.as_bytes(), b"\0"].concat();
        assert_eq!(client.ask(2, 0, &payload), refused("EACCES"), "{hidden}");
    }
}

#[test]
fn directory_returns_names_with_a_nul_each_in_the_order_of_their_making() {
    let mut client = booted();
    for key in ["z", "a", "m"] {
        client
            .ask(12, 0, format!("data/{key}\0").as_bytes())
            .unwrap();
    }
    assert_eq!(client.ask(1, 0, b"data\0"), Ok(b"z\0a\0m\0".to_vec()));
    assert_eq!(client.ask(1, 0, b"name\0"), Ok(Vec::new()));
    assert_eq!(client.ask(1, 0, b"nothing\0"), refused("ENOENT"));
}

#[test]
fn a_directory_of_more_than_4096_bytes_is_e2big_and_can_be_read_in_parts() {
    let mut client = booted();
    for index in 0..500 {
        let path = format!("/local/domain/1/cpu/x{index:09}");
        client.store.write(&path, b"").unwrap();
    }
    assert_eq!(client.ask(1, 0, b"cpu\0"), refused("E2BIG"));
    let whole: Vec<u8> = client
        .store
        .children("/local/domain/1/cpu")
        .flat_map(|name| [name, b"\0"].concat())
        .collect();
    let mut found = Vec::new();
    let mut parts = 0;
    loop {
        let reply = client
            .ask(22, 0, format!("cpu\0{}\0", found.len()).as_bytes())
            .unwrap();
        assert!(reply.len() <= 4096);
        let nul = reply.iter().position(|&byte| byte == 0).unwrap();
        assert!(reply[..nul].iter().all(u8::is_ascii_digit), "a generation");
        parts += 1;
        let names = &reply[nul + 1..];
        let is_last = names.ends_with(b"\0\0") || names == b"\0";
        found.extend_from_slice(if is_last {
            &names[..names.len() - 1]
        } else {
            names
        });
        if is_last {
            break;
        }
    }
    assert_eq!((parts, found == whole), (2, true));
    let past = client.ask(22, 0, b"cpu\x0099999\0").unwrap();
    assert!(past.ends_with(b"\0\0") && past.len() > 2);
}

#[test]
fn write_makes_missing_parents_with_empty_values() {
    let mut client = booted();
    assert_eq!(client.ask(11, 0, b"data/a/b\0one\0two"), Ok(OK.to_vec()));
    assert_eq!(client.ask(2, 0, b"data/a/b\0"), Ok(b"one\0two".to_vec()));
    assert_eq!(client.ask(2, 0, b"data/a\0"), Ok(Vec::new()));
    assert_eq!(client.ask(11, 0, b"data/a"), refused("EINVAL"));
    assert_eq!(client.ask(11, 0, b"data/a/\0v"), refused("EINVAL"));
    assert_eq!(client.ask(11, 0, b"name\0v"), refused("EACCES"));
    assert_eq!(client.ask(11, 0, b"new\0v"), refused("EACCES"));
}

#[test]
fn mkdir_of_an_existing_node_is_ok_and_keeps_its_value() {
    let mut client = booted();
    client.ask(11, 0, b"data/a\0v").unwrap();
    assert_eq!(client.ask(12, 0, b"data/a\0"), Ok(OK.to_vec()));
    assert_eq!(client.ask(2, 0, b"data/a\0"), Ok(b"v".to_vec()));
    assert_eq!(client.ask(12, 0, b"name\0"), refused("EACCES"));
    assert_eq!(client.ask(12, 0, b"data/a"), refused("EINVAL"));
}

#[test]
fn rm_removes_all_nodes_below_and_fails_only_without_a_parent() {
    let mut client = booted();
    client.ask(11, 0, b"data/a/b/c\0v").unwrap();
    assert_eq!(client.ask(13, 0, b"data/a\0"), Ok(OK.to_vec()));
    assert_eq!(client.ask(2, 0, b"data/a/b/c\0"), refused("ENOENT"));
    assert_eq!(client.ask(1, 0, b"data\0"), Ok(Vec::new()));
    assert_eq!(client.ask(13, 0, b"data/a\0"), Ok(OK.to_vec()));
    assert_eq!(client.ask(13, 0, b"data/a/b\0"), refused("ENOENT"));
    assert_eq!(client.ask(13, 0, b"/\0"), refused("EACCES"));
    assert_eq!(
        client.store.remove("/").unwrap_err().errno.name(),
        Some("EINVAL")
    );
}

#[test]
fn permissions_name_the_owner_first() {
    let mut client = booted();
    assert_eq!(client.ask(3, 0, b"name\0"), Ok(b"n0\0r1\0".to_vec()));
    assert_eq!(client.ask(3, 0, b"data\0"), Ok(b"n1\0".to_vec()));
    assert_eq!(client.ask(14, 0, b"data\0b1\0w0\0"), Ok(OK.to_vec()));
    assert_eq!(client.ask(3, 0, b"data\0"), Ok(b"b1\0w0\0".to_vec()));
    assert_eq!(client.ask(14, 0, b"data\0n0\0"), refused("EPERM"));
    assert_eq!(client.ask(14, 0, b"data\0n5\0"), refused("ENOENT"));
    assert_eq!(client.ask(14, 0, b"name\0n0\0"), refused("EACCES"));
    for bad in [
        &b"data\0"[..],
        b"data",
        b"data\0x1\0",
        b"data\0n\0",
        b"@x\0n1\0",
    ] {
        assert_eq!(client.ask(14, 0, bad), refused("EINVAL"), "{bad:?}");
    }
    assert_eq!(
        client.ask(14, 0, b"@releaseDomain\0n1\0"),
        refused("EACCES")
    );
}

#[test]
fn a_guest_owns_nodes_that_it_makes_and_they_inherit_other_permissions() {
    let mut client = booted();
    let entries = [
        Permission::new(DomId(0), Access::Write),
        Permission::new(DomId(0), Access::Both),
    ];
    client.store.write("/open", b"").unwrap();
    client.store.set_permissions("/open", &entries).unwrap();
    client.ask(11, 0, b"/open/new\0v").unwrap();
    assert_eq!(client.ask(3, 0, b"/open/new\0"), Ok(b"w1\0b0\0".to_vec()));
    client.store.write("/open/new/below", b"").unwrap();
    assert_eq!(
        client.ask(3, 0, b"/open/new/below\0"),
        Ok(b"w1\0b0\0".to_vec())
    );
}

#[test]
fn an_entry_for_a_domain_that_is_connected_later_grants_nothing() {
    let mut client = booted();
    client.ask(14, 0, b"data\0n1\0b2\0").unwrap();
    client.store.introduce(DomId(2));
    client.domid = DomId(2);
    assert_eq!(
        client.ask(2, 0, b"/local/domain/1/data\0"),
        refused("EACCES")
    );
    client.domid = GUEST;
    client.ask(14, 0, b"data\0n1\0b2\0").unwrap();
    client.domid = DomId(2);
    assert_eq!(client.ask(2, 0, b"/local/domain/1/data\0"), Ok(Vec::new()));
}

#[test]
fn a_release_removes_the_domains_nodes_and_entries() {
    let mut client = booted();
    client.store.introduce(DomId(2));
    client.ask(11, 0, b"data/a/b\0v").unwrap();
    client
        .store
        .set_permissions(
            "/tool",
            &[
                Permission::new(DomId(0), Access::None),
                Permission::new(GUEST, Access::Read),
            ],
        )
        .unwrap();
    client.store.release(GUEST);
    assert_eq!(client.store.usage(GUEST), None);
    assert_eq!(client.store.read("/local/domain/1/data"), None);
    assert_eq!(
        client.store.read("/local/domain/1/name"),
        Some(&b"probe"[..])
    );
    client.store.introduce(GUEST);
    assert_eq!(client.ask(2, 0, b"/tool\0"), refused("EACCES"));
    assert_eq!(client.store.usage(GUEST).unwrap().nodes, 0);
    let header = Header::new(MessageType::READ, 0, 0, b"");
    let absent = client.store.handle(DomId(9), &header, b"");
    assert_eq!(absent, Err(NotTaken::NotConnected(DomId(9).into())));
}

#[test]
fn get_domain_path_takes_any_number() {
    let mut client = booted();
    for (domid, path) in [
        ("1", "/local/domain/1"),
        ("x", "/local/domain/0"),
        ("7x", "/local/domain/7"),
    ] {
        let reply = client.ask(10, 0, format!("{domid}\0").as_bytes()).unwrap();
        assert_eq!(reply, format!("{path}\0").as_bytes());
    }
    assert_eq!(client.ask(10, 0, b"1"), refused("EINVAL"));
}
