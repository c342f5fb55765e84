//! The two-level ABI, in both widths of `shared_info`.

use pvh_abi::{Errno, event_channel::Port};
use pvh_domain::parts::event::Signal;
use pvh_hypercall::Width;

use crate::machine::{Machine, SHARED_INFO, ram, two_level, upcall_at};

fn machine_32() -> Machine {
    let mut machine = two_level(2);
    machine.shared_info.latch(&machine.memory, Width::Compat);
    machine
}

/// A port of vCPU 1, the 70th: word 1 of 64 bits, or word 2 of 32.
fn port_70(machine: &mut Machine) -> Port {
    for _ in 1..70 {
        machine.ipi(0);
    }
    machine.ipi(1)
}

#[test]
fn raising_sets_the_pending_bit_the_selector_and_the_upcall_flag() {
    let mut machine = two_level(2);
    let port = port_70(&mut machine);
    assert_eq!(machine.send(port), (Ok(()), vec![Signal::Upcall(1)]));
    assert_eq!(machine.word(SHARED_INFO + 2048 + 8), 1 << (70 - 64));
    assert_eq!(
        machine.word(SHARED_INFO + 64 + 8),
        1 << 1,
        "evtchn_pending_sel"
    );
    assert_eq!(machine.word(upcall_at(1)), 1);
}

#[test]
fn with_32_bit_words_the_selector_lies_at_4_and_counts_in_32s() {
    let mut machine = machine_32();
    let port = port_70(&mut machine);
    assert_eq!(machine.send(port), (Ok(()), vec![Signal::Upcall(1)]));
    assert_eq!(machine.word(SHARED_INFO + 2048 + 8), 1 << (70 - 64));
    assert_eq!(machine.word(SHARED_INFO + 64 + 4), 1 << 2);
    assert_eq!(machine.word(SHARED_INFO + 64 + 8), 0);
}

#[test]
fn a_port_of_the_upper_half_has_its_selector_bit_in_the_second_word() {
    let mut machine = Machine::new(ram(), 1, 4095);
    let mut last = Port(0);
    while last.0 < 4095 {
        last = machine.ipi(0);
    }
    assert_eq!(machine.send(last), (Ok(()), vec![Signal::Upcall(0)]));
    assert_eq!(machine.word(SHARED_INFO + 2048 + 508), 1 << 31);
    assert_eq!(machine.word(SHARED_INFO + 12), 1 << 31);
    assert_eq!(machine.word(SHARED_INFO + 8), 0);
    let full = machine.run(|events, d| events.bind_ipi(d, 0));
    assert_eq!(full, Err(Errno(28)), "4096 ports");
}

#[test]
fn an_event_that_is_pending_already_notifies_nobody_again() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    machine.set_word(SHARED_INFO + 2048, 1 << port.0);
    assert_eq!(machine.send(port), (Ok(()), vec![]));
    assert_eq!(machine.word(upcall_at(0)), 0);
}

#[test]
fn a_masked_event_stays_pending_until_it_is_unmasked() {
    for (width, mask_at) in [(Width::Native, 2560), (Width::Compat, 2176)] {
        let mut machine = two_level(1);
        machine.shared_info.latch(&machine.memory, width);
        let port = machine.ipi(0);
        machine.set_word(SHARED_INFO + mask_at, 1 << port.0);
        assert_eq!(machine.send(port), (Ok(()), vec![]), "{width:?}");
        assert_eq!(machine.word(SHARED_INFO + 2048), 1 << port.0);
        assert_eq!(machine.unmask(port), (Ok(()), vec![Signal::Upcall(0)]));
        assert_eq!(machine.word(SHARED_INFO + mask_at), 0);
    }
}

#[test]
fn unmasking_a_port_that_was_not_masked_never_raises_again() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    machine.set_word(SHARED_INFO + 2048, 1 << port.0);
    assert_eq!(machine.unmask(port), (Ok(()), vec![]));
    assert_eq!(machine.word(SHARED_INFO + 8), 0);
}

