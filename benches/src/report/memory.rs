//! What a VMM costs in memory, alone and beside others of its kind.

use std::io;

use super::{Bench, verdict};
use crate::{
    peers::{Peer, STAYING, others, staying},
    smaps::{Usage, usage, usage_beside_ram},
    standing::Standing,
    stats::Summary,
};

/// What our VMM has beside its guest's RAM, with one vCPU.
///
/// # Errors
///
/// When it cannot be started, or not be looked into.
pub fn own(bench: &Bench) -> io::Result<String> {
    let guest = staying(&bench.dir)?;
    let mut text = format!(
        "All of /proc/PID/smaps but the mappings of guest RAM, one vCPU, while the guest stands. Wanted: below {OWN_LIMIT} MiB.\n\n\
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

/// What guests of one kernel have together.
///
/// # Errors
///
/// When our VMM cannot be started, or not be looked into; that of others is said in its row.
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

/// What the VMM may have of its own, MiB.
const OWN_LIMIT: f64 = 3.0;

/// So many stand beside each other.
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
