//! How long each step to the first instruction took, and to the first output.
//!
//! Off, a step costs one look at a flag. There is one recorder for the process: the steps of a run follow each other, and
//! what happens first happens once.

mod report;

use std::{
    process,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub(crate) use report::{Style, report, trace};

/// A step that was taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    name: &'static str,
    thread: String,
    start: Duration,
    length: Duration,
}

/// Something that happens once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Moment {
    /// A vCPU is about to run its first instruction.
    Entry,
    /// It came out of the guest for the first time.
    Exit,
    /// The first bytes of the guest's are written out.
    Output,
}

impl Moment {
    const ALL: [Self; 3] = [Self::Entry, Self::Exit, Self::Output];

    const fn name(self) -> &'static str {
        match self {
            Self::Entry => "first entry",
            Self::Exit => "first exit",
            Self::Output => "first output",
        }
    }
}

/// What was recorded.
#[derive(Debug)]
pub(crate) struct Recorded {
    steps: Vec<Step>,
    /// The moments that came, in order of time.
    moments: Vec<(Moment, Duration)>,
    process: u32,
}

#[derive(Debug)]
struct Recorder {
    zero: Instant,
    steps: Mutex<Vec<Step>>,
    moments: [OnceLock<Duration>; 3],
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// Starts recording; `zero` is when the program began.
pub(crate) fn begin(zero: Instant) {
    let recorder = Recorder {
        zero,
        steps: Mutex::default(),
        moments: [const { OnceLock::new() }; 3],
    };
    // One that is there already goes on.
    let _ = RECORDER.set(recorder);
}

/// Runs a step, and records how long it took.
pub(crate) fn step<T>(name: &'static str, step: impl FnOnce() -> T) -> T {
    let Some(recorder) = RECORDER.get() else {
        return step();
    };
    let start = recorder.zero.elapsed();
    let result = step();
    let length = recorder.zero.elapsed().saturating_sub(start);
    let thread = thread::current().name().unwrap_or("main").to_owned();
    let mut steps = recorder
        .steps
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    steps.push(Step {
        name,
        thread,
        start,
        length,
    });
    result
}

/// Records a moment, the first time it comes.
pub(crate) fn mark(moment: Moment) {
    let Some(recorder) = RECORDER.get() else {
        return;
    };
    if let Some(place) = recorder.moments.get(moment as usize)
        && place.get().is_none()
    {
        // Of two threads the first one counts.
        let _ = place.set(recorder.zero.elapsed());
    }
}

/// Returns what was recorded, if anything was to be.
pub(crate) fn recorded() -> Option<Recorded> {
    let recorder = RECORDER.get()?;
    let steps = recorder
        .steps
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let moments = Moment::ALL.into_iter().zip(&recorder.moments);
    let mut moments: Vec<_> = moments
        .filter_map(|(moment, at)| Some((moment, *at.get()?)))
        .collect();
    moments.sort_by_key(|(_, at)| *at);
    Some(Recorded {
        steps: steps.clone(),
        moments,
        process: process::id(),
    })
}
