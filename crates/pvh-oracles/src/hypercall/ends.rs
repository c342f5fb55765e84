//! How a history begins and ends: the guest's first calls, and the sums that must add up.

use pvh_abi::Gpa;
use pvh_domain::Recorder;
use pvh_memory::GuestMemory;

use super::world::{ARG, CALLBACK, MAX_PAGES, SHARED_INFO, START_NS, VCPUS, World};
use crate::bytes;

impl World {
    /// A domain whose guest has mapped its shared info and set a vector for upcalls.
    pub(super) fn started(narrow: u8, recorder: Option<Recorder>) -> Option<Self> {
        let mut world = Self::new(narrow, recorder)?;
        world.enter(0);
        world.poke_longs(0, &[0x7ff0, 0, SHARED_INFO >> 12]);
        assert_eq!(world.ask(0, 12, [7, ARG, 0, 0, 0]), Some(0));
        // a vector for upcalls
        world.poke(ARG, &0x7ff0_u64.to_le_bytes());
        world.poke(ARG + 8, &CALLBACK.to_le_bytes());
        assert_eq!(world.ask(0, 34, [0, ARG, 0, 0, 0]), Some(0));
        world.check();
        Some(world)
    }

    /// What adds up at the end.
    pub(super) fn finish(mut self) {
        let Some(vcpu) = VCPUS.into_iter().find(|&vcpu| self.up[vcpu as usize]) else {
            return;
        };
        if self.is_over || !self.memory.is_ram(Gpa(ARG), 0x1000) {
            return;
        }
        self.check_ports(vcpu);
        self.check_pages(vcpu);
        self.check_runstates(vcpu);
        self.check();
    }

    fn check_pages(&mut self, vcpu: u32) {
        self.poke(ARG, &0x7ff0_u64.to_le_bytes());
        let pages = self
            .ask(vcpu, 12, [3, ARG, 0, 0, 0])
            .and_then(|pages| u64::try_from(pages).ok());
        let pages = pages.expect("a domain may ask for its own");
        assert!(pages <= MAX_PAGES, "{pages} pages");
        // Shared info and grant frames do not count.
        let there = self.memory.pages();
        assert!(there <= pages + 65, "{there} pages of {pages}");
    }

    fn check_runstates(&mut self, vcpu: u32) {
        let size = if self.is_narrow(vcpu) { 12 } else { 16 };
        for of in VCPUS {
            let answer = self.ask(vcpu, 24, [4, u64::from(of), ARG, 0, 0]);
            assert_eq!(answer, Some(0));
            let bytes = self.memory.peek(ARG, size + 32);
            let long = |at: usize| bytes::field(&bytes, at as u64, 8).unwrap_or(0);
            let total: u64 = (0..4).map(|state| long(size + 8 * state)).sum();
            assert_eq!(
                total,
                self.now.system_ns - START_NS,
                "vCPU {of} has lost time"
            );
            assert!(long(size - 8) <= self.now.system_ns);
            let spent = self.clocks.of(of).and_then(|clock| clock.spent);
            if let Some(spent) = spent {
                let state = bytes::field(&bytes, 0, 4).unwrap_or(0);
                let times = [0, 1, 2, 3].map(|state| long(size + 8 * state));
                let seen = (state, long(size - 8), times);
                assert_eq!(seen, spent.seen(self.now.system_ns), "vCPU {of}");
            }
        }
    }

    fn check_ports(&mut self, vcpu: u32) {
        let Some(ports) = self.ports.clone() else {
            return;
        };
        for port in 0..24 {
            let service = self.domain.service_ports();
            if service.into_iter().flatten().any(|own| own.0 == port) {
                continue;
            }
            let answer = self.event_op(vcpu, 5, &[0x7ff0, port, 99, 0]);
            let status = self.word_at(ARG + 8);
            let wanted = ports.get(&port).map_or(0, |port| port.status());
            let is_service = port == 1 || port == 2; // closed by the guest, or moved
            assert!(
                answer == Some(0) && (status == wanted || is_service),
                "port {port}: {status}, not {wanted}"
            );
        }
    }
}
