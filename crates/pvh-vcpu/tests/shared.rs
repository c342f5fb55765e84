//! The set behind a lock: its answers are the set's, and who waits is woken.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]
#![cfg(all(feature = "std", not(loom)))]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread::{sleep, spawn},
    time::Duration,
};

use pvh_abi::vcpu::VcpuHvmContext;
use pvh_vcpu::{CpuPolicy, Effect, Orders, SharedVcpuSet, Vcpu, VcpuError, VcpuSet};
use zerocopy::FromZeros;

const POLICY: CpuPolicy = CpuPolicy {
    cr4_bits: 0x7ff,
    efer_bits: 0x901,
    physical_address_bits: 39,
};

/// 32-bit flat, entered at 0x1234.
fn context() -> VcpuHvmContext {
    let mut context = VcpuHvmContext::new_zeroed();
    let mut put = |at: usize, word: u32| {
        context.cpu_regs[at..at + 4].copy_from_slice(&word.to_le_bytes());
    };
    put(32, 0x1234);
    put(40, 1);
    for limit in [84, 88, 92, 96] {
        put(limit, u32::MAX);
    }
    put(100, 0x67);
    put(104, 0x0c93_0c9b);
    put(108, 0x0c93_0c93);
    put(112, 0x8b);
    context
}

/// Waits for the orders of vCPU 1 on a thread of its own, which by now does wait. If nobody wakes
/// it, it is left behind.
fn waiting(set: &Arc<SharedVcpuSet>) -> Receiver<Result<Orders, VcpuError>> {
    let (set, (tell, told)) = (Arc::clone(set), channel());
    spawn(move || tell.send(set.wait(1)).is_ok());
    sleep(Duration::from_millis(50));
    assert!(told.try_recv().is_err(), "it is down, and waits");
    told
}

fn woken(told: &Receiver<Result<Orders, VcpuError>>) -> Orders {
    let orders = told.recv_timeout(Duration::from_secs(10));
    orders.unwrap().unwrap()
}

#[test]
fn every_answer_is_that_of_the_set_itself() {
    let (shared, mut set) = (SharedVcpuSet::new(3), VcpuSet::new([Vcpu::RESET; 3]));
    for vcpu in [1, 2, 3] {
        let answer = shared.initialise(vcpu, &context(), &POLICY);
        assert_eq!(answer, set.initialise(vcpu, &context(), &POLICY));
    }
    let same = |set: &mut VcpuSet<[Vcpu; 3]>| {
        for vcpu in 0..4 {
            assert_eq!(shared.is_up(vcpu), set.is_up(vcpu));
            assert_eq!(shared.orders(vcpu), set.orders(vcpu));
        }
    };
    same(&mut set);
    assert_eq!(
        (shared.up(1), set.up(1)),
        (Ok(Some(Effect::Start(1))), Ok(Some(Effect::Start(1))))
    );
    same(&mut set);
    assert_eq!(shared.up(3), set.up(3));
    assert_eq!(shared.down(1), set.down(1));
    same(&mut set);
    assert_eq!(shared.up(1), set.up(1));
    for vcpu in [1, 2] {
        assert_eq!(shared.init(vcpu), set.init(vcpu));
    }
    same(&mut set);
    assert_eq!(shared.sipi(2, 0x9f), set.sipi(2, 0x9f));
    same(&mut set);
    assert_eq!(shared.down(2), set.down(2));
    assert_eq!(
        (shared.down(0), set.down(0)),
        (Ok(Some(Effect::PowerOff)), Ok(Some(Effect::PowerOff)))
    );
    same(&mut set);
}

#[test]
fn a_thread_that_waits_is_woken_by_up() {
    let set = Arc::new(SharedVcpuSet::new(2));
    let told = waiting(&set);
    set.initialise(1, &context(), &POLICY).unwrap();
    set.up(1).unwrap();
    let Orders::Run(Some(state)) = woken(&told) else {
        panic!("it starts with its registers");
    };
    assert_eq!(state.rip, 0x1234);
}

#[test]
fn a_thread_that_waits_is_woken_by_a_sipi() {
    let set = Arc::new(SharedVcpuSet::new(2));
    let told = waiting(&set);
    set.sipi(1, 0x10).unwrap();
    let Orders::Run(Some(state)) = woken(&told) else {
        panic!("it starts in real mode");
    };
    assert_eq!((state.cs.base, state.rip), (0x1_0000, 0));
}

#[test]
fn a_thread_that_waits_is_woken_by_the_end() {
    let set = Arc::new(SharedVcpuSet::new(2));
    let told = waiting(&set);
    set.end();
    assert_eq!(woken(&told), Orders::End);
    assert_eq!(set.orders(0), Ok(Orders::End));
}

#[test]
fn a_thread_that_waits_is_woken_by_the_last_vcpu_that_goes_down() {
    let set = Arc::new(SharedVcpuSet::new(2));
    let told = waiting(&set);
    assert_eq!(set.down(0), Ok(Some(Effect::PowerOff)));
    assert_eq!(woken(&told), Orders::End);
}
