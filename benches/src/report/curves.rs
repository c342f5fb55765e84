//! Measures how the time to the first byte grows with vCPUs, memory and modules.

use std::{io, path::PathBuf};

use super::{Bench, first, verdict};
use crate::{
    guest::write_noise_once,
    peers::Peer,
    plot::{self, Diagram, Line},
    stats::Summary,
};

/// One curve: the quantity, its points, and a floor for each if there is one.
#[derive(Clone, Debug)]
struct Curve {
    what: &'static str,
    points: Vec<Point>,
}

#[derive(Clone, Debug)]
struct Point {
    name: String,
    /// The quantity at this point.
    count: f64,
    ours: Peer,
    floor: Option<Peer>,
}

/// A point's times, in ms.
#[derive(Clone, Debug)]
struct Found {
    name: String,
    count: f64,
    ours: Summary,
    floor: Option<Summary>,
}

/// Measures all curves; returns tables and the plot.
///
/// # Errors
///
/// If a run fails again and again.
pub fn curves(bench: &Bench) -> io::Result<(String, String)> {
    let mut text = format!(
        "{} runs of each point, in turn, platform none: medians (lowest tenths) in ms to the first byte. Limit: linear growth, so that \
         twice the quantity never costs more than twice the time beyond the first point; the last step counts.\n",
        bench.runs(RUNS)
    );
    let mut diagrams = Vec::new();
    for curve in [cpus(bench), memory(bench), modules(bench)?] {
        let found = measure(bench, &curve)?;
        text.push_str(&table(curve.what, &found));
        diagrams.push(diagram(curve.what, &found));
    }
    let title = "From exec to the guest's first byte, medians; both scales logarithmic";
    Ok((text, plot::curves(title, "ms", &diagrams)))
}

fn cpus(bench: &Bench) -> Curve {
    let point = |n: u32| Point {
        name: n.to_string(),
        count: n.into(),
        ours: bench.ours("pvh-vmm", &["--platform", "none", "--cpus", &n.to_string()]),
        floor: Some(floor(bench, &format!("512x{n}"))),
    };
    Curve {
        what: "vCPUs",
        points: [1, 2, 4, 8, 16, 32, 64].map(point).into(),
    }
}

fn memory(bench: &Bench) -> Curve {
    let point = |mib: u32| {
        let size = format!("{mib}M");
        Point {
            name: if mib < 1024 {
                size.clone()
            } else {
                format!("{}G", mib / 1024)
            },
            count: mib.into(),
            ours: bench.ours("pvh-vmm", &["--platform", "none", "--memory", &size]),
            floor: Some(floor(bench, &mib.to_string())),
        }
    };
    Curve {
        what: "memory, not touched",
        points: [128, 512, 2048, 8192, 32_768, 65_536].map(point).into(),
    }
}

fn modules(bench: &Bench) -> io::Result<Curve> {
    let module: PathBuf = bench.dir.join("module");
    write_noise_once(&module, b"", 1 << 20)?;
    let module = module.display().to_string();
    let point = |n: u32| {
        let mut options = vec!["--platform", "none"];
        (0..n).for_each(|_| options.extend(["--module", module.as_str()]));
        Point {
            name: n.to_string(),
            // A logarithmic scale has no place for 0.
            count: f64::from(n).max(0.5),
            ours: bench.ours("pvh-vmm", &options),
            floor: None,
        }
    };
    Ok(Curve {
        what: "modules of 1 MiB",
        points: [0, 1, 2, 4, 8, 16, 32, 64].map(point).into(),
    })
}

fn floor(bench: &Bench, size: &str) -> Peer {
    Peer::floor_of("floor, PC", &bench.built.floor, "pc", size)
}

fn measure(bench: &Bench, curve: &Curve) -> io::Result<Vec<Found>> {
    let [tiny, ..] = &bench.guests;
    let peers = curve.points.iter().flat_map(|point| {
        let ours = [(point.ours.clone(), tiny)];
        ours.into_iter()
            .chain(point.floor.clone().map(|floor| (floor, tiny)))
    });
    let peers: Vec<_> = peers.collect();
    let samples = bench.race(RUNS, &peers)?;
    let mut summaries = samples.iter().map(|samples| Summary::of(first(samples)));
    let found = curve.points.iter().map(|point| {
        Some(Found {
            name: point.name.clone(),
            count: point.count,
            ours: summaries.next()??,
            floor: point.floor.as_ref().and_then(|_| summaries.next()?),
        })
    });
    let found: Option<Vec<Found>> = found.collect();
    found.ok_or_else(|| io::Error::other("a point has no result"))
}

