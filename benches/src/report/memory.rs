//! The memory of a VMM, alone and beside others of its kind.

use std::io;

use super::{Bench, verdict};
use crate::{
    peers::{Peer, STAYING, others, staying},
    smaps::{Usage, usage, usage_beside_ram},
    standing::Standing,
    stats::Summary,
};

/// Measures the memory of our VMM without guest RAM, with one vCPU.
///
/// # Errors
///
/// If it cannot be started, or its memory cannot be read.
pub fn own(bench: &Bench) -> io::Result<String> {
    let guest = staying(&bench.dir)?;
    let mut text = format!(
        "All of /proc/PID/smaps except the mappings of guest RAM, one vCPU, while the guest runs. Limit: below {OWN_LIMIT} MiB.\n\n\
         | pvh-vmm | private, MiB | of which written | private and shared (libraries too) | PSS | |\n|---|---|---|---|---|---|\n"
    );
    let builds = [
        ("", Some(&bench.built)),
        (", shared libraries", bench.built_shared.as_ref()),
    ];
    for (kind, built) in builds {
        let Some(built) = built else { continue };
        for platform in ["none", "xen"] {
            let name = format!("platform {platform}{kind}");
            let options = ["--platform", platform, "--memory", RAM];
            let standing = Peer::ours(&name, &built.vmm, &options).stand(&guest, &bench.dir)?;
            let Usage {
                rss,
                pss,
                private,
                dirty,
            } = usage_beside_ram(standing.pid(), RAM_BYTES, STAYING)?;
            text.push_str(&format!(
                "| {name} | {private:.2} | {dirty:.2} | **{rss:.2}** | {pss:.2} | {} |\n",
                verdict(rss, OWN_LIMIT)
            ));
        }
    }
    Ok(text)
}

/// Measures the memory of many guests of one kernel together.
///
/// # Errors
///
/// If our VMM cannot be started, or its memory cannot be read. For other VMMs, the row of the table
/// says so.
pub fn crowd(bench: &Bench) -> io::Result<String> {
    let guest = staying(&bench.dir)?;
    let load = |way| ["--platform", "none", "--load", way];
    let mut peers = vec![
        bench.ours("pvh-vmm, mapped", &load("map")),
        bench.ours("pvh-vmm, xen, mapped", &["--platform", "xen"]),
        bench.ours("pvh-vmm, copied", &load("copy")),
    ];
    let own = peers.len();
    peers.extend(others());
    let mut text = format!(
        "| {CROWD} guests of one kernel with a 40 MiB segment | PSS of all, MiB | RSS of all | private of one, median |\n|---|---|---|---|\n"
    );
    for (index, peer) in peers.iter().enumerate() {
        let together = || {
            let guests = (0..CROWD).map(|_| peer.stand(&guest, &bench.dir));
            let guests = guests.collect::<io::Result<Vec<Standing>>>()?;
            let usages = guests.iter().map(|guest| usage(guest.pid()));
            usages.collect::<io::Result<Vec<Usage>>>()
        };
        match together() {
            Ok(usages) => text.push_str(&crowd_row(&peer.name, &usages)),
            Err(error) if index < own => return Err(error),
            Err(error) => {
                text.push_str(&format!("| {} | not measured: {error} | | |\n", peer.name))
            }
        }
    }
    Ok(text)
}

fn crowd_row(name: &str, usages: &[Usage]) -> String {
    let sum = |value: fn(&Usage) -> f64| usages.iter().map(value).sum::<f64>();
    let private = Summary::of(usages.iter().map(|one| one.private));
    format!(
        "| {name} | {:.1} | {:.1} | {:.2} |\n",
        sum(|one| one.pss),
        sum(|one| one.rss),
        private.map_or(f64::NAN, |summary| summary.median)
    )
}

/// The limit of the VMM's own memory, in MiB.
const OWN_LIMIT: f64 = 3.0;

/// The number of guests side by side.
const CROWD: usize = 16;

/// A size that no other mapping has.
const RAM: &str = "500M";
const RAM_BYTES: u64 = 500 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_the_sum_of_its_guests() {
        let one = |pss, rss, private| Usage {
            pss,
            rss,
            private,
            dirty: 0.0,
        };
        let row = crowd_row("x", &[one(1.0, 4.0, 0.5), one(2.0, 5.0, 0.5)]);
        assert_eq!(row, "| x | 3.0 | 9.0 | 0.50 |\n");
    }
}
