//! The console's ring and the store's.

use pvh_abi::event_channel::Port;
use pvh_xenstore::{Shutdown, request_shutdown};

use super::{Domain, Effect, Env};
use crate::parts::{
    console::{ConsoleRing, OUTPUT_BYTES},
    event::HostPort,
};

/// The console's ring, and whether input waits for room in it.
#[derive(Debug)]
pub(super) struct Console {
    ring: ConsoleRing,
    /// Some input did not fit into the ring.
    is_full: bool,
}

impl Console {
    pub(super) const fn new(ring: ConsoleRing) -> Self {
        Self {
            ring,
            is_full: false,
        }
    }
}

impl Domain {
    pub(super) fn push_input(&mut self, env: &mut Env<'_>, bytes: &[u8]) -> usize {
        // A ring whose indices the guest has made inconsistent takes nothing.
        let moved = self.console.ring.push_input(env.memory, bytes);
        let (len_bytes, notify) = moved.map_or((0, false), |moved| (moved.len_bytes, moved.notify));
        self.console.is_full = len_bytes < bytes.len();
        if notify {
            self.notify(env, self.console_end);
        }
        len_bytes
    }

    pub(super) fn ask_to_stop(&mut self, env: &mut Env<'_>, kind: Shutdown) {
        // This cannot fail: the key exists since the domain was made, and no quota holds for the
        // toolstack.
        let _ = request_shutdown(&mut self.store, self.config.domid, kind);
        self.serve_store(env);
    }

    pub(super) fn watches_shutdown(&self) -> bool {
        let key = format!("/local/domain/{}/control/shutdown", self.config.domid.0);
        self.store.is_watched(self.config.domid, &key)
    }

    /// The guest has raised the event of a service.
    pub(super) fn serve(&mut self, env: &mut Env<'_>, end: HostPort) {
        if end == self.console_end {
            self.serve_console(env);
        } else if end == self.store_end {
            self.serve_store(env);
        } else {
            env.effects.push(Effect::Notified(end));
        }
    }

    /// Tells whether a port is the guest's for the store or for its console.
    pub(super) fn is_service_port(&self, port: Port) -> bool {
        let host = self.events.host_of(port);
        host.is_some_and(|end| end == self.console_end || end == self.store_end)
    }

    pub(super) fn serve_rings(&mut self, env: &mut Env<'_>) {
        self.serve_console(env);
        self.serve_store(env);
    }

    pub(super) fn serve_console(&mut self, env: &mut Env<'_>) {
        let mut output = Vec::new();
        let mut buf = [0; OUTPUT_BYTES];
        let mut is_empty = false;
        for _ in 0..OUTPUT_RINGS_PER_CALL {
            let moved = self.console.ring.take_output(env.memory, &mut buf);
            // A ring whose indices the guest has made inconsistent gives nothing.
            let len_bytes = moved.map_or(0, |moved| moved.len_bytes);
            output.extend(buf.iter().take(len_bytes));
            is_empty = len_bytes == 0;
            if is_empty {
                break;
            }
        }
        self.has_ring_work |= !is_empty;
        if core::mem::take(&mut self.console.is_full) {
            env.effects.push(Effect::InputWanted);
        }
        if !output.is_empty() {
            env.effects.push(Effect::Output(output));
            self.notify(env, self.console_end);
        }
    }

    pub(super) fn serve_store(&mut self, env: &mut Env<'_>) {
        // A guest that took the ring's page away has no store any more.
        let progress = self.store_ring.service(env.memory, &mut self.store);
        let progress = progress.unwrap_or_default();
        self.has_ring_work |= progress.again;
        if progress.notify {
            self.notify(env, self.store_end);
        }
    }

    pub(super) fn notify(&mut self, env: &mut Env<'_>, end: HostPort) {
        self.with_events(env, |events, delivery| {
            events.send_from_host(delivery, end);
        });
    }
}

/// How many rings full of console output one call takes: the guest may go on writing meanwhile.
const OUTPUT_RINGS_PER_CALL: usize = 4;
