//! Tests of the threads of devices.

use super::*;

/// A thread for the disk of a connected guest.
fn started(
    machine: Machine,
) -> (
    Arc<ModelGuest>,
    DeviceThreads,
    Arc<ModelHost>,
    Option<TempDir>,
) {
    let Machine {
        guest,
        back_end,
        host,
        _dir: dir,
        ..
    } = machine;
    let threads = DeviceThreads::start(vec![back_end.into_device()], &*host).unwrap();
    (guest, threads, host, dir)
}

/// Puts a read of sector 5 into the ring, raises the event, and waits for the answer.
fn read_by_thread(guest: &ModelGuest, port: u32) {
    let slot = RING + 64;
    guest.put(slot, &[0, 1, 0, 0]);
    guest.put(slot + 16, &5_u64.to_le_bytes());
    guest.put(slot + 24, &9_u32.to_le_bytes());
    guest.put(RING, &1_u32.to_le_bytes());
    assert_eq!(guest.call(32, 4, &[port]), 0);
    for _ in 0..1000 {
        if guest.word(RING + 8) == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no answer");
}

#[test]
fn threads_serve_events_and_end() {
    let mut machine = Machine::new();
    let port = machine.publish();
    machine.grant(9, 1, 0x30);
    let (guest, mut threads, host, _dir) = started(machine);
    read_by_thread(&guest, port);
    assert_eq!(guest.bytes(0x3_0000, 2), [5, 5]);
    assert!(threads.stop().is_none());
    assert_eq!(guest.word(TABLE + 64) & 0x18, 0, "the ring is given back");
    assert!(!host.has_panicked());
}

#[test]
fn a_thread_that_does_not_end_is_left_behind_and_named() {
    let mut machine = Machine::new();
    let port = machine.publish();
    machine.grant(9, 1, 0x30);
    let (guest, mut threads, _host, _dir) = started(machine);
    let closed = guest.gate.lock().unwrap();
    read_by_thread(&guest, port);
    let stuck = threads.stop_within(Duration::from_millis(50)).unwrap();
    assert!(stuck.to_string().starts_with("disk xvda ("), "{stuck}");
    drop(closed);
    assert!(threads.stop().is_none(), "told once");
}
