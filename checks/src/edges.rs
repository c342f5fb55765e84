//! Dependency edges: those that docs/architecture.md lists, and those that cargo sees.
//!
//! The list is the fenced block opened by ```` ```deps ````. A line `crate: dep dep | optional`
//! names the normal dependencies of a crate. Dev- and build-dependencies are not listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

/// The file that has the list.
pub const LIST: &str = "docs/architecture.md";

/// The normal dependencies of each package of the workspace, by name.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// Why edges cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgesError {
    /// The file has no block of edges.
    #[error("{LIST}: no ```deps block")]
    NoBlock,
    /// A line of the block has no colon behind the crate's name.
    #[error("{LIST}: no colon in {line:?}; a line is `crate: dep dep | optional`")]
    NoColon {
        /// The line.
        line: String,
    },
    /// `cargo metadata` did not run.
    #[error("cannot run cargo metadata")]
    Cargo(#[source] std::io::Error),
    /// `cargo metadata` did not print JSON.
    #[error("cargo metadata: its output is not JSON")]
    Json(#[source] serde_json::Error),
    /// `cargo metadata` printed JSON without packages.
    #[error("cargo metadata: no packages in its output")]
    NoPackages,
}

/// Lists the differences between two sets of edges, one line each.
#[must_use]
pub fn differences(listed: &Edges, actual: &Edges) -> Vec<String> {
    let mut found = Vec::new();
    for (name, wanted) in actual {
        let Some(allowed) = listed.get(name) else {
            found.push(format!("{name} is not in {LIST}: add a line"));
            continue;
        };
        for edge in wanted.difference(allowed) {
            found.push(format!(
                "{name} -> {edge} is not in {LIST}: remove the dependency, or add it there"
            ));
        }
        for edge in allowed.difference(wanted) {
            found.push(format!("{name} -> {edge} is in {LIST}, but is gone"));
        }
    }
    for name in listed.keys().filter(|name| !actual.contains_key(*name)) {
        found.push(format!("{name} is in {LIST}, but not in the workspace"));
    }
    found
}

/// Reads the list out of the text of docs/architecture.md.
///
/// # Errors
///
/// [`EdgesError::NoBlock`] and [`EdgesError::NoColon`], if the text is not as the module's
/// documentation says.
pub fn listed(text: &str) -> Result<Edges, EdgesError> {
    let block = text.split("```deps\n").nth(1);
    let block = block.and_then(|rest| rest.split("```").next());
    let block = block.ok_or(EdgesError::NoBlock)?;
    let lines = block.lines().filter(|line| !line.trim().is_empty());
    lines.map(listed_line).collect()
}

fn listed_line(line: &str) -> Result<(String, BTreeSet<String>), EdgesError> {
    let (name, names) = line.split_once(':').ok_or_else(|| EdgesError::NoColon {
        line: line.to_owned(),
    })?;
    let names = names.split_whitespace().filter(|word| *word != "|");
    Ok((name.trim().to_owned(), names.map(str::to_owned).collect()))
}

/// Asks cargo for the edges of the workspace in the current directory.
///
/// # Errors
///
/// The other variants of [`EdgesError`], if cargo cannot be run or prints something unknown.
pub fn actual() -> Result<Edges, EdgesError> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(EdgesError::Cargo)?;
    let metadata: Value = serde_json::from_slice(&output.stdout).map_err(EdgesError::Json)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.ok_or(EdgesError::NoPackages)?;
    Ok(packages.iter().filter_map(edges_of).collect())
}

fn edges_of(package: &Value) -> Option<(String, BTreeSet<String>)> {
    let name = package.get("name")?.as_str()?.to_owned();
    let dependencies = package.get("dependencies")?.as_array()?;
    let is_normal = |one: &&Value| one.get("kind").is_some_and(Value::is_null);
    let normal = dependencies.iter().filter(is_normal);
    let names = normal.filter_map(|one| Some(one.get("name")?.as_str()?.to_owned()));
    Some((name, names.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(text: &str) -> Edges {
        listed(&format!("words\n```deps\n{text}\n```\nwords")).unwrap()
    }

    #[test]
    fn the_same_edges_are_no_difference() {
        assert!(differences(&edges("a: b | c\nb:"), &edges("a: b c\nb:")).is_empty());
    }

    #[test]
    fn a_new_edge_a_gone_edge_and_an_unlisted_crate_are_each_named() {
        let found = differences(&edges("a: b\nd:"), &edges("a: c\nb:"));
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].contains("a -> c is not in"));
        assert!(found[1].contains("a -> b is in"));
        assert!(found[2].contains("b is not in"));
        assert!(found[3].contains("d is in"));
    }

    #[test]
    fn a_text_without_a_list_is_an_error() {
        assert!(listed("nothing here").is_err());
        assert!(listed("```deps\nno colon\n```").is_err());
    }
}
