//! A guest that writes anything anywhere, at any moment.

use proptest::prelude::*;
use pvh_abi::{
    DomId, Gpa,
    event_channel::{Port, Virq},
};
use pvh_hypercall::group::ControlBlock;
use pvh_memory::{GuestMemory, WordOp};

use crate::{
    machine::{ARRAY_GFN, CONTROL_GFN, END_GFN, Machine, SHARED_INFO, ram},
    scripted::Scripted,
};

/// Makes one operation, whatever it is and whatever it answers.
fn operate(machine: &mut Machine<Scripted>, (op, a, b): (u8, u32, u32)) {
    let port = Port(a % 80);
    let domain = DomId([0, 5, 0x7ff0, 9][b as usize % 4]);
    let block = ControlBlock {
        vcpu: a % 3,
        gfn: u64::from(b) % (END_GFN + 2),
        offset: (a % 4100) & !7,
    };
    machine.run(|events, d| match op % 16 {
        0 => {
            let _ = events.alloc_unbound(d, DomId::SELF, domain);
        }
        1 => {
            let _ = events.bind_interdomain(d, domain, port);
        }
        2 => {
            let _ = events.bind_virq(d, Virq(a % 26), b % 3);
        }
        3 => {
            let _ = events.bind_ipi(d, b % 3);
        }
        4 => {
            let _ = events.close(d, port);
        }
        5 | 6 => {
            let _ = events.send(d, port);
        }
        7 => {
            let _ = events.status(domain, port);
        }
        8 => {
            let _ = events.bind_vcpu(port, b % 3);
        }
        9 => {
            let _ = events.unmask(d, port);
        }
        10 if b % 8 == 0 => {
            let _ = events.reset(d, domain);
        }
        10 => {
            let _ = events.poll(d, b % 3, [Ok(port)]);
        }
        11 => {
            let _ = events.init_control(d, &block);
        }
        12 => {
            let _ = events.expand_array(d, ARRAY_GFN + u64::from(b % 4));
        }
        13 => {
            let _ = events.set_priority(port, b % 18);
        }
        14 => events.raise_virq(d, b % 3, Virq(a % 26)),
        _ => {
            let _ = events.open_service(d);
        }
    });
}

/// The places that guest and domain share.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0..1024_u64).prop_map(|word| SHARED_INFO + word * 4),
        (0..18_u64).prop_map(|word| CONTROL_GFN * 0x1000 + word * 4),
        (0..80_u64).prop_map(|word| ARRAY_GFN * 0x1000 + word * 4),
    ]
}

proptest! {
    #[test]
    fn whatever_it_writes_each_call_ends_soon(
        calls in prop::collection::vec(any::<(u8, u32, u32)>(), 1..80),
        writes in prop::collection::vec((place(), any::<u32>()), 1..60),
        is_fifo in any::<bool>(),
    ) {
        let mut machine = Machine::new(Scripted::new(ram()), 2, 70);
        if is_fifo {
            machine.turn_fifo_on(2);
        }
        let mut writes = writes.into_iter().cycle();
        machine.memory.on_access(move |ram, _, _| {
            let (at, word) = writes.next().unwrap();
            ram.atomic_u32(Gpa(at), WordOp::Swap(word)).unwrap();
        });
        machine.memory.accesses();
        for call in calls {
            operate(&mut machine, call);
            // 128 valid ports at most, each raised at most once, with at most 18 accesses.
            prop_assert!(machine.memory.accesses() < 128 * 18, "{call:?}");
        }
    }

    #[test]
    fn memory_that_goes_away_stops_nothing(
        calls in prop::collection::vec(any::<(u8, u32, u32)>(), 1..60),
        gone_from in 0_usize..60,
    ) {
        let mut machine = Machine::new(Scripted::new(ram()), 2, 70);
        machine.turn_fifo_on(2);
        for (index, call) in calls.into_iter().enumerate() {
            machine.memory.is_gone.set(index >= gone_from);
            operate(&mut machine, call);
        }
    }
}

#[test]
fn a_guest_cannot_make_the_ports_grow_past_the_maximum() {
    let mut machine = Machine::new(Scripted::new(ram()), 1, 100);
    machine.turn_fifo_on(1);
    let made = (0..10_000).filter(|_| machine.run(|events, d| events.bind_ipi(d, 0)).is_ok());
    assert_eq!(made.count(), 100);
    assert!(machine.events.status(DomId::SELF, Port(128)).is_err());
}
