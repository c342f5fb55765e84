//! A guest that says anything, in any order, on several vCPUs.

use proptest::prelude::*;
use pvh_abi::Gpa;
use pvh_domain::{Config, Effect, Shutdown};
use pvh_memory::{GuestMemory, VecMemory};
use pvh_vcpu::Orders;

use super::machine::{ARG, Machine, NOWHERE, RAM_BYTES, START_NS, at, config};

/// RAM that the guest never names.
const UNNAMED: u64 = 0x3500_0000;
const UNNAMED_BYTES: usize = 0x4000;
const VCPUS: u32 = 3;

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*, by Vigna.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    /// A value as arguments hold them.
    fn word(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(RAM_BYTES / 4096) << 12,
            1 => self.below(RAM_BYTES),
            2 => self.pick(&[NOWHERE, 1 << 31, 1 << 32 | 1, 1 << 63, u64::MAX]),
            3 => self.pick(&[0x7ff0, 5, 0x7ff0 | 1 << 32, 0x7ff0 | 1 << 16]),
            4 => START_NS + self.below(1 << 24),
            5 => self.below(RAM_BYTES / 4096),
            _ => self.below(9),
        }
    }

    fn pointer(&mut self) -> u64 {
        self.pick(&[ARG, ARG, ARG, ARG, ARG + 4, RAM_BYTES - 8, NOWHERE, 0])
    }
}

fn fresh() -> Machine {
    let ranges = [(Gpa(0), RAM_BYTES), (Gpa(UNNAMED), UNNAMED_BYTES as u64)];
    let memory = VecMemory::zeroed(&ranges).unwrap().with_spare_frames(64);
    memory.write(Gpa(UNNAMED), &[0x5a; UNNAMED_BYTES]).unwrap();
    let may_log = true;
    Machine::on(
        memory,
        Config {
            may_log,
            ..config(VCPUS)
        },
    )
}

/// One thing that a guest or the embedder does.
fn step(machine: &mut Machine, random: &mut Random) {
    let vcpu = u32::try_from(random.below(VCPUS.into())).unwrap();
    let (domain, memory, now) = (&mut machine.domain, &machine.memory, machine.now);
    let effects = &mut machine.effects;
    match random.below(24) {
        0 => machine.tick_at(machine.now.system_ns + random.below(1 << 22)),
        1 => domain.entered(memory, vcpu, now, effects),
        2 => domain.init(memory, vcpu, now, effects),
        3 => domain.sipi(memory, vcpu, 0x10, now, effects),
        4 => domain.found_running(memory, vcpu, now),
        5 => _ = domain.console_input(memory, now, &[b'x'; 700], effects),
        6 => domain.request_shutdown(memory, now, Shutdown::PowerOff, effects),
        7 => machine.paging.cr0 ^= 0x8000_0000,
        8 => machine.is_64_bit ^= true,
        9 => machine.takes_interrupts ^= true,
        _ => call(machine, random, vcpu),
    }
}

fn call(machine: &mut Machine, random: &mut Random, vcpu: u32) {
    let words: Vec<u64> = (0..24).map(|_| random.word()).collect();
    // The arguments may be among what was taken away.
    for (index, word) in (0..).zip(words) {
        let _ = machine
            .memory
            .write(Gpa(ARG + 8 * index), &word.to_le_bytes());
    }
    let number = random.pick(&[
        12, 13, 15, 17, 18, 20, 21, 24, 24, 29, 32, 32, 32, 34, 33, 99,
    ]);
    let op = random.below(30);
    let (pointer, third) = (random.pointer(), random.below(4));
    let args = match number {
        13 => [pointer, op, 0, 0, 0],
        15 => [random.word(), random.word(), 0, 0, 0],
        18 => [third, random.below(300), pointer, 0, 0],
        24 => [op, third, pointer, 0, 0],
        _ => [op, pointer, third, 0, 0],
    };
    machine.call(vcpu, number, &args);
}

fn check(machine: &mut Machine) {
    let effects = machine.take();
    assert!(effects.len() <= 2000, "one step has bounded effects");
    let over = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Shutdown(_)));
    assert!(over.count() <= 1);
    for vcpu in 0..VCPUS {
        let orders = machine.domain.orders(vcpu);
        assert_eq!(orders == Orders::End, machine.domain.is_over());
    }
    let now_ns = machine.now.system_ns;
    machine.tick_at(now_ns);
    let next_ns = machine.domain.next_deadline_ns();
    assert!(
        next_ns.is_none_or(|next_ns| next_ns > now_ns || next_ns == 0),
        "what is due has been done"
    );
    let ports = machine.domain.service_ports();
    assert!(ports.into_iter().flatten().all(|port| port.0 < 4096));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_guest_that_says_anything_breaks_nothing_and_writes_nothing_it_has_not_named(seed in 1..u64::MAX) {
        let mut random = Random(seed);
        let mut machine = fresh();
        for _ in 0..400 {
            step(&mut machine, &mut random);
            check(&mut machine);
            if machine.domain.is_over() {
                machine = fresh();
            }
        }
        let unnamed: [u8; UNNAMED_BYTES] = machine.bytes(UNNAMED);
        prop_assert!(unnamed.iter().all(|byte| *byte == 0x5a));
    }
}

#[test]
fn calls_of_a_domain_that_is_over_are_answered_and_do_nothing_outside() {
    let mut random = Random(0x1234_5678);
    let mut machine = fresh();
    machine.put_u32(ARG, &[0]);
    machine.call(0, 29, &[2, ARG]);
    machine.take();
    for _ in 0..2000 {
        call(&mut machine, &mut random, 0);
        let shuts_down = |effect: &Effect| matches!(effect, Effect::Shutdown(_));
        assert!(!machine.take().iter().any(shuts_down));
        machine.tick_at(at(START_NS).system_ns);
        assert_eq!(machine.domain.next_deadline_ns(), None);
    }
}
