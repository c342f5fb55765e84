//! How long the domain's lock is held and waited for. The longest times are printed:
//! `cargo test --release -p pvh-xen platform::tests -- --ignored --nocapture`.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]
#![expect(clippy::arithmetic_side_effects, reason = "a test may panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pvh_abi::Gpa;
use pvh_domain::Origin;
use pvh_hypercall::{Call, Outcome, Width};
use pvh_memory::{GuestMemory, LinearMemory, PagingState};

use super::XenPlatform;
use crate::{EndReason, Host, Notice, fixture::platform};

/// A host that takes everything.
#[derive(Debug)]
struct Quiet;

impl Host for Quiet {
    fn console_output(&self, _: &[u8]) -> bool {
        true
    }
    fn console_has_room(&self) -> bool {
        true
    }
    fn wait_for_console_room(&self) {}
    fn console_input_wanted(&self) {}
    fn guest_log(&self, _: &[u8]) {}
    fn notice(&self, _: Notice) {}
    fn end(&self, _: EndReason) {}
    fn is_stopping(&self) -> bool {
        false
    }
}

/// Where the arguments of the calls are.
const LIST: u64 = 0x2_0000;
const STRUCTURE: u64 = 0x1_0000;
const FRAMES: u64 = 0x1_8000;

impl XenPlatform {
    fn put(&self, at: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.ram.write(Gpa(at), &bytes).unwrap();
    }

    /// A 32-bit multicall of 32 entries, each the same but for its first argument.
    fn put_list(&self, op: u32, first: [u32; 2], second: u32, third: u32) {
        for index in 0..32_u32 {
            let argument = if index % 2 == 0 { first[0] } else { first[1] };
            let at = LIST + u64::from(index) * 32;
            self.put(at, &[op, 0, argument, second, third, 0, 0, 0]);
        }
    }

    /// Extents of 2^`order` frames.
    fn put_extents(&self, order: u32, gfns: impl Iterator<Item = u32>) {
        let gfns: Vec<u32> = gfns.collect();
        self.put(FRAMES, &gfns);
        let count = u32::try_from(gfns.len()).unwrap();
        let list = u32::try_from(FRAMES).unwrap();
        self.put(STRUCTURE, &[list, count, order, 0, 0x7FF0]);
    }

    /// Makes the multicall, to its end or for a second; returns the longest go and their number.
    fn longest_go(&self) -> (Duration, u32) {
        let io = LinearMemory::new(&*self.ram, &PagingState::UNPAGED, &self.paging);
        let mut call = Call::new(Width::Compat, 13, [LIST, 32, 0, 0, 0]);
        let (mut longest, mut goes) = (Duration::ZERO, 0);
        let mut effects = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            goes += 1;
            let mut took = Duration::ZERO;
            let answer = self.call_domain(&mut effects, |domain, memory, now, effects| {
                let origin = Origin {
                    vcpu: 0,
                    io: &io,
                    takes_interrupts: false,
                    now,
                };
                let start = Instant::now();
                let answer = domain.hypercall(memory, &origin, call, effects);
                took = start.elapsed();
                answer
            });
            effects.clear();
            longest = longest.max(took);
            match answer.outcome {
                Outcome::Again(rest) => call = rest,
                Outcome::Return(_) => break,
            }
        }
        (longest, goes)
    }

    fn measure(&self, what: &str) {
        let (longest, goes) = self.longest_go();
        println!("go: {what}: longest of {goes} goes {longest:?}");
        // On a host that does much else; the threat model has what a quiet one takes.
        assert!(longest < Duration::from_millis(500), "{what}: {longest:?}");
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn no_go_of_the_longest_calls_holds_the_domain_for_long() {
    let (platform, _vcpu) = platform(Arc::new(Quiet));
    let structure = u32::try_from(STRUCTURE).unwrap();
    // memory_op: 256 extents of 256 pages in a hole, all at one place, put there and taken away.
    platform.put_extents(8, (0..256).map(|_| 0xF_0000));
    platform.put_list(12, [6, 1], structure, 0);
    platform.measure("pages in a hole");
    // The same with RAM that was written to, 2 MiB an extent.
    for page in 0x1000..0x4000_u64 {
        platform.ram.write(Gpa(page * 4096), &[1]).unwrap();
    }
    platform.put_extents(9, (0..24).map(|index| 0x1000 + index * 512));
    platform.put_list(12, [1, 6], structure, 0);
    platform.measure("RAM given back and taken");
    platform.put_list(12, [6, 6], structure, 0);
    platform.measure("RAM covered");
    platform.put_extents(0, (0..256).map(|index| 0x1000 + index));
    platform.put_list(12, [1, 6], structure, 0);
    platform.measure("single pages of RAM");
    // grant_table_op: 256 copies of a page between two frames of the guest.
    for index in 0..256_u64 {
        let copy = [0x1000, 0x7FF0, 0x1001, 0x7FF0, 4096, 0];
        platform.put(0x10_0000 + index * 24, &copy);
    }
    platform.put_list(20, [5, 5], 0x10_0000, 256);
    platform.measure("copies of pages");
    // event_channel_op: ports until there are no more, and all closed.
    platform.put(STRUCTURE, &[0x7FF0 << 16 | 0x7FF0, 0]);
    platform.put_list(32, [6, 6], structure, 0);
    platform.measure("new ports");
    platform.put(STRUCTURE, &[0x7FF0, 0]);
    platform.put_list(32, [10, 10], structure, 0);
    platform.measure("all ports closed");
}

/// Three threads take the lock without a pause, as vCPUs that call without end do.
#[test]
#[ignore = "needs /dev/kvm"]
fn a_thread_that_waits_for_the_domain_gets_it_in_its_turn() {
    let (platform, _vcpu) = platform(Arc::new(Quiet));
    let is_done = AtomicBool::new(false);
    let mut longest = Duration::ZERO;
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let domain = platform.domain();
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_millis(1) {}
                    drop(domain);
                }
            });
        }
        for _ in 0..200 {
            let start = Instant::now();
            drop(platform.domain());
            longest = longest.max(start.elapsed());
            thread::sleep(Duration::from_micros(500));
        }
        is_done.store(true, Ordering::Relaxed);
    });
    println!("lock: three others hold it for 1 ms each, without a pause: longest wait {longest:?}");
    // On a host that does much else; the threat model has what a quiet one takes.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
}
