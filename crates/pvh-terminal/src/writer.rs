//! The thread that writes a queue of guest output out.

use std::{
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler, unblock_signal};

use crate::{
    ConsoleQueue,
    query::Questions,
    screen::{SCREEN, Stream},
};

/// What a [`Writer`] needs of the program.
pub trait WriterHost: Send + 'static {
    /// Starts the thread of the writer.
    ///
    /// # Errors
    ///
    /// The host refuses a thread.
    fn start_thread(&self, life: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

    /// Called on the writer's thread after it has written a chunk.
    fn has_written(&self) {}

    /// Called on the writer's thread when it drops all output from now on: the sink refuses it.
    fn cannot_write(&self, error: &io::Error);
}

/// The thread that empties the queue; dropping this ends the thread, even in a blocked write.
#[derive(Debug)]
pub struct Writer {
    output: ConsoleQueue,
    report: Arc<Report>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread tells about its work.
#[derive(Debug, Default)]
struct Report {
    /// Output was lost, and not because a reader has closed its pipe.
    has_lost: AtomicBool,
    /// When the output asked the terminal something last.
    asked_at: Mutex<Option<Instant>>,
}

impl Writer {
    /// Starts to write to `sink`; `stream` is set if standard output and standard error share it.
    ///
    /// # Errors
    ///
    /// The host refuses a thread or a signal handler.
    pub fn start<S: Write + AsFd + Send + 'static>(
        host: impl WriterHost + Clone,
        output: ConsoleQueue,
        sink: S,
        stream: Option<Stream>,
    ) -> io::Result<Self> {
        // The handler does nothing: the signal only interrupts a blocked write.
        register_signal_handler(nudge_signal(), ignore)?;
        let report = Arc::new(Report::default());
        let life = {
            let (host, output, report) = (host.clone(), output.clone(), Arc::clone(&report));
            move || {
                // The parent process may have blocked it. If unblocking fails, blocked writes stay
                // blocked.
                let _ = unblock_signal(nudge_signal());
                let _ended = WriterEnd(&output);
                write_all(&host, &output, &report, sink, stream);
            }
        };
        let thread = host.start_thread(Box::new(life))?;
        let thread = Some(thread);
        Ok(Self {
            output,
            report,
            thread,
        })
    }

    /// Tells whether output was lost: the disk is full, for example. A reader that has closed its
    /// pipe wanted no more.
    pub fn has_lost_output(&self) -> bool {
        self.report.has_lost.load(Ordering::SeqCst)
    }

    /// Returns how long the terminal may still take to answer a question that was written lately.
    pub fn reply_time(&self) -> Duration {
        let asked_at = self.report.asked_at.lock();
        let asked_at = *asked_at.unwrap_or_else(PoisonError::into_inner);
        asked_at.map_or(Duration::ZERO, |at| REPLY_TIME.saturating_sub(at.elapsed()))
    }

    /// Waits until all output is written, or until `give_up`, which is called again and again, is
    /// true.
    pub fn drain(&self, mut give_up: impl FnMut() -> bool) {
        while !self.output.wait_written(DRAIN_POLL_INTERVAL) && !give_up() {}
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.output.close();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let started = Instant::now();
        while !self.output.wait_writer_ended(NUDGE_INTERVAL) && !thread.is_finished() {
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

/// Says that the writer has ended, however it ends. After a panic, nobody waits for room.
struct WriterEnd<'a>(&'a ConsoleQueue);

impl Drop for WriterEnd<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.abandon();
        }
        self.0.set_writer_ended();
    }
}

/// The writer thread: writes until the queue is closed or the sink fails.
fn write_all<S: Write + AsFd>(
    host: &impl WriterHost,
    output: &ConsoleQueue,
    report: &Report,
    mut sink: S,
    stream: Option<Stream>,
) {
    let mut last = None;
    let mut questions = Questions::default();
    loop {
        let chunk = output.next_chunk(last, stream == Some(Stream::Lines));
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
            let is_lost = error.kind() != io::ErrorKind::BrokenPipe;
            report.has_lost.store(is_lost, Ordering::SeqCst);
            // The guest runs on, as with an unplugged serial line.
            host.cannot_write(&error);
            output.abandon();
            return;
        }
        host.has_written();
        if questions.find(&chunk) {
            let mut asked_at = report
                .asked_at
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *asked_at = Some(Instant::now());
        }
        last = Some(Instant::now());
    }
}

fn write_chunk<S: Write + AsFd>(
    output: &ConsoleQueue,
    sink: &mut S,
    mut chunk: &[u8],
) -> io::Result<()> {
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

/// How long a terminal may take to answer, the way to a remote one included.
const REPLY_TIME: Duration = Duration::from_millis(100);

/// The signal that interrupts a blocked write; pvh-kvm uses another one to stop vCPUs.
fn nudge_signal() -> libc::c_int {
    SIGRTMIN().saturating_add(3)
}

extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Interval between calls of `give_up` while output drains.
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Interval between signals to a writer that should end.
const NUDGE_INTERVAL: Duration = Duration::from_millis(5);
/// After this time the process ends without waiting for the writer.
const WRITER_END_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test may start threads")]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    #[derive(Clone, Copy)]
    struct Plain;

    impl WriterHost for Plain {
        fn start_thread(&self, life: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
            thread::Builder::new().spawn(life)
        }

        fn cannot_write(&self, _: &io::Error) {}
    }

    fn pipe() -> (File, File) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        (reader.into(), writer.into())
    }

    #[test]
    fn what_is_queued_arrives_in_order_and_whole() {
        let (mut reader, sink) = pipe();
        let mut output = ConsoleQueue::default();
        let writer = Writer::start(Plain, output.clone(), sink, None).unwrap();
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
        let mut output = ConsoleQueue::default();
        let writer = Writer::start(Plain, output.clone(), sink, None).unwrap();
        for _ in 0..100 {
            output.write_all(&[b'x'; 4096]).unwrap();
            output.wait_for_room();
        }
        writer.drain(|| false);
    }

    #[test]
    fn a_reader_that_never_reads_does_not_delay_the_end() {
        let (_reader, sink) = pipe();
        let mut output = ConsoleQueue::default();
        let writer = Writer::start(Plain, output.clone(), sink, None).unwrap();
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
    fn the_writer_waits_for_a_non_blocking_descriptor() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let (mut reader, sink) = pipe();
        fcntl(&sink, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut output = ConsoleQueue::default();
        let writer = Writer::start(Plain, output.clone(), sink, None).unwrap();
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
