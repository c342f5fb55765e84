//! A whole domain with several vCPUs that call it in any order.

use pvh_domain::{Recorder, Shutdown};
use pvh_hypercall::Width;

use self::world::{ARG, COUNT, SHARED_INFO, World};
use crate::{tape::Tape, vcpu::template};

mod calls;
mod clocks;
mod ends;
mod params;
mod ports;
mod world;

/// Runs a sequence of hypercalls and of all other events of a domain.
///
/// # Panics
///
/// If an answer is neither a value nor an errno, if the high half of a 32-bit caller's register has
/// an effect, if an effect does not fit the state, if the end comes twice, if a vCPU is not in the
/// state of its effects, if a port is given twice or forgotten, if an event is lost, if a parameter
/// is not what was set, if a timer fires late or unasked, if the time in a state or the memory does
/// not add up, or if due work is left.
pub fn hypercall(bytes: &[u8]) {
    history(Tape::new(bytes), 48, None);
}

/// Runs some steps of a sequence, and records them.
pub(crate) fn history(mut tape: Tape<'_>, steps: usize, recorder: Option<Recorder>) {
    let Some(mut world) = World::started(tape.byte(), recorder) else {
        return;
    };
    for _ in 0..steps {
        if tape.is_empty() || world.is_over() {
            break;
        }
        step(&mut world, &mut tape);
        world.check();
    }
    world.finish();
}

fn step(world: &mut World, tape: &mut Tape<'_>) {
    let (what, vcpu) = (tape.below(32), u32::from(tape.below(4)));
    match what {
        0 => {
            // Up to 17 ms, with the highest bit a second more: the time is written by then.
            let word = tape.word();
            world.pass(u64::from(word & 0xff_ffff) + u64::from(word >> 31) * 1_000_000_000);
        }
        1 => world.tick(),
        2 => world.enter(vcpu),
        3 => world.orders(vcpu),
        4 => world.interrupt(vcpu, tape.flag().then(|| tape.byte())),
        5 => world.find_running(vcpu),
        6 => world.halt(vcpu),
        7 => {
            let len = usize::from(tape.byte());
            world.type_in(tape.bytes(len));
        }
        8 => world.ask_to_stop(match tape.flag() {
            true => Shutdown::Reboot,
            false => Shutdown::PowerOff,
        }),
        9 => world.debug(tape.byte()),
        10 => world.latch(match tape.flag() {
            true => Width::Compat,
            false => Width::Native,
        }),
        11 => {
            let at = address(tape);
            let len = usize::from(tape.byte());
            world.poke(at, tape.bytes(len));
        }
        12..=18 => event(world, tape, vcpu),
        19 | 20 => lifecycle(world, tape, vcpu),
        21 => timer(world, tape, vcpu),
        22 => sched(world, tape, vcpu),
        23 | 24 => memory(world, tape, vcpu),
        25 => param(world, tape, vcpu),
        26 => multicall(world, tape, vcpu),
        _ => anything(world, tape, vcpu),
    }
}

/// Pages for arguments: below 0x40, some beyond RAM.
fn address(tape: &mut Tape<'_>) -> u64 {
    match tape.byte() {
        page @ 0..=0x7f => u64::from(page & 0x3f) << 12 | u64::from(tape.byte()) << 3,
        page @ 0x80..=0xdf => ARG + u64::from(page & 0x1f),
        0xe0..=0xef => (0xf_eff8 + u64::from(tape.byte() & 7)) << 12,
        _ => tape.address(),
    }
}

fn event(world: &mut World, tape: &mut Tape<'_>, vcpu: u32) {
    let port = u32::from(tape.byte() & 0x0f);
    match tape.below(8) {
        0 => world.alloc_unbound(vcpu),
        1 => world.bind_interdomain(vcpu, port),
        2 => world.bind_virq(vcpu, u32::from(tape.byte() & 3), u32::from(tape.byte() & 3)),
        3 => world.bind_ipi(vcpu, u32::from(tape.byte() & 3)),
        4 => world.close(vcpu, port),
        5 => world.send(vcpu, port),
        6 => world.reset(vcpu),
        _ => world.plain_event(vcpu, [9, 8, 11, 12, 13][usize::from(tape.below(5))], port),
    }
}