fn table(what: &str, found: &[Found]) -> String {
    let row = |name: &str, cells: Vec<String>| format!("| {name} | {} |\n", cells.join(" | "));
    let cells = |cell: fn(&Found) -> String| found.iter().map(cell).collect::<Vec<_>>();
    let of = |summary: &Summary| format!("{:.2} ({:.2})", summary.median, summary.lowest_tenth);
    let mut text = format!("\n{}", row(what, cells(|found| found.name.clone())));
    text.push_str(&format!(
        "|{}\n",
        "---|".repeat(found.len().saturating_add(1))
    ));
    text.push_str(&row(
        "pvh-vmm",
        found.iter().map(|found| of(&found.ours)).collect(),
    ));
    if found.iter().any(|found| found.floor.is_some()) {
        let floor = |found: &Found| found.floor.as_ref().map_or(String::new(), of);
        text.push_str(&row("floor", found.iter().map(floor).collect()));
    }
    if let Some(growth) = growth(found) {
        let judged = verdict(growth, LINEAR);
        text.push_str(&format!("\nThe last step costs {growth:.2} x the step of a straight line through the ends: {judged}.\n"));
    }
    text
}

/// Returns the slope of the last step divided by that of the line from the first point to the last,
/// from the lowest tenths. It is 1 for linear growth, and less where the curve is flat at first or
/// only noise.
fn growth(found: &[Found]) -> Option<f64> {
    let [start, .., before, last] = found else {
        return None;
    };
    let slope = |from: &Found, to: &Found| {
        (to.ours.lowest_tenth - from.ours.lowest_tenth) / (to.count - from.count)
    };
    let whole = slope(start, last);
    // The curve does not grow.
    if whole <= 0.0 {
        return Some(0.0);
    }
    Some(slope(before, last) / whole)
}

fn diagram(what: &str, found: &[Found]) -> Diagram {
    let line = |label: &str, strong, points: Vec<(f64, f64)>| Line {
        label: label.to_owned(),
        points,
        strong,
    };
    let ours = found.iter().map(|found| (found.count, found.ours.median));
    let floor = found
        .iter()
        .filter_map(|found| Some((found.count, found.floor?.median)));
    let mut lines = vec![line("pvh-vmm", true, ours.collect())];
    let floor: Vec<_> = floor.collect();
    if !floor.is_empty() {
        lines.push(line("floor", false, floor));
    }
    let ticks = found.iter().map(|found| (found.count, found.name.clone()));
    Diagram {
        title: what.to_owned(),
        ticks: ticks.collect(),
        lines,
    }
}

/// Enough runs that the tenths of a nearly flat curve are more than noise.
const RUNS: usize = 60;

/// The limit of that ratio: 1 for a line, and the rest for noise.
const LINEAR: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(points: &[(f64, f64)]) -> Vec<Found> {
        let one = |&(count, ms): &(f64, f64)| Found {
            name: count.to_string(),
            count,
            ours: Summary::of([ms]).unwrap(),
            floor: None,
        };
        points.iter().map(one).collect()
    }

    #[test]
    fn growth_is_1_for_a_line_and_more_for_what_bends_upwards() {
        let line = found(&[(1.0, 3.0), (2.0, 4.0), (4.0, 6.0)]);
        assert_eq!(growth(&line), Some(1.0));
        let square = found(&[(1.0, 1.0), (4.0, 16.0), (16.0, 256.0), (64.0, 4096.0)]);
        assert!(growth(&square).unwrap() > 1.2);
        let flat = found(&[(1.0, 3.0), (2.0, 3.0), (4.0, 3.0)]);
        assert_eq!(growth(&flat), Some(0.0));
        assert_eq!(growth(&line[..1]), None);
    }

    #[test]
    fn a_table_has_a_column_for_each_point() {
        let text = table("vCPUs", &found(&[(1.0, 3.0), (2.0, 4.0), (4.0, 6.0)]));
        assert!(
            text.starts_with("\n| vCPUs | 1 | 2 | 4 |\n|---|---|---|---|\n"),
            "{text}"
        );
        assert!(text.contains("| pvh-vmm | 3.00 (3.00) | 4.00 (4.00) | 6.00 (6.00) |"));
        assert!(text.contains("1.00 x") && !text.contains("floor"));
    }
}
