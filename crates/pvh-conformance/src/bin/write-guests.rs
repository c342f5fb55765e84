//! `write-guests FOLDER`: writes the plain guest as files, for a VMM that somebody wants to test.

use std::{env, fs, io, path::Path, process::ExitCode};

fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let guests = [
        ("pvh-conformance-32.elf", pvh_conformance::plain_image()),
        ("pvh-conformance-64.elf", pvh_conformance::plain_image_64()),
    ];
    for (name, image) in guests {
        let path = folder.join(name);
        fs::write(&path, image)?;
        println!("{}: {} bytes", path.display(), image.len());
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: write-guests FOLDER");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write-guests: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
