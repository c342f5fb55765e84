//! Writes the manual pages or the shell completions of `pvh-vmm` into a folder, with `man` or `completions` for
//! KIND: `cargo run -p pvh-config --features pages --example pages -- KIND FOLDER`.

use std::{env, ffi::OsStr, fs, io, path::Path, process::ExitCode};

use pvh_config::pages::{Page, completions, manual};

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let pages = match words.next().as_deref().and_then(OsStr::to_str) {
        Some("man") => manual(),
        Some("completions") => completions(),
        _ => return usage(),
    };
    let Some(folder) = words.next() else {
        return usage();
    };
    let folder = Path::new(&folder);
    match write_all(folder, &pages) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: pages man|completions FOLDER");
    ExitCode::from(2)
}

fn write_all(folder: &Path, pages: &[Page]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for page in pages {
        let path = folder.join(&page.name);
        fs::write(&path, &page.text)?;
        println!("{}", path.display());
    }
    Ok(())
}
