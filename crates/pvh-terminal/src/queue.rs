//! A queue for the guest's console output, with back-pressure.
//!
//! A slow, stopped or missing reader must block neither an embedder's event loop nor a vCPU thread
//! that holds a lock. So output goes into a queue. One thread of the embedder empties it, and vCPUs
//! wait for room in it while they hold no lock.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A queue of console output between a guest and the thread that writes it out; clones share it.
///
/// It is what a `pvh_xen::Host` needs for its console: [`accept`](Self::accept) is its
/// `console_output`, [`has_room`](Self::has_room) its `console_has_room`, and
/// [`wait_for_room`](Self::wait_for_room) its `wait_for_console_room`. Call
/// [`release`](Self::release) when the machine stops, and [`hold`](Self::hold) before another one
/// starts. A thread of the embedder empties it by [`next_chunk`](Self::next_chunk), or any thread
/// by [`take`](Self::take).
///
/// `accept` and [`offer`](Self::offer) bound it: beyond 64 KiB vCPUs wait and `offer` refuses,
/// beyond 2 MiB `accept` refuses. [`Write`] is for a device that cannot refuse, such as a UART: it
/// takes everything, so the embedder lets a vCPU that wrote to the device wait for room.
#[derive(Clone, Debug, Default)]
pub struct ConsoleQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<u8>,
    /// Something was queued since the program began.
    has_received: bool,
    /// Something was queued since this machine started.
    has_printed: bool,
    /// Number of threads that wait for a change. A notification costs a system call even if none
    /// waits.
    waiting: u32,
    /// The writer has taken bytes that it has not written yet.
    writing: bool,
    /// vCPUs no longer wait for room: the machine is stopping.
    released: bool,
    /// The writer ends when the queue is empty.
    closing: bool,
    /// The writer ends at once; queued bytes are lost.
    abandoned: bool,
    /// The writer has ended.
    ended: bool,
}

impl State {
    fn is_drained(&self) -> bool {
        self.queue.is_empty() && !self.writing
    }
}

impl ConsoleQueue {
    /// Waits until the queue has less than 64 KiB, or until [`release`](Self::release).
    pub fn wait_for_room(&self) {
        let full = |state: &State| state.queue.len() >= QUEUE_LIMIT_BYTES && !state.released;
        drop(self.wait_while(self.lock(), full));
    }

    /// Ends all waiting for room, now and later: the machine is stopping.
    pub fn release(&self) {
        self.change(|state| state.released = true);
    }

    /// Begins with a new machine: its vCPUs wait for room again, and it has printed nothing.
    pub fn hold(&self) {
        self.change(|state| {
            state.released = false;
            state.has_printed = false;
        });
    }

    /// Takes up to `limit` bytes off the queue, without waiting.
    #[must_use]
    pub fn take(&self, limit: usize) -> Vec<u8> {
        let mut state = self.lock();
        let count = state.queue.len().min(limit);
        let chunk = state.queue.drain(..count).collect();
        self.notify(state);
        chunk
    }

    /// Queues bytes if there are less than 64 KiB in the queue; returns whether it did.
    pub fn offer(&self, bytes: &[u8]) -> bool {
        self.push_below(QUEUE_LIMIT_BYTES, bytes)
    }

    /// Queues bytes of a guest whose vCPUs wait for room later, if there are less than 2 MiB in the
    /// queue; returns whether it did. Only a guest that never waits for room reaches this limit.
    pub fn accept(&self, bytes: &[u8]) -> bool {
        self.push_below(ACCEPT_LIMIT_BYTES, bytes)
    }

