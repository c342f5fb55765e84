//! The keys of the back end.

use std::collections::BTreeMap;

use pvh_blkif::{DiscardSupport, Disk, DiskError, Features};

fn map(keys: impl Iterator<Item = (&'static str, String)>) -> BTreeMap<&'static str, String> {
    keys.collect()
}

#[test]
fn a_disk_tells_its_size_in_512_bytes_whatever_its_sectors_are() {
    let disk = Disk::new(1 << 30).unwrap();
    let disk = disk.with_physical_sectors(4096).unwrap();
    let keys = map(disk.keys());
    let want = [
        ("feature-flush-cache", "1"),
        ("info", "0"),
        ("mode", "w"),
        ("physical-sector-size", "4096"),
        ("sector-size", "512"),
        ("sectors", "2097152"),
    ];
    assert_eq!(
        keys,
        want.map(|(key, value)| (key, value.to_owned())).into()
    );
}

#[test]
fn a_read_only_disk_and_a_cdrom_say_so_and_offer_no_discard() {
    let support = DiscardSupport {
        granularity_bytes: 65536,
        alignment_bytes: 512,
        has_secure: true,
    };
    let disk = Disk::new(2048).unwrap().with_discard(support);
    let keys = map(disk.keys());
    let discard = [
        "feature-discard",
        "discard-granularity",
        "discard-alignment",
        "discard-secure",
    ];
    assert_eq!(
        discard.map(|key| keys[key].as_str()),
        ["1", "65536", "512", "1"]
    );
    let keys = map(disk.read_only().keys());
    assert_eq!((keys["info"].as_str(), keys["mode"].as_str()), ("4", "r"));
    assert!(discard.iter().all(|key| !keys.contains_key(key)));
    assert_eq!(map(disk.cdrom().keys())["info"], "5");
}

#[test]
fn features_name_the_largest_ring_both_ways() {
    let keys = map(Features::default().keys());
    let want = [
        ("feature-max-indirect-segments", "256"),
        ("max-ring-page-order", "4"),
        ("max-ring-pages", "16"),
        ("multi-queue-max-queues", "1"),
    ];
    assert_eq!(
        keys,
        want.map(|(key, value)| (key, value.to_owned())).into()
    );
    let keys = map(Features::new(0, 99, 0).keys());
    assert_eq!(keys["max-ring-page-order"], "4");
    assert_eq!(keys["multi-queue-max-queues"], "1");
    assert!(!keys.contains_key("feature-max-indirect-segments"));
    assert_eq!(
        map(Features::new(4, 0, 9999).keys())["feature-max-indirect-segments"],
        "256"
    );
    assert_eq!(map(Features::new(4, 1, 0).keys())["max-ring-pages"], "2");
}

#[test]
fn disks_that_cannot_be() {
    for len_bytes in [0, 511, 513, u64::MAX] {
        assert_eq!(Disk::new(len_bytes), Err(DiskError::Size { len_bytes }));
    }
    for bytes in [0, 256, 513, 4097] {
        let error = Disk::new(512).unwrap().with_physical_sectors(bytes);
        assert_eq!(error, Err(DiskError::PhysicalSector { bytes }));
    }
}
