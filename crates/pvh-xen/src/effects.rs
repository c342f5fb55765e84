//! Carries out the effects of the domain, and what is due at a deadline.

use std::{sync::atomic::Ordering, time::Instant};

use pvh_domain::Effect;

use crate::{
    XenPlatform,
    requests::{Due, VcpuRequests, query_states},
};

/// Whether the thread that carries out effects waits until the console has room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backpressure {
    /// It waits: it is the thread of a vCPU.
    Wait,
    /// It does not wait: other threads depend on it.
    Ignore,
}

impl XenPlatform {
    /// Carries out effects in order. The caller does not hold the domain's lock.
    pub(crate) fn carry_out(&self, effects: &mut Vec<Effect>, backpressure: Backpressure) {
        let mut has_printed = false;
        for effect in effects.drain(..) {
            has_printed |= matches!(effect, Effect::Output(_));
            self.carry_out_one(effect);
        }
        if has_printed && backpressure == Backpressure::Wait {
            self.host.wait_for_console_room();
        }
    }

    fn carry_out_one(&self, effect: Effect) {
        let note = |vcpu, change: fn(&mut crate::requests::Requests)| {
            if let Some(requests) = self.requests_of(vcpu) {
                requests.post(change);
            }
        };
        match effect {
            Effect::GlobalVector { vcpu, vector } => {
                if let Some(requests) = self.requests_of(vcpu) {
                    requests.post(|pending| pending.inject = Some(vector));
                }
            }
            Effect::VcpuVector { vcpu, vector } => self.send(vcpu, vector),
            Effect::Wake(vcpu) => note(vcpu, |pending| pending.wake = true),
            Effect::Start(vcpu) | Effect::Resume(vcpu) | Effect::Stop(vcpu) => {
                note(vcpu, |pending| pending.orders = true);
            }
            // In KVM, an INIT before the first start leaves no trace, so the vCPU's thread has to
            // poll for it before the caller runs on.
            Effect::Park(vcpu) => {
                if let Some(requests) = self.requests_of(vcpu) {
                    requests.post(|pending| pending.orders = true);
                    requests.query_state();
                }
            }
            Effect::StartExpected(vcpu) => {
                if let Some(requests) = self.requests_of(vcpu) {
                    requests.reset_poll_interval();
                }
            }
            Effect::Nmi(vcpu) => note(vcpu, |pending| pending.nmi = true),
            Effect::FlushTlbs => self.flush_tlbs(),
            Effect::InputWanted => self.host.console_input_wanted(),
            Effect::Notified(end) => self.ring_for_port(end),
            Effect::Shutdown(reason) => self.host.end(reason.into()),
            // Text was passed on under the lock.
            _ => {}
        }
    }

    /// Sends a vCPU its own vector. If its local APIC does not accept it, the time thread retries.
    pub(crate) fn send(&self, vcpu: u32, vector: u8) {
        let Some(requests) = self.requests_of(vcpu) else {
            return;
        };
        if self.vm.send_interrupt(vcpu, vector).unwrap_or(false) {
            requests.cancel_edge_retry();
        } else {
            self.timer.retry_at(requests.schedule_edge_retry(vector));
        }
    }

    /// Makes every vCPU flush its TLB before it runs on; returns when all have, or after
    /// [`VCPU_REPLY_TIMEOUT`](crate::requests::VCPU_REPLY_TIMEOUT) if some do not reply.
    fn flush_tlbs(&self) {
        for requests in &self.vcpu_requests {
            requests.post(|pending| pending.flush = true);
        }
        query_states(&self.vcpu_requests);
    }

