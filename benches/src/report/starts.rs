//! Measures starts: beside the floor, with large guests, with guests that touch their memory, with
//! huge pages.

use std::io;

use super::{Bench, first, verdict};
use crate::{
    peers::{Built, Peer},
    stats::Summary,
};

/// Measures our VMM beside a floor with the same devices.
///
/// # Errors
///
/// If a run fails again and again.
pub fn pairs(bench: &Bench) -> io::Result<String> {
    let mut contenders = Vec::new();
    let builds = [
        ("", Some(&bench.built)),
        (", shared libraries", bench.built_shared.as_ref()),
    ];
    for (kind, built) in builds {
        let Some(Built { vmm, floor }) = built else {
            continue;
        };
        for (platform, devices, options) in [
            ("platform none", "pc", &["--platform", "none"][..]),
            ("platform xen", "xen", &["--platform", "xen"]),
            ("no option (platform xen)", "xen", &[]),
        ] {
            let name = format!("{platform}{kind}");
            let [tiny, ..] = &bench.guests;
            contenders.push((Peer::floor(&name, floor, devices), tiny));
            contenders.push((Peer::ours(&name, vmm, options), tiny));
        }
    }
    let runs = bench.runs(PAIR_RUNS);
    let mut text = format!(
        "{runs} runs each, in turn, exec to the guest's first byte, ms. Limit: {FLOOR_LIMIT} x the floor.\n\n\
         | pair | floor: median (lowest tenth) | pvh-vmm | of medians | median of rounds | of lowest tenths | of leasts | |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    // One pair at a time, so that each program follows its like: remains of a machine may slow the
    // next one.
    for pair in contenders.chunks_exact(2) {
        let samples = bench.race(PAIR_RUNS, pair)?;
        let ([floor, ours], [(peer, _), _]) = (&samples[..], pair) else {
            continue;
        };
        let (floor, ours) = (first(floor), first(ours));
        let rounds = Summary::of_ratios(&ours, &floor);
        if let (Some(floor), Some(ours), Some(rounds)) =
            (Summary::of(floor), Summary::of(ours), rounds)
        {
            text.push_str(&pair_row(&peer.name, &floor, &ours, rounds.median));
        }
    }
    Ok(text)
}

fn pair_row(name: &str, floor: &Summary, ours: &Summary, rounds: f64) -> String {
    let ratio = ours.median / floor.median;
    format!(
        "| {name} | {:.2} ({:.2}) | {:.2} ({:.2}) | **{ratio:.2}** | {rounds:.2} | {:.2} | {:.2} | {} |\n",
        floor.median,
        floor.lowest_tenth,
        ours.median,
        ours.lowest_tenth,
        ours.lowest_tenth / floor.lowest_tenth,
        ours.min / floor.min,
        verdict(ratio, FLOOR_LIMIT)
    )
}

/// Measures our VMM with guests of several sizes.
///
/// # Errors
///
/// If a run fails again and again.
pub fn flat(bench: &Bench) -> io::Result<String> {
    let mut text = format!(
        "{} runs each, in turn. Limits: {FLAT_LIMIT} x tiny, and less than {RSS_LIMIT} MiB more at the peak.\n\n\
         | guest | median (lowest tenth), ms | x tiny, of medians | median of rounds | peak RSS, MiB more | |\n|---|---|---|---|---|---|\n",
        bench.runs(FLAT_RUNS)
    );
    for platform in ["none", "xen"] {
        let ours = bench.ours("pvh-vmm", &["--platform", platform]);
        let guests = bench.guests.iter().take(3);
        let contenders: Vec<_> = guests.map(|guest| (ours.clone(), guest)).collect();
        let samples = bench.race(FLAT_RUNS, &contenders)?;
        let Some(tiny) = samples.first() else {
            continue;
        };
        for ((_, guest), samples) in contenders.iter().zip(&samples) {
            let rounds = Summary::of_ratios(&first(samples), &first(tiny));
            let rss = |samples: &[_]| {
                Summary::of(samples.iter().map(crate::measure::Sample::peak_rss_mib))
            };
            let summaries = [first(samples), first(tiny)].map(Summary::of);
            if let ([Some(own), Some(least)], Some(rounds), Some(rss), Some(tiny_rss)) =
                (summaries, rounds, rss(samples), rss(tiny))
            {
                let (ratio, more) = (own.median / least.median, rss.median - tiny_rss.median);
                let is_kept = if more < RSS_LIMIT {
                    verdict(ratio, FLAT_LIMIT)
                } else {
                    "**not kept**"
                };
                text.push_str(&format!(
                    "| {}, platform {platform} | {:.2} ({:.2}) | {ratio:.2} | {:.2} | {more:.2} | {is_kept} |\n",
                    guest.name, own.median, own.lowest_tenth, rounds.median
                ));
            }
        }
    }
    Ok(text)
}

/// Measures a guest that reads and writes every page of its 40 MiB, mapped and copied.
///
/// # Errors
///
/// If a run fails again and again.
pub fn touched(bench: &Bench) -> io::Result<String> {
    let [.., touch] = &bench.guests;
    let ours = |load| {
        (
            bench.ours(load, &["--platform", "none", "--load", load]),
            touch,
        )
    };
    let samples = bench.race(TOUCH_RUNS, &[ours("map"), ours("copy")])?;
    let [mapped, copied] = &samples[..] else {
        return Err(io::Error::other("two contenders have two results"));
    };
    let mut text = format!(
        "{} pairs of runs. Limit: mapped no later than copied.\n\n\
         | until | mapped: median (lowest tenth), ms | copied | mapped less copied, median of pairs (tenths) | |\n|---|---|---|---|---|\n",
        bench.runs(TOUCH_RUNS)
    );
    let exits = |samples: &[crate::measure::Sample]| -> Vec<f64> {
        let exit = |sample: &crate::measure::Sample| sample.exit_ms.unwrap_or(f64::NAN);
        samples.iter().map(exit).collect()
    };
    let rows = [
        ("all pages are touched", first(mapped), first(copied)),
        ("the end", exits(mapped), exits(copied)),
    ];
    for (until, mapped, copied) in rows {
        let more = Summary::of_differences(&mapped, &copied);
        if let (Some(more), Some(mapped), Some(copied)) =
            (more, Summary::of(mapped), Summary::of(copied))
        {
            text.push_str(&format!(
                "| {until} | {:.1} ({:.1}) | {:.1} ({:.1}) | {:+.1} ({:+.1} to {:+.1}) | {} |\n",
                mapped.median,
                mapped.lowest_tenth,
                copied.median,
                copied.lowest_tenth,
                more.median,
                more.lowest_tenth,
                more.highest_tenth,
                verdict(more.median, 0.0)
            ));
        }
    }
    Ok(text)
}

/// Measures the gain of huge pages: for a guest that touches little, one that touches all, and one
/// for which much is copied.
///
/// # Errors
///
/// If a run fails again and again.
pub fn huge(bench: &Bench) -> io::Result<String> {
    let [tiny, _, initrd, touch] = &bench.guests;
    let cases = [
        ("tiny", tiny, "map"),
        ("40 MiB touched, mapped", touch, "map"),
        ("40 MiB touched, copied", touch, "copy"),
        ("200 MiB initrd, copied", initrd, "copy"),
    ];
    let contenders = cases.iter().flat_map(|(name, guest, load)| {
        ["small", "huge"].map(|pages| {
            let options = [
                "--platform",
                "none",
                "--load",
                load,
                "--memory-backing",
                pages,
            ];
            (bench.ours(name, &options), *guest)
        })
    });
    let contenders: Vec<_> = contenders.collect();
    let samples = bench.race(HUGE_RUNS, &contenders)?;
    let mut text = format!(
        "{} runs each, in turn, exec to the first byte (a guest that touches its memory writes it afterwards), and the peak of memory.\n\n\
         | guest | small: median (lowest tenth), ms | huge | huge / small, median of rounds | peak RSS, MiB: small | huge |\n\
         |---|---|---|---|---|---|\n",
        bench.runs(HUGE_RUNS)
    );
    for ((name, ..), pair) in cases.iter().zip(samples.chunks_exact(2)) {
        let [small, huge] = pair else { continue };
        let rss = |samples: &[crate::measure::Sample]| {
            let peaks = samples.iter().map(crate::measure::Sample::peak_rss_mib);
            Summary::of(peaks).map_or(f64::NAN, |summary| summary.median)
        };
        let memory = (rss(small), rss(huge));
        let (small, huge) = (first(small), first(huge));
        let ratio = Summary::of_ratios(&huge, &small);
        if let (Some(ratio), Some(small), Some(huge)) =
            (ratio, Summary::of(small), Summary::of(huge))
        {
            text.push_str(&format!(
                "| {name} | {:.2} ({:.2}) | {:.2} ({:.2}) | {:.2} | {:.1} | {:.1} |\n",
                small.median,
                small.lowest_tenth,
                huge.median,
                huge.lowest_tenth,
                ratio.median,
                memory.0,
                memory.1
            ));
        }
    }
    Ok(text)
}

/// The limit of a start, in multiples of the floor's.
const FLOOR_LIMIT: f64 = 1.25;

/// The limit of a large guest's start, in multiples of a tiny guest's.
const FLAT_LIMIT: f64 = 1.1;

/// The limit of the extra memory of a large guest, in MiB.
const RSS_LIMIT: f64 = 2.0;

const PAIR_RUNS: usize = 120;
const FLAT_RUNS: usize = 80;
const TOUCH_RUNS: usize = 60;
const HUGE_RUNS: usize = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_judged_by_its_medians() {
        let summary = |median: f64| Summary::of([median]).unwrap();
        let row = pair_row("x", &summary(2.0), &summary(2.6), 1.2);
        assert!(
            row.contains("| **1.30** | 1.20 |") && row.contains("**not kept**"),
            "{row}"
        );
        assert!(pair_row("x", &summary(2.0), &summary(2.4), 1.2).contains("| kept |"));
    }
}
