//! The bill of materials of `pvh-vmm`, as `CycloneDX` 1.5 in JSON.
//!
//! It has each package that is built into the program or runs in its build, with version, licence,
//! checksum and dependencies, as `cargo metadata` and Cargo.lock say. Nothing in it depends on the
//! time or the machine: the same sources give the same text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The program.
const PRODUCT: &str = "pvh-vmm";

/// Why there is no bill.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SbomError {
    /// `cargo metadata` did not print JSON.
    #[error("cargo metadata: its output is not JSON")]
    Json(#[source] serde_json::Error),
    /// The program is not in the workspace.
    #[error("cargo metadata: no package {PRODUCT}")]
    NoProduct,
    /// A dependency is not among the packages.
    #[error("cargo metadata: no package with the id {id}")]
    NoPackage {
        /// Its id.
        id: String,
    },
}

/// Makes the bill from what `cargo metadata --filter-platform` printed and the text of Cargo.lock.
///
/// # Errors
///
/// [`SbomError`], if the metadata is not what cargo prints.
pub fn sbom(metadata: &str, lock: &str) -> Result<Value, SbomError> {
    let metadata: Value = serde_json::from_str(metadata).map_err(SbomError::Json)?;
    let packages = by_id(metadata.get("packages"));
    let nodes = by_id(metadata.pointer("/resolve/nodes"));
    let product = packages
        .iter()
        .find(|(_, package)| text(package, "name") == PRODUCT);
    let (&id, product) = product.ok_or(SbomError::NoProduct)?;
    let used = used(id, &nodes);
    let checksums = checksums(lock);
    let package = |id: &str| {
        let found = packages.get(id).copied();
        found.ok_or_else(|| SbomError::NoPackage { id: id.to_owned() })
    };
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for &id in &used {
        let found = package(id)?;
        let needs = needs(nodes.get(id).copied()).into_iter();
        let needs: Result<BTreeSet<_>, _> = needs.map(|id| Ok(purl(package(id)?))).collect();
        dependencies.push(json!({ "ref": purl(found), "dependsOn": needs? }));
        if text(found, "name") != PRODUCT {
            components.push(component(found, "library", &checksums));
        }
    }
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "lifecycles": [{ "phase": "pre-build" }],
            "tools": { "components": [{ "type": "application", "name": "pvh-checks" }] },
            "component": component(product, "application", &checksums),
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// The entries of a list by their `id`.
fn by_id(list: Option<&Value>) -> BTreeMap<&str, &Value> {
    let entries = list.and_then(Value::as_array).into_iter().flatten();
    entries.map(|entry| (text(entry, "id"), entry)).collect()
}

/// The packages that `from` needs, directly or not, and itself.
fn used<'a>(from: &'a str, nodes: &BTreeMap<&str, &'a Value>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::from([from]);
    let mut todo = vec![from];
    while let Some(id) = todo.pop() {
        let new = needs(nodes.get(id).copied());
        todo.extend(new.into_iter().filter(|&id| seen.insert(id)));
    }
    seen
}

/// The ids of the packages that a node needs, not only for its tests.
fn needs(node: Option<&Value>) -> Vec<&str> {
    let dependencies = node
        .and_then(|node| node.get("deps"))
        .and_then(Value::as_array);
    let is_kept = |dependency: &&Value| {
        let kinds = dependency.get("dep_kinds").and_then(Value::as_array);
        let mut kinds = kinds.into_iter().flatten();
        kinds.any(|kind| text(kind, "kind") != "dev")
    };
    let kept = dependencies.into_iter().flatten().filter(is_kept);
    kept.map(|dependency| text(dependency, "pkg")).collect()
}

