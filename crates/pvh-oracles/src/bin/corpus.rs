//! Writes the seeds of every fuzz target into `fuzz/seeds`: `corpus [KERNEL...]`.
//!
//! Headers and notes of the named stock kernels go into `fuzz/corpus`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use pvh_oracles::{
    ORACLES,
    seeds::{of_kernel, seeds},
};

fn main() -> ExitCode {
    let kernels: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
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
        let built = seeds(oracle.name);
        let is_about_elf = ["notes", "differential"].contains(&oracle.name);
        let kernels = kernels.iter().filter(|_| is_about_elf);
        let found = kernels.filter_map(|kernel| of_kernel(kernel)).collect();
        for (kind, inputs) in [("seeds", built), ("corpus", found)] {
            let dir = root.join(kind).join(oracle.name);
            fs::create_dir_all(&dir)?;
            count = count.saturating_add(inputs.len());
            for (name, bytes) in inputs {
                fs::write(dir.join(name), bytes)?;
            }
        }
    }
    Ok(count)
}
