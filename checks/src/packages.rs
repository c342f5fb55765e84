//! Checks the packages that are published, and finds the order in which to publish them.
//!
//! Everything is read from `cargo metadata` and the files beside each manifest, so a new crate is
//! checked without a change here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    process::Command,
};

use serde_json::Value;

use crate::readme;

/// The licence texts in the root, of which each package has a copy or a link.
pub const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-BSD-3-Clause"];

/// Why packages cannot be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackagesError {
    /// Cargo did not run.
    #[error("cannot run cargo")]
    Cargo(#[source] io::Error),
    /// Cargo failed.
    #[error("cargo {what} failed: {message}")]
    Failed {
        /// Its command.
        what: String,
        /// The last line that it printed.
        message: String,
    },
    /// `cargo metadata` did not print JSON.
    #[error("cargo metadata: its output is not JSON")]
    Json(#[source] serde_json::Error),
    /// The packages depend on each other in a circle.
    #[error("no order to publish in: {names:?} depend on each other")]
    Circle {
        /// The packages.
        names: Vec<String>,
    },
}

/// A package of the workspace.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it may be published.
    pub is_published: bool,
    /// The folder of its manifest.
    pub folder: String,
    /// The text of its crate root, if it has a library.
    pub root: Option<String>,
    /// Its fields, as `cargo metadata` prints them.
    pub fields: Value,
}

/// A dependency of a package on another of the workspace.
struct Inner {
    name: String,
    is_dev: bool,
    requirement: String,
}

/// Asks cargo for the packages of the workspace in the current directory.
///
/// # Errors
///
/// [`PackagesError`], if cargo cannot be run or prints something unknown.
pub fn packages() -> Result<Vec<Package>, PackagesError> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_str(&text).map_err(PackagesError::Json)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    Ok(packages.into_iter().flatten().map(package).collect())
}

/// Returns what `cargo metadata` prints of the workspace and all packages that it needs on `target`.
///
/// # Errors
///
/// [`PackagesError`], if cargo cannot be run or fails.
pub fn resolved(target: &str) -> Result<String, PackagesError> {
    let target = ["--filter-platform", target];
    cargo(
        &[
            &["metadata", "--locked", "--format-version", "1"],
            &target[..],
        ]
        .concat(),
    )
}

/// Lists the files that a package would contain.
///
/// # Errors
///
/// [`PackagesError`], if cargo cannot be run or fails.
pub fn files(name: &str) -> Result<Vec<String>, PackagesError> {
    let text = cargo(&["package", "--list", "--allow-dirty", "--package", name])?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn cargo(args: &[&str]) -> Result<String, PackagesError> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(args)
        .output()
        .map_err(PackagesError::Cargo)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(PackagesError::Failed {
        what: args.join(" "),
        message: message.lines().last().unwrap_or_default().to_owned(),
    })
}

fn package(fields: &Value) -> Package {
    let manifest = Path::new(text(fields, "manifest_path"));
    let folder = manifest.parent().unwrap_or(manifest);
    let root = folder.join("src/lib.rs");
    Package {
        name: text(fields, "name").to_owned(),
        version: text(fields, "version").to_owned(),
        is_published: fields.get("publish").is_none_or(Value::is_null),
        folder: folder.to_string_lossy().into_owned(),
        root: fs::read_to_string(root).ok(),
        fields: fields.clone(),
    }
}

/// Lists what is wrong with a package that is published, one line each; `all` are the packages of
/// the workspace.
#[must_use]
pub fn faults(package: &Package, all: &[Package]) -> Vec<String> {
    if !package.is_published {
        return Vec::new();
    }
    let mut found = Vec::new();
    for field in ["description", "license", "readme", "rust_version"] {
        if text(&package.fields, field).is_empty() {
            found.push(format!("no `{field}`"));
        }
    }
    let documentation = format!("https://docs.rs/{}", package.name);
    if text(&package.fields, "documentation") != documentation {
        found.push(format!("`documentation` is not {documentation:?}"));
    }
    let all_features = package.fields.pointer("/metadata/docs/rs/all-features");
    if all_features != Some(&Value::Bool(true)) {
        found.push("no `all-features = true` in [package.metadata.docs.rs]".to_owned());
    }
    found.extend(keyword_faults(package));
    found.extend(category_faults(package));
    found.extend(dependency_faults(package, all));
    let named = |fault| format!("{}: {fault}", package.name);
    found.into_iter().map(named).collect()
}

/// A keyword has at most 20 characters, and names what is there: `kvm` is for packages that use it.
fn keyword_faults(package: &Package) -> Vec<String> {
    let keywords = list(&package.fields, "keywords");
    let mut found = Vec::new();
    if keywords.is_empty() || keywords.len() > 5 {
        found.push(format!(
            "{} keywords; crates.io takes 1 to 5",
            keywords.len()
        ));
    }
    for keyword in &keywords {
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_+".contains(letter);
        let starts = keyword.starts_with(|letter: char| letter.is_ascii_alphabetic());
        if !starts || keyword.len() > 20 || !keyword.chars().all(is_letter) {
            found.push(format!("crates.io does not take the keyword {keyword:?}"));
        }
    }
    let uses_kvm = dependencies(package).any(|one| text(one, "name").contains("kvm"));
    if keywords.contains(&"kvm") && !uses_kvm {
        found.push("the keyword \"kvm\", but no dependency on KVM".to_owned());
    }
    found
}

