//! Reads the results of criterion.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde_json::Value;

/// One benchmark.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a record of measurements")]
pub struct Estimate {
    /// `group/name`.
    pub name: String,
    /// The median of its samples.
    pub median_ns: f64,
}

/// Returns the results below `dir` that are newer than `since`, by name.
///
/// # Errors
///
/// If the folder cannot be read.
pub fn estimates(dir: &Path, since: SystemTime) -> io::Result<Vec<Estimate>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    // The folders of criterion have no links, so the walk ends.
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.ends_with("new") {
                found.extend(read(&path, since));
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort_by(|a: &Estimate, b| a.name.cmp(&b.name));
    Ok(found)
}

fn read(folder: &Path, since: SystemTime) -> Option<Estimate> {
    let file = folder.join("estimates.json");
    if fs::metadata(&file).ok()?.modified().ok()? < since {
        return None;
    }
    let parse = |path: PathBuf| serde_json::from_str::<Value>(&fs::read_to_string(path).ok()?).ok();
    let estimates = parse(file)?;
    let benchmark = parse(folder.join("benchmark.json"))?;
    Some(Estimate {
        name: benchmark.get("full_id")?.as_str()?.to_owned(),
        median_ns: estimates.get("median")?.get("point_estimate")?.as_f64()?,
    })
}

/// Returns a time with three digits and its unit.
#[must_use]
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns => (ns / 1e6, "ms"),
    };
    let digits = match value {
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_criterion_wrote_is_found_by_name_unless_it_is_old() {
        let dir = std::env::temp_dir().join(format!("pvh-bench-estimates-{}", std::process::id()));
        let new = dir.join("load/map/new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("benchmark.json"), r#"{"full_id":"load/map"}"#).unwrap();
        let estimates_json = r#"{"median":{"point_estimate":49000.0}}"#;
        fs::write(new.join("estimates.json"), estimates_json).unwrap();
        let before = SystemTime::now() - Duration::from_secs(60);
        let wanted = Estimate {
            name: "load/map".into(),
            median_ns: 49000.0,
        };
        assert_eq!(estimates(&dir, before).unwrap(), [wanted]);
        let after = SystemTime::now() + Duration::from_secs(60);
        assert_eq!(estimates(&dir, after).unwrap(), []);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_time_has_three_digits() {
        let times = [1.3, 53.2, 151.0, 25_200.0, 94_600_000.0].map(time);
        assert_eq!(
            times,
            ["1.30 ns", "53.2 ns", "151 ns", "25.2 us", "94.6 ms"]
        );
    }
}
