//! The tests that the security pages name: each exists, and each command line can be run.
//!
//! A table whose head has a column `test` names in this column, between backquotes, test functions
//! or command lines. A function has to be a test of this workspace. A command line is `cargo test
//! -p`, `cargo run -p` or `make`: its package, its target and its filter have to find something.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::sources::{ROOMS, collect};

/// Pages with such tables, below the root of the workspace.
pub const PAGES: [&str; 3] = ["SECURITY.md", "docs/threat-model.md", "docs/sandbox.md"];

/// Every test function of the workspace: the folder of its package, and its path (`image::limits::a_bomb`).
#[derive(Debug, Default)]
pub struct Tests(BTreeSet<(PathBuf, String)>);

impl Tests {
    /// Reads the test functions below `root`.
    ///
    /// # Errors
    ///
    /// If a folder or a file cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut files = Vec::new();
        for room in ROOMS {
            collect(&root.join(room), &mut files)?;
        }
        let mut tests = Self::default();
        for path in files {
            let text = fs::read_to_string(&path)?;
            let name = path.strip_prefix(root).unwrap_or(&path);
            tests.add(name, &text);
        }
        Ok(tests)
    }

    fn add(&mut self, file: &Path, text: &str) {
        let words: Vec<_> = file.iter().filter_map(|word| word.to_str()).collect();
        let room = if words.first() == Some(&"crates") {
            2
        } else {
            1
        };
        let folder: PathBuf = words.iter().take(room).collect();
        let module: Vec<_> = words
            .iter()
            .skip(room)
            .map(|word| word.trim_end_matches(".rs"))
            .collect();
        let module = module.join("::");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line == "#[test]";
            let name = line
                .strip_prefix("fn ")
                .and_then(|rest| rest.split('(').next());
            if let Some(name) = name.filter(|_| is_test) {
                self.0.insert((folder.clone(), format!("{module}::{name}")));
                is_test = false;
            }
        }
    }

    fn has(&self, function: &str) -> bool {
        let end = format!("::{function}");
        self.0.iter().any(|(_, path)| path.ends_with(&end))
    }

    fn has_in(&self, folder: &Path, filter: &str) -> bool {
        let mut found = self.0.iter().filter(|(package, _)| package == folder);
        found.any(|(_, path)| path.contains(filter))
    }
}

/// Lists what the pages name and the workspace below `root` does not have, one line each.
///
/// # Errors
///
/// If a page, a folder or a source file cannot be read.
pub fn faults(root: &Path) -> io::Result<Vec<String>> {
    let tests = Tests::read(root)?;
    let mut found = Vec::new();
    for page in PAGES {
        let text = fs::read_to_string(root.join(page))?;
        for (number, cell) in cells(&text) {
            let faults = cell_faults(root, &tests, cell).into_iter();
            found.extend(faults.map(|what| format!("{page}:{number}: {what}")));
        }
    }
    Ok(found)
}

/// The cells of the columns `test`, each with the number of its line.
fn cells(page: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut column = None;
    for (number, line) in (1..).zip(page.lines()) {
        let Some(row) = line.strip_prefix('|') else {
            column = None;
            continue;
        };
        let mut words = row
            .trim_end()
            .trim_end_matches('|')
            .split('|')
            .map(str::trim);
        match column {
            None => column = Some(words.position(|word| word == "test")),
            Some(Some(at)) if !row.starts_with("---") => {
                found.extend(words.nth(at).map(|cell| (number, cell)));
            }
            Some(_) => {}
        }
    }
    found
}

fn cell_faults(root: &Path, tests: &Tests, cell: &str) -> Vec<String> {
    let named: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
    if named.is_empty() {
        return vec![format!("\"{cell}\" names no test between backquotes")];
    }
    let fault = |name: &&str| Some(format!("`{name}`: {}", fault(root, tests, name)?));
    named.iter().filter_map(fault).collect()
}

/// What is wrong with a name or a command line of the column `test`.
fn fault(root: &Path, tests: &Tests, name: &str) -> Option<&'static str> {
    let words: Vec<_> = name.split_whitespace().collect();
    match words.as_slice() {
        ["make", words @ ..] => make_fault(root, words),
        ["cargo", "test", words @ ..] => cargo_fault(root, tests, words),
        ["cargo", "run", "-p", package, "--example", example] => {
            let path = format!("crates/{package}/examples/{example}.rs");
            (!root.join(path).is_file()).then_some("there is no such example")
        }
        [function] => (!tests.has(function)).then_some("there is no test of this name"),
        _ => Some("this is neither a test's name nor a command that is known here"),
    }
}