#[test]
fn unmasking_notifies_nobody_if_nothing_is_pending() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    machine.set_word(SHARED_INFO + 2560, 1 << port.0);
    assert_eq!(machine.unmask(port), (Ok(()), vec![]));
    assert_eq!(machine.word(SHARED_INFO + 2560), 0);
}

#[test]
fn a_selector_bit_that_is_set_holds_the_upcall_back() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    machine.set_word(SHARED_INFO + 8, 1);
    assert_eq!(machine.send(port), (Ok(()), vec![]));
    assert_eq!(machine.word(upcall_at(0)), 0);
    assert_eq!(machine.word(SHARED_INFO + 2048), 1 << port.0);
}

#[test]
fn an_upcall_flag_that_is_set_gives_no_second_upcall() {
    let mut machine = two_level(1);
    let ports = [machine.ipi(0), machine.ipi(0)];
    assert_eq!(machine.send(ports[0]), (Ok(()), vec![Signal::Upcall(0)]));
    machine.set_word(SHARED_INFO + 8, 0);
    assert_eq!(machine.send(ports[1]), (Ok(()), vec![]));
}

#[test]
fn the_upcall_mask_gates_nothing() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    machine.set_word(upcall_at(0), 0xff00);
    assert_eq!(machine.send(port), (Ok(()), vec![Signal::Upcall(0)]));
    assert_eq!(machine.word(upcall_at(0)), 0xff01);
}

#[test]
fn closing_clears_the_pending_bit() {
    let mut machine = two_level(1);
    let port = machine.ipi(0);
    machine.send(port).0.unwrap();
    machine.close(port).unwrap();
    assert_eq!(machine.word(SHARED_INFO + 2048), 0);
}

#[test]
fn events_are_posted_into_the_page_before_it_is_mapped() {
    let mut machine = two_level(1);
    machine.shared_info.unmap(&machine.memory);
    machine.set_word(SHARED_INFO + 2048, 0);
    let port = machine.ipi(0);
    assert_eq!(machine.send(port), (Ok(()), vec![Signal::Upcall(0)]));
    assert_eq!(machine.word(SHARED_INFO + 2048), 0, "not there any more");
    machine.shared_info.map(&machine.memory, 5).unwrap();
    assert_eq!(machine.word(0x5000 + 2048), 1 << port.0);
    assert_eq!(machine.word(0x5000), 1, "the upcall flag came along");
}

#[test]
fn a_guest_of_32_bits_has_1024_ports() {
    let mut machine = Machine::new(ram(), 1, 5000);
    machine.shared_info.latch(&machine.memory, Width::Compat);
    for _ in 1..1024 {
        machine.ipi(0);
    }
    let full = machine.run(|events, d| events.bind_ipi(d, 0));
    assert_eq!(full, Err(Errno(28)));
}

#[test]
fn a_port_past_the_limit_of_a_narrower_layout_has_no_bits() {
    let mut machine = Machine::new(ram(), 1, 4095);
    let mut port = Port(0);
    while port.0 < 2000 {
        port = machine.ipi(0);
    }
    machine.shared_info.latch(&machine.memory, Width::Compat);
    let page = |machine: &Machine| {
        let words = 0..1024;
        Vec::from_iter(words.map(|word| machine.word(SHARED_INFO + word * 4)))
    };
    let before = page(&machine);
    assert_eq!(machine.send(port), (Ok(()), vec![]));
    assert_eq!(machine.unmask(port), (Ok(()), vec![]));
    assert!(!machine.run(|events, d| events.is_port_pending(d, port)));
    machine.close(port).unwrap();
    assert_eq!(page(&machine), before);
}

#[test]
fn a_vcpu_past_the_32nd_is_notified_once_it_has_registered() {
    let mut machine = two_level(33);
    let port = machine.ipi(32);
    assert_eq!(
        machine.send(port),
        (Ok(()), vec![]),
        "it has no place to be told in"
    );
    assert_eq!(
        machine.word(SHARED_INFO + 2048),
        1 << port.0,
        "but the bit is set"
    );
}
