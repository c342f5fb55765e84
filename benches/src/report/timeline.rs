//! Draws the steps of a boot.

use std::{
    fs, io,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::Bench;
use crate::plot::{Event, timeline as draw};

/// Boots the tiny guest many times without options, and draws the run with the median time of
/// entry.
///
/// # Errors
///
/// If it cannot be booted, or its trace cannot be read.
pub fn timeline(bench: &Bench) -> io::Result<String> {
    let path = bench.dir.join("boot-trace.json");
    let [tiny, ..] = &bench.guests;
    let boot = || {
        let mut command = Command::new(&bench.built.vmm);
        command.arg("run").arg("--trace").arg(&path);
        command.arg(&tiny.kernel).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        if !command.status()?.success() {
            return Err(io::Error::other("a tiny guest did not boot"));
        }
        let trace: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        events(&trace).ok_or_else(|| io::Error::other("pvh-vmm wrote no valid trace"))
    };
    let runs = (0..bench.runs(RUNS)).map(|_| boot());
    let runs = runs.collect::<io::Result<Vec<_>>>()?;
    let count = runs.len();
    let drawn = in_the_middle(runs).ok_or_else(|| io::Error::other("no guest was entered"))?;
    let title = format!("From main to the guest's first output: the middle one of {count} boots");
    Ok(draw(&title, &drawn))
}

/// Returns the steps and moments of a trace in order of time. A step names its thread, unless it is
/// the main thread.
fn events(trace: &Value) -> Option<Vec<Event>> {
    let all = trace.get("traceEvents")?.as_array()?;
    let mut events: Vec<Event> = all.iter().filter_map(|one| event(one, all)).collect();
    events.sort_by(|a, b| a.start_us.total_cmp(&b.start_us));
    Some(events)
}

/// Reads a step or a moment; the name of a thread is neither.
fn event(event: &Value, all: &[Value]) -> Option<Event> {
    let length_us = event.get("dur").and_then(Value::as_f64);
    let name = event.get("name")?.as_str()?;
    let thread = all.iter().find(|other| {
        other.get("name").and_then(Value::as_str) == Some("thread_name")
            && other.get("tid") == event.get("tid")
    });
    let thread = thread.and_then(|thread| thread.pointer("/args/name")?.as_str());
    let beside = thread.filter(|name| length_us.is_some() && *name != "main");
    Some(Event {
        label: beside.map_or(name.to_owned(), |thread| format!("{name} ({thread})")),
        start_us: event.get("ts")?.as_f64()?,
        length_us,
        beside: beside.is_some(),
    })
}

/// Returns the run with the median time of the first entry.
fn in_the_middle(mut runs: Vec<Vec<Event>>) -> Option<Vec<Event>> {
    let entry = |run: &[Event]| {
        let moment = run.iter().find(|event| event.label == "first entry");
        moment.map_or(f64::INFINITY, |event| event.start_us)
    };
    runs.sort_by(|a, b| entry(a).total_cmp(&entry(b)));
    let run = runs.swap_remove(runs.len().checked_sub(1)? / 2);
    entry(&run).is_finite().then_some(run)
}

const RUNS: usize = 41;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_beside_says_on_which_thread_and_all_are_in_order_of_time() {
        let trace = json!({ "traceEvents": [
            { "ph": "X", "name": "build", "tid": 0, "ts": 20.0, "dur": 30.0 },
            { "ph": "X", "name": "list CPUID", "tid": 1, "ts": 10.0, "dur": 5.0 },
            { "ph": "M", "name": "thread_name", "tid": 0, "args": { "name": "main" } },
            { "ph": "M", "name": "thread_name", "tid": 1, "args": { "name": "beside" } },
            { "ph": "i", "name": "first entry", "tid": 0, "ts": 60.0 },
        ]});
        let events = events(&trace).unwrap();
        let found: Vec<_> = events
            .iter()
            .map(|event| (event.label.as_str(), event.start_us, event.beside))
            .collect();
        assert_eq!(
            found,
            [
                ("list CPUID (beside)", 10.0, true),
                ("build", 20.0, false),
                ("first entry", 60.0, false)
            ]
        );
    }

    #[test]
    fn the_run_in_the_middle_is_drawn_and_one_without_entry_never() {
        let run = |start_us| {
            vec![Event {
                label: "first entry".into(),
                start_us,
                length_us: None,
                beside: false,
            }]
        };
        let drawn = in_the_middle(vec![run(9.0), Vec::new(), run(1.0)]).unwrap();
        assert_eq!(drawn[0].start_us, 9.0);
        assert!(in_the_middle(vec![Vec::new()]).is_none());
        assert!(in_the_middle(Vec::new()).is_none());
    }
}
