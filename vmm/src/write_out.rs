//! Writes built-in guests and unpacked kernels to files, which must not exist yet.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use pvh_config::exit::{HOST, SUCCESS};
use pvh_loader::Image;
use pvh_terminal::Printable;

use crate::exit::complain;

/// Writes a built-in guest; returns the exit code.
pub(crate) fn guest(path: &Path, image: &[u8]) -> u8 {
    told(path, create(path, |file| file.write_all(image)))
}

/// Writes the ELF of a kernel, unpacked; returns the exit code.
pub(crate) fn elf(path: &Path, image: &Image) -> u8 {
    let written = create(path, |file| {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut done = 0_u64;
        while let Some(left) = image.len_bytes().checked_sub(done).filter(|left| *left > 0) {
            let len = usize::try_from(left)
                .unwrap_or(PIECE_BYTES)
                .min(PIECE_BYTES);
            let piece = buffer.get_mut(..len).unwrap_or_default();
            image.read_at(done, piece).map_err(io::Error::other)?;
            file.write_all(piece)?;
            done = done.saturating_add(piece.len() as u64);
        }
        Ok(())
    });
    told(path, written)
}

/// Makes a new file; one that cannot be written whole is removed.
fn create(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let written = write(&mut file);
    if written.is_err() {
        // The error is told; a file that cannot be removed stays.
        let _ = fs::remove_file(path);
    }
    written
}

fn told(path: &Path, written: io::Result<()>) -> u8 {
    match written {
        Ok(()) => SUCCESS,
        Err(error) => {
            let name = path.display().to_string();
            complain(&format!("{}: cannot write: {error}", Printable(&name)));
            HOST
        }
    }
}

const PIECE_BYTES: usize = 1 << 20;
