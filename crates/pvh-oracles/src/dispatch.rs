//! Calls with any registers, compared with a second reading of the ABI's tables.

use pvh_hypercall::{Budget, Call, Caller, Outcome, Registers, Width, dispatch_within};

use self::{model::Model, pages::Pages, recorder::Recorder};
use crate::tape::Tape;

mod calls;
mod events;
mod grants;
mod memory;
mod model;
mod pages;
mod recorder;
mod script;
mod tables;
mod vcpus;

/// Makes up to four calls: of a vCPU in any mode, with any registers and any memory, to a domain
/// that answers anything.
///
/// # Panics
///
/// If a call is read from other registers than those of the mode, if a wrong method is called or
/// with wrong arguments, if an answer or the rest of a long call is wrong, or if a byte is written
/// that belongs to no answer.
pub fn dispatch(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let caller = caller(&mut tape);
    let offered = !tape.half();
    let answers = tape.long().to_le_bytes();
    let len = usize::from(tape.byte()) * 2;
    let pages = Pages::new(tape.bytes(len));
    for _ in 0..4 {
        if tape.is_empty() {
            break;
        }
        let registers = registers(&mut tape);
        let decoded = Call::decode(&registers, &caller);
        let wanted = decode(&registers, &caller);
        let found = decoded.map(|call| (call.width, call.number.0, call.args));
        assert_eq!(found.ok(), wanted);
        match decoded {
            Ok(call) => run(call, offered, answers, &pages),
            Err(errno) => assert_eq!(errno.as_result(), -1),
        }
    }
}

/// Runs a call to its end, or a few steps of it.
fn run(mut call: Call, offered: u16, answers: [u8; 8], pages: &Pages) {
    for _ in 0..6 {
        let model = Model::new(offered, answers, pages.clone());
        let wanted = model.dispatch(call);
        let mut recorder = Recorder::new(offered, answers);
        // By the lengths of the lists alone: the model has no costs.
        let outcome = dispatch_within(&mut recorder, pages, call, &Budget::unlimited());
        let log = recorder.script.log.into_inner();
        assert_eq!(log, model.script.log.into_inner(), "{call:x?}");
        assert_eq!(outcome, wanted, "{call:x?} {log:x?}");
        assert!(*pages == model.pages, "memory is not as it should be");
        match outcome {
            Outcome::Again(rest) => {
                assert_eq!((rest.width, rest.number), (call.width, call.number));
                call = rest;
            }
            Outcome::Return(result) => {
                let rax = i128::from(result).rem_euclid(1 << 64);
                let rax = match call.width {
                    Width::Native => rax,
                    Width::Compat => rax % (1 << 32),
                };
                assert_eq!(i128::from(call.width.result(result)), rax);
                return;
            }
        }
    }
}

fn caller(tape: &mut Tape<'_>) -> Caller {
    let (shape, rest) = (tape.byte(), tape.byte());
    let bit = |at: u8| shape >> at & 1 == 1;
    Caller {
        cr0: u64::from(rest) << 4 | u64::from(!bit(0)),
        efer: u64::from(!bit(1)) << 10 | 0x101,
        rflags: u64::from(bit(2)) << 17 | 2,
        cs_long: !bit(3),
        cs_big: bit(4),
        cpl: shape >> 6,
    }
}

/// The number, then the arguments; half of the register sets suit both widths.
fn registers(tape: &mut Tape<'_>) -> Registers {
    let number = match tape.byte() {
        often @ 0..=0x7f => u64::from(often & 0x3f),
        which @ 0x80..=0xef => NUMBERS[usize::from(which & 15) % NUMBERS.len()],
        _ => tape.long(),
    };
    let dirt = match tape.byte() {
        0..=0x7f => 0,
        dirt => u64::from(dirt) << 32,
    };
    let [a, b, c, d, e] = [(); 5].map(|()| argument(tape) | dirt);
    let is_wide = dirt == 0 || number & 1 == 0;
    Registers {
        rax: if is_wide { number } else { number | dirt },
        rbx: a,
        rcx: b,
        rdx: c,
        rsi: if is_wide { b } else { d },
        rdi: if is_wide { a } else { e },
        r8: e,
        r10: d,
    }
}

/// Often an address with a structure, or a small number.
fn argument(tape: &mut Tape<'_>) -> u64 {
    match tape.byte() {
        small @ 0..=0x3f => small.into(),
        at @ 0x40..=0xbf => 0x1000 + u64::from(at & 0x7f) * 4,
        0xc0..=0xdf => 0x1000 + u64::from(tape.half()),
        0xe0..=0xef => u64::from(tape.word()),
        _ => tape.long(),
    }
}

/// The width, the number and the arguments, if the mode may call.
fn decode(r: &Registers, caller: &Caller) -> Option<(Width, u64, [u64; 5])> {
    let is_real = caller.cr0 & 1 == 0;
    let is_virtual = caller.rflags >> 17 & 1 == 1;
    if !is_real && (is_virtual || caller.cpl != 0) {
        return None;
    }
    let has_lma = caller.efer >> 10 & 1 == 1;
    if !is_real && has_lma && caller.cs_long {
        return Some((Width::Native, r.rax, [r.rdi, r.rsi, r.rdx, r.r10, r.r8]));
    }
    let args = [r.rbx, r.rcx, r.rdx, r.rsi, r.rdi].map(|arg| arg % (1 << 32));
    Some((Width::Compat, r.rax % (1 << 32), args))
}

const NUMBERS: [u64; 11] = [12, 13, 15, 17, 18, 20, 21, 24, 29, 32, 34];
