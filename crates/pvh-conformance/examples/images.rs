//! Writes the guest images into a folder, with the name of the compiler that built them:
//! `cargo run -p pvh-conformance --example images -- FOLDER`.

use std::{env, fs, io, path::PathBuf, process::ExitCode};

use pvh_conformance::{compiler, images};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: images FOLDER");
        return ExitCode::from(2);
    };
    match write_all(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &std::path::Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, image) in images() {
        fs::write(folder.join(name), image)?;
        println!("{name}: {} bytes", image.len());
    }
    fs::write(folder.join("compiler.txt"), format!("{}\n", compiler()))
}
