//! The loader without its default features builds no C code.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

/// The names of the packages that the loader is built of, its own and those of its build scripts.
fn tree(options: &[&str]) -> Vec<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = [
        "tree",
        "-p",
        "pvh-loader",
        "-e",
        "normal,build",
        "--prefix",
        "none",
    ];
    let ran = Command::new(cargo)
        .args(args)
        .args(["--offline", "--locked"])
        .args(options)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{errors}");
    let text = String::from_utf8(ran.stdout).unwrap();
    let names = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// Whether a package compiles C, finds a C library, or binds one.
fn is_about_c(name: &str) -> bool {
    let tools = ["cc", "cmake", "pkg-config", "vcpkg", "bindgen", "zstd-safe"];
    name.ends_with("-sys") || tools.contains(&name)
}

#[test]
fn the_loader_without_codecs_needs_no_c_compiler_and_no_libzstd() {
    let names = tree(&["--no-default-features"]);
    assert!(names.iter().any(|name| name == "pvh-elfnote"), "{names:?}");
    let found: Vec<_> = names.iter().filter(|name| is_about_c(name)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_codec_of_zstd_is_c_code() {
    let names = tree(&["--no-default-features", "--features", "zstd"]);
    assert!(names.iter().any(|name| name == "zstd-sys"), "{names:?}");
}
