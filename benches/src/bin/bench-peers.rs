//! Boots the same guests in every VMM that is found, and compares: `bench-peers [RUNS] [OUT]`.
//!
//! Prints a table in markdown; with OUT, also writes OUT.json and OUT.svg.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use pvh_bench::{
    measure::Sample,
    peers::{Peer, Variant, peers, variants},
    plot::{Bar, bars},
    stats::Summary,
};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let runs = arguments.next().map_or(Ok(25), |runs| runs.parse());
    let out = arguments.next().map(PathBuf::from);
    let Ok(runs) = runs else {
        return complain("bench-peers [RUNS] [OUT]: RUNS is a number");
    };
    match compare(runs, out.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("bench-peers: {error}")),
    }
}

fn complain(line: &str) -> ExitCode {
    // Nobody is left to be told that standard error is gone.
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(2)
}

/// What one VMM did with one guest.
struct Row {
    variant: &'static str,
    peer: String,
    first: Option<Summary>,
    exit: Option<Summary>,
    rss_mib: Option<Summary>,
    failed: usize,
}

fn compare(runs: usize, out: Option<&Path>) -> io::Result<()> {
    let dir = env::temp_dir().join("pvh-bench");
    let variants = variants(&dir)?;
    let peers = peers();
    let mut rows = Vec::new();
    for variant in &variants {
        rows.extend(measure_variant(runs, variant, &peers, &dir)?);
    }
    let mut table = io::stdout().lock();
    table.write_all(markdown(&rows).as_bytes())?;
    if let Some(out) = out {
        fs::write(out.with_extension("json"), json(&rows))?;
        fs::write(out.with_extension("svg"), plot(&rows))?;
    }
    Ok(())
}

/// Runs all in turn, so that what the machine does besides hits all alike.
fn measure_variant(
    runs: usize,
    variant: &Variant,
    peers: &[Peer],
    dir: &Path,
) -> io::Result<Vec<Row>> {
    let mut samples: Vec<Vec<Sample>> = peers.iter().map(|_| Vec::new()).collect();
    let mut failed = vec![0_usize; peers.len()];
    for _ in 0..=runs {
        for ((peer, samples), failed) in peers.iter().zip(&mut samples).zip(&mut failed) {
            // Three failures say enough.
            if *failed >= 3 {
                continue;
            }
            match peer.run(variant, dir) {
                Ok(sample) => samples.push(sample),
                Err(_) => *failed = failed.saturating_add(1),
            }
        }
    }
    let rows = peers
        .iter()
        .zip(samples)
        .zip(failed)
        .map(|((peer, samples), failed)| {
            // The first run reads files that the others find in memory.
            let of = |value: fn(&Sample) -> Option<f64>| {
                Summary::of(samples.iter().skip(1).filter_map(value))
            };
            Row {
                variant: variant.name,
                peer: peer.name.clone(),
                first: of(|sample| Some(sample.first_byte_ms)),
                exit: of(|sample| sample.exit_ms),
                rss_mib: of(|sample| Some(mib(sample.peak_rss_kib))),
                failed,
            }
        });
    Ok(rows.collect())
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| guest | VMM | first byte, ms: median (least, upper quartile) | of ours | exit, ms | peak RSS, MiB |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let ours = rows
            .iter()
            .find(|other| other.variant == row.variant && other.peer == "pvh-vmm");
        let ours = ours.and_then(|ours| ours.first).map(|first| first.median);
        let first = row.first.map_or("-".to_owned(), |first| {
            format!(
                "{:.2} ({:.2}, {:.2})",
                first.median, first.min, first.upper_quartile
            )
        });
        let ratio = row.first.zip(ours).map(|(first, ours)| first.median / ours);
        let number =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let failed = if row.failed > 0 {
            format!("; {} failed", row.failed)
        } else {
            String::new()
        };
        text.push_str(&format!(
            "| {} | {} | {first}{failed} | {} | {} | {} |\n",
            row.variant,
            row.peer,
            number(ratio),
            number(row.exit.map(|exit| exit.median)),
            number(row.rss_mib.map(|rss| rss.median)),
        ));
    }
    text
}

fn json(rows: &[Row]) -> String {
    let summary = |summary: Option<Summary>| {
        summary.map(|s| serde_json::json!({"min": s.min, "median": s.median, "upper_quartile": s.upper_quartile}))
    };
    let rows = rows.iter().map(|row| {
        serde_json::json!({
            "guest": row.variant,
            "vmm": row.peer,
            "first_byte_ms": summary(row.first),
            "exit_ms": summary(row.exit),
            "peak_rss_mib": summary(row.rss_mib),
            "failed": row.failed,
        })
    });
    let rows: Vec<_> = rows.collect();
    format!("{:#}\n", serde_json::Value::from(rows))
}

fn plot(rows: &[Row]) -> String {
    let mut groups: Vec<(String, Vec<Bar>)> = Vec::new();
    for row in rows {
        let Some(first) = row.first else { continue };
        let bar = Bar {
            label: row.peer.clone(),
            value: first.min,
            strong: row.peer.starts_with("pvh-vmm"),
        };
        match groups.last_mut() {
            Some((name, bars)) if name == row.variant => bars.push(bar),
            _ => groups.push((row.variant.to_owned(), vec![bar])),
        }
    }
    bars(
        "From exec to the guest's first serial byte, least of the runs",
        "ms",
        &groups,
    )
}
