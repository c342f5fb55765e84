//! The heads of source files: each file opens with a sentence, and no module is a `mod.rs`.
//!
//! Opening means a first line that is a `//!` comment, or `#![doc = include_str!(...)]`. In a
//! folder below `tests/` or `benches/`, `mod.rs` is cargo's way to share code between programs, and
//! is left alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Folders below the root that have source files.
pub const ROOMS: [&str; 7] = [
    "benches",
    "checks",
    "crates",
    "examples",
    "fuzz/fuzz_targets",
    "tests",
    "vmm",
];

/// Lists what is wrong with the source files below `root`, one line each.
///
/// # Errors
///
/// If a folder or a file cannot be read.
pub fn faults(root: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for room in ROOMS {
        collect(&root.join(room), &mut files)?;
    }
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path)?;
        let name = path.strip_prefix(root).unwrap_or(&path);
        found.extend(fault(name, &text).map(|what| format!("{}: {what}", name.display())));
    }
    Ok(found)
}

pub(crate) fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// What is wrong with a file of this name and text.
fn fault(name: &Path, text: &str) -> Option<&'static str> {
    let folder = name.parent().and_then(Path::parent);
    let is_shared_by_tests = folder.is_some_and(|folder| {
        let name = folder.file_name();
        name.is_some_and(|name| name == "tests" || name == "benches")
    });
    if name.ends_with("mod.rs") && !is_shared_by_tests {
        return Some("rename it: module foo is foo.rs beside the folder foo/");
    }
    let first = text.lines().next().unwrap_or_default();
    let is_sentence = first
        .strip_prefix("//!")
        .is_some_and(|text| text.trim().len() > 3);
    let is_readme = first.starts_with("#![doc = include_str!(");
    (!is_sentence && !is_readme)
        .then_some("add a first line `//! ...` that says what the file is for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_opens_with_a_sentence_or_a_readme_is_sound() {
        assert_eq!(fault(Path::new("src/a.rs"), "//! Reads notes.\n"), None);
        let readme = "#![doc = include_str!(\"../README.md\")]\n";
        assert_eq!(fault(Path::new("src/lib.rs"), readme), None);
        assert_eq!(
            fault(Path::new("x/tests/support/mod.rs"), "//! Shared.\n"),
            None
        );
    }

    #[test]
    fn a_file_without_a_head_and_a_mod_rs_are_faults() {
        assert!(fault(Path::new("src/a.rs"), "use std::fs;\n//! Late.\n").is_some());
        assert!(fault(Path::new("src/a.rs"), "//!\n").is_some());
        assert!(fault(Path::new("src/a.rs"), "").is_some());
        assert!(fault(Path::new("src/a/mod.rs"), "//! Reads notes.\n").is_some());
    }
}