fn lifecycle(world: &mut World, tape: &mut Tape<'_>, vcpu: u32) {
    let of = u64::from(tape.byte() & 3);
    match tape.below(6) {
        0 | 1 => {
            let context = template(tape.below(8));
            world.poke(ARG, &context);
            world.call(vcpu, 24, [0, of, ARG, 0, 0]);
        }
        2 | 3 => world.call(vcpu, 24, [1, of, 0, 0, 0]),
        4 => world.call(vcpu, 24, [2, of, 0, 0, 0]),
        _ => world.call(vcpu, 24, [3, of, 0, 0, 0]),
    }
}

fn timer(world: &mut World, tape: &mut Tape<'_>, vcpu: u32) {
    let at = world.now_ns() + u64::from(tape.word() & 0x1ff_ffff);
    world.poke(ARG, &at.to_le_bytes());
    world.poke(ARG + 8, &u64::from(tape.byte() & 1).to_le_bytes());
    let now_ns = world.now_ns();
    let this = u64::from(vcpu);
    match tape.below(5) {
        what @ 0..=1 => {
            let answer = match what {
                0 => world.ask(vcpu, 15, [at, at >> 32, 0, 0, 0]),
                _ => world.ask(vcpu, 24, [8, this, ARG, 0, 0]),
            };
            if answer == Some(0) {
                world.clocks.set(vcpu, at, now_ns);
            }
        }
        2 => {
            if world.ask(vcpu, 24, [9, this, 0, 0, 0]) == Some(0) {
                world.clocks.stop(vcpu);
            }
        }
        3 => {
            let period = 1_000_000 + u64::from(tape.half()) * 100;
            world.poke(ARG, &period.to_le_bytes());
            if world.ask(vcpu, 24, [6, this, ARG, 0, 0]) == Some(0) {
                world.clocks.set_period(vcpu, Some(period));
            }
        }
        _ => {
            if world.ask(vcpu, 24, [7, this, 0, 0, 0]) == Some(0) {
                world.clocks.set_period(vcpu, None);
            }
        }
    }
}

fn sched(world: &mut World, tape: &mut Tape<'_>, vcpu: u32) {
    let what = tape.below(12);
    let value = tape.byte();
    match what {
        0..=2 => world.call(vcpu, 29, [1, 0, 0, 0, 0]),
        3 => {
            let reason = u32::from(value & 7);
            world.poke(ARG, &reason.to_le_bytes());
            world.clocks.may_reset();
            if reason == SOFT_RESET {
                world.forget(); // it closes every port
            }
            world.call(vcpu, 29, [if value & 8 == 0 { 5 } else { 2 }, ARG, 0, 0, 0]);
        }
        4..=7 => {
            // poll: one or two ports, a timeout that may be none
            let ports = [u32::from(value & 15), u32::from(value >> 4)];
            world.poke(ARG + 64, &ports[0].to_le_bytes());
            world.poke(ARG + 68, &ports[1].to_le_bytes());
            let until = match tape.byte() {
                0..=127 => 0,
                more => world.now_ns() + u64::from(more) * 1000,
            };
            world.poll(vcpu, ARG + 64, 1 + u32::from(value & 1), until);
        }
        8 => {
            world.poke(ARG, &u32::from(value & 3).to_le_bytes());
            world.poke(ARG + 4, &u32::from(value >> 4).to_le_bytes());
            world.call(vcpu, 29, [6, ARG, 0, 0, 0]);
        }
        _ => world.call(vcpu, 29, [0, 0, 0, 0, 0]),
    }
}

