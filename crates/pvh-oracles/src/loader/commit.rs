//! A whole load, from bytes to guest memory: what is written is what the file and the boot say, and
//! not one byte beside it.

use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_loader::{
    Image,
    commit::{CommitError, Loaded, Method},
    image::Limits,
    module::ModuleSource,
    plan::{Boot, MemmapRule, Placement, WriteKind},
};
use pvh_memory::GuestMemory;
use pvh_start_info::{Generation, MemmapRange, read, read_cmdline};
use pvh_testkit::elf::{Class, Elf, Note, Segment};

use crate::{bytes::is_printable, memory::SparseMemory, tape::Tape};

/// What the memory holds before.
const BEFORE: u8 = 0xa5;

/// What begins the description of an ELF, in place of one.
pub const ELF_MARK: u8 = 0xef;

/// Loads a file with a boot that its first eight bytes describe; the file is as given, or built as
/// what follows [`ELF_MARK`] says.
///
/// # Panics
///
/// If a byte outside the plan is written or one inside is wrong; if a refused commit has written;
/// if the start info does not read back.
pub fn elf_commit(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let (boot, lost) = boot(&mut tape);
    let given = tape.rest();
    let file = match given.split_first() {
        Some((&ELF_MARK, shape)) => built(&mut Tape::new(shape)),
        _ => given.to_vec(),
    };
    let limits = Limits {
        max_unpacked_bytes: 1 << 20,
        max_file_bytes: 1 << 20,
        max_window_bytes: 1 << 20,
    };
    let image = match Image::from_bytes_within(file, &limits) {
        Ok(image) => image,
        Err(error) => return is_printable(&error),
    };
    let plan = match image.plan(&boot) {
        Ok(plan) => plan,
        Err(error) => return is_printable(&error),
    };
    // The memory may have less RAM than the memory map says.
    let ram = boot
        .memmap
        .iter()
        .filter(|range| range.kind == MemmapKind::RAM);
    let ram: Vec<(u64, u64)> = ram
        .map(|range| (range.start.0, range.len_bytes.saturating_sub(lost)))
        .collect();
    let memory = SparseMemory::new(&ram, BEFORE);
    match plan.commit(Method::Copy, &memory) {
        Ok(loaded) => check(plan.placement(), &image, &boot, &memory, &loaded),
        Err(error) => {
            is_printable(&error);
            assert!(error.memory_untouched(), "{error}");
            assert_eq!(memory.written(), [], "{error}: memory was touched");
            assert!(matches!(error, CommitError::NotRam { .. }), "{error}");
            assert!(lost > 0, "all RAM is there");
        }
    }
}

/// An ELF of up to three segments; it may be allowed to move.
fn built(tape: &mut Tape<'_>) -> Vec<u8> {
    let shape = tape.byte();
    let class = Class::ALL[usize::from(shape & 1)];
    let mut elf = Elf::new(class);
    let mut first = None;
    for mark in 0..=(shape >> 1) % 3 {
        let at = u64::from(tape.half()) << 8;
        let data = vec![mark ^ 0x90; usize::from(tape.byte())];
        let mem_size = data.len() as u64 + u64::from(tape.half());
        first.get_or_insert(at);
        elf = elf.segment(Segment::load(at, data).mem_size(mem_size));
    }
    let entry = first.unwrap_or(0) + u64::from(tape.byte());
    let mut notes = vec![Note::entry(u32::try_from(entry).unwrap_or(0))];
    if shape & 8 != 0 {
        let align = 1 << tape.below(23);
        let [min, max] = [(); 2].map(|()| u32::from(tape.half()) << 12);
        notes.push(Note::reloc(&[align, min, max | 0xfff]));
    }
    elf.segment(Segment::notes(&notes)).build()
}

