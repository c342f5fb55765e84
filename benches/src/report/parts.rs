//! Results of criterion and of the budgets for the parts.

use std::{
    env, io,
    path::PathBuf,
    process::{Command, Stdio},
    time::SystemTime,
};

use crate::criterion::{Estimate, estimates, time};

/// Runs criterion, and returns its results.
///
/// # Errors
///
/// If it cannot be run, or ends with an error.
pub fn run_criterion() -> io::Result<Vec<Estimate>> {
    let since = SystemTime::now();
    let benches = ["load", "machine", "parts", "back_ends"];
    let benches = benches.map(|bench| ["--bench", bench]);
    let mut command = cargo_bench(benches.as_flattened());
    command.args([
        "--",
        "--noplot",
        "--warm-up-time",
        "0.5",
        "--measurement-time",
        "2",
    ]);
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("cargo bench: {status}")));
    }
    estimates(&criterion_dir()?, since)
}

/// Runs the budgets of the parts, and returns their lines.
///
/// # Errors
///
/// If they cannot be run.
pub fn budgets() -> io::Result<String> {
    let output = cargo_bench(&["--bench", "budgets"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| line.contains(": "));
    let lines: Vec<String> = lines.map(|line| format!("- {line}\n")).collect();
    if lines.is_empty() {
        return Err(io::Error::other(format!("the budgets: {}", output.status)));
    }
    Ok(lines.concat())
}

/// Writes a table of all estimates except those of loading.
#[must_use]
pub fn table(estimates: &[Estimate]) -> String {
    let rows = estimates
        .iter()
        .filter(|estimate| !estimate.name.starts_with("load/"))
        .map(|estimate| format!("| {} | {} |\n", estimate.name, time(estimate.median_ns)));
    format!(
        "| criterion | median |\n|---|---|\n{}",
        rows.collect::<String>()
    )
}

fn cargo_bench(benches: &[&str]) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--quiet", "-p", "pvh-bench"]);
    command.args(benches).stdin(Stdio::null());
    command
}

/// The folder of criterion: in the build folder, two above this program.
fn criterion_dir() -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    let target = own.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
    Ok(target.join("criterion"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loading_has_a_table_of_its_own() {
        let one = |name: &str, median_ns| Estimate {
            name: name.into(),
            median_ns,
        };
        let text = table(&[one("load/map", 1.0), one("stage/plan", 1100.0)]);
        assert!(
            text.contains("| stage/plan | 1.10 us |") && !text.contains("load"),
            "{text}"
        );
    }
}
