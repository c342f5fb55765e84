//! Guests with a few instructions, in files of any size.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use pvh_testkit::elf::{Class, Elf, Note, Segment};

/// The address of a guest in memory, and its entry.
pub const PLACE: usize = 0x10_0000;

/// The offset of its bytes in the file.
pub const FILE_OFFSET: u64 = 0x1000;

/// Writes one byte to the serial port, and powers off in a way that the VMM supports: our ACPI
/// block, then Cloud Hypervisor's, the keyboard controller, and a triple fault.
pub const HELLO: &[u8] = &[
    0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
    0xB0, b'B', // mov al, 'B'
    0xEE, // out dx, al
    0x66, 0xBA, 0x05, 0x06, // mov dx, 0x605
    0xB0, 0x34, // mov al, 0x34
    0xEE, // out dx, al
    0xB2, 0x00, // mov dl, 0x00
    0xEE, // out dx, al
    0xB0, 0xFE, // mov al, 0xFE
    0xE6, 0x64, // out 0x64, al
    0x0F, 0x0B, // ud2
];

/// Writes one byte to the serial port, and halts for ever with interrupts on, because a domain ends
/// when its last vCPU halts with interrupts off. No interrupt is sent.
pub const STAY: &[u8] = &[
    0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
    0xB0, b'B', // mov al, 'B'
    0xEE, // out dx, al
    0xFB, // stay: sti
    0xF4, // hlt
    0xEB, 0xFC, // jmp stay
];

/// Reads and writes a word of every page of [`LARGE`] bytes from [`PLACE`] on, except its own page;
/// then does the same as [`HELLO`].
pub const TOUCH: &[u8] = &[
    0xBE, 0x00, 0x10, 0x10, 0x00, // mov esi, 0x101000
    0xB9, 0xFF, 0x27, 0x00, 0x00, // mov ecx, 10239
    0xFF, 0x06, // next: inc dword [esi]
    0x81, 0xC6, 0x00, 0x10, 0x00, 0x00, // add esi, 4096
    0x83, 0xE9, 0x01, // sub ecx, 1
    0x75, 0xF3, // jnz next
    0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
    0xB0, b'B', // mov al, 'B'
    0xEE, // out dx, al
    0x66, 0xBA, 0x05, 0x06, // mov dx, 0x605
    0xB0, 0x34, // mov al, 0x34
    0xEE, // out dx, al
    0xB2, 0x00, // mov dl, 0x00
    0xEE, // out dx, al
    0xB0, 0xFE, // mov al, 0xFE
    0xE6, 0x64, // out 0x64, al
    0x0F, 0x0B, // ud2
];

/// A large segment: 40 MiB.
pub const LARGE: usize = 40 << 20;

/// Makes an image of `code` in one segment of `len` bytes. The rest is noise, which no file system
/// shares or compresses.
#[must_use]
pub fn image(code: &[u8], len: usize) -> Vec<u8> {
    let mut file = headers(code.len().max(len) as u64);
    file.extend(code);
    let mut noise = Noise::default();
    let end = file.len().saturating_add(len.saturating_sub(code.len()));
    while file.len() < end {
        file.extend(noise.next().to_le_bytes());
    }
    file.truncate(end);
    file
}

/// Writes an image to `path` in pieces, unless a file of its length exists.
///
/// # Errors
///
/// Errors of the host.
pub fn write_once(path: &Path, code: &[u8], len: usize) -> io::Result<()> {
    let headers = headers(code.len().max(len) as u64);
    let start = [&headers[..], code].concat();
    let rest = len.saturating_sub(code.len());
    write_noise_once(path, &start, rest)
}

/// Writes `start` and `len` bytes of noise to `path`, unless a file of that length exists.
///
/// # Errors
///
/// Errors of the host.
pub fn write_noise_once(path: &Path, start: &[u8], len: usize) -> io::Result<()> {
    let total = start.len().saturating_add(len) as u64;
    let is_there = File::open(path).and_then(|mut there| {
        let mut head = vec![0; start.len()];
        there.read_exact(&mut head)?;
        Ok(head == start && there.metadata()?.len() == total)
    });
    if is_there.unwrap_or(false) {
        return Ok(());
    }
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(start)?;
    let mut noise = Noise::default();
    let mut left = len;
    while left > 0 {
        let word = noise.next().to_le_bytes();
        let piece = word.get(..left.min(word.len())).unwrap_or(&word);
        file.write_all(piece)?;
        left = left.saturating_sub(piece.len());
    }
    file.flush()
}

/// An ELF's headers and note, up to [`FILE_OFFSET`].
fn headers(segment_bytes: u64) -> Vec<u8> {
    let segment = Segment::load(PLACE as u64, []).with(|segment| {
        segment.offset = Some(FILE_OFFSET);
        segment.file_size = Some(segment_bytes);
        segment.mem_size = Some(segment_bytes);
    });
    let entry = u32::try_from(PLACE).unwrap_or(u32::MAX);
    // Some loaders also check the ELF's own entry point.
    let mut file = Elf::new(Class::Elf64)
        .entry(PLACE as u64)
        .segment(segment)
        .segment(Segment::notes(&[Note::entry(entry)]))
        .build();
    file.resize(usize::try_from(FILE_OFFSET).unwrap_or(usize::MAX), 0);
    file
}

/// Numbers that look random, the same each time.
struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Noise {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0.wrapping_shl(13);
        self.0 ^= self.0.wrapping_shr(7);
        self.0 ^= self.0.wrapping_shl(17);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use pvh_loader::Image;

    use super::*;

    #[test]
    fn a_guest_is_a_bootable_image_of_the_length_asked_for() {
        for (code, len) in [(HELLO, 0x1000), (TOUCH, 0x2_0000), (HELLO, 1)] {
            let image = Image::from_bytes(image(code, len)).unwrap();
            assert_eq!(image.entry(), 0x10_0000);
            let [segment] = image.segments() else {
                panic!("one segment")
            };
            assert_eq!(segment.offset, 0x1000);
            assert_eq!(segment.file_size, len.max(code.len()) as u64);
        }
    }

    #[test]
    fn a_guest_in_a_file_is_the_one_in_memory() {
        let path = std::env::temp_dir().join(format!("pvh-bench-guest-{}", std::process::id()));
        write_once(&path, HELLO, 0x1_2345).unwrap();
        assert!(std::fs::read(&path).unwrap() == image(HELLO, 0x1_2345));
        std::fs::remove_file(path).unwrap();
    }
}
