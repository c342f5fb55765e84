//! Writes the seeds of every fuzz target into `fuzz/seeds`: `corpus [KERNEL...]`.
//!
//! Of stock kernels that are named, headers and notes become seeds too; those are kept beside the built ones.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use pvh_testkit::{
    oracle::ORACLES,
    seeds::{of_kernel, seeds},
};

fn main() -> ExitCode {
    let kernels: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    match write_all(&root, &kernels) {
        Ok(count) => {
            println!("{count} seeds");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{}: {why}", root.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(root: &Path, kernels: &[PathBuf]) -> io::Result<usize> {
    let mut count = 0_usize;
    for oracle in ORACLES {
        let dir = root.join(oracle.name);
        fs::create_dir_all(&dir)?;
        let mut seeds = seeds(oracle.name);
        if ["notes", "differential"].contains(&oracle.name) {
            seeds.extend(kernels.iter().filter_map(|kernel| of_kernel(kernel)));
        }
        count = count.saturating_add(seeds.len());
        for (name, bytes) in seeds {
            fs::write(dir.join(name), bytes)?;
        }
    }
    Ok(count)
}
