//! A guest that goes on using a ring while it is served, from another CPU.

use core::ops::Range;

use pvh_abi::Gpa;
use pvh_domain::{Effect, Origin};
use pvh_hypercall::{Call, Width};
use pvh_memory::{
    FrameError, FrameStep, Frames, GuestMemory, LinearMemory, MemoryError, VecMemory, WordOp,
};

use super::machine::{ARG, EVENT_CHANNEL_OP, Machine, POLICY, SHARED_INFO, START_NS, at};

const STORE_PORT: u32 = 1;
const STORE_CONNECTION: u64 = 0xfeff_c000 + 2068;
const CONSOLE_PORT: u32 = 2;
const CONSOLE_OUT: u64 = 0xfeff_f000 + 1024;
const CONSOLE_OUT_CONS: u64 = 0xfeff_f000 + 3080;
const CONSOLE_OUT_PROD: u64 = 0xfeff_f000 + 3084;

/// Memory whose guest does something just before one word is read.
struct Busy<'a> {
    ram: &'a VecMemory,
    word: Gpa,
    act: fn(&VecMemory),
}

impl GuestMemory for Busy<'_> {
    fn is_ram(&self, at: Gpa, len_bytes: u64) -> bool {
        self.ram.is_ram(at, len_bytes)
    }

    fn read(&self, at: Gpa, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.ram.read(at, buf)
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemoryError> {
        self.ram.write(at, bytes)
    }

    fn atomic_u32(&self, at: Gpa, op: WordOp<u32>) -> Result<u32, MemoryError> {
        if at == self.word && op == WordOp::Load {
            (self.act)(self.ram);
        }
        self.ram.atomic_u32(at, op)
    }

    fn atomic_u64(&self, at: Gpa, op: WordOp<u64>) -> Result<u64, MemoryError> {
        self.ram.atomic_u64(at, op)
    }
}

impl Frames for Busy<'_> {
    fn add_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        self.ram.add_frames(gfns)
    }

    fn remove_frames(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        self.ram.remove_frames(gfns)
    }

    fn check_add(&self, gfns: Range<u64>) -> Result<(), FrameError> {
        self.ram.check_add(gfns)
    }

    fn next_step(&self, gfns: Range<u64>) -> FrameStep {
        self.ram.next_step(gfns)
    }
}

/// Raises the event of `port` while the guest does `act` again and again.
fn send_amid(machine: &mut Machine, port: u32, word: u64, act: fn(&VecMemory)) {
    machine.put_u32(ARG, &[port]);
    let memory = Busy {
        ram: &machine.memory,
        word: Gpa(word),
        act,
    };
    let origin = Origin {
        vcpu: 0,
        io: &LinearMemory::new(&machine.memory, &machine.paging, &POLICY),
        takes_interrupts: false,
        now: machine.now,
    };
    let call = Call::new(Width::Native, EVENT_CHANNEL_OP, [4, ARG, 0, 0, 0]);
    let (domain, effects) = (&mut machine.domain, &mut machine.effects);
    domain.hypercall(&memory, &origin, call, effects);
}

fn set(ram: &VecMemory, at: u64, value: u32) {
    ram.atomic_u32(Gpa(at), WordOp::Swap(value)).unwrap();
}

fn print_a_byte(ram: &VecMemory) {
    let cons = ram.atomic_u32(Gpa(CONSOLE_OUT_CONS), WordOp::Load).unwrap();
    ram.write(Gpa(CONSOLE_OUT + u64::from(cons % 2048)), b"x")
        .unwrap();
    set(ram, CONSOLE_OUT_PROD, cons + 1);
}

#[test]
fn a_guest_that_never_stops_printing_is_served_in_turns() {
    let mut machine = Machine::ready(1);
    machine.take();
    send_amid(&mut machine, CONSOLE_PORT, CONSOLE_OUT_PROD, print_a_byte);
    assert!(machine.take().contains(&Effect::Output(b"xxxx".to_vec())));
    assert_eq!(machine.deadline_ns(), Some(0), "at once");
    // It prints once more, and raises no event for it.
    print_a_byte(&machine.memory);
    machine.tick_at(START_NS);
    assert!(machine.take().contains(&Effect::Output(b"x".to_vec())));
    assert_eq!(machine.deadline_ns(), None);
}

#[test]
fn a_guest_that_never_stops_joining_the_store_is_served_in_turns() {
    let mut machine = Machine::ready(1);
    send_amid(&mut machine, STORE_PORT, STORE_CONNECTION, |ram| {
        set(ram, STORE_CONNECTION, 1);
    });
    assert_eq!(machine.deadline_ns(), Some(0), "at once");
    set(&machine.memory, STORE_CONNECTION, 1);
    machine.tick_at(START_NS);
    assert_eq!(machine.u32(STORE_CONNECTION), 0, "joined");
    assert_eq!(machine.deadline_ns(), None);
}

/// The versions of the time of vCPUs 0 and 1.
const FIRST_VERSION: u64 = SHARED_INFO + 32;
const SECOND_VERSION: u64 = SHARED_INFO + 96;

#[test]
fn no_vcpu_reads_the_new_stamp_while_another_reads_the_old_one() {
    let mut machine = Machine::ready(2);
    let memory = Busy {
        ram: &machine.memory,
        word: Gpa(SECOND_VERSION),
        // Just before the second version becomes odd.
        act: |ram| {
            let [first, second] = [FIRST_VERSION, SECOND_VERSION]
                .map(|version| ram.atomic_u32(Gpa(version), WordOp::Load).unwrap());
            assert_eq!((first % 2, second % 2), (1, 0));
            set(ram, ARG, 0x7e57);
        },
    };
    let (domain, effects) = (&mut machine.domain, &mut machine.effects);
    domain.tick(&memory, at(START_NS + 1_000_000_000), effects);
    assert_eq!(machine.u32(ARG), 0x7e57, "it was looked at");
    assert_eq!(machine.u32(FIRST_VERSION) % 2, 0);
    assert_eq!(machine.u32(SECOND_VERSION) % 2, 0);
}
