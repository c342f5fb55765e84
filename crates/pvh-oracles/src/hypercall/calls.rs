//! How a guest's vCPUs call, and what they write for it.

use pvh_abi::Gpa;
use pvh_domain::{Origin, Sleep};
use pvh_hypercall::{Call, Caller, Outcome, Registers};
use pvh_memory::{GuestMemory, LinearMemory, PagingPolicy, PagingState};

use super::world::{ARG, World};

impl World {
    /// The guest writes, where it has RAM.
    pub(super) fn poke(&mut self, at: u64, bytes: &[u8]) {
        let _no_ram_no_write = self.memory.write(Gpa(at), bytes).is_ok();
    }

    /// The guest writes words as long as its code's at the argument.
    pub(super) fn poke_longs(&mut self, vcpu: u32, longs: &[u64]) {
        let [head, rest @ ..] = longs else { return };
        self.poke(ARG, &head.to_le_bytes());
        let size = self.long_size(vcpu);
        for (long, at) in rest.iter().zip((ARG + 8..).step_by(size)) {
            self.poke(at, &long.to_le_bytes()[..size]);
        }
    }

    pub(super) const fn long_size(&self, vcpu: u32) -> usize {
        if self.is_narrow(vcpu) { 4 } else { 8 }
    }

    pub(super) const fn is_narrow(&self, vcpu: u32) -> bool {
        self.narrow >> vcpu & 1 == 1
    }

    pub(super) fn call(&mut self, vcpu: u32, number: u64, args: [u64; 5]) {
        let _any_answer = self.ask(vcpu, number, args);
    }

    /// Makes a call of a vCPU that is up; `None` if it is not, or goes on for longer than we look.
    pub(super) fn ask(&mut self, vcpu: u32, number: u64, args: [u64; 5]) -> Option<i64> {
        if self.is_over || !self.up.get(vcpu as usize).copied().unwrap_or(false) {
            return None;
        }
        if self.asleep[vcpu as usize] {
            self.enter(vcpu);
        }
        self.note();
        self.clocks.runs(vcpu, self.now.system_ns);
        let mut call = self.decode(vcpu, number, args);
        let mut has_waited = false;
        let io = LinearMemory::new(&self.memory, &PagingState::UNPAGED, &POLICY);
        let origin = Origin {
            vcpu,
            io: &io,
            takes_interrupts: self.narrow & 32 == 0,
            now: self.now,
        };
        for _ in 0..24 {
            let answer = self
                .domain
                .hypercall(&self.memory, &origin, call, &mut self.effects);
            match answer.outcome {
                Outcome::Again(rest) => {
                    assert_eq!(answer.sleep, None);
                    assert_eq!(rest.width, call.width);
                    match number {
                        // It waits for others to be observed, and is served the next time.
                        24 => assert!(answer.observe.is_some() && rest == call && !has_waited),
                        13 => {}
                        _ => assert_eq!(answer.observe, None),
                    }
                    has_waited = true;
                    call = rest;
                }
                Outcome::Return(result) => {
                    assert_eq!(answer.observe, None);
                    self.asleep[vcpu as usize] =
                        matches!(answer.sleep, Some(Sleep::Block | Sleep::Poll));
                    assert!(result > -200, "error {result}");
                    self.note();
                    if let Some(sleep) = answer.sleep {
                        self.clocks.sleeps(vcpu, sleep, self.now.system_ns);
                    }
                    return Some(result);
                }
            }
        }
        self.note();
        self.clocks.lost(vcpu);
        None
    }

    /// Registers as the guest has them, with anything in the halves that 32-bit code cannot set.
    pub(super) fn decode(&self, vcpu: u32, number: u64, [a, b, c, d, e]: [u64; 5]) -> Call {
        let is_narrow = self.is_narrow(vcpu);
        let dirt = match (is_narrow, self.narrow & 8) {
            (true, 8) => 0xdead_beef << 32,
            _ => 0,
        };
        let cut = |value: u64| {
            if is_narrow {
                value & 0xffff_ffff
            } else {
                value
            }
        };
        let put = |value: u64| cut(value) | dirt;
        let mut registers = Registers {
            rax: put(number),
            rdx: put(c),
            ..Registers::default()
        };
        let mut caller = Caller {
            cr0: 0x8000_0011,
            efer: 0x500,
            rflags: 2,
            cs_long: !is_narrow,
            cs_big: is_narrow,
            cpl: 0,
        };
        if is_narrow {
            caller.efer = 0;
            (registers.rbx, registers.rcx) = (put(a), put(b));
            (registers.rsi, registers.rdi) = (put(d), put(e));
        } else {
            (registers.rdi, registers.rsi) = (a, b);
            (registers.r10, registers.r8) = (d, e);
        }
        let call = Call::decode(&registers, &caller).expect("it may call");
        assert_eq!(call.args, [a, b, c, d, e].map(cut), "a high half is seen");
        assert_eq!(call.number.0, cut(number));
        call
    }

    pub(super) fn poll(&mut self, vcpu: u32, ports: u64, count: u32, until_ns: u64) {
        if self.is_narrow(vcpu) {
            let low = u32::try_from(ports).unwrap_or(0);
            self.poke(ARG, &low.to_le_bytes());
            self.poke(ARG + 4, &count.to_le_bytes());
            self.poke(ARG + 8, &until_ns.to_le_bytes());
        } else {
            self.poke(ARG, &ports.to_le_bytes());
            self.poke(ARG + 8, &u64::from(count).to_le_bytes());
            self.poke(ARG + 16, &until_ns.to_le_bytes());
        }
        if self.ask(vcpu, 29, [3, ARG, 0, 0, 0]) == Some(0) && until_ns > self.now_ns() {
            self.clocks.polls_until(vcpu, until_ns);
        }
    }

    /// `decrease_reservation` and `populate_physmap` of a list behind the argument.
    pub(super) fn reservation(&mut self, vcpu: u32, op: u64, count: u64, order: u64) {
        let list = ARG + 128;
        let size = self.long_size(vcpu);
        let words = [list, count];
        for (word, at) in words.into_iter().zip((ARG..).step_by(size)) {
            self.poke(at, &word.to_le_bytes()[..size]);
        }
        let at = ARG + 2 * size as u64;
        let rest = [order & 0xff, 0x7ff0 << 32].map(u64::to_le_bytes).concat();
        self.poke(at, &rest[..4]);
        self.poke(at + 4, &[0; 4]);
        self.poke(at + 8, &0x7ff0_u32.to_le_bytes());
        self.call(vcpu, 12, [op, ARG, 0, 0, 0]);
    }
}

const POLICY: PagingPolicy = PagingPolicy {
    address_bits: 39,
    is_amd: false,
    has_gib_pages: true,
    has_pse36: true,
};
