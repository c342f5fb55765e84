//! Boots the same guests in every VMM that is found.

use std::{io, path::Path};

use crate::{
    measure::Sample,
    peers::{Peer, Variant},
    plot::{Bar, bars},
    stats::Summary,
    turns::order,
};

/// The results of one VMM with one guest.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a record of measurements")]
pub struct Row {
    /// The guest.
    pub variant: &'static str,
    /// The VMM.
    pub peer: String,
    /// Times to the guest's first byte, in ms.
    pub first: Option<Summary>,
    /// Times to the end of the program, in ms.
    pub exit: Option<Summary>,
    /// Peaks of resident memory.
    pub rss_mib: Option<Summary>,
    /// The number of failed runs.
    pub failed: usize,
    /// Whether the program was killed after the first byte, because it does not end with its guest.
    pub was_killed: bool,
}

/// Boots each of `variants` in each of `peers`, `runs` times in a balanced order.
///
/// # Errors
///
/// If there is nothing to compare.
pub fn compare(
    runs: usize,
    variants: &[Variant],
    peers: &[Peer],
    dir: &Path,
) -> io::Result<Vec<Row>> {
    let rows = variants.iter().flat_map(|variant| {
        let mut races: Vec<Race> = peers.iter().map(Race::new).collect();
        // The first run reads files that are in the page cache for the others.
        races.iter_mut().for_each(|race| race.warm_up(variant, dir));
        for round in 0..runs {
            for index in order(round, peers.len()) {
                if let Some(race) = races.get_mut(index) {
                    race.run(variant, dir);
                }
            }
        }
        races.into_iter().map(|race| race.row(variant.name))
    });
    let rows: Vec<Row> = rows.collect();
    if rows.is_empty() {
        return Err(io::Error::other(
            "no VMM found: build pvh-vmm beside this program",
        ));
    }
    Ok(rows)
}

/// The runs of one VMM with one guest.
struct Race<'a> {
    peer: &'a Peer,
    samples: Vec<Sample>,
    failed: usize,
    is_killed: bool,
}

impl<'a> Race<'a> {
    const fn new(peer: &'a Peer) -> Self {
        Self {
            peer,
            samples: Vec::new(),
            failed: 0,
            is_killed: false,
        }
    }

    /// Runs it once, and notes whether it ends with its guest.
    fn warm_up(&mut self, variant: &Variant, dir: &Path) {
        self.run(variant, dir);
        if let Some(sample) = self.samples.pop() {
            self.is_killed = sample.exit_ms.is_none();
        }
    }

    fn run(&mut self, variant: &Variant, dir: &Path) {
        // Three failures are enough.
        if self.failed >= 3 {
            return;
        }
        let sample = if self.is_killed {
            self.peer.run_to_byte(variant, dir)
        } else {
            self.peer.run(variant, dir)
        };
        match sample {
            Ok(sample) => self.samples.push(sample),
            Err(_) => self.failed = self.failed.saturating_add(1),
        }
    }

    fn row(self, variant: &'static str) -> Row {
        let of =
            |value: fn(&Sample) -> Option<f64>| Summary::of(self.samples.iter().filter_map(value));
        Row {
            variant,
            peer: self.peer.name.clone(),
            first: of(|sample| Some(sample.first_byte_ms)),
            exit: of(|sample| sample.exit_ms),
            rss_mib: of(|sample| Some(sample.peak_rss_mib())),
            failed: self.failed,
            was_killed: self.is_killed,
        }
    }
}

