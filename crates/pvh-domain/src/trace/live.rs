//! Lines of a trace while the domain runs, within a limit.

use super::{
    lines::{TraceLine, line, system_ns},
    upcalls::Upcalls,
    wire::Record,
};

/// Where the lines of a [`LiveLog`] go. Both functions are called under the domain's lock, so they
/// must not wait.
pub trait LineSink: Send {
    /// Tells whether a line would be taken now.
    fn has_room(&mut self) -> bool;

    /// Takes a line without its end; returns `false` if there was no room for it.
    fn take(&mut self, line: &str) -> bool;
}

/// Decodes the calls of a domain while it runs, and gives them to a sink as lines.
///
/// Words select lines as in [`TraceLine::matches`]; without words every line is given. A line that
/// is not given because the sink has no room, or because the guest made too many calls, is
/// counted; the number is the next line. At most 50,000 lines are given at once, and 5,000 more for
/// each second of system time.
///
/// A call costs its record and one line under the domain's lock; a call that finds no room costs
/// its record alone. The memory that a log takes does not grow.
pub struct LiveLog {
    words: Vec<String>,
    sink: Box<dyn LineSink>,
    records: u64,
    dropped: u64,
    budget: Budget,
    upcalls: Upcalls,
}

impl LiveLog {
    /// Gives the lines that one of the words means to `sink`.
    #[must_use]
    pub fn new(words: Vec<String>, sink: Box<dyn LineSink>) -> Self {
        Self {
            words,
            sink,
            records: 0,
            dropped: 0,
            budget: Budget::default(),
            upcalls: Upcalls::default(),
        }
    }

    pub(super) fn take(&mut self, record: &Record) {
        let number = self.records;
        self.records = number.saturating_add(1);
        let now_ns = system_ns(&record.input);
        let late = self.upcalls.note(record, now_ns);
        if !self.budget.has_line(now_ns) || !self.sink.has_room() {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let mut line = line(number, record);
        if let Some(late) = late {
            line.hints.push(late.to_string());
        }
        if self.wants(&line) {
            self.give(&line);
        }
    }

    /// Returns how many lines were dropped since the last one, and forgets them.
    pub(super) const fn take_dropped(&mut self) -> u64 {
        core::mem::replace(&mut self.dropped, 0)
    }

    fn wants(&self, line: &TraceLine) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| line.matches(word))
    }

    fn give(&mut self, line: &TraceLine) {
        self.tell_dropped();
        self.budget.spend();
        if !self.sink.take(&line.to_string()) {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    fn tell_dropped(&mut self) {
        if self.dropped == 0 {
            return;
        }
        let text = format!("dropped {} calls and events here", self.dropped);
        if self.sink.take(&text) {
            self.dropped = 0;
        }
    }
}

impl core::fmt::Debug for LiveLog {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LiveLog")
            .field("words", &self.words)
            .field("records", &self.records)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

/// How many lines may still be given.
#[derive(Debug)]
struct Budget {
    lines: u64,
    refilled_ns: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            lines: BURST_LINES,
            refilled_ns: 0,
        }
    }
}

impl Budget {
    fn has_line(&mut self, now_ns: Option<u64>) -> bool {
        if let Some(now_ns) = now_ns {
            self.refill(now_ns);
        }
        self.lines > 0
    }

    fn refill(&mut self, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.refilled_ns);
        let lines = passed_ns.checked_div(LINE_INTERVAL_NS).unwrap_or(0);
        // After a reboot, system time begins again.
        if lines > 0 || now_ns < self.refilled_ns {
            self.lines = self.lines.saturating_add(lines).min(BURST_LINES);
            self.refilled_ns = now_ns;
        }
    }

    const fn spend(&mut self) {
        self.lines = self.lines.saturating_sub(1);
    }
}

/// The boot of a stock Linux makes some 10,000 calls and events.
const BURST_LINES: u64 = 50_000;
/// Time until one more line is given: 5,000 lines a second.
const LINE_INTERVAL_NS: u64 = 200_000;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::trace::wire::{WireCall, WireInput, WireNow, WireOutcome, WireOutput};

    /// Lines, and how many more are taken.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<(Vec<String>, usize)>>);

    impl Lines {
        fn with_room(room: usize) -> Self {
            Self(Arc::new(Mutex::new((Vec::new(), room))))
        }

        fn make_room(&self, room: usize) {
            self.0.lock().unwrap().1 = room;
        }

        fn all(&self) -> Vec<String> {
            self.0.lock().unwrap().0.clone()
        }
    }

    impl LineSink for Lines {
        fn has_room(&mut self) -> bool {
            self.0.lock().unwrap().1 > 0
        }

        fn take(&mut self, line: &str) -> bool {
            let mut state = self.0.lock().unwrap();
            let (lines, room) = &mut *state;
            let has_room = *room > 0;
            if has_room {
                *room = room.saturating_sub(1);
                lines.push(line.to_owned());
            }
            has_room
        }
    }

    fn call(number: u64, operation: u64, system_ns: u64) -> Record {
        Record {
            input: WireInput::Hypercall {
                vcpu: 0,
                takes_interrupts: true,
                now: WireNow {
                    system_ns,
                    tsc: 0,
                    wall_ns: 0,
                },
                call: WireCall {
                    is_native: true,
                    number,
                    args: [operation, 0, 0, 0, 0],
                },
            },
            accesses: vec![],
            output: WireOutput::Answer {
                outcome: WireOutcome::Return(0),
                sleep: None,
            },
            effects: vec![],
        }
    }

    // Numbers of xen.h and sched.h: sched_op 29, yield 0; xen_version 17, version 0.
    #[test]
    fn only_the_calls_that_a_word_means_are_given() {
        let lines = Lines::with_room(10);
        let mut log = LiveLog::new(vec!["yield".to_owned()], Box::new(lines.clone()));
        log.take(&call(17, 0, 1));
        log.take(&call(29, 0, 2));
        let given = lines.all();
        assert_eq!(given.len(), 1, "{given:?}");
        assert!(given[0].contains("sched_op(yield, 0x0) = 0x0"), "{given:?}");
    }

    #[test]
    fn calls_without_room_are_counted_and_told_of() {
        let lines = Lines::with_room(1);
        let mut log = LiveLog::new(vec![], Box::new(lines.clone()));
        for _ in 0..5 {
            log.take(&call(29, 0, 1));
        }
        lines.make_room(2);
        log.take(&call(17, 0, 2));
        let given = lines.all();
        assert_eq!(given.len(), 3, "{given:?}");
        assert_eq!(given[1], "dropped 4 calls and events here");
        assert!(given[2].contains("xen_version"), "{given:?}");
        assert_eq!(log.take_dropped(), 0, "nothing was dropped since");
    }

    #[test]
    fn a_guest_that_floods_is_cut_short_until_time_has_passed() {
        let lines = Lines::with_room(usize::MAX);
        let mut log = LiveLog::new(vec![], Box::new(lines.clone()));
        for _ in 0..60_000 {
            log.take(&call(29, 0, 1));
        }
        assert_eq!(lines.all().len(), 50_000);
        log.take(&call(29, 0, 1_000_000_001));
        let given = lines.all();
        assert_eq!(given.len(), 50_002);
        assert_eq!(given[50_000], "dropped 10000 calls and events here");
    }

    #[test]
    fn calls_that_were_dropped_at_the_end_are_told_once() {
        let mut log = LiveLog::new(vec![], Box::new(Lines::with_room(0)));
        log.take(&call(29, 0, 1));
        assert_eq!((log.take_dropped(), log.take_dropped()), (1, 0));
    }
}