/// The category `no-std` is true: it stands where the crate root says so, and nowhere else.
fn category_faults(package: &Package) -> Vec<String> {
    let categories = list(&package.fields, "categories");
    let mut found = Vec::new();
    if categories.is_empty() || categories.len() > 5 {
        let count = categories.len();
        found.push(format!("{count} categories; crates.io takes 1 to 5"));
    }
    for category in categories.iter().filter(|one| !SLUGS.contains(one)) {
        found.push(format!("the category {category:?} is not known here"));
    }
    let root = package.root.as_deref().unwrap_or_default();
    let is_no_std = root.lines().any(|line| {
        line.starts_with("#![no_std]")
            || line.starts_with("#![cfg_attr(not(feature = \"std\"), no_std)]")
    });
    let has_alloc = root.lines().any(|line| line == "extern crate alloc;");
    if categories.contains(&"no-std") != is_no_std {
        found.push("the category \"no-std\" and the crate's root disagree".to_owned());
    }
    if categories.contains(&"no-std::no-alloc") && (!is_no_std || has_alloc) {
        found.push("the category \"no-std::no-alloc\", but the crate allocates".to_owned());
    }
    found
}

/// A published package depends on published packages alone, in the version that is here. A
/// dev-dependency on a package that is not published has no version, so that cargo leaves it out.
fn dependency_faults(package: &Package, all: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for inner in inner_dependencies(package, all) {
        let Some(other) = all.iter().find(|other| other.name == inner.name) else {
            continue;
        };
        let wanted = match (inner.is_dev, other.is_published) {
            (_, true) => format!("^{}", other.version),
            (true, false) => "*".to_owned(),
            (false, false) => {
                found.push(format!("depends on {}, which is not published", inner.name));
                continue;
            }
        };
        if inner.requirement != wanted {
            let has = &inner.requirement;
            found.push(format!("asks for {} {has}, not {wanted}", inner.name));
        }
    }
    found
}

fn inner_dependencies(package: &Package, all: &[Package]) -> Vec<Inner> {
    let inner = dependencies(package).filter_map(|one| {
        let name = text(one, "name");
        all.iter().any(|other| other.name == name).then(|| Inner {
            name: name.to_owned(),
            is_dev: text(one, "kind") == "dev",
            requirement: text(one, "req").to_owned(),
        })
    });
    inner.collect()
}

/// Lists what is wrong with the files of a package: the licence texts are not those of the root, or
/// a file is in it that is for this repository only.
#[must_use]
pub fn file_faults(package: &Package, root: &Path, files: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for licence in LICENCES {
        let here = fs::read(Path::new(&package.folder).join(licence)).ok();
        if here.is_none() || here != fs::read(root.join(licence)).ok() {
            found.push(format!("{licence} is not the text of the root: link to it"));
        }
        if !files.iter().any(|file| file == licence) {
            found.push(format!("{licence} is not in the package"));
        }
    }
    for file in ["README.md", "CHANGELOG.md"] {
        if !files.iter().any(|one| one == file) {
            found.push(format!("{file} is not in the package"));
        }
    }
    let features = package.fields.get("features").and_then(Value::as_object);
    let features = features.into_iter().flat_map(|all| all.keys().cloned());
    let text = fs::read_to_string(Path::new(&package.folder).join("README.md"));
    let text = text.unwrap_or_default();
    found.extend(readme::faults(&text, root, &features.collect()));
    for file in files.iter().filter(|file| is_for_the_repository(file)) {
        found.push(format!("{file} is in the package: exclude it"));
    }
    let named = |fault| format!("{}: {fault}", package.name);
    found.into_iter().map(named).collect()
}

/// Recorded traces are large, and read by this repository's tests only.
fn is_for_the_repository(file: &str) -> bool {
    file.contains(".trace")
}

/// Returns the names of the packages to publish, each behind those that it depends on.
///
/// # Errors
///
/// [`PackagesError::Circle`].
pub fn order(all: &[Package]) -> Result<Vec<String>, PackagesError> {
    let published = all.iter().filter(|package| package.is_published);
    let mut left: BTreeMap<&str, BTreeSet<String>> = published
        .map(|package| {
            let needs = inner_dependencies(package, all).into_iter();
            // A dev-dependency with a version has to be there too.
            let needs = needs.filter(|inner| inner.requirement != "*");
            let needs = needs.map(|inner| inner.name).collect();
            (package.name.as_str(), needs)
        })
        .collect();
    let mut names = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let free = |needs: &BTreeSet<String>| !needs.iter().any(|need| left.contains_key(&**need));
        let Some(next) = left.iter().find(|(_, needs)| free(needs)) else {
            let names = left.keys().map(|name| (*name).to_owned()).collect();
            return Err(PackagesError::Circle { names });
        };
        let name = *next.0;
        left.remove(name);
        names.push(name.to_owned());
    }
    Ok(names)
}

