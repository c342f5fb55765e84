//! What is known of a domain's ports.

use std::collections::BTreeMap;

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;

use super::world::{ARG, Port, SHARED_INFO, World};

impl World {
    pub(super) fn halfwords(&mut self, words: &[u32]) {
        for (word, at) in words.iter().zip((ARG..).step_by(4)) {
            self.poke(at, &word.to_le_bytes());
        }
    }

    pub(super) fn word_at(&self, at: u64) -> u32 {
        let bytes = self.memory.peek(at, 4);
        bytes
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u32::from(byte))
    }

    /// A call of `event_channel_op` whose argument stands in RAM; `Some` if it was made and is
    /// over.
    pub(super) fn event_op(&mut self, vcpu: u32, op: u64, words: &[u32]) -> Option<i64> {
        if !self.memory.is_ram(Gpa(ARG), 0x100) {
            return None;
        }
        self.halfwords(words);
        self.ask(vcpu, 32, [op, ARG, 0, 0, 0])
    }

    pub(super) fn opened(&mut self, answer: Option<i64>, port: u32, is: Port) {
        if answer != Some(0) {
            return;
        }
        if let Some(ports) = &mut self.ports {
            let before = ports.insert(port, is);
            assert_eq!(before, None, "port {port} is in use");
        }
    }

    pub(super) fn alloc_unbound(&mut self, vcpu: u32) {
        let answer = self.event_op(vcpu, 6, &[0x7ff0_7ff0, 0]);
        let port = self.word_or_0(ARG + 4);
        self.opened(answer, port, Port::Unbound);
    }

    pub(super) fn long_or_0(&self, at: u64) -> u64 {
        u64::from(self.word_or_0(at)) | u64::from(self.word_or_0(at + 4)) << 32
    }

    pub(super) fn word_or_0(&self, at: u64) -> u32 {
        if self.memory.is_ram(Gpa(at), 4) {
            self.word_at(at)
        } else {
            0
        }
    }

    pub(super) fn bind_interdomain(&mut self, vcpu: u32, remote: u32) {
        let answer = self.event_op(vcpu, 0, &[0x7ff0, remote, 0]);
        let local = self.word_or_0(ARG + 8);
        if answer == Some(0)
            && let Some(ports) = &mut self.ports
        {
            let before = ports.insert(remote, Port::Interdomain(local));
            assert_eq!(before, Some(Port::Unbound), "port {remote} was not waiting");
        }
        self.opened(answer, local, Port::Interdomain(remote));
    }

    pub(super) fn bind_virq(&mut self, vcpu: u32, virq: u32, of: u32) {
        let answer = self.event_op(vcpu, 1, &[virq, of, 0]);
        let port = self.word_or_0(ARG + 8);
        self.opened(answer, port, Port::Virq);
        if answer == Some(0) {
            self.timer_ports.remove(&port);
            if virq == VIRQ_TIMER {
                self.timer_ports.insert(port, of);
            }
        }
    }

    pub(super) fn bind_ipi(&mut self, vcpu: u32, of: u32) {
        let answer = self.event_op(vcpu, 7, &[of, 0]);
        let port = self.word_or_0(ARG + 4);
        self.opened(answer, port, Port::Ipi);
    }

    pub(super) fn close(&mut self, vcpu: u32, port: u32) {
        let answer = self.event_op(vcpu, 3, &[port]);
        if answer != Some(0) {
            return;
        }
        if let Some(ports) = &mut self.ports
            && let Some(Port::Interdomain(peer)) = ports.remove(&port)
        {
            // Its peer waits for another one.
            let is_there = ports.insert(peer, Port::Unbound);
            assert!(peer == port || is_there.is_some());
        }
    }

    pub(super) fn send(&mut self, vcpu: u32, port: u32) {
        let answer = self.event_op(vcpu, 4, &[port]);
        let Some(ports) = self.ports.as_ref().filter(|_| answer.is_some()) else {
            return;
        };
        let target = match ports.get(&port) {
            Some(Port::Interdomain(peer)) => *peer,
            Some(Port::Ipi) => port,
            _ => return,
        };
        assert_eq!(answer, Some(0));
        if self.has_shared_info {
            let byte = self
                .memory
                .peek(SHARED_INFO + 2048 + u64::from(target / 8), 1);
            assert!(
                byte[0] >> (target % 8) & 1 == 1,
                "the event of {target} is lost"
            );
        }
    }

    pub(super) fn reset(&mut self, vcpu: u32) {
        let answer = self.event_op(vcpu, 10, &[0x7ff0]);
        if answer == Some(0) {
            self.ports = Some(BTreeMap::new());
        } else if answer.is_some() {
            self.ports = None;
        }
    }

    /// Operations that open and close nothing; those of the FIFO ABI move pending bits elsewhere.
    pub(super) fn plain_event(&mut self, vcpu: u32, op: u64, port: u32) {
        let words = match op {
            11 => [port + 0x10, 0, 0, vcpu],
            12 => [port + 0x20, 0, 0, 0],
            _ => [port, port & 3, 0, 0],
        };
        if op == 11 || op == 12 {
            self.has_shared_info = false;
        }
        let _any_answer = self.event_op(vcpu, op, &words);
    }

    /// For each known port of a timer: vCPU, port, and whether its event is pending.
    pub(super) fn timers_before(&self) -> Vec<(u32, u32, bool)> {
        let Some(ports) = self.ports.as_ref().filter(|_| self.has_shared_info) else {
            return Vec::new();
        };
        let are_open = self
            .timer_ports
            .iter()
            .filter(|(port, _)| ports.get(port) == Some(&Port::Virq));
        are_open
            .map(|(&port, &vcpu)| (vcpu, port, self.is_pending(port)))
            .collect()
    }

    fn is_pending(&self, port: u32) -> bool {
        let byte = self
            .memory
            .peek(SHARED_INFO + 2048 + u64::from(port / 8), 1);
        byte.first().is_some_and(|byte| byte >> (port % 8) & 1 == 1)
    }

    /// After a tick: a timer that was due has raised its event, and no other has.
    pub(super) fn check_timers(&mut self, before: &[(u32, u32, bool)]) {
        let now_ns = self.now.system_ns;
        for &(vcpu, port, was_pending) in before {
            let is_pending = self.is_pending(port);
            match self.clocks.has_to_fire(vcpu, now_ns) {
                Some(true) => assert!(is_pending, "the timer of vCPU {vcpu} is late"),
                Some(false) => assert!(was_pending || !is_pending, "a timer that nobody set"),
                None => {}
            }
        }
        self.clocks.tick(now_ns);
    }
}

const VIRQ_TIMER: u32 = 0;
