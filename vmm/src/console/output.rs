//! A queue for the guest's output, and the thread that writes it out.
//!
//! A slow, stopped or missing reader must block neither the event loop nor a vCPU thread that holds
//! a lock. So output goes into a queue. One thread empties it, and vCPUs wait for room in it while
//! they hold no lock.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler, unblock_signal};

use super::screen::{SCREEN, Stream};
use crate::timings::{self, Moment};

/// The queue; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output(Arc<Shared>);

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
    /// Number of threads that wait for a change. A notification costs a system call even if none waits.
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

impl Output {
    /// Waits until the queue has room, or until [`Output::release`].
    pub(crate) fn wait_for_room(&self) {
        let full = |state: &State| state.queue.len() >= QUEUE_LIMIT_BYTES && !state.released;
        drop(self.wait_while(self.lock(), full));
    }

    /// Ends all waiting for room, now and later: the machine is stopping.
    pub(crate) fn release(&self) {
        self.change(|state| state.released = true);
    }

    /// Begins with a new machine: its vCPUs wait for room again, and it has printed nothing.
    pub(crate) fn hold(&self) {
        self.change(|state| {
            state.released = false;
            state.has_printed = false;
        });
    }

    /// Takes up to `limit` bytes off the queue.
    #[cfg(test)]
    pub(crate) fn take(&self, limit: usize) -> Vec<u8> {
        let mut state = self.lock();
        let count = state.queue.len().min(limit);
        state.queue.drain(..count).collect()
    }

    /// Queues bytes if there is room; returns whether there was.
    pub(crate) fn offer(&self, bytes: &[u8]) -> bool {
        self.push_below(QUEUE_LIMIT_BYTES, bytes)
    }

    /// Queues bytes of a guest whose vCPUs wait for room later; returns whether it did. Only a guest
    /// that never waits for room reaches this limit.
    pub(crate) fn accept(&self, bytes: &[u8]) -> bool {
        self.push_below(ACCEPT_LIMIT_BYTES, bytes)
    }

