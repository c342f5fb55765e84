//! Measures the second start of a packed kernel, whose unpacked form is in the cache.

use std::{
    fs, io,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Bench, verdict};
use crate::{kernel::packed, measure::ask_to_end, stats::Summary, turns::in_turn};

/// Compares it with the start of a tiny guest.
///
/// # Errors
///
/// If there is no kernel, or it cannot be started.
pub fn second_start(bench: &Bench) -> io::Result<String> {
    let kernel = packed().ok_or_else(|| {
        io::Error::other("there is no packed kernel: name one with PVH_BENCH_KERNEL, or a folder of vmlinuz-6.12* with PVH_TEST_KERNELS")
    })?;
    let cache = bench.dir.join("cache");
    fs::create_dir_all(&cache)?;
    let [tiny, ..] = &bench.guests;
    let cached = ["--cache".as_ref(), cache.as_os_str()];
    let anew = ["--cache".as_ref(), "none".as_ref()];
    let vmm = &bench.built.vmm;
    let start = |options: &[_], kernel: &Path| {
        let mut command = Command::new(vmm);
        command.args(["run", "--platform", "none", "--timings=json"]);
        command.args(options).arg(kernel);
        entry(&mut command)
    };
    let contenders: [(&[_], &Path); 2] = [(&[], &tiny.kernel), (&cached, &kernel)];
    // The first round, which does not count, fills the cache.
    let times = in_turn(bench.runs(RUNS), &contenders, |(options, kernel)| {
        start(options, kernel)
    })?;
    let unpacked = in_turn(bench.runs(UNPACKED_RUNS), &[()], |()| start(&anew, &kernel))?;
    let [tiny, second] = &times[..] else {
        return Err(io::Error::other("two contenders have two results"));
    };
    let unpacked = Summary::of(unpacked.into_iter().flatten());
    let rounds = Summary::of_ratios(second, tiny);
    let summaries = [tiny, second].map(|times| Summary::of(times.iter().copied()));
    let ([Some(tiny), Some(second)], Some(rounds), Some(unpacked)) = (summaries, rounds, unpacked)
    else {
        return Err(io::Error::other("there was no run"));
    };
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    Ok(table(&name, [&tiny, &second, &unpacked], rounds.median))
}

fn table(name: &str, [tiny, second, unpacked]: [&Summary; 3], rounds: f64) -> String {
    let row = |name: &str, times: &Summary| {
        let ratio = times.median / tiny.median;
        format!(
            "| {name} | {:.2} ({:.2}) | {ratio:.2} |\n",
            times.median, times.lowest_tenth
        )
    };
    format!(
        "From main to the guest's first instruction, ms (`--timings=json`, platform none). Limit: the second start within {LIMIT} x of tiny.\n\n\
         | start | median (lowest tenth) | x tiny |\n|---|---|---|\n{}{}{}\n\
         The second start is {rounds:.2} x tiny in the median of rounds: {}.\n",
        row("tiny", tiny),
        row(&format!("{name}, from the cache"), second),
        row(&format!("{name}, unpacked anew"), unpacked),
        verdict(second.median / tiny.median, LIMIT)
    )
}

/// Runs `command` and returns the time of the guest's entry, in ms from main. After a time that is
/// enough for the entry, it asks a guest that has not ended to end.
fn entry(command: &mut Command) -> io::Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    for patience in PATIENCE {
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let end = Instant::now().checked_add(patience);
        while child.try_wait()?.is_none() {
            if end.is_none_or(|end| Instant::now() >= end) {
                ask_to_end(&child)?;
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let mut said = String::new();
        if let Some(stderr) = &mut child.stderr {
            stderr.read_to_string(&mut said)?;
        }
        child.wait()?;
        if let Some(ms) = first_entry(&said) {
            return Ok(ms);
        }
    }
    Err(io::Error::other("the kernel was never entered"))
}

/// Finds the moment in the output of `--timings=json`.
fn first_entry(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with('{'))?;
    let timings: Value = serde_json::from_str(line).ok()?;
    let moments = timings.get("moments")?.as_array()?;
    let mut entries = moments
        .iter()
        .filter(|moment| moment.get("name").is_some_and(|name| name == "first entry"));
    Some(entries.next()?.get("at_us")?.as_f64()? / 1000.0)
}

/// The time for the entry of a kernel, at the first try and at the next.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(60),
    Duration::from_millis(800),
    Duration::from_secs(8),
];

/// The limit of the second start, in multiples of a tiny guest's start.
const LIMIT: f64 = 2.0;

const RUNS: usize = 60;
const UNPACKED_RUNS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_of_entry_is_found_between_other_lines() {
        let said = "pvh-vmm: platform none\n{\"moments\":[{\"at_us\":2540.0,\"name\":\"first entry\"}],\"steps\":[]}\n";
        assert_eq!(first_entry(said), Some(2.54));
        assert_eq!(first_entry("{\"moments\":[],\"steps\":[]}"), None);
    }

    #[test]
    fn a_program_that_was_never_entered_is_an_error() {
        assert!(entry(Command::new("sh").args(["-c", "echo '{}' >&2"])).is_err());
    }

    #[test]
    fn a_program_that_goes_on_is_asked_to_end() {
        let script = "trap 'echo \"{\\\"moments\\\":[{\\\"at_us\\\":1000.0,\\\"name\\\":\\\"first entry\\\"}]}\" >&2; exit' TERM; \
                      while :; do sleep 0.01; done";
        assert_eq!(entry(Command::new("sh").args(["-c", script])).unwrap(), 1.0);
    }

    #[test]
    fn the_second_start_is_judged_by_its_median() {
        let of = |ms: f64| Summary::of([ms]).unwrap();
        let text = table("vmlinuz", [&of(2.0), &of(4.2), &of(300.0)], 2.05);
        assert!(
            text.contains("| vmlinuz, from the cache | 4.20 (4.20) | 2.10 |"),
            "{text}"
        );
        assert!(text.ends_with("2.05 x tiny in the median of rounds: **not kept**.\n"));
    }
}
