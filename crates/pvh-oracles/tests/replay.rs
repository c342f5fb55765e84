//! Runs every kept input through its oracle: seeds, corpora, and former crashes.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use pvh_oracles::{ORACLES, Oracle, seeds::seeds};

fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let Ok(dir) = fs::read_dir(root.join(kind).join(target)) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = dir.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn replay(Oracle { name, check }: Oracle, kind: &str) -> usize {
    let paths = inputs(kind, name);
    for path in &paths {
        let bytes = fs::read(path).unwrap();
        let seen = std::panic::catch_unwind(|| check(&bytes));
        assert!(seen.is_ok(), "{}", path.display());
    }
    paths.len()
}

#[test]
fn no_input_of_a_corpus_shows_a_mistake() {
    for oracle in ORACLES {
        replay(oracle, "corpus");
    }
}

#[test]
fn what_once_crashed_does_not_any_more() {
    for oracle in ORACLES {
        replay(oracle, "crashes");
    }
}

#[test]
fn every_target_has_seeds_and_none_shows_a_mistake() {
    for oracle in ORACLES {
        assert!(
            replay(oracle, "seeds") > 0,
            "{}: `make corpus` is due",
            oracle.name
        );
    }
}

#[test]
fn the_seeds_are_what_the_builders_make() {
    for oracle in ORACLES {
        for (name, bytes) in seeds(oracle.name) {
            (oracle.check)(&bytes);
            let kept = inputs("seeds", oracle.name);
            let kept = kept.iter().find(|path| path.ends_with(&name));
            let kept = fs::read(kept.unwrap()).unwrap();
            assert!(
                kept == bytes,
                "{}/{name}: `make corpus` is due",
                oracle.name
            );
        }
    }
}

#[test]
fn no_target_minds_an_input_that_is_next_to_nothing() {
    for oracle in ORACLES {
        for len in 0..40 {
            for byte in [0, 1, 0x7f, 0xff] {
                (oracle.check)(&vec![byte; len]);
            }
        }
    }
}