    /// Tells whether [`wait_for_room`](Self::wait_for_room) would return at once.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.queue.len() < QUEUE_LIMIT_BYTES || state.released
    }

    /// Tells whether anything was queued since the program began.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.lock().has_received
    }

    /// Tells whether the machine has printed anything.
    #[must_use]
    pub fn has_printed(&self) -> bool {
        self.lock().has_printed
    }

    fn push_below(&self, limit: usize, bytes: &[u8]) -> bool {
        let has_room = self.lock().queue.len() < limit;
        if has_room {
            self.push(bytes);
        }
        has_room
    }

    fn push(&self, bytes: &[u8]) {
        self.change(|state| {
            state.has_received = true;
            state.has_printed = true;
            if !state.abandoned {
                state.queue.extend(bytes);
            }
        });
    }

    /// Waits for bytes, for the one thread that writes them out, and takes at most 4096 of them;
    /// returns none when no more will come. The bytes of the chunk before count as written. `last`
    /// is when that chunk was written: bytes that follow it are gathered for 0.5 ms. With
    /// `whole_lines` a chunk ends with a line feed, if it has one.
    #[must_use]
    pub fn next_chunk(&self, last: Option<Instant>, whole_lines: bool) -> Vec<u8> {
        let idle = |state: &State| state.queue.is_empty() && !state.closing && !state.abandoned;
        self.change(|state| state.writing = false);
        let mut state = self.lock();
        if idle(&state) {
            state = self.wait_while(state, idle);
            // Guests write byte by byte, and each wake-up of this thread costs the guest time. So
            // it gathers bytes for a moment; only the first one after a pause goes out at once.
            if let Some(rest) = last.and_then(|last| GATHER_TIME.checked_sub(last.elapsed())) {
                drop(state);
                thread::sleep(rest);
                state = self.lock();
            }
        }
        if state.abandoned {
            return Vec::new();
        }
        let mut count = state.queue.len().min(CHUNK_BYTES);
        if whole_lines {
            let end = state
                .queue
                .iter()
                .take(count)
                .rposition(|&byte| byte == b'\n');
            count = end.map_or(count, |end| end.saturating_add(1));
        }
        state.writing = count > 0;
        let chunk = state.queue.drain(..count).collect();
        self.notify(state);
        chunk
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        self.notify(state);
    }

    /// Wakes all waiting threads, after it releases the lock that they need.
    fn notify(&self, state: MutexGuard<'_, State>) {
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.0.changed.notify_all();
        }
    }

    fn wait_while<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        holds: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        while holds(&state) {
            state.waiting = state.waiting.saturating_add(1);
            state = self
                .0
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting = state.waiting.saturating_sub(1);
        }
        state
    }

    /// Tells whether what is queued is dropped: the writer is to stop at once.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Drops what is queued and all that comes, and lets no vCPU wait: it cannot be written any
    /// more.
    pub fn abandon(&self) {
        self.change(|state| {
            state.abandoned = true;
            state.released = true;
            state.writing = false;
            state.queue.clear();
        });
    }

    /// Lets [`next_chunk`](Self::next_chunk) return none: the program ends. What is not written yet
    /// is lost; [`wait_written`](Self::wait_written) waits for it.
    pub fn close(&self) {
        self.change(|state| {
            state.closing = true;
            state.abandoned |= !state.is_drained();
        });
    }

    /// Waits until all output is written, at most `limit`; returns whether it is.
    pub fn wait_written(&self, limit: Duration) -> bool {
        self.wait_until(limit, State::is_drained)
    }

    /// Tells [`wait_writer_ended`](Self::wait_writer_ended) that the thread of the writer ends.
    pub fn set_writer_ended(&self) {
        self.change(|state| state.ended = true);
    }

    /// Waits until the writer has ended, at most `limit`; returns whether it has.
    pub fn wait_writer_ended(&self, limit: Duration) -> bool {
        self.wait_until(limit, |state| state.ended)
    }

    /// Waits until `is_so` holds, at most `limit`; returns whether it does.
    fn wait_until(&self, limit: Duration, is_so: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_add(1);
        let not_yet = |state: &mut State| !is_so(state);
        let waited = self.0.changed.wait_timeout_while(state, limit, not_yet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting = state.waiting.saturating_sub(1);
        is_so(&state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for ConsoleQueue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes in the queue beyond which vCPUs wait.
const QUEUE_LIMIT_BYTES: usize = 64 * 1024;
/// Bytes in the queue beyond which output is refused: far more than all vCPUs can have in flight.
const ACCEPT_LIMIT_BYTES: usize = 2 << 20;
/// The most bytes of one write.
const CHUNK_BYTES: usize = 4096;
/// How long the writer gathers bytes after a write: the time of six characters at 115200 baud.
const GATHER_TIME: Duration = Duration::from_micros(500);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use super::*;

    #[test]
    fn vcpus_wait_for_a_full_queue_until_there_is_room_or_the_machine_stops() {
        let ways: [fn(&ConsoleQueue); 2] = [ConsoleQueue::release, |queue| drop(queue.take(1))];
        for make_room in ways {
            let mut queue = ConsoleQueue::default();
            queue.write_all(&[b'x'; QUEUE_LIMIT_BYTES]).unwrap();
            let waiting = thread::spawn({
                let queue = queue.clone();
                move || queue.wait_for_room()
            });
            thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            make_room(&queue);
            waiting.join().unwrap();
        }
    }

    #[test]
    fn a_full_queue_refuses_what_can_be_refused() {
        let queue = ConsoleQueue::default();
        assert!(queue.offer(&[b'x'; 65_535]) && queue.offer(b"yz"));
        assert!(!queue.offer(b"z") && !queue.has_room());
        assert!(queue.accept(&[b'x'; 2 << 20]));
        assert!(!queue.accept(b"z"));
        assert_eq!(queue.take(usize::MAX).len(), 65_537 + (2 << 20));
    }

    #[test]
    fn whole_lines_leave_an_open_line_for_later() {
        let mut queue = ConsoleQueue::default();
        queue.write_all(b"one\ntwo\nth").unwrap();
        assert_eq!(queue.next_chunk(None, true), b"one\ntwo\n");
        assert_eq!(queue.next_chunk(None, true), b"th");
        queue.close();
        assert!(queue.is_abandoned(), "the last chunk is not written yet");
        assert!(queue.next_chunk(None, true).is_empty());
    }
}
