//! Finds the commit that `--version` names, in `PVH_VMM_COMMIT` of the program.
//!
//! It is the value of the environment's `PVH_VMM_COMMIT`, else the one in the package that cargo made of a commit, else
//! the checkout's, else "unknown". Only a release build asks: a build after each commit would compile every
//! program of the workspace anew.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PVH_VMM_COMMIT");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = match env::var("PVH_VMM_COMMIT") {
        Ok(commit) if is_plain(&commit) => commit,
        _ if is_release => commit().unwrap_or_else(|| "unknown".to_owned()),
        _ => "debug build".to_owned(),
    };
    println!("cargo::rustc-env=PVH_VMM_COMMIT={commit}");
}

/// The commit of these sources, if it can be told.
fn commit() -> Option<String> {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let id = match fs::read_to_string(folder.join(".cargo_vcs_info.json")) {
        Ok(text) => packed(&text)?,
        Err(_) => checked_out(&folder)?,
    };
    let short = id.get(..12)?;
    short
        .bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then(|| short.to_owned())
}

/// The commit in the file that cargo adds to a package: `"sha1": "ID"`.
fn packed(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\"sha1\"")?;
    Some(rest.split('"').nth(1)?.to_owned())
}

/// The commit of the checkout that this package is a part of. Another project that keeps a copy of this
/// package in its own repository has other commits.
fn checked_out(folder: &Path) -> Option<String> {
    let root = git(folder, &["rev-parse", "--show-toplevel"])?;
    if folder != Path::new(&root).join("crates/pvh-config") {
        return None;
    }
    // The log of HEAD grows with each commit and each checkout; HEAD itself names the branch only.
    for file in ["HEAD", "logs/HEAD"] {
        let path = folder.join(git(folder, &["rev-parse", "--git-path", file])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(folder, &["ls-files", "--error-unmatch", "build.rs"])?;
    git(folder, &["rev-parse", "HEAD"])
}

/// What git prints, without its line end.
fn git(folder: &Path, words: &[&str]) -> Option<String> {
    let done = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(words)
        .output()
        .ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| text.trim_end().to_owned())
}

/// Whether a text can stand in a line of cargo's.
fn is_plain(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_plain)
}
