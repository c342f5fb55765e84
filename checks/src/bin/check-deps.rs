//! Compares the dependency edges of the workspace with the list in docs/architecture.md.
//!
//! The list is the fenced block opened by ```` ```deps ````: a line `crate: dep dep | optional`, whose
//! names are normal dependencies. An edge that is not listed, a listed edge that is gone, and a crate
//! without a line each fail the check. Dev- and build-dependencies are free.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::{Command, ExitCode},
};

use serde_json::Value;

const PICTURE: &str = "docs/architecture.md";

type Edges = BTreeMap<String, BTreeSet<String>>;

fn main() -> ExitCode {
    let found = match (listed(), actual()) {
        (Ok(listed), Ok(actual)) => differences(&listed, &actual),
        (Err(why), _) | (_, Err(why)) => vec![why],
    };
    for difference in &found {
        eprintln!("{difference}");
    }
    if found.is_empty() {
        println!("dependency edges: as drawn in {PICTURE}");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// What the two pictures disagree on, one line each.
fn differences(listed: &Edges, actual: &Edges) -> Vec<String> {
    let mut found = Vec::new();
    for (name, wanted) in actual {
        let Some(allowed) = listed.get(name) else {
            found.push(format!("{name} has no line in {PICTURE}"));
            continue;
        };
        for edge in wanted.difference(allowed) {
            found.push(format!(
                "{name} -> {edge} is a new edge: take it out, or draw it in {PICTURE}"
            ));
        }
        for edge in allowed.difference(wanted) {
            found.push(format!("{name} -> {edge} is drawn in {PICTURE} but gone"));
        }
    }
    for name in listed.keys().filter(|name| !actual.contains_key(*name)) {
        found.push(format!("{name} is drawn in {PICTURE} but is no member"));
    }
    found
}

/// The edges drawn in the picture.
fn listed() -> Result<Edges, String> {
    let text = fs::read_to_string(PICTURE).map_err(|why| format!("{PICTURE}: {why}"))?;
    parse_list(&text)
}

fn parse_list(text: &str) -> Result<Edges, String> {
    let block = text
        .split("```deps\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .ok_or_else(|| format!("{PICTURE}: no ```deps block"))?;
    let mut edges = Edges::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let (name, names) = line
            .split_once(':')
            .ok_or_else(|| format!("{PICTURE}: no colon in {line:?}"))?;
        let names = names
            .split_whitespace()
            .filter(|word| *word != "|")
            .map(str::to_owned);
        edges.insert(name.trim().to_owned(), names.collect());
    }
    Ok(edges)
}

/// The normal edges of every member, as cargo sees them.
fn actual() -> Result<Edges, String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(|why| format!("cargo metadata: {why}"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|why| format!("cargo metadata: {why}"))?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.ok_or("cargo metadata: no packages")?;
    Ok(packages.iter().filter_map(edges_of).collect())
}

fn edges_of(package: &Value) -> Option<(String, BTreeSet<String>)> {
    let name = package.get("name")?.as_str()?.to_owned();
    let dependencies = package.get("dependencies")?.as_array()?;
    let normal = dependencies
        .iter()
        .filter(|one| one.get("kind").is_some_and(Value::is_null));
    let names = normal.filter_map(|one| Some(one.get("name")?.as_str()?.to_owned()));
    Some((name, names.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(text: &str) -> Edges {
        parse_list(&format!("words\n```deps\n{text}\n```\nwords")).unwrap()
    }

    #[test]
    fn the_same_edges_are_no_difference() {
        assert!(differences(&edges("a: b | c\nb:"), &edges("a: b c\nb:")).is_empty());
    }

    #[test]
    fn a_new_edge_a_gone_edge_and_an_undrawn_crate_are_each_named() {
        let found = differences(&edges("a: b\nd:"), &edges("a: c\nb:"));
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].contains("a -> c is a new edge"));
        assert!(found[1].contains("a -> b is drawn"));
        assert!(found[2].contains("b has no line"));
        assert!(found[3].contains("d is drawn"));
    }

    #[test]
    fn a_picture_without_a_list_is_an_error() {
        assert!(parse_list("nothing here").is_err());
        assert!(parse_list("```deps\nno colon\n```").is_err());
    }
}
