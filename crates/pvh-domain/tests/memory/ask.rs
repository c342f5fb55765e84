//! What a guest asks about its memory.

use pvh_abi::{DomId, Gpa};
use pvh_domain::{
    MemoryConfig,
    parts::memory::{Go, MemoryCalls, MemoryOps},
};
use pvh_hypercall::{Budget, Width};
use pvh_memory::GuestMemory;

use crate::machine::{
    CURRENT, MAXIMUM, MAXIMUM_GPFN, MAXIMUM_RAM_PAGE, MEMORY_MAP, Machine, SELF, SET_MEMORY_MAP,
    e820,
};

#[test]
fn a_guest_asks_about_itself_by_either_name_and_about_no_other() {
    let mut machine = Machine::new();
    for domain in [SELF, 5] {
        assert_eq!(machine.ask(CURRENT, domain), 0x808);
        assert_eq!(machine.ask(MAXIMUM, domain), 0x818);
        assert_eq!(machine.ask(MAXIMUM_GPFN, domain), 0x7FF);
    }
    for command in [CURRENT, MAXIMUM, MAXIMUM_GPFN] {
        assert_eq!(
            machine.ask(command, 0),
            -1,
            "domain 0 is there, and not the caller's: EPERM"
        );
        assert_eq!(machine.ask(command, 6), -3, "ESRCH");
        assert_eq!(machine.memory_op(Width::Native, command, 0x80_0000), -14);
        assert_eq!(
            machine.memory_op(Width::Native, command | 1 << 6, 0x100),
            -22
        );
    }
    assert_eq!(machine.call(MAXIMUM_RAM_PAGE, &[]), 0x123_4567);
}

#[test]
fn the_memory_map_is_the_embedder_s_until_the_guest_sets_one() {
    let mut machine = Machine::new();
    let room = |count: u64| [count, 0x200].map(u64::to_le_bytes).concat();
    assert_eq!(machine.call(MEMORY_MAP, &room(128)), 0);
    let mut entry = [0; 20];
    machine.memory.read(Gpa(0x200 + 20), &mut entry).unwrap();
    assert_eq!(
        entry,
        *b"\x00\x80\xff\xfe\0\0\0\0\x00\x80\0\0\0\0\0\0\x02\0\0\0"
    );
    // The second entry instead of two.
    let new = [u64::from(SELF), 1, 0x200 + 20]
        .map(u64::to_le_bytes)
        .concat();
    assert_eq!(machine.call(SET_MEMORY_MAP, &new), 0);
    let [entry] = machine.ops.memory_map() else {
        panic!("one entry was set");
    };
    let fields = (entry.addr.get(), entry.size.get(), entry.kind.get());
    assert_eq!(fields, (0xFEFF_8000, 0x8000, 2));
    // None: as if none was ever set.
    let none = [u64::from(SELF), 0, 0x200].map(u64::to_le_bytes).concat();
    assert_eq!(machine.call(SET_MEMORY_MAP, &none), 0);
    assert_eq!(machine.call(MEMORY_MAP, &room(128)), -38);
}

#[test]
fn a_memory_map_is_replaced_as_a_whole_or_not_at_all() {
    let mut machine = Machine::new();
    for (domain, count, buffer, want) in [
        (SELF, 1025, 0x200, -22),
        (7, 1, 0x200, -3),
        (0, 1, 0x200, -1),
        (SELF, 2, 0x80_0000 - 20, -14),
    ] {
        let argument = [u64::from(domain), count, buffer]
            .map(u64::to_le_bytes)
            .concat();
        assert_eq!(machine.call(SET_MEMORY_MAP, &argument), want);
    }
    assert_eq!(machine.ops.memory_map().len(), 2);
    let most = [u64::from(SELF), 1024, 0x200]
        .map(u64::to_le_bytes)
        .concat();
    assert_eq!(machine.call(SET_MEMORY_MAP, &most), 0);
    assert_eq!(machine.ops.memory_map().len(), 1024);
}

#[test]
fn an_embedder_s_map_is_cut_at_1024_entries() {
    let config = MemoryConfig {
        memory_map: vec![e820(0, 1, 1); 2000],
        ..MemoryConfig::default()
    };
    assert_eq!(MemoryOps::new(DomId(5), config).memory_map().len(), 1024);
}

#[test]
fn calls_are_told_by_what_they_know_of_the_domain() {
    let mut machine = Machine::new();
    let (budget, mut begun) = (Budget::unlimited(), None);
    let go = Go {
        budget: &budget,
        begun: &mut begun,
    };
    let calls = MemoryCalls::new(
        &mut machine.ops,
        &machine.memory,
        &mut machine.shared_info,
        &mut machine.grants,
        go,
    );
    let text = format!("{calls:?}");
    assert!(text.starts_with("MemoryCalls { ops: MemoryOps {"), "{text}");
}
