//! `--log hypercalls`: the calls of the guest's domain on standard error while it runs.

use pvh_config::RunConfig;
use pvh_domain::{LineSink, LiveLog, Recorder, TraceLine};
use pvh_terminal::GuestLog;

use super::error::RunError;
use crate::outlets::Outlets;

/// Refuses a word that selects nothing.
///
/// # Errors
///
/// [`RunError::LogWord`].
pub(super) fn check_words(config: &RunConfig) -> Result<(), RunError> {
    let mut words = config.hypercall_log.iter().flatten();
    match words.find(|word| !TraceLine::is_word(word)) {
        Some(word) => Err(RunError::LogWord { word: word.clone() }),
        None => Ok(()),
    }
}

/// Has the domain's calls printed, if that is wanted; `recorder` writes them to a file.
pub(super) fn attach(
    config: &RunConfig,
    recorder: Option<Recorder>,
    log: &GuestLog,
) -> Option<Recorder> {
    let Some(words) = &config.hypercall_log else {
        return recorder;
    };
    let live = LiveLog::new(words.clone(), Box::new(Lines(log.clone())));
    Some(match recorder {
        Some(recorder) => recorder.with_log(live),
        None => Recorder::live(live),
    })
}

/// Says how many calls the log dropped at last.
pub(super) fn report_dropped(outlets: &Outlets) {
    let dropped = outlets.recorder.as_ref().map_or(0, Recorder::take_dropped);
    if dropped > 0 {
        let line = format!("the log of hypercalls dropped {dropped} calls and events at the end");
        outlets.log.say(&line);
    }
}

/// The queue of standard error, which never waits.
struct Lines(GuestLog);

impl LineSink for Lines {
    fn has_room(&mut self) -> bool {
        self.0.output().has_room()
    }

    fn take(&mut self, line: &str) -> bool {
        self.0
            .output()
            .offer(format!("pvh-vmm: {line}\n").as_bytes())
    }
}