    /// Tells whether [`Output::wait_for_room`] would return at once.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.lock();
        state.queue.len() < QUEUE_LIMIT_BYTES || state.released
    }

    /// Tells whether anything was queued since the program began.
    pub(crate) fn has_received(&self) -> bool {
        self.lock().has_received
    }

    /// Tells whether the machine has printed anything.
    pub(crate) fn has_printed(&self) -> bool {
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

    /// Waits for bytes; returns none when no more will come. `last` is the time of the last write.
    /// From [`Stream::Lines`] it takes whole lines.
    fn next_chunk(&self, last: Option<Instant>, stream: Option<Stream>) -> Vec<u8> {
        let idle = |state: &State| state.queue.is_empty() && !state.closing && !state.abandoned;
        self.change(|state| state.writing = false);
        let mut state = self.lock();
        if idle(&state) {
            state = self.wait_while(state, idle);
            // Guests write byte by byte, and each wake-up of this thread costs the guest time. So it
            // gathers bytes for a moment; only the first one after a pause goes out at once.
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
        if stream == Some(Stream::Lines) {
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

    fn is_abandoned(&self) -> bool {
        self.lock().abandoned
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

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that empties the queue; dropping this ends the thread, even in a blocked write.
#[derive(Debug)]
pub(crate) struct Writer {
    output: Output,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts to write to `sink`; `stream` is set if standard output and standard error share it.
    ///
    /// # Errors
    ///
    /// The host refuses a thread or a signal handler.
    pub(crate) fn start<S: Write + AsFd + Send + 'static>(
        output: Output,
        sink: S,
        stream: Option<Stream>,
    ) -> io::Result<Self> {
        // The handler does nothing: the signal only interrupts a blocked write.
        register_signal_handler(nudge_signal(), ignore)?;
        let thread = thread::Builder::new().name("console".into()).spawn({
            let output = output.clone();
            move || {
                // The parent process may have blocked it. If unblocking fails, blocked writes stay blocked.
                let _ = unblock_signal(nudge_signal());
                write_all(&output, sink, stream);
                output.change(|state| state.ended = true);
            }
        })?;
        let thread = Some(thread);
        Ok(Self { output, thread })
    }

    /// Waits until all output is written, or until `give_up`, which is called again and again, is true.
    pub(crate) fn drain(&self, mut give_up: impl FnMut() -> bool) {
        while !self
            .output
            .wait_until(DRAIN_POLL_INTERVAL, State::is_drained)
            && !give_up()
        {}
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let drained = self.output.lock().is_drained();
        self.output.change(|state| {
            state.closing = true;
            state.abandoned |= !drained;
        });
        let Some(thread) = self.thread.take() else {
            return;
        };
        let started = Instant::now();
        while !self.output.wait_until(NUDGE_INTERVAL, |state| state.ended) && !thread.is_finished()
        {
            // The signal interrupts a blocked write. It is repeated because it may come just before
            // the write.
            let _ = thread.kill(nudge_signal());
            if started.elapsed() > WRITER_END_TIMEOUT {
                // The thread ends with the process.
                return;
            }
        }
        let _ = thread.join();
    }
}

/// The writer thread: writes until the queue is closed or the sink fails.
fn write_all<S: Write + AsFd>(output: &Output, mut sink: S, stream: Option<Stream>) {
    let mut last = None;
    loop {
        let chunk = output.next_chunk(last, stream);
        if chunk.is_empty() {
            return;
        }
        let mut write = |bytes: &[u8]| write_chunk(output, &mut sink, bytes);
        let written = match stream {
            None => write(&chunk),
            Some(Stream::Console) => SCREEN.console(&chunk, || write(&chunk)),
            Some(Stream::Lines) => SCREEN.lines(|before| {
                write(before.as_bytes())?;
                write(&chunk)
            }),
        };
        if let Err(error) = written {
            // The guest runs on, as with an unplugged serial line.
            let _ = writeln!(
                io::stderr(),
                "pvh-vmm: cannot write console output, dropping it from now on: {error}"
            );
            output.change(|state| {
                state.abandoned = true;
                state.released = true;
                state.writing = false;
                state.queue.clear();
            });
            return;
        }
        timings::mark(Moment::Output);
        last = Some(Instant::now());
    }
}

fn write_chunk<S: Write + AsFd>(output: &Output, sink: &mut S, mut chunk: &[u8]) -> io::Result<()> {
    while !chunk.is_empty() && !output.is_abandoned() {
        match sink.write(chunk) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => chunk = chunk.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(sink),
            Err(error) => return Err(error),
        }
    }
    sink.flush()
}

/// Waits, at most 50 ms, until a non-blocking descriptor accepts bytes again.
fn wait_writable<S: AsFd>(sink: &S) {
    let mut fds = [PollFd::new(sink.as_fd(), PollFlags::POLLOUT)];
    // The next write reports any error.
    let _ = poll(&mut fds, PollTimeout::from(50_u8));
}

/// The signal that interrupts a blocked write; pvh-kvm uses another one to stop vCPUs.
fn nudge_signal() -> libc::c_int {
    SIGRTMIN().saturating_add(3)
}

extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Bytes in the queue beyond which vCPUs wait.
const QUEUE_LIMIT_BYTES: usize = 64 * 1024;
/// Bytes in the queue beyond which output is refused: far more than all vCPUs can have in flight.
const ACCEPT_LIMIT_BYTES: usize = 2 << 20;
/// The most bytes of one write.
const CHUNK_BYTES: usize = 4096;
/// How long the writer gathers bytes after a write: the time of six characters at 115200 baud.
const GATHER_TIME: Duration = Duration::from_micros(500);
/// Interval between calls of `give_up` while output drains.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Interval between signals to a writer that should end.
const NUDGE_INTERVAL: Duration = Duration::from_millis(5);
/// After this time the process ends without waiting for the writer.
const WRITER_END_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    fn pipe() -> (File, File) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        (reader.into(), writer.into())
    }

    #[test]
    fn what_is_queued_arrives_in_order_and_whole() {
        let (mut reader, sink) = pipe();
        let mut output = Output::default();
        let writer = Writer::start(output.clone(), sink, None).unwrap();
        output.write_all(b"hello ").unwrap();
        output.write_all(b"world").unwrap();
        writer.drain(|| false);
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello world");
    }

    #[test]
    fn a_missing_reader_does_not_block_the_guest() {
        let (reader, sink) = pipe();
        drop(reader);
        let mut output = Output::default();
        let writer = Writer::start(output.clone(), sink, None).unwrap();
        for _ in 0..100 {
            output.write_all(&[b'x'; 4096]).unwrap();
            output.wait_for_room();
        }
        writer.drain(|| false);
    }

    #[test]
    fn a_reader_that_never_reads_does_not_delay_the_end() {
        let (_reader, sink) = pipe();
        let mut output = Output::default();
        let writer = Writer::start(output.clone(), sink, None).unwrap();
        output.write_all(&[b'x'; 1 << 20]).unwrap();
        let mut asked = 0;
        writer.drain(|| {
            asked += 1;
            asked == 2
        });
        assert_eq!(asked, 2);
        drop(writer);
        assert!(output.is_abandoned());
    }

    #[test]
    fn vcpus_wait_for_a_full_queue_until_the_machine_stops() {
        let mut output = Output::default();
        output.write_all(&[b'x'; QUEUE_LIMIT_BYTES]).unwrap();
        let waiting = thread::spawn({
            let output = output.clone();
            move || output.wait_for_room()
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        output.release();
        waiting.join().unwrap();
    }

    #[test]
    fn the_writer_waits_for_a_non_blocking_descriptor() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let (mut reader, sink) = pipe();
        fcntl(&sink, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut output = Output::default();
        let writer = Writer::start(output.clone(), sink, None).unwrap();
        output.write_all(&[b'x'; 200_000]).unwrap();
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes.len()
        });
        writer.drain(|| false);
        drop(writer);
        assert_eq!(reading.join().unwrap(), 200_000);
    }
}
