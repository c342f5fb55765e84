//! Records how long each step to the guest's first instruction and first output takes.
//!
//! The process has one recorder. When it is off, a step costs one look at a flag.

use std::{
    process,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A finished step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// The name of the thread that did it.
    pub thread: String,
    /// When it began, since the zero of the recorder.
    pub start: Duration,
    /// How long it took.
    pub length: Duration,
}

/// An event that is recorded when it happens first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the moments of a start")]
pub enum Moment {
    /// A vCPU is about to run its first instruction.
    Entry,
    /// A vCPU left the guest for the first time, other than by the program's own request.
    Exit,
    /// The guest's first bytes of output were written.
    Output,
}

impl Moment {
    const ALL: [Self; 3] = [Self::Entry, Self::Exit, Self::Output];

    /// What the reports call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entry => "first entry",
            Self::Exit => "first exit",
            Self::Output => "first output",
        }
    }
}

/// All that was recorded.
#[derive(Debug)]
pub struct Recorded {
    /// The steps, in the order in which they ended.
    pub steps: Vec<Step>,
    /// The moments that happened, in order of time.
    pub moments: Vec<(Moment, Duration)>,
    /// The number of the process.
    pub process: u32,
}

#[derive(Debug)]
struct Recorder {
    zero: Instant,
    steps: Mutex<Vec<Step>>,
    moments: [OnceLock<Duration>; 3],
}

static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// Starts recording; `zero` is when the program began.
pub fn begin(zero: Instant) {
    let recorder = Recorder {
        zero,
        steps: Mutex::default(),
        moments: [const { OnceLock::new() }; 3],
    };
    // A recorder that runs already goes on.
    let _ = RECORDER.set(recorder);
}

/// Runs a step, and records how long it took.
pub fn step<T>(name: &'static str, step: impl FnOnce() -> T) -> T {
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

/// Records a moment, the first time it happens.
pub fn mark(moment: Moment) {
    let Some(recorder) = RECORDER.get() else {
        return;
    };
    if let Some(place) = recorder.moments.get(moment as usize)
        && place.get().is_none()
    {
        // If two threads get here, the first one counts.
        let _ = place.set(recorder.zero.elapsed());
    }
}

/// Returns what was recorded, or `None` if recording is off.
#[must_use]
pub fn recorded() -> Option<Recorded> {
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
