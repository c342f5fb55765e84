//! Checks the budgets that are ratios and prints each; fails if one is exceeded.
//!
//! Other work on the machine makes single runs longer, never shorter. So the smallest times are
//! compared, and while a budget is exceeded, more runs are made, up to a limit.
#![forbid(unsafe_code)]

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use pvh_bench::{
    measure::Sample,
    peers::{Peer, Variant, peers, variants},
    stats::Summary,
};

fn main() -> ExitCode {
    if std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return say(
            "bench-smoke: cannot open /dev/kvm, so nothing is measured",
            true,
        );
    }
    match check() {
        Ok(report) => {
            let is_kept = report.iter().all(|budget| budget.is_kept());
            let lines: Vec<String> = report.iter().map(Budget::line).collect();
            say(&lines.join("\n"), is_kept)
        }
        Err(error) => say(&format!("bench-smoke: {error}"), false),
    }
}

fn say(text: &str, is_good: bool) -> ExitCode {
    // If standard output is gone, there is nobody to tell.
    let _ = writeln!(io::stdout(), "{text}");
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A budget: a value and its upper limit.
struct Budget {
    what: String,
    found: f64,
    most: f64,
}

impl Budget {
    fn is_kept(&self) -> bool {
        self.found <= self.most
    }

    fn line(&self) -> String {
        let Self { what, found, most } = self;
        let verdict = if self.is_kept() { "ok" } else { "EXCEEDED" };
        format!("{verdict}: {what}: {found:.2}, at most {most:.2}")
    }
}

fn check() -> io::Result<Vec<Budget>> {
    let dir = env::temp_dir().join("pvh-bench");
    let variants = variants(&dir)?;
    let peers = peers();
    let ours = find(&peers, "pvh-vmm")?;
    let copying = find(&peers, "pvh-vmm, copy")?;
    let variant = |name: &str| {
        let found = variants.iter().find(|variant| variant.name == name);
        found.ok_or_else(|| io::Error::other(format!("there is no guest {name}")))
    };
    let runs = [
        (ours, variant("tiny")?),
        (ours, variant("40 MiB segment")?),
        (ours, variant("200 MiB initrd")?),
        (copying, variant("200 MiB initrd")?),
    ];
    let mut samples = runs.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        measure_all(&runs, &mut samples, &dir)?;
        let budgets = budgets(least_of(&samples));
        if budgets.iter().all(Budget::is_kept) {
            return Ok(budgets);
        }
    }
    Ok(budgets(least_of(&samples)))
}

/// The budgets for the smallest times and memories of tiny, segment, initrd, and initrd copied.
fn budgets([tiny, segment, initrd, copied]: [(f64, f64); 4]) -> Vec<Budget> {
    let mut budgets = Vec::new();
    for (name, large) in [("a 40 MiB segment", segment), ("a 200 MiB initrd", initrd)] {
        budgets.push(Budget {
            what: format!("first byte with {name} / tiny"),
            found: large.0 / tiny.0,
            most: 1.5,
        });
        budgets.push(Budget {
            what: format!("MiB of peak memory beyond tiny with {name}"),
            found: large.1 - tiny.1,
            most: 2.0,
        });
    }
    budgets.push(Budget {
        what: "first byte, 200 MiB mapped / copied".to_owned(),
        found: initrd.0 / copied.0,
        most: 0.5,
    });
    budgets
}

fn find<'a>(peers: &'a [Peer], name: &str) -> io::Result<&'a Peer> {
    let found = peers.iter().find(|peer| peer.name == name);
    found.ok_or_else(|| {
        io::Error::other(format!(
            "{name} is missing: build it, or name it with PVH_VMM"
        ))
    })
}

/// Runs all in turn, and adds the results.
fn measure_all(
    runs: &[(&Peer, &Variant); 4],
    samples: &mut [Vec<Sample>; 4],
    dir: &Path,
) -> io::Result<()> {
    for _ in 0..RUNS {
        for ((peer, variant), samples) in runs.iter().zip(&mut *samples) {
            samples.push(peer.run(variant, dir)?);
        }
    }
    Ok(())
}

/// Returns the smallest time to the first byte and the smallest peak memory in MiB of each.
fn least_of(samples: &[Vec<Sample>; 4]) -> [(f64, f64); 4] {
    let least = |samples: &Vec<Sample>, value: fn(&Sample) -> f64| {
        Summary::of(samples.iter().map(value)).map_or(f64::NAN, |summary| summary.min)
    };
    samples.each_ref().map(|samples| {
        let first = least(samples, |sample| sample.first_byte_ms);
        let memory = least(samples, |sample| {
            f64::from(u32::try_from(sample.peak_rss_kib).unwrap_or(u32::MAX)) / 1024.0
        });
        (first, memory)
    })
}

/// The runs of each in a round.
const RUNS: usize = 8;

/// The most rounds.
const ROUNDS: usize = 8;
