//! The lines that a guest writes to its hypervisor's log, on their way to standard error.

use std::{
    fmt::Write as _,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::console::Output;

/// Passes a guest's lines on, so many at once and so many in a second; the rest is counted and named.
///
/// Clones share what may still be written: a guest that reboots has no more of it than one that does not.
#[derive(Clone, Debug)]
pub(crate) struct GuestLog {
    output: Output,
    has_lines: bool,
    budget: Arc<Mutex<Budget>>,
}

impl GuestLog {
    /// Lines go to `output`; without `has_lines`, those of the guest go nowhere.
    pub(crate) fn new(output: Output, has_lines: bool) -> Self {
        Self {
            output,
            has_lines,
            budget: Arc::new(Mutex::new(Budget::new(Instant::now()))),
        }
    }

    /// Where the lines go.
    pub(crate) const fn output(&self) -> &Output {
        &self.output
    }

    /// Says something of the VMM's own, behind the guest's lines. It never waits for standard error, which the guest may have
    /// filled.
    pub(crate) fn say(&self, line: &str) {
        // The queue takes everything.
        let _ = writeln!(self.output.clone(), "pvh-vmm: {line}");
    }

    /// Takes a line without its end. It never waits: what has no room is dropped.
    pub(crate) fn line(&self, line: &[u8]) {
        if !self.has_lines {
            return;
        }
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dropped) = budget.take(Instant::now()) else {
            return;
        };
        let mut text = String::new();
        if dropped > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "pvh-vmm: dropped {dropped} lines of the guest's log");
        }
        let _ = writeln!(text, "pvh-vmm: guest: {}", line.escape_ascii());
        if !self.output.offer(text.as_bytes()) {
            budget.dropped = budget.dropped.saturating_add(dropped).saturating_add(1);
        }
    }
}

/// How many lines may still be written.
#[derive(Debug)]
struct Budget {
    lines: u32,
    refilled: Instant,
    dropped: u64,
}

impl Budget {
    const fn new(now: Instant) -> Self {
        Self {
            lines: BURST,
            refilled: now,
            dropped: 0,
        }
    }

    /// Takes one line out; returns how many were dropped before it, or `None` if it is dropped itself.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.refilled).as_millis();
        let refills = passed.checked_div(LINE_EVERY.as_millis()).unwrap_or(0);
        if refills > 0 {
            let refills = u32::try_from(refills).unwrap_or(u32::MAX);
            self.lines = self.lines.saturating_add(refills).min(BURST);
            self.refilled = now;
        }
        if let Some(left) = self.lines.checked_sub(1) {
            self.lines = left;
            return Some(std::mem::take(&mut self.dropped));
        }
        self.dropped = self.dropped.saturating_add(1);
        None
    }
}

/// So many lines at once.
const BURST: u32 = 2000;
/// And then one in this time.
const LINE_EVERY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_floods_its_log_is_cut_short_and_told_of() {
        let output = Output::default();
        let log = GuestLog::new(output.clone(), true);
        for _ in 0..10_000 {
            log.line(b"again");
        }
        let text = String::from_utf8(output.take(usize::MAX)).unwrap();
        let lines = text.lines().count();
        assert!((2000..3000).contains(&lines), "{lines}");
        std::thread::sleep(LINE_EVERY * 2);
        log.line(b"later");
        let text = String::from_utf8(output.take(usize::MAX)).unwrap();
        assert!(text.starts_with("pvh-vmm: "), "{text}");
        assert!(text.contains("lines of the guest's log"), "{text}");
        assert!(text.ends_with("pvh-vmm: guest: later\n"), "{text}");
    }

    #[test]
    fn lines_come_back_with_time() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for _ in 0..BURST {
            assert_eq!(budget.take(start), Some(0));
        }
        assert_eq!(budget.take(start), None);
        assert_eq!(budget.take(start + LINE_EVERY), Some(1));
        assert_eq!(budget.take(start + LINE_EVERY), None);
    }

    #[test]
    fn a_guest_that_reboots_gets_no_more_lines() {
        let output = Output::default();
        let log = GuestLog::new(output.clone(), true);
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
        let output = Output::default();
        GuestLog::new(output.clone(), true).line(b"a\x1b[31m");
        assert_eq!(output.take(usize::MAX), b"pvh-vmm: guest: a\\x1b[31m\n");
    }
}
