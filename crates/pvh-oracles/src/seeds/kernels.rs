//! Seeds from stock kernels: their headers and notes, without their code.

use std::path::Path;

use pvh_loader::Image;
use pvh_testkit::elf::{Class, Elf, Segment};

use super::Seed;

/// Returns an ELF with the program headers and the notes of the kernel at `path`, without the bytes
/// of its segments.
///
/// `None` if the file cannot be opened as a kernel.
#[must_use]
pub fn of_kernel(path: &Path) -> Option<Seed> {
    let image = Image::open(path).ok()?;
    let class = match image.class() {
        pvh_loader::image::Class::Elf32 => Class::Elf32,
        pvh_loader::image::Class::Elf64 => Class::Elf64,
    };
    let mut elf = vec![0; usize::try_from(image.len_bytes()).ok()?];
    image.read_at(0, &mut elf).ok()?;
    let header = pvh_elfnote::Header::read(&elf[..]).ok()?;
    let mut small = Elf::new(class);
    for segment in header.segments(&elf[..]) {
        let segment = segment.ok()?;
        let mut copy = Segment::load(segment.paddr, Vec::new()).with(|copy| {
            copy.kind = segment.kind;
            copy.flags = segment.flags;
            copy.vaddr = segment.vaddr;
            copy.mem_size = Some(segment.mem_size);
            copy.align = segment.align;
        });
        if segment.is_note() {
            let start = usize::try_from(segment.offset).ok()?;
            let len = usize::try_from(segment.file_size).ok()?;
            copy.data = elf.get(start..)?.get(..len)?.to_vec();
        }
        small = small.segment(copy);
    }
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some((name, small.build()))
}
