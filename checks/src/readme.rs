//! Finds what a README shows badly outside rustdoc: hidden lines, paths that are no links, features
//! that it does not name.

use std::{collections::BTreeSet, path::Path};

/// Lists what is wrong with the README of a package: one line each.
///
/// `root` is the folder that `docs/` is in; `features` are the names in the manifest.
#[must_use]
pub fn faults(text: &str, root: &Path, features: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (number, line) in (1_usize..).zip(text.lines()) {
        match (line.strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) => fence = Some(language),
            (None, Some(language)) => {
                let is_rust = language.starts_with("rust");
                if is_rust && (line == "#" || line.starts_with("# ")) {
                    found.push(format!("README.md:{number}: only rustdoc hides this line"));
                }
            }
            (None, None) => found.extend(
                plain_paths(line)
                    .filter(|path| exists(root, path))
                    .map(|path| format!("README.md:{number}: {path} is no link")),
            ),
        }
    }
    for feature in features.iter().filter(|one| *one != "default") {
        if !text.contains(&format!("`{feature}`")) {
            found.push(format!("README.md: the feature `{feature}` is not named"));
        }
    }
    found
}

/// The paths below `docs/` in a line that are neither the text of a link nor its target.
fn plain_paths(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("docs/").filter_map(|(at, _)| {
        let (before, path) = line.split_at_checked(at)?;
        let is_linked = before.ends_with(['/', '[', '(']) && before != "(";
        let is_linked = is_linked && !before.ends_with(" (");
        let end = path.find(|one: char| !one.is_ascii_alphanumeric() && !"/-_.".contains(one));
        let path = path.get(..end.unwrap_or(path.len()))?;
        (!is_linked).then(|| path.trim_end_matches('.'))
    })
}

/// Files of Xen begin with `docs/` too; decisions are cited by their number alone.
fn exists(root: &Path, path: &str) -> bool {
    path.starts_with("docs/decisions") || root.join(path).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let features = ["default".to_owned(), "std".to_owned()];
        faults(&format!("{text}\n`std`\n"), root, &BTreeSet::from(features))
    }

    #[test]
    fn a_hidden_line_is_found_in_rust_alone() {
        let text = "```rust,no_run\nlet x = 1;\n# let y = 2;\n#[cold]\n#\n```\n# Title\n";
        let want = [3, 5].map(|line| format!("README.md:{line}: only rustdoc hides this line"));
        assert_eq!(found(text), want);
        assert_eq!(found("```sh\n# a comment\n```\n"), [""; 0]);
    }

    #[test]
    fn a_path_of_this_repository_is_a_link() {
        for plain in [
            "see docs/open.md.",
            "(docs/open.md has it)",
            "docs/decisions/0004",
        ] {
            let found = found(plain);
            assert!(
                found.len() == 1 && found[0].ends_with("is no link"),
                "{found:?}"
            );
        }
        for linked in [
            "[x](../../docs/open.md)",
            "[docs/open.md](../../docs/open.md)",
        ] {
            assert_eq!(found(linked), [""; 0]);
        }
        assert_eq!(found("docs/misc/pvh.pandoc of Xen"), [""; 0]);
    }

    #[test]
    fn a_feature_is_named() {
        let features = BTreeSet::from(["std".to_owned()]);
        let found = faults("words", Path::new("."), &features);
        assert_eq!(found, ["README.md: the feature `std` is not named"]);
    }
}
