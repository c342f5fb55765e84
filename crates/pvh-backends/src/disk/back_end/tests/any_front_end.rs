//! A test with a front end that does anything.

use super::*;

impl Machine {
    /// Does one thing that a front end can do, whether it is sensible or not.
    fn do_anything(&mut self, below: &mut impl FnMut(u64) -> u64) {
        let word = |limit: u64, below: &mut dyn FnMut(u64) -> u64| below(limit) as u32;
        match below(12) {
            0 => self.guest.write_key("state", below(10)),
            1 => {
                // So that some connections are made.
                self.guest.write_key("state", 1);
                self.run();
                let port = self.publish();
                assert_eq!(self.guest.call(32, 3, &[port]), 0);
            }
            2 => {
                let keys = ["ring-ref", "event-channel", "protocol", "ring-page-order"];
                let key = keys[below(4) as usize];
                self.guest.write_key(key, below(20));
            }
            3 => self.grant(below(16), word(64, below), 0x30),
            4 => self.grant(9, 1, word(0x40, below)),
            5 => {
                let index = self.guest.word(RING + 8).wrapping_add(word(40, below));
                self.guest.put(RING, &index.to_le_bytes());
            }
            6 => self.guest.put(RING + 64 + below(4000), &[below(256) as u8]),
            7 => {
                let path = self.back_end.handshake.state.device().front_path();
                self.guest.change_store(&[Change::Remove { path }]).unwrap();
            }
            _ => {
                let slot = RING + 64 + 112 * below(32);
                let operation = [0, 3, 5, 6][below(4) as usize];
                self.guest.put(slot, &[operation, 1]);
            }
        }
        self.run();
    }
}

/// A front end that does anything in any order: states, keys, indices, requests, grants, pages that
/// go away. Nothing panics or spins, and when it has closed, nothing is in use.
#[test]
fn any_front_end_is_survived_and_leaves_nothing_in_use() {
    let mut machine = Machine::new();
    let mut below = numbers();
    let mut connected = 0;
    for _ in 0..20_000 {
        machine.do_anything(&mut below);
        connected += u32::from(machine.back_end.ring.link.is_some());
    }
    assert!(connected > 1000, "{connected}");
    machine.guest.write_key("state", 6);
    machine.run();
    assert!(machine.back_end.ring.link.is_none());
    // The marks are gone, but for those that the front end has set itself.
    machine.guest.put(TABLE, &[0; 4096]);
    machine.guest.write_key("ring-page-order", 0);
    machine.guest.write_key("state", 1);
    machine.run();
    let port = machine.publish();
    machine.grant(9, 1, 0x30);
    assert_eq!(machine.request(0, 5, 1), 0);
    assert!(machine.is_used(8) && !machine.is_used(9));
    assert_eq!(machine.guest.call(32, 3, &[port]), 0);
    machine.guest.write_key("state", 6);
    machine.run();
    assert!(!machine.is_used(8));
    assert_eq!(machine.guest.inner.lock().unwrap().bells.len(), 0);
    let lines = machine.said().lines().count();
    assert!(lines <= 3, "each topic is told once: {lines}");
}