    /// Fires the domain's timers and retries upcalls, until [`stop`](XenPlatform::stop). The body
    /// of one thread of the embedder's.
    pub fn keep_time(&self) {
        while let Some(due) = self.timer.wait() {
            if due.domain {
                // This thread must not wait for the console: the timers of all vCPUs depend on it.
                self.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
                    domain.tick(memory, now, effects);
                    self.ticked_ns.store(now.system_ns, Ordering::Relaxed);
                });
            }
            if due.retry {
                self.retry_upcalls();
            }
            if due.input {
                self.host.console_input_wanted();
            }
            if due.silent_check {
                self.vcpu_requests
                    .iter()
                    .for_each(VcpuRequests::kick_if_silent);
            }
        }
    }

    /// Retries the upcalls that are due.
    fn retry_upcalls(&self) {
        let now = Instant::now();
        for (vcpu, requests) in (0..).zip(&self.vcpu_requests) {
            let (due, next) = requests.due(now);
            if let Some(next) = next {
                self.timer.retry_at(next);
            }
            if due.is_empty() {
                continue;
            }
            // The retry was removed before this look at the flag, so an upcall that arrives now
            // posts its own request.
            let is_pending = self.domain().is_upcall_pending(&*self.ram, vcpu);
            for due in due {
                match due {
                    Due::Level(vector) if is_pending => {
                        requests.post(|pending| pending.inject = Some(vector));
                    }
                    Due::Edge(vector) if is_pending => self.send(vcpu, vector),
                    Due::Level(_) => {}
                    Due::Edge(_) => requests.cancel_due_edge_retry(),
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize},
        },
        thread,
        time::Duration,
    };

    use pvh_abi::{Gpa, event_channel::Port};
    use pvh_domain::Origin;
    use pvh_hypercall::{Call, Width};
    use pvh_memory::{GuestMemory, LinearMemory, PagingState};
    use pvh_xenbus::Change;

    use super::*;
    use crate::{Doorbell, EndReason, Host, Notice, fixture::platform};

    /// A console of 64 KiB that nobody reads: counts the bytes it accepts, and refuses more than 2
    /// MiB.
    #[derive(Debug, Default)]
    struct FullConsole {
        held: AtomicUsize,
        input_wanted: AtomicBool,
    }

    impl Host for FullConsole {
        fn console_output(&self, bytes: &[u8]) -> bool {
            let is_taken = self.held.load(Ordering::SeqCst) < 2 << 20;
            if is_taken {
                self.held.fetch_add(bytes.len(), Ordering::SeqCst);
            }
            is_taken
        }

        fn console_has_room(&self) -> bool {
            self.held.load(Ordering::SeqCst) < 64 << 10
        }

        fn wait_for_console_room(&self) {
            panic!("a call that must not be held up waits for the console");
        }

        fn console_input_wanted(&self) {
            self.input_wanted.store(true, Ordering::SeqCst);
        }

        fn guest_log(&self, _: &[u8]) {}

        fn notice(&self, _: Notice) {}

        fn end(&self, _: EndReason) {}

        fn is_stopping(&self) -> bool {
            false
        }
    }

    impl XenPlatform {
        /// Makes a hypercall from unpaged 32-bit code whose argument is two words at 0x2000.
        fn call(&self, number: u64, op: u64, words: [u32; 2]) {
            self.ram
                .write(Gpa(0x2000), &words[0].to_le_bytes())
                .unwrap();
            self.ram
                .write(Gpa(0x2004), &words[1].to_le_bytes())
                .unwrap();
            let io = LinearMemory::new(&*self.ram, &PagingState::UNPAGED, &self.paging);
            let call = Call::new(Width::Compat, number, [op, 0x2000, 0, 0, 0]);
            self.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
                let origin = Origin {
                    vcpu: 0,
                    io: &io,
                    takes_interrupts: false,
                    now,
                };
                domain.hypercall(memory, &origin, call, effects);
            });
        }

        /// Marks the console's output ring, in the page at 0xFEFF_F000, as full.
        fn fill_ring(&self) {
            let mut word = [0; 4];
            self.ram.read(Gpa(0xFEFF_FC08), &mut word).unwrap();
            let full = u32::from_le_bytes(word).wrapping_add(2048);
            self.ram
                .write(Gpa(0xFEFF_FC0C), &full.to_le_bytes())
                .unwrap();
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn timers_fire_while_the_console_is_full() {
        let host = Arc::new(FullConsole::default());
        let (platform, _vcpu) = platform(Arc::clone(&host) as Arc<dyn Host>);
        let is_done = AtomicBool::new(false);
        host.held.store(64 << 10, Ordering::SeqCst);
        let mut was_over = false;
        thread::scope(|scope| {
            scope.spawn(|| platform.keep_time());
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    platform.fill_ring();
                }
            });
            // SCHEDOP_watchdog: a new watchdog of one second.
            platform.call(29, 6, [0, 1]);
            let start = Instant::now();
            while !was_over && start.elapsed() < Duration::from_secs(10) {
                // EVTCHNOP_send to the port of the console.
                platform.call(32, 4, [2, 0]);
                was_over = platform.domain().is_over();
            }
            is_done.store(true, Ordering::Relaxed);
            platform.stop();
        });
        assert!(was_over, "the watchdog ends the domain");
        let held = host.held.load(Ordering::SeqCst);
        assert!((64 << 10..=3 << 20).contains(&held), "{held}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_locked_domain_holds_up_neither_keys_nor_a_power_off_request() {
        let host = Arc::new(FullConsole::default());
        let (platform, _vcpu) = platform(Arc::clone(&host) as Arc<dyn Host>);
        let locked = platform.domain();
        thread::scope(|scope| {
            scope.spawn(|| platform.keep_time());
            let start = Instant::now();
            assert_eq!(platform.console_input(b"key"), 0);
            assert!(!platform.request_power_off());
            assert!(start.elapsed() < Duration::from_millis(500));
            drop(locked);
            while !host.input_wanted.load(Ordering::SeqCst) {
                assert!(start.elapsed() < Duration::from_secs(10));
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(platform.console_input(b"key"), 3);
            platform.stop();
        });
    }
    /// Counts how often it is rung.
    #[derive(Debug, Default)]
    struct Bell(AtomicUsize);

    impl Doorbell for Bell {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn write(path: &str) -> Change {
        Change::Write {
            path: path.to_owned(),
            value: "1".to_owned(),
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn bells_ring_for_watched_nodes_and_for_bound_ports() {
        let (platform, _vcpu) = platform(Arc::new(FullConsole::default()));
        let [store, port] = [(); 2].map(|()| Arc::new(Bell::default()));
        let rings = |bell: &Bell| bell.0.load(Ordering::SeqCst);
        let path = "/local/domain/1/data";
        platform.watch_store(path, store.clone()).unwrap();
        assert_eq!(rings(&store), 1, "at once");
        let changes = [
            write("/local/domain/1/data/a"),
            write("/local/domain/1/data/b"),
        ];
        platform.change_store(&changes).unwrap();
        assert_eq!(rings(&store), 2, "once for a call");
        platform
            .change_store(&[write("/local/domain/1/other")])
            .unwrap();
        assert_eq!(rings(&store), 2);
        let value =
            platform.read_store(|store| store.read("/local/domain/1/data/b").map(<[u8]>::to_vec));
        assert_eq!(value.as_deref(), Some(&b"1"[..]));
        // EVTCHNOP_alloc_unbound for domain 0, then EVTCHNOP_send.
        platform.call(32, 6, [0x7ff0, 0]);
        let mut number = [0; 4];
        platform.ram.read(Gpa(0x2004), &mut number).unwrap();
        let number = u32::from_le_bytes(number);
        let end = platform.bind_port(Port(number), port.clone()).unwrap();
        platform.call(32, 4, [number, 0]);
        assert_eq!(rings(&port), 1);
        platform.notify_port(end);
        platform.unbind_port(end);
        platform.call(32, 4, [number, 0]);
        assert_eq!(rings(&port), 1, "given up");
    }
}
