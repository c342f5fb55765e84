//! Prints what the Xen notes of an ELF file say: `cargo run -p pvh-elfnote --example scan -- FILE`.
use std::{env, error::Error, fs, process::ExitCode};

use pvh_abi::ErrorLine;
use pvh_elfnote::{Header, NoteWalk, ProgramHeader, Source, scan};

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: scan FILE");
        return ExitCode::from(2);
    };
    let shown = fs::read(&path)
        .map_err(Into::into)
        .and_then(|file| show(&file));
    let Err(error) = shown else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{}: {}", path.display(), ErrorLine(&*error));
    ExitCode::FAILURE
}

fn show(file: &[u8]) -> Result<(), Box<dyn Error>> {
    let header = Header::read(file)?;
    println!("{:?}, machine {}", header.class, header.machine);
    for segment in header.segments(file) {
        let segment = segment?;
        if segment.is_note() {
            list(file, &segment)?;
        }
    }
    println!("{:#x?}", scan(file)?);
    Ok(())
}

fn list<S: Source + ?Sized>(source: &S, segment: &ProgramHeader) -> Result<(), Box<dyn Error>> {
    for note in NoteWalk::new(source, segment.offset, segment.file_size) {
        let note = note?;
        let kind = note.xen_kind().and_then(|kind| kind.name());
        let name = note.name(source)?;
        println!(
            "{:#x}: {name} {} ({}), {} bytes",
            note.offset,
            kind.unwrap_or("-"),
            note.kind,
            note.desc_size
        );
    }
    Ok(())
}
