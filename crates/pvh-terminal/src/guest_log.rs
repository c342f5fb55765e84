//! Writes the lines of a guest's log to standard error, within a limit.

use std::{
    fmt::Write as _,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::ConsoleQueue;

/// Passes on a guest's lines, up to a burst and a rate; further lines are dropped and counted.
///
/// Clones share the budget, so a reboot does not refill it.
#[derive(Clone, Debug)]
pub struct GuestLog {
    program: &'static str,
    output: ConsoleQueue,
    has_lines: bool,
    budget: Arc<Mutex<Budget>>,
}

impl GuestLog {
    /// Lines go to `output`, each behind the name of this program; without `has_lines`, the guest's
    /// lines are dropped silently.
    #[must_use]
    pub fn new(program: &'static str, output: ConsoleQueue, has_lines: bool) -> Self {
        Self {
            program,
            output,
            has_lines,
            budget: Arc::new(Mutex::new(Budget::new(Instant::now()))),
        }
    }

    /// The queue of the lines.
    #[must_use]
    pub const fn output(&self) -> &ConsoleQueue {
        &self.output
    }

    /// Queues a line of the program after the guest's lines. It never waits for standard error, which
    /// the guest may have filled.
    pub fn say(&self, line: &str) {
        // The queue accepts everything.
        let _ = writeln!(self.output.clone(), "{}: {line}", self.program);
    }

    /// Queues a line of the program that the guest can cause again and again; without room for it, it is
    /// dropped.
    pub fn say_if_room(&self, line: &str) {
        let line = format!("{}: {line}\n", self.program);
        let _ = self.output.offer(line.as_bytes());
    }

    /// Tells whether the guest has logged a line that was to be printed.
    #[must_use]
    pub fn has_guest_lines(&self) -> bool {
        let budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.has_given
    }

    /// Takes a line of the guest, without its end. It never waits: a line without room is dropped.
    pub fn line(&self, line: &[u8]) {
        if !self.has_lines {
            return;
        }
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dropped) = budget.take(Instant::now()) else {
            return;
        };
        let (mut text, program) = (String::new(), self.program);
        if dropped > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{program}: dropped {dropped} lines of the guest's log"
            );
        }
        let _ = writeln!(text, "{program}: guest: {}", line.escape_ascii());
        if !self.output.offer(text.as_bytes()) {
            budget.dropped = budget.dropped.saturating_add(dropped).saturating_add(1);
        }
    }
}

/// The number of lines that the guest may still write.
#[derive(Debug)]
struct Budget {
    lines: u32,
    refilled: Instant,
    dropped: u64,
    /// A line was allowed.
    has_given: bool,
}

impl Budget {
    const fn new(now: Instant) -> Self {
        Self {
            lines: BURST_LINES,
            refilled: now,
            dropped: 0,
            has_given: false,
        }
    }

    /// Takes one line; returns how many were dropped before it, or `None` if this one is dropped.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.refilled).as_millis();
        let refills = passed.checked_div(LINE_INTERVAL.as_millis()).unwrap_or(0);
        if refills > 0 {
            let refills = u32::try_from(refills).unwrap_or(u32::MAX);
            self.lines = self.lines.saturating_add(refills).min(BURST_LINES);
            self.refilled = now;
        }
        if let Some(left) = self.lines.checked_sub(1) {
            self.lines = left;
            self.has_given = true;
            return Some(std::mem::take(&mut self.dropped));
        }
        self.dropped = self.dropped.saturating_add(1);
        None
    }
}

/// Lines at once.
const BURST_LINES: u32 = 2000;
/// Time until one more line is allowed.
const LINE_INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_floods_its_log_is_cut_short_and_told_of() {
        let output = ConsoleQueue::default();
        let log = GuestLog::new("pvh-vmm", output.clone(), true);
        for _ in 0..10_000 {
            log.line(b"again");
        }
        let text = String::from_utf8(output.take(usize::MAX)).unwrap();
        let lines = text.lines().count();
        assert!((2000..3000).contains(&lines), "{lines}");
        std::thread::sleep(LINE_INTERVAL * 2);
        log.line(b"later");
        let text = String::from_utf8(output.take(usize::MAX)).unwrap();
        assert!(text.starts_with("pvh-vmm: "), "{text}");
        assert!(text.contains("lines of the guest's log"), "{text}");
        assert!(text.ends_with("pvh-vmm: guest: later\n"), "{text}");
    }

    #[test]
    fn lines_that_a_guest_causes_are_bounded_and_not_its_own() {
        let output = ConsoleQueue::default();
        let log = GuestLog::new("pvh-vmm", output.clone(), true);
        for _ in 0..10_000 {
            log.say_if_room("the guest reboots");
        }
        assert!(!log.has_guest_lines());
        let bytes = output.take(usize::MAX);
        assert!(bytes.starts_with(b"pvh-vmm: the guest reboots\npvh-vmm: "));
        assert!((64 << 10..65 << 10).contains(&bytes.len()));
        log.line(b"hello");
        assert!(log.has_guest_lines());
    }

    #[test]
    fn lines_come_back_with_time() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for _ in 0..BURST_LINES {
            assert_eq!(budget.take(start), Some(0));
        }
        assert_eq!(budget.take(start), None);
        assert_eq!(budget.take(start + LINE_INTERVAL), Some(1));
        assert_eq!(budget.take(start + LINE_INTERVAL), None);
    }

    #[test]
    fn a_guest_that_reboots_gets_no_more_lines() {
        let output = ConsoleQueue::default();
        let log = GuestLog::new("pvh-vmm", output.clone(), true);
        for _ in 0..10 {
            let machine = log.clone();
            (0..1000).for_each(|_| machine.line(b"again"));
        }
        let text = String::from_utf8(output.take(usize::MAX)).unwrap();
        let lines = text.lines().count();
        assert!((2000..3000).contains(&lines), "{lines}");
    }

    #[test]
    fn a_line_stays_one_line() {
        let output = ConsoleQueue::default();
        GuestLog::new("pvh-vmm", output.clone(), true).line(b"a\x1b[31m");
        assert_eq!(output.take(usize::MAX), b"pvh-vmm: guest: a\\x1b[31m\n");
    }
}
