//! Loads a stock kernel into fresh memory, beside linux-loader and the baselines.

use crate::criterion::{Estimate, time};

use super::verdict;

/// Writes a table of criterion's results for loading.
#[must_use]
pub fn table(estimates: &[Estimate]) -> String {
    let of = |name: &str| {
        let mut found = estimates.iter().filter(|estimate| estimate.name == name);
        found.next().map(|estimate| estimate.median_ns)
    };
    let Some(ours) = of("load/map") else {
        return "Not measured: criterion has no result for `load/map`.\n".to_owned();
    };
    let rows = estimates.iter().filter_map(|estimate| {
        let name = estimate.name.strip_prefix("load/")?;
        let name = match name {
            "map" => "**plan and commit, mapped**",
            "copy" => "plan and commit, copied",
            name => name,
        };
        let ns = estimate.median_ns;
        Some(format!("| {name} | {} | {:.2} |\n", time(ns), ns / ours))
    });
    let rows: String = rows.collect();
    let loader = of("load/linux-loader").map_or(String::new(), |loader| {
        let part = ours / loader;
        format!(
            "\nlinux-loader takes {:.0} x the time of ours, wanted at least {PEER_LIMIT:.0} x: {}.\n",
            loader / ours,
            verdict(part, 1.0 / PEER_LIMIT)
        )
    });
    format!("| into fresh memory | time | x ours |\n|---|---|---|\n{rows}{loader}")
}

/// The wanted speed-up of plan and commit over linux-loader.
const PEER_LIMIT: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_loader_is_compared_with_ours() {
        let one = |name: &str, median_ns| Estimate {
            name: name.into(),
            median_ns,
        };
        let mut found = [
            one("load/linux-loader", 5_000_000.0),
            one("load/map", 50_000.0),
            one("stage/plan", 1.0),
        ];
        let text = table(&found);
        assert!(
            text.contains("| linux-loader | 5.00 ms | 100.00 |"),
            "{text}"
        );
        assert!(
            text.ends_with("100 x the time of ours, wanted at least 100 x: kept.\n"),
            "{text}"
        );
        assert!(!text.contains("stage"));
        found[0].median_ns = 4_000_000.0;
        assert!(table(&found).contains("**not kept**"));
        assert!(table(&[]).starts_with("Not measured"));
    }
}