fn dependencies(package: &Package) -> impl Iterator<Item = &Value> {
    let all = package.fields.get("dependencies").and_then(Value::as_array);
    all.into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    let all = value.get(field).and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// The categories of crates.io that are in use here; it refuses others than its own.
const SLUGS: [&str; 15] = [
    "command-line-interface",
    "command-line-utilities",
    "config",
    "development-tools::debugging",
    "development-tools::profiling",
    "development-tools::testing",
    "emulators",
    "hardware-support",
    "network-programming",
    "no-std",
    "no-std::no-alloc",
    "os::linux-apis",
    "parser-implementations",
    "virtualization",
    "encoding",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sound(name: &str) -> Package {
        let fields = json!({
            "name": name, "version": "0.1.0", "description": "words", "license": "MIT",
            "readme": "README.md", "rust_version": "1.88", "keywords": ["pvh"],
            "categories": ["virtualization"], "documentation": format!("https://docs.rs/{name}"),
            "metadata": {"docs": {"rs": {"all-features": true}}}, "dependencies": [],
        });
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            is_published: true,
            fields,
            ..Package::default()
        }
    }

    fn with(mut package: Package, field: &str, value: Value) -> Package {
        package.fields[field] = value;
        package
    }

    fn on(name: &str, requirement: &str, kind: Value) -> Value {
        json!([{"name": name, "req": requirement, "kind": kind}])
    }

    #[test]
    fn a_sound_package_has_no_fault_and_one_that_stays_here_is_not_looked_at() {
        assert_eq!(faults(&sound("a"), &[]), [""; 0]);
        let mut hidden = with(sound("a"), "license", json!(""));
        hidden.is_published = false;
        assert_eq!(faults(&hidden, &[]), [""; 0]);
    }

    #[test]
    fn each_field_that_crates_io_or_docs_rs_reads_is_asked_for() {
        for field in [
            "description",
            "license",
            "readme",
            "rust_version",
            "documentation",
        ] {
            let found = faults(&with(sound("a"), field, Value::Null), &[]);
            assert!(found.len() == 1 && found[0].contains(field), "{found:?}");
        }
        let found = faults(&with(sound("a"), "metadata", Value::Null), &[]);
        assert_eq!(
            found,
            ["a: no `all-features = true` in [package.metadata.docs.rs]"]
        );
    }

    #[test]
    fn keywords_and_categories_are_true_and_such_as_crates_io_takes() {
        let found = |field, value| faults(&with(sound("a"), field, value), &[]);
        assert_eq!(found("keywords", json!(["kvm"])).len(), 1, "no KVM in it");
        assert_eq!(found("keywords", json!(["a b"])).len(), 1);
        assert_eq!(
            found("keywords", json!(["p", "q", "r", "s", "t", "u"])).len(),
            1
        );
        assert_eq!(found("categories", json!(["no-such"])).len(), 1);
        assert_eq!(
            found("categories", json!(["no-std"])).len(),
            1,
            "root says std"
        );
        let mut package = sound("a");
        package.root = Some("//! Words.\n\n#![no_std]\n".to_owned());
        assert_eq!(faults(&package, &[]).len(), 1, "the category is missing");
    }

    #[test]
    fn dependencies_name_the_version_that_is_here() {
        let mut hidden = sound("kit");
        hidden.is_published = false;
        let all = [sound("b"), hidden];
        let found = |value| faults(&with(sound("a"), "dependencies", value), &all);
        assert_eq!(found(on("b", "^0.1.0", Value::Null)), [""; 0]);
        assert_eq!(found(on("b", "^0.2.0", Value::Null)).len(), 1);
        assert_eq!(found(on("kit", "*", json!("dev"))), [""; 0]);
        assert_eq!(found(on("kit", "^0.1.0", json!("dev"))).len(), 1);
        assert_eq!(found(on("kit", "*", Value::Null)).len(), 1);
    }

    #[test]
    fn each_package_follows_those_that_it_needs() {
        let a = with(sound("a"), "dependencies", on("b", "^0.1.0", Value::Null));
        let b = with(sound("b"), "dependencies", on("c", "^0.1.0", json!("dev")));
        let all = [a, b, sound("c")];
        assert_eq!(order(&all).unwrap(), ["c", "b", "a"]);
        let c = with(sound("c"), "dependencies", on("a", "^0.1.0", Value::Null));
        let [a, b, _] = all;
        assert!(matches!(
            order(&[a, b, c]),
            Err(PackagesError::Circle { .. })
        ));
    }

    #[test]
    fn a_licence_that_is_missing_and_a_trace_that_is_not_are_faults() {
        let package = sound("a");
        let files = ["README.md", "CHANGELOG.md", "tests/data/x.trace.gz"];
        let files = files.map(str::to_owned);
        let found = file_faults(&package, Path::new("/nowhere"), &files);
        assert_eq!(found.len(), 5, "{found:?}");
    }
}
