//! The console's ring, `console_io` and port 0xe9.

use pvh_abi::sched::ShutdownReason;
use pvh_domain::Effect;

use super::machine::{ARG, CONSOLE_IO, Machine, NOWHERE, SCHED_OP, config};

/// The console's page and its port.
const RING: u64 = 0xfeff_f000;
const PORT: u32 = 2;

/// Prints from the guest's side.
fn print(machine: &mut Machine, text: &[u8]) {
    print_without_event(machine, text);
    assert_eq!(machine.send(0, PORT), 0);
}

fn print_without_event(machine: &mut Machine, text: &[u8]) {
    let prod = machine.u32(RING + 3084);
    for (index, byte) in (prod..).zip(text) {
        machine.put(RING + 1024 + u64::from(index % 2048), &[*byte]);
    }
    let len = u32::try_from(text.len()).unwrap();
    machine.put_u32(RING + 3084, &[prod.wrapping_add(len)]);
}

fn type_in(machine: &mut Machine, bytes: &[u8]) -> usize {
    let (domain, effects) = (&mut machine.domain, &mut machine.effects);
    domain.console_input(&machine.memory, machine.now, bytes, effects)
}

#[test]
fn what_is_printed_comes_out_and_is_consumed_before_the_call_returns() {
    let mut machine = Machine::ready(1);
    machine.take();
    print(&mut machine, b"hello\n");
    let upcall = Effect::GlobalVector {
        vcpu: 0,
        vector: 0xf3,
    };
    assert_eq!(
        machine.take(),
        [Effect::Output(b"hello\n".to_vec()), upcall]
    );
    assert_eq!(machine.u32(RING + 3080), 6);
    assert!(machine.is_pending(PORT));
}

#[test]
fn the_last_words_of_a_guest_come_out_at_its_end_without_an_event() {
    for is_over in [false, true] {
        let mut machine = Machine::ready(1);
        if is_over {
            machine.put_u32(ARG, &[0]);
            machine.call(0, SCHED_OP, &[2, ARG]);
        }
        machine.take();
        print_without_event(&mut machine, b"panic: ");
        let (domain, effects) = (&mut machine.domain, &mut machine.effects);
        domain.end(&machine.memory, ShutdownReason::CRASH, machine.now, effects);
        let effects = machine.take();
        assert_eq!(effects.first(), Some(&Effect::Output(b"panic: ".to_vec())));
        let ended = effects.contains(&Effect::Shutdown(ShutdownReason::CRASH));
        assert_eq!(ended, !is_over);
    }
}

#[test]
fn an_empty_ring_is_no_output() {
    let mut machine = Machine::ready(1);
    machine.take();
    assert_eq!(machine.send(0, PORT), 0);
    assert_eq!(machine.take(), []);
}

#[test]
fn console_input_fills_the_ring_and_the_rest_follows_when_there_is_room() {
    let mut machine = Machine::ready(1);
    machine.take();
    assert_eq!(type_in(&mut machine, &[b'x'; 1000]), 1000);
    assert_eq!(machine.take().len(), 1, "an upcall");
    assert_eq!(type_in(&mut machine, &[b'y'; 1000]), 24);
    assert_eq!(type_in(&mut machine, b"z"), 0);
    machine.put_u32(RING + 3072, &[1024]);
    machine.take();
    assert_eq!(machine.send(0, PORT), 0);
    assert_eq!(machine.take(), [Effect::InputWanted]);
    assert_eq!(type_in(&mut machine, b"z"), 1);
    machine.take();
    machine.send(0, PORT);
    assert_eq!(machine.take(), [], "only after some did not fit");
}

#[test]
fn a_spoilt_ring_gives_and_takes_nothing() {
    let mut machine = Machine::ready(1);
    machine.put_u32(RING + 3072, &[5000, 0, 5000, 0]);
    machine.take();
    machine.send(0, PORT);
    assert_eq!(machine.take(), []);
    assert_eq!(type_in(&mut machine, b"z"), 0);
}

#[test]
fn a_ring_whose_page_is_removed_does_no_harm() {
    let mut machine = Machine::ready(1);
    machine.put_u64(ARG, &[0x7ff0, RING >> 12]);
    assert_eq!(machine.call(0, super::machine::MEMORY_OP, &[15, ARG]), 0);
    machine.take();
    machine.send(0, PORT);
    assert_eq!(machine.take(), []);
    assert_eq!(type_in(&mut machine, b"z"), 0);
}

#[test]
fn console_io_is_eperm_for_a_domu_before_anything_is_read() {
    let mut machine = Machine::ready(1);
    for command in [0, 1, 2] {
        let refused = machine.call(0, CONSOLE_IO, &[command, 5, NOWHERE]);
        assert_eq!(refused, -1);
    }
}

#[test]
fn console_io_writes_lines_to_the_log_if_it_may() {
    let mut machine = Machine::with(pvh_domain::Config {
        may_log: true,
        ..config(1)
    });
    machine.take();
    machine.put(ARG, b"one\ntw\x1b\to\r\nthr");
    assert_eq!(machine.call(0, CONSOLE_IO, &[0, 14, ARG]), 0);
    let lines = [b"one".to_vec(), b"tw\to".to_vec()].map(Effect::Log);
    assert_eq!(machine.take(), lines);
    machine.put(ARG, b"ee\n");
    assert_eq!(machine.call(0, CONSOLE_IO, &[0, 3, ARG]), 0);
    assert_eq!(machine.take(), [Effect::Log(b"three".to_vec())]);
    assert_eq!(
        machine.call(0, CONSOLE_IO, &[1, 10, ARG]),
        0,
        "nothing read"
    );
    assert_eq!(machine.call(0, CONSOLE_IO, &[0, 3, NOWHERE]), -14);
    assert_eq!(machine.call(0, CONSOLE_IO, &[2, 3, ARG]), -38);
}

#[test]
fn a_line_of_the_log_has_80_bytes_at_most() {
    let mut machine = Machine::ready(1);
    machine.take();
    for _ in 0..200 {
        machine.domain.debug_port(b'x', &mut machine.effects);
    }
    let line = || Effect::Log(vec![b'x'; 80]);
    assert_eq!(machine.take(), [line(), line()]);
    machine.domain.debug_port(b'\n', &mut machine.effects);
    assert_eq!(machine.take(), [Effect::Log(vec![b'x'; 40])]);
}
