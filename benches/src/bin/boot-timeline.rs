//! Draws a trace of `pvh-vmm run --trace` as SVG: `boot-timeline TRACE > timeline.svg`.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{self, Write},
    process::ExitCode,
};

use pvh_bench::plot::{Event, timeline};
use serde_json::Value;

fn main() -> ExitCode {
    match draw() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told that standard error is gone.
            let _ = writeln!(io::stderr(), "boot-timeline: {error}");
            ExitCode::from(2)
        }
    }
}

fn draw() -> io::Result<()> {
    let path = env::args()
        .nth(1)
        .ok_or_else(|| io::Error::other("boot-timeline TRACE"))?;
    let trace: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let events = trace.get("traceEvents").and_then(Value::as_array);
    let events = events.ok_or_else(|| io::Error::other("it is no trace"))?;
    let mut drawn: Vec<Event> = events.iter().filter_map(event).collect();
    drawn.sort_by(|a, b| a.start_us.total_cmp(&b.start_us));
    io::stdout().write_all(timeline("From main to the guest's first output", &drawn).as_bytes())
}

/// A step or a moment; names of threads are left out.
fn event(event: &Value) -> Option<Event> {
    let length_us = event.get("dur").and_then(Value::as_f64);
    Some(Event {
        label: event.get("name")?.as_str()?.to_owned(),
        start_us: event.get("ts")?.as_f64()?,
        length_us,
    })
}