fn component(package: &Value, kind: &str, checksums: &BTreeMap<(&str, &str), &str>) -> Value {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let fields = [
        ("type", kind.to_owned()),
        ("bom-ref", purl(package)),
        ("name", name.to_owned()),
        ("version", version.to_owned()),
        ("purl", purl(package)),
        ("scope", "required".to_owned()),
    ];
    let fields = fields.map(|(key, value)| (key.to_owned(), Value::String(value)));
    let mut found: Map<String, Value> = fields.into_iter().collect();
    let licence = text(package, "license");
    if !licence.is_empty() {
        // The old way to write "or".
        let expression = licence.replace('/', " OR ");
        let licenses = json!([{ "expression": expression }]);
        found.insert("licenses".to_owned(), licenses);
    }
    if let Some(checksum) = checksums.get(&(name, version)) {
        let hashes = json!([{ "alg": "SHA-256", "content": checksum }]);
        found.insert("hashes".to_owned(), hashes);
    }
    Value::Object(found)
}

/// The package's URL (purl).
fn purl(package: &Value) -> String {
    let (name, version) = (text(package, "name"), text(package, "version"));
    // Of what a version may contain, `+` alone has a meaning in a URL.
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// The checksum of each package of Cargo.lock, by name and version.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let value = |line: &'_ str, key: &str| -> Option<(usize, usize)> {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        let start = line.len().checked_sub(rest.len())?;
        Some((start, line.len().checked_sub(1)?))
    };
    let mut found = BTreeMap::new();
    let (mut name, mut version) = ("", "");
    for line in lock.lines() {
        let read = |key| value(line, key).and_then(|(start, end)| line.get(start..end));
        name = read("name").unwrap_or(name);
        version = read("version").unwrap_or(version);
        if let Some(checksum) = read("checksum") {
            found.insert((name, version), checksum);
        }
    }
    found
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "\
version = 4

[[package]]
name = \"a\"
version = \"1.0.0+x\"
checksum = \"00ff\"

[[package]]
name = \"pvh-vmm\"
version = \"0.1.0\"
";

    fn metadata() -> String {
        json!({
            "packages": [
                { "id": "p", "name": "pvh-vmm", "version": "0.1.0", "license": "Apache-2.0 OR BSD-3-Clause" },
                { "id": "a", "name": "a", "version": "1.0.0+x", "license": "MIT/Apache-2.0" },
                { "id": "b", "name": "b", "version": "2.0.0", "license": null },
                { "id": "t", "name": "t", "version": "3.0.0", "license": "MIT" },
            ],
            "resolve": { "nodes": [
                { "id": "p", "deps": [
                    { "pkg": "a", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "t", "dep_kinds": [{ "kind": "dev" }] },
                ]},
                { "id": "a", "deps": [{ "pkg": "b", "dep_kinds": [{ "kind": "build" }, { "kind": "dev" }] }] },
                { "id": "b", "deps": [] },
                { "id": "t", "deps": [] },
            ]},
        })
        .to_string()
    }

    #[test]
    fn what_is_built_in_or_builds_is_listed_and_what_only_tests_is_not() {
        let bill = sbom(&metadata(), LOCK).unwrap();
        let names = bill["components"].as_array().unwrap().iter();
        let names: Vec<_> = names.map(|one| text(one, "name")).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            bill["metadata"]["component"]["bom-ref"],
            "pkg:cargo/pvh-vmm@0.1.0"
        );
        let product = &bill["dependencies"][2];
        assert_eq!(product["dependsOn"], json!(["pkg:cargo/a@1.0.0%2Bx"]));
    }

    #[test]
    fn a_component_has_its_licence_and_its_checksum() {
        let bill = sbom(&metadata(), LOCK).unwrap();
        let [a, b] = [0, 1].map(|index| &bill["components"][index]);
        assert_eq!(
            a["licenses"],
            json!([{ "expression": "MIT OR Apache-2.0" }])
        );
        assert_eq!(
            a["hashes"],
            json!([{ "alg": "SHA-256", "content": "00ff" }])
        );
        assert_eq!((b.get("licenses"), b.get("hashes")), (None, None));
    }

    #[test]
    fn metadata_that_is_none_is_an_error() {
        assert!(matches!(sbom("{", LOCK), Err(SbomError::Json(_))));
        assert!(matches!(sbom("{}", LOCK), Err(SbomError::NoProduct)));
        let cut = metadata().replace("\"id\":\"b\",\"license\"", "\"id\":\"c\",\"license\"");
        assert!(matches!(sbom(&cut, LOCK), Err(SbomError::NoPackage { .. })));
    }
}