fn boot(tape: &mut Tape<'_>) -> (Boot, u64) {
    let [shape, line, first, second] = [(); 4].map(|()| tape.byte());
    let generation = match shape & 3 {
        0 => Generation::Draft,
        1 => Generation::V0,
        _ => Generation::V1,
    };
    let ram_bytes = u64::from(tape.half()).max(1) << 10;
    let lost = u64::from(tape.half());
    let ram = |start: u64, len_bytes: u64| MemmapRange {
        start: Gpa(start),
        len_bytes,
        kind: MemmapKind::RAM,
    };
    let mut memmap = vec![ram(0, ram_bytes)];
    if shape & 4 != 0 {
        memmap.push(ram(1 << 32, 1 << 20));
    }
    if shape & 8 != 0 {
        let kind = MemmapKind(2);
        let start = Gpa(0x9_f000);
        let len_bytes = 0x6_1000;
        memmap.push(MemmapRange {
            start,
            len_bytes,
            kind,
        });
    }
    let module = |size: u8, mark: u8| {
        let bytes = (0..usize::from(size) * 33).map(|at| mark ^ at.to_le_bytes()[0]);
        let module = ModuleSource::from_bytes(bytes.collect());
        match shape & 16 {
            16 if generation != Generation::Draft => module.with_cmdline(vec![mark; 3]),
            _ => module,
        }
    };
    let mut modules = vec![module(first, 0x11), module(second, 0x22)];
    modules.truncate(usize::from(shape >> 5 & 3));
    let boot = Boot {
        generation,
        cmdline: vec![b'c'; usize::from(line) * 16],
        modules,
        memmap,
        memmap_rule: match shape >> 7 {
            0 => MemmapRule::Linux,
            _ => MemmapRule::Omit,
        },
        ..Boot::default()
    };
    (boot, lost)
}

fn check(plan: &Placement, image: &Image, boot: &Boot, memory: &SparseMemory, loaded: &Loaded) {
    let entry = u64::from(image.entry()).wrapping_add_signed(plan.moved_by);
    assert_eq!(loaded.entry.rip, entry, "the entry moves with the kernel");
    assert_eq!(loaded.entry.rbx, plan.start_info.0);
    let mut planned: Vec<(u64, u64)> = Vec::new();
    let mut total = 0;
    for write in &plan.writes {
        let (start, len) = (write.range.start.0, write.range.len_bytes);
        planned.push((start, start + len));
        total += len;
        let is = memory.peek(start, usize::try_from(len).expect("RAM is small"));
        match write.kind {
            WriteKind::Segment { index, .. } => {
                let segment = image.segments()[index];
                let mut want = vec![0; is.len()];
                let read = image.read_at(segment.offset, &mut want);
                read.expect("the plan has checked it");
                assert!(is == want, "{:?}", write.kind);
            }
            WriteKind::Module { index } => {
                let mark = [0x11, 0x22][index];
                let mut want = (0_usize..).map(|at| mark ^ at.to_le_bytes()[0]);
                assert!(is.iter().all(|&byte| want.next() == Some(byte)), "{index}");
            }
            WriteKind::Bss { .. } | WriteKind::ModuleTail { .. } => {
                assert!(is.iter().all(|&byte| byte == 0), "{:?}", write.kind);
            }
            _ => check_start_info(plan, boot, memory, write.range.len_bytes),
        }
    }
    planned.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in planned {
        match joined.last_mut() {
            Some((_, last)) if *last == start => *last = end,
            _ => joined.push((start, end)),
        }
    }
    assert_eq!(memory.written(), joined, "written is not what was planned");
    assert_eq!(loaded.written_bytes, total);
}

fn check_start_info(plan: &Placement, boot: &Boot, memory: &SparseMemory, len_bytes: u64) {
    let within = plan.start_info.0..plan.start_info.0 + len_bytes;
    let fetch = |at: Gpa, buf: &mut [u8]| -> Result<(), ()> {
        let end = at.0.checked_add(buf.len() as u64).ok_or(())?;
        let is_inside = within.contains(&at.0) && end <= within.end;
        assert!(is_inside, "{at}: outside of the block");
        memory.read(at, buf).map_err(|_| ())
    };
    let info = read(boot.generation, plan.start_info, fetch).expect("it was just written");
    let mut line = vec![0; boot.cmdline.len()];
    let cmdline = info.cmdline.expect("there always is one");
    let line = read_cmdline(cmdline, &mut line, fetch);
    assert_eq!(line, Ok(&boot.cmdline[..]));
    let modules = info.modules(9, fetch).expect("the table is sound");
    let modules = modules.map(|module| module.map(|module| (module.paddr, module.size_bytes)));
    let wanted = plan
        .modules
        .iter()
        .map(|range| Ok((range.start, range.len_bytes)));
    assert_eq!(modules.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    let shown: &[MemmapRange] = match (boot.generation, boot.memmap_rule) {
        (Generation::V1, MemmapRule::Linux) => &boot.memmap,
        _ => &[],
    };
    let memmap = info.memmap(9, fetch).expect("the table is sound");
    let memmap: Vec<_> = memmap.map(|entry| entry.map(|entry| entry.range)).collect();
    let wanted: Vec<_> = shown.iter().copied().map(Ok).collect();
    assert_eq!(memmap, wanted);
}