fn memory(world: &mut World, tape: &mut Tape<'_>, vcpu: u32) {
    let (gfn, index) = (u64::from(tape.byte()) & 0x5f, u64::from(tape.byte()));
    let domain = 0x7ff0_u64;
    match tape.below(5) {
        // add_to_physmap: domid and size, space, idx, gpfn
        0 => {
            world.forget_shared_info();
            let space = if index & 1 == 0 { 0 } else { 1_u64 };
            world.poke_longs(vcpu, &[domain | space << 32, index >> 1, gfn]);
            world.call(vcpu, 12, [7, ARG, 0, 0, 0]);
        }
        1 => {
            world.forget_shared_info();
            world.poke(ARG, &[domain.to_le_bytes(), gfn.to_le_bytes()].concat());
            world.call(vcpu, 12, [15, ARG, 0, 0, 0]);
        }
        2 | 3 => {
            // an extent list of up to four frames: decrease, populate
            let frames = (0..4).map(|step| gfn + step);
            let size = world.long_size(vcpu);
            for (frame, at) in frames.zip((ARG + 128..).step_by(size)) {
                world.poke(at, &frame.to_le_bytes()[..size]);
            }
            let op = if index & 16 == 0 { 1 } else { 6 };
            world.forget_shared_info();
            world.reservation(vcpu, op, (index & 3) + 1, index >> 5 & 1);
        }
        _ => {
            world.poke(ARG, &domain.to_le_bytes());
            world.call(vcpu, 12, [3, ARG, 0, 0, 0]);
        }
    }
}

fn param(world: &mut World, tape: &mut Tape<'_>, vcpu: u32) {
    let (index, shape) = (u64::from(tape.byte() & 63), tape.byte());
    let value = match shape & 3 {
        0 => 2 << 56 | 0xf3,
        1 => 1 << 56,
        2 => u64::from(tape.half()),
        _ => tape.long(),
    };
    match shape >> 2 & 3 {
        0 | 1 => {
            let index = if shape & 16 == 0 { index } else { 0 };
            world.poke(ARG, &(0x7ff0_u64 | index << 32).to_le_bytes());
            world.poke(ARG + 8, &value.to_le_bytes());
            let op = u64::from(shape >> 5 & 1);
            if world.ask(vcpu, 34, [op, ARG, 0, 0, 0]) == Some(0) {
                match op {
                    0 => world.params.set(index, value),
                    _ => world.params.is_read(index, world.long_or_0(ARG + 8)),
                }
            }
        }
        _ => {
            let vector = u64::from(shape >> 4) << 4 | 3;
            let of = index % u64::from(COUNT);
            world.poke(ARG, &(of | vector << 32).to_le_bytes());
            world.call(vcpu, 34, [23, ARG, 0, 0, 0]);
        }
    }
}

fn multicall(world: &mut World, tape: &mut Tape<'_>, vcpu: u32) {
    let count = u64::from(tape.byte() & 63);
    let size = world.long_size(vcpu);
    let entry = size * 8;
    for index in 0..count.min(8) {
        let words = [29_u64, 0, 0, 0, 0, 0, 0, 0];
        let words = match tape.byte() {
            0..=99 => words,
            100..=199 => [17, 0, u64::from(tape.byte() & 7), ARG + 0x800, 0, 0, 0, 0],
            number => [
                u64::from(number & 63),
                0,
                u64::from(tape.byte()),
                ARG,
                0,
                0,
                0,
                0,
            ],
        };
        for (word, at) in words.into_iter().zip((0_u64..).step_by(size)) {
            let at = ARG + 0x200 + index * entry as u64 + at;
            world.poke(at, &word.to_le_bytes()[..size]);
        }
    }
    world.forget();
    world.call(vcpu, 13, [ARG + 0x200, count, 0, 0, 0]);
}

/// Any number, any arguments, an argument block of any bytes.
fn anything(world: &mut World, tape: &mut Tape<'_>, vcpu: u32) {
    const NUMBERS: [u64; 16] = [
        12, 13, 15, 17, 18, 20, 20, 21, 24, 29, 32, 34, 34, 33, 26, 2,
    ];
    let number = match tape.byte() {
        index @ 0..=0xef => NUMBERS[usize::from(index & 15)],
        _ => tape.long(),
    };
    let len = usize::from(tape.byte());
    world.poke(ARG, tape.bytes(len));
    let shape = tape.byte();
    let arg = |how: u8, tape: &mut Tape<'_>| match how & 3 {
        0 => u64::from(tape.byte()),
        1 => ARG,
        2 => address(tape),
        _ => tape.long(),
    };
    let args = [shape, shape >> 2, shape >> 4, shape >> 6, 0].map(|how| arg(how, tape));
    world.forget();
    world.call(vcpu, number, args);
}

const SOFT_RESET: u32 = 5;

const _: () = assert!(SHARED_INFO < ARG);