/// Writes a table for each guest.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut guest = "";
    for row in rows {
        if row.variant != guest {
            guest = row.variant;
            text.push_str(&format!("\n**{guest}**\n\n{HEAD}"));
        }
        let ours = rows
            .iter()
            .find(|other| other.variant == guest && other.peer == "pvh-vmm");
        let ours = ours.and_then(|ours| ours.first).map(|first| first.median);
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let failed = match row.failed {
            0 => String::new(),
            failed => format!(" ({failed} failed)"),
        };
        let exit = if row.was_killed {
            "killed after the byte".to_owned()
        } else {
            number(row.exit.map(|exit| exit.median))
        };
        text.push_str(&format!(
            "| {}{failed} | {} | {} | {} | {} | {exit} | {} |\n",
            row.peer,
            number(row.first.map(|first| first.median)),
            number(row.first.map(|first| first.lowest_tenth)),
            number(row.first.map(|first| first.min)),
            number(row.first.zip(ours).map(|(first, ours)| first.median / ours)),
            number(row.rss_mib.map(|rss| rss.median)),
        ));
    }
    text
}

/// Writes all summaries as JSON.
#[must_use]
pub fn json(rows: &[Row]) -> String {
    let summary = |summary: Option<Summary>| {
        summary.map(|s| {
            serde_json::json!({
                "min": s.min, "lowest_tenth": s.lowest_tenth, "median": s.median,
                "upper_quartile": s.upper_quartile, "highest_tenth": s.highest_tenth,
            })
        })
    };
    let rows = rows.iter().map(|row| {
        serde_json::json!({
            "guest": row.variant,
            "vmm": row.peer,
            "first_byte_ms": summary(row.first),
            "exit_ms": summary(row.exit),
            "peak_rss_mib": summary(row.rss_mib),
            "failed": row.failed,
            "killed": row.was_killed,
        })
    });
    let rows: Vec<_> = rows.collect();
    format!("{:#}\n", serde_json::Value::from(rows))
}

/// Draws the medians of the times to the first byte.
#[must_use]
pub fn plot(rows: &[Row]) -> String {
    let mut groups: Vec<(String, Vec<Bar>)> = Vec::new();
    for row in rows {
        let Some(first) = row.first else { continue };
        let bar = Bar {
            label: row.peer.clone(),
            value: first.median,
            strong: row.peer.starts_with("pvh-vmm"),
        };
        match groups.last_mut() {
            Some((name, bars)) if name == row.variant => bars.push(bar),
            _ => groups.push((row.variant.to_owned(), vec![bar])),
        }
    }
    bars(
        "From exec to the guest's first serial byte, median of the runs",
        "ms",
        &groups,
    )
}

const HEAD: &str = "| VMM | median, ms | lowest tenth | least | x pvh-vmm | exit, median | peak RSS, MiB |\n|---|---|---|---|---|---|---|\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: &str, first: Option<f64>, was_killed: bool) -> Row {
        Row {
            variant: "tiny",
            peer: peer.into(),
            first: first.and_then(|first| Summary::of([first])),
            exit: (!was_killed).then(|| Summary::of([9.0])).flatten(),
            rss_mib: Summary::of([3.5]),
            failed: usize::from(first.is_none()),
            was_killed,
        }
    }

    #[test]
    fn each_vmm_is_compared_with_ours_and_oddities_are_said() {
        let rows = [
            row("pvh-vmm", Some(2.0), false),
            row("other", Some(5.0), true),
            row("broken", None, false),
        ];
        let text = markdown(&rows);
        assert!(text.contains("\n**tiny**\n"), "{text}");
        for line in [
            "| pvh-vmm | 2.00 | 2.00 | 2.00 | 1.00 | 9.00 | 3.50 |",
            "| other | 5.00 | 5.00 | 5.00 | 2.50 | killed after the byte | 3.50 |",
            "| broken (1 failed) | - | - | - | - | 9.00 | 3.50 |",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let parsed: serde_json::Value = serde_json::from_str(&json(&rows)).unwrap();
        assert_eq!(parsed[1]["first_byte_ms"]["median"], 5.0);
        assert!(plot(&rows).contains("5.00 ms") && !plot(&rows).contains("broken"));
    }

    #[test]
    fn without_a_vmm_there_is_nothing_to_compare() {
        assert!(compare(1, &[], &[], Path::new(".")).is_err());
    }
}
