//! Prints the recorded steps for people and for programs.

use std::{cmp::Reverse, fmt::Write, time::Duration};

use serde_json::json;

use crate::{Recorded, Step};

/// Lists all steps and moments in order of time, with a newline at the end.
#[must_use]
pub fn text(recorded: &Recorded) -> String {
    let steps = recorded.steps.iter();
    let steps = steps.map(|step| (step.start, Some(step.length), label(step, &recorded.steps)));
    let moments = recorded.moments.iter();
    let moments = moments.map(|(moment, at)| (*at, None, moment.name().to_owned()));
    let mut lines: Vec<_> = steps.chain(moments).collect();
    // Of two that start together, the longer one contains the other.
    lines.sort_by_key(|(at, length, _)| (*at, Reverse(*length)));
    let mut text = String::from("     at ms    took ms  step (indented: part of the step above)\n");
    for (at, length, name) in lines {
        let length = length.map_or(String::new(), |length| format!("{:.3}", millis(length)));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>10.3} {length:>10}  {name}", millis(at));
    }
    text
}

/// The step's name, indented once per step of its thread that contains it, and its thread if that
/// is not the main one.
fn label(step: &Step, steps: &[Step]) -> String {
    let holds = |other: &&Step| {
        let is_longer = other.length > step.length;
        let ends_after =
            other.start.saturating_add(other.length) >= step.start.saturating_add(step.length);
        is_longer && ends_after && other.start <= step.start && other.thread == step.thread
    };
    let indent = "  ".repeat(steps.iter().filter(holds).count());
    match step.thread.as_str() {
        "main" => format!("{indent}{}", step.name),
        thread => format!("{indent}{} (in parallel, thread {thread})", step.name),
    }
}

/// All steps and moments as one JSON object, with a newline at the end.
#[must_use]
pub fn json(recorded: &Recorded) -> String {
    let steps = recorded.steps.iter().map(|step| {
        json!({
            "name": step.name,
            "thread": step.thread,
            "start_us": micros(step.start),
            "length_us": micros(step.length),
        })
    });
    let moments = recorded.moments.iter();
    let moments =
        moments.map(|(moment, at)| json!({ "name": moment.name(), "at_us": micros(*at) }));
    let steps: Vec<_> = steps.collect();
    let moments: Vec<_> = moments.collect();
    format!("{}\n", json!({ "steps": steps, "moments": moments }))
}

/// A trace of `program` in the Trace Event Format, for Perfetto and chrome://tracing.
#[must_use]
pub fn trace(recorded: &Recorded, program: &str) -> String {
    let process = recorded.process;
    let mut threads: Vec<&str> = Vec::new();
    let mut events = vec![json!({
        "ph": "M", "name": "process_name", "pid": process, "args": { "name": program },
    })];
    for step in &recorded.steps {
        let known = threads.iter().position(|name| *name == step.thread);
        let thread = known.unwrap_or_else(|| {
            threads.push(&step.thread);
            threads.len().saturating_sub(1)
        });
        events.push(json!({
            "ph": "X", "name": step.name, "cat": "boot", "pid": process, "tid": thread,
            "ts": micros(step.start), "dur": micros(step.length),
        }));
    }
    for (thread, name) in threads.iter().enumerate() {
        events.push(json!({
            "ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": { "name": name },
        }));
    }
    for (moment, at) in &recorded.moments {
        events.push(json!({
            "ph": "i", "s": "p", "name": moment.name(), "cat": "boot", "pid": process, "tid": 0,
            "ts": micros(*at),
        }));
    }
    let trace = json!({ "displayTimeUnit": "ms", "traceEvents": events });
    format!("{trace}\n")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Microseconds, with one digit after the point: more than the clock's precision.
fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::Moment;

    fn recorded() -> Recorded {
        let step = |name, start, length| Step {
            name,
            thread: "main".to_owned(),
            start: Duration::from_micros(start),
            length: Duration::from_micros(length),
        };
        Recorded {
            steps: vec![step("open", 100, 50), step("plan", 10, 40)],
            moments: vec![(Moment::Entry, Duration::from_micros(1500))],
            process: 7,
        }
    }

    #[test]
    fn lines_are_in_order_of_time() {
        let text = text(&recorded());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "     at ms    took ms  step (indented: part of the step above)",
                "     0.010      0.040  plan",
                "     0.100      0.050  open",
                "     1.500             first entry",
            ]
        );
    }

    #[test]
    fn a_step_within_another_is_indented_and_a_parallel_one_names_its_thread() {
        let mut recorded = recorded();
        let beside = |name, start, length, thread: &str| Step {
            name,
            thread: thread.to_owned(),
            start: Duration::from_micros(start),
            length: Duration::from_micros(length),
        };
        recorded.steps.push(beside("read", 100, 20, "main"));
        recorded.steps.push(beside("list", 105, 20, "beside"));
        let text = text(&recorded);
        assert!(
            text.contains("0.050  open\n     0.100      0.020    read\n"),
            "{text}"
        );
        assert!(
            text.contains("  list (in parallel, thread beside)"),
            "{text}"
        );
    }

    #[test]
    fn json_has_every_step_and_moment() {
        let found: Value = serde_json::from_str(&json(&recorded())).unwrap();
        assert_eq!(found["steps"][0]["name"], "open");
        assert_eq!(found["steps"][0]["length_us"], 50.0);
        assert_eq!(
            found["moments"][0],
            json!({ "name": "first entry", "at_us": 1500.0 })
        );
    }

    /// The fields that the Trace Event Format requires.
    #[test]
    fn a_trace_has_complete_events_instants_and_names() {
        let found: Value = serde_json::from_str(&trace(&recorded(), "pvh-vmm")).unwrap();
        let events = found["traceEvents"].as_array().unwrap();
        let of = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
        assert_eq!((of("X"), of("i"), of("M")), (2, 1, 2));
        for event in events {
            assert!(event["name"].is_string() && event["pid"] == 7, "{event}");
            if event["ph"] != "M" {
                assert!(event["ts"].is_f64() && event["tid"].is_u64(), "{event}");
            }
        }
    }
}