fn make_fault(root: &Path, words: &[&str]) -> Option<&'static str> {
    let Ok(makefile) = fs::read_to_string(root.join("Makefile")) else {
        return Some("there is no Makefile");
    };
    for word in words {
        match word.split_once('=') {
            None if !makefile.contains(&format!("\n{word}:")) => return Some("no such target"),
            Some(("T", target)) => {
                let path = format!("fuzz/fuzz_targets/{target}.rs");
                if !root.join(path).is_file() {
                    return Some("no such fuzz target");
                }
            }
            Some((variable, _)) => {
                let uses = [
                    format!("$({variable})"),
                    format!("${{{variable}"),
                    format!("$(or $({variable})"),
                ];
                if !uses.iter().any(|used| makefile.contains(used)) {
                    return Some("the Makefile uses no such variable");
                }
            }
            None => {}
        }
    }
    None
}

fn cargo_fault(root: &Path, tests: &Tests, words: &[&str]) -> Option<&'static str> {
    let mut words = words.iter().take_while(|word| **word != "--");
    let mut folder = None;
    let mut filter = None;
    while let Some(&word) = words.next() {
        match word {
            "-p" => folder = words.next().and_then(|package| folder_of(root, package)),
            "--test" => {
                let target = words.next().copied().unwrap_or_default();
                let tests = root.join(folder.as_ref()?).join("tests");
                let files = [format!("{target}.rs"), format!("{target}/main.rs")];
                if !files.iter().any(|file| tests.join(file).is_file()) {
                    return Some("the package has no such test target");
                }
            }
            "--all-features" | "--lib" | "--release" => {}
            word if word.starts_with('-') => return Some("an option that is not known here"),
            word => filter = Some(word),
        }
    }
    let Some(folder) = folder else {
        return Some("it names no package of this workspace");
    };
    let filter = filter.unwrap_or_default();
    (!tests.has_in(&folder, filter)).then_some("its filter finds no test")
}

/// The folder of a package, below the root.
fn folder_of(root: &Path, package: &str) -> Option<PathBuf> {
    let folder = match package {
        "pvh-vmm" => PathBuf::from("vmm"),
        "pvh-checks" => PathBuf::from("checks"),
        "pvh-bench" => PathBuf::from("benches"),
        "pvh-examples" => PathBuf::from("examples"),
        _ => Path::new("crates").join(package),
    };
    root.join(&folder)
        .join("Cargo.toml")
        .is_file()
        .then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
| promise | test | figure |
|---|---|---|
| one | `a_test` | 1 |
| two | by hand | |

| other | table |
|---|---|
| of | `nothing` |
";

    #[test]
    fn only_columns_called_test_are_read() {
        assert_eq!(cells(PAGE), [(3, "`a_test`"), (4, "by hand")]);
    }

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn every_test_that_a_security_page_of_this_tree_names_exists() {
        assert_eq!(faults(root()).unwrap(), [""; 0]);
    }

    #[test]
    fn what_does_not_exist_is_a_fault() {
        let tests = Tests::read(root()).unwrap();
        let sound = [
            "only_columns_called_test_are_read",
            "make ends",
            "make fuzz T=linear S=60",
            "cargo test -p pvh-checks promises",
            "cargo test -p pvh-domain --test event",
            "cargo test --release -p pvh-xen platform::tests -- --ignored",
            "cargo run -p pvh-sandbox --example list",
        ];
        for name in sound {
            assert_eq!(fault(root(), &tests, name), None, "{name}");
        }
        let wrong = [
            "a_test_that_nobody_wrote",
            "make nothing",
            "make fuzz T=nothing",
            "make fuzz NOTHING=1",
            "cargo test -p pvh-nothing",
            "cargo test",
            "cargo test -p pvh-domain --test nothing",
            "cargo test -p pvh-domain a_test_that_nobody_wrote",
            "cargo test -p pvh-domain --nothing",
            "cargo run -p pvh-sandbox --example nothing",
            "rm -r",
        ];
        for name in wrong {
            assert!(fault(root(), &tests, name).is_some(), "{name}");
        }
        assert_eq!(cell_faults(root(), &tests, "by hand").len(), 1);
    }
}
