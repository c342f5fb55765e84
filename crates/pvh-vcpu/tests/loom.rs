//! Every interleaving of a few threads on one set, by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p pvh-vcpu --test loom --release`.
#![cfg(loom)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop"
)]

use loom::{sync::Arc, thread};
use pvh_abi::vcpu::VcpuHvmContext;
use pvh_vcpu::{CpuPolicy, Effect, Orders, Vcpu, VcpuError, VcpuSet};
use zerocopy::FromZeros;

#[expect(
    dead_code,
    unreachable_pub,
    reason = "the library's file, of which each test uses a part"
)]
#[path = "../src/shared.rs"]
mod shared;

/// What `shared` finds in place of std's.
mod sync {
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use shared::SharedVcpuSet;

const POLICY: CpuPolicy = CpuPolicy {
    cr4_bits: 0x7ff,
    efer_bits: 0xd01,
    physical_address_bits: 39,
};

/// The smallest 64-bit context that passes.
fn context() -> VcpuHvmContext {
    let mut context = VcpuHvmContext::new_zeroed();
    context.mode.set(1);
    let mut put = |at: usize, value: u64| {
        context.cpu_regs[at..][..8].copy_from_slice(&value.to_le_bytes());
    };
    put(64, 0x1000);
    put(80, 0x8000_0011);
    put(96, 0x20);
    put(104, 0x100);
    context
}

fn set(count: usize) -> Arc<SharedVcpuSet> {
    Arc::new(SharedVcpuSet::new(count))
}

#[test]
fn no_start_is_lost_whenever_the_thread_begins_to_wait() {
    loom::model(|| {
        let set = set(2);
        let secondary = thread::spawn({
            let set = Arc::clone(&set);
            move || set.wait(1).unwrap()
        });
        set.initialise(1, &context(), &POLICY).unwrap();
        assert_eq!(set.up(1), Ok(Some(Effect::Start(1))));
        let Orders::Run(Some(state)) = secondary.join().unwrap() else {
            panic!("the secondary vCPU starts with its registers");
        };
        assert_eq!(state.rip, 0x1000);
    });
}

#[test]
fn a_stop_and_a_start_in_the_way_lose_no_registers() {
    loom::model(|| {
        let set = set(2);
        set.initialise(1, &context(), &POLICY).unwrap();
        let toggler = thread::spawn({
            let set = Arc::clone(&set);
            move || {
                set.up(1).unwrap();
                set.down(1).unwrap();
                set.up(1).unwrap();
            }
        });
        let secondary = thread::spawn({
            let set = Arc::clone(&set);
            move || set.wait(1).unwrap()
        });
        let orders = secondary.join().unwrap();
        toggler.join().unwrap();
        assert!(
            matches!(orders, Orders::Run(Some(_))),
            "whichever start it saw"
        );
        assert_eq!(set.orders(1), Ok(Orders::Run(None)), "and handed out once");
    });
}

#[test]
fn the_last_down_is_seen_exactly_once() {
    loom::model(|| {
        let set = set(2);
        set.initialise(1, &context(), &POLICY).unwrap();
        set.up(1).unwrap();
        let other = thread::spawn({
            let set = Arc::clone(&set);
            move || set.down(1).unwrap()
        });
        let effects = [set.down(0).unwrap(), other.join().unwrap()];
        let count =
            |wanted: fn(&Effect) -> bool| effects.iter().flatten().filter(|e| wanted(e)).count();
        assert_eq!(count(|effect| matches!(effect, Effect::PowerOff)), 1);
        assert_eq!(count(|effect| matches!(effect, Effect::Stop(_))), 1);
        assert_eq!(set.orders(0), Ok(Orders::End));
        assert_eq!(set.orders(1), Ok(Orders::End));
    });
}

#[test]
fn an_end_wakes_a_waiting_vcpu() {
    loom::model(|| {
        let set = set(2);
        let secondary = thread::spawn({
            let set = Arc::clone(&set);
            move || set.wait(1).unwrap()
        });
        assert_eq!(set.down(0), Ok(Some(Effect::PowerOff)));
        assert_eq!(secondary.join().unwrap(), Orders::End);
    });
}

#[test]
fn up_and_down_at_once_end_in_one_of_the_two_states() {
    loom::model(|| {
        let set = set(2);
        set.initialise(1, &context(), &POLICY).unwrap();
        let upper = thread::spawn({
            let set = Arc::clone(&set);
            move || set.up(1).unwrap()
        });
        let stopped = set.down(1).unwrap();
        let started = upper.join().unwrap();
        assert_eq!(
            started,
            Some(Effect::Start(1)),
            "it was down in either order"
        );
        let expected = stopped.is_none();
        assert!(
            matches!(stopped, None | Some(Effect::Stop(1))),
            "vCPU 0 is up"
        );
        assert_eq!(
            set.is_up(1),
            Ok(expected),
            "the effects tell the last state"
        );
        let orders = set.orders(1).unwrap();
        assert_eq!(matches!(orders, Orders::Run(Some(_))), expected);
    });
}

#[test]
fn two_initialisations_at_once_are_one_success_and_one_eexist() {
    loom::model(|| {
        let set = set(2);
        let other = thread::spawn({
            let set = Arc::clone(&set);
            move || set.initialise(1, &context(), &POLICY)
        });
        let both = [
            set.initialise(1, &context(), &POLICY),
            other.join().unwrap(),
        ];
        assert!(both.contains(&Ok(())));
        assert!(both.contains(&Err(VcpuError::AlreadyInitialised)));
    });
}
