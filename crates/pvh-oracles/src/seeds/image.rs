//! Seeds of the targets that read files and lay memory out.

use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_loader::image::Codec;
use pvh_start_info::{Builder, Generation, MemmapRange, Module};
use pvh_testkit::bzimage::bzimage;
use pvh_testkit::elf::{Class, Elf, Note, Section, Segment};

use super::{
    Pen, Seed, named,
    pack::{CODECS, payload, runs},
};
use crate::kernel::kernel;
use crate::loader::{FRAME_MARK, HEADER_MARK, PACKED_MARK, PAYLOAD_MARK};

/// ELF files with notes of all kinds.
pub(super) fn elfs() -> Vec<Seed> {
    let load = || Segment::load(0x10_0000, vec![0xf4; 16]);
    let linux = linux_notes();
    let wide = Elf::new(Class::Elf64);
    let moving = wide.clone().segment(load()).segment(Segment::notes(&[
        Note::entry(0x10_0000),
        Note::reloc(&[0x20_0000, 0x10_0000, 0x3fff_ffff]),
    ]));
    let twice = wide
        .clone()
        .segment(Segment::notes(&[Note::entry(1), Note::entry(0x10_0001)]))
        .segment(load())
        .segment(Segment::notes(&[
            Note::new(*b"Xenon\0", 18, [9; 4]),
            Note::entry(0x10_0002),
        ]));
    let section = Section {
        name: ".notes".to_owned(),
        kind: 7,
        data: pvh_testkit::elf::note_area(&[Note::xen(6, *b"minios\0"), Note::entry(0x10_0003)]),
        ..Section::default()
    };
    vec![
        named("bootable32", Elf::bootable(Class::Elf32, 0x10_0000).build()),
        named("bootable64", Elf::bootable(Class::Elf64, 0x10_0000).build()),
        named(
            "linux",
            wide.clone()
                .segment(load())
                .segment(Segment::notes(&linux))
                .build(),
        ),
        named("moving", moving.build()),
        named("twice", twice.build()),
        named(
            "section",
            wide.segment(load()).section(section.clone()).build(),
        ),
        named(
            "section32",
            Elf::new(Class::Elf32)
                .segment(load())
                .section(section)
                .build(),
        ),
    ]
}

/// What is said in odd ways, and what is no ELF of ours.
pub(super) fn odd_elfs() -> Vec<Seed> {
    let wide = Elf::new(Class::Elf64).segment(Segment::load(0x10_0000, vec![0xf4; 16]));
    // an entry that means none, a name in two pieces, and a string that never ends
    let odd = wide.segment(Segment::notes(&[
        Note::entry(u32::MAX),
        Note::xen(10, [b'y'; 4100]),
        Note::xen(10, [&[b'x'; 70][..], b"|dom0"].concat()),
        Note::xen(6, [b'z'; 70]),
    ]));
    let mut swapped = Elf::bootable(Class::Elf32, 0x10_0000).build();
    if let Some(order) = swapped.get_mut(5) {
        *order = 2;
    }
    vec![
        named("odd", odd.build()),
        named("big-endian", swapped),
        named(
            "not-elf",
            *b"#!/bin/sh\nexec /boot/vmlinux-of-someone-else --really\n######",
        ),
    ]
}

/// What Linux says of itself.
fn linux_notes() -> [Note; 15] {
    [
        Note::new(*b"GNU\0", 3, [7; 20]),
        Note::xen(6, *b"linux\0"),
        Note::xen(7, *b"2.6\0"),
        Note::xen(5, *b"xen-3.0\0"),
        Note::xen(3, 0xffff_ffff_8000_0000_u64.to_le_bytes()),
        Note::xen(15, 0xffff_8000_0000_0000_u64.to_le_bytes()),
        Note::xen(1, 0xffff_ffff_8100_0000_u64.to_le_bytes()),
        Note::xen(2, 0xffff_ffff_8100_1000_u64.to_le_bytes()),
        Note::xen(10, *b"!writable_page_tables|pae_pgdir_above_4gb"),
        Note::xen(17, 0x801_u32.to_le_bytes()),
        Note::xen(9, *b"yes\0"),
        Note::xen(8, *b"generic\0"),
        Note::xen(14, 1_u64.to_le_bytes()),
        Note::xen(11, *b"yes\0"),
        Note::entry64(0x10_0004),
    ]
}

/// Demands for `place`: see its oracle for the order of the bytes.
pub(super) fn plans() -> Vec<Seed> {
    let tail = |pen: Pen| -> Vec<u8> { pen.bytes([0]).address(0x2000).into() };
    // 1 MiB of kernel at 1 MiB in 64 MiB of RAM, one module
    let plain = Pen::new()
        .bytes([0x40])
        .addresses(&[0, 0x400_0000, 0x10_0000, 0x10_0000])
        .bytes([0])
        .address(0x1000)
        .bytes([12])
        .address(0x123_4000)
        .bytes([4, 0]);
    // the place is taken, and it may be moved
    let moved = Pen::new()
        .bytes([0x84])
        .addresses(&[0, 0x400_0000, 0x10_0000, 0x1000, 0x10_0000, 0x10_0000])
        .bytes([16])
        .address(0x1000)
        .bytes([12])
        .addresses(&[0x5000, 0x1001])
        .bytes([0, 1, 121])
        .addresses(&[0x10_0000, 0x400_0000]);
    // two segments, a hole in RAM between them, a reserved range behind
    let two = Pen::new()
        .bytes([0x15])
        .addresses(&[0, 0xa_0000, 0x10_0000, 0xf00_0000, 0x80_0000, 0x8000])
        .addresses(&[0x10_0000, 0x2000])
        .bytes([0])
        .address(0x1000)
        .bytes([12])
        .addresses(&[0x20_0000, 0x3000])
        .bytes([200])
        .address(0x2000)
        .bytes([21, 0, 0]);
    // no room below 1 GiB but before the kernel
    let tight = Pen::new()
        .bytes([0x00])
        .addresses(&[0, 0x30_0000, 0x10_0000, 0x20_0000])
        .bytes([0])
        .address(0)
        .bytes([12, 0, 0]);
    vec![
        named("plain", tail(plain)),
        named("moved", tail(moved)),
        named("two", tail(two)),
        named("tight", tail(tight)),
    ]
}

/// Eight bytes of boot, then a file.
pub(super) fn commits() -> Vec<Seed> {
    let boots: [(&str, [u8; 8]); 4] = [
        ("v1", [0x62, 1, 9, 200, 0, 8, 0, 0]),
        ("v0", [0x31, 2, 1, 0, 0, 8, 0, 0]),
        ("draft", [0x20, 0, 3, 3, 0, 6, 0, 0]),
        ("less", [0x6e, 9, 255, 255, 0, 16, 0, 1]),
    ];
    let file = Elf::new(Class::Elf64)
        .segment(Segment::load(0x10_0000, vec![0x90; 40]).mem_size(0x2123))
        .segment(Segment::load(0x10_4010, vec![0xcc; 24]))
        .segment(Segment::notes(&[Note::entry(0x10_0000)]))
        .build();
    // two segments without room between them, and one that may move
    let two = Pen::new()
        .bytes([0xef, 3])
        .half(0x1000)
        .bytes([40])
        .half(0xfd8);
    let two = two.half(0x1010).bytes([9]).half(0).bytes([3]);
    let moving = Pen::new()
        .bytes([0xef, 8])
        .half(0x900)
        .bytes([40])
        .half(0xffff);
    let moving = moving.bytes([4, 12]).half(0).half(0xffff);
    let with = |boot: [u8; 8], file: &[u8]| [&boot[..], file].concat();
    let mut seeds: Vec<Seed> = boots
        .iter()
        .map(|&(name, boot)| named(name, with(boot, &file)))
        .collect();
    let boot = [0x62, 1, 2, 3, 0, 8, 0, 0];
    seeds.push(named("two", with(boot, &Vec::from(two))));
    seeds.push(named("moving", with(boot, &Vec::from(moving))));
    seeds
}

/// One bzImage a codec, and gzip around an ELF.
pub(super) fn packed() -> Vec<Seed> {
    let elf = kernel();
    let marked = |payload: Vec<u8>| [&[PAYLOAD_MARK][..], &payload].concat();
    let image = |&codec: &Codec| named(codec.name(), marked(payload(codec, &elf)));
    let mut seeds: Vec<Seed> = CODECS.iter().map(image).collect();
    seeds.push(named("bzimage", bzimage(&payload(Codec::Lz4, &elf))));
    let gzip = payload(Codec::Gzip, &elf);
    seeds.push(named("gzipped-elf", gzip));
    let stored = payload(Codec::Stored, &elf);
    let twice = payload(Codec::Gzip, &bzimage(&stored));
    seeds.push(named("gzipped-bzimage", twice));
    let long = [&elf[..], &[0; 15_000]].concat();
    for codec in [Codec::Gzip, Codec::Zstd, Codec::Lz4] {
        let name = format!("long-{}", codec.name());
        seeds.push(named(&name, marked(payload(codec, &long))));
    }
    seeds.push(named("runs-zstd", marked(runs(&elf, 16_080))));
    // a header's five bytes: see the oracle
    let header = [HEADER_MARK, 1, 15, 2, 0, 0];
    seeds.push(named("header", header));
    seeds.push(named("header-stored", [&header[..], &stored].concat()));
    // a codec and a number of repetitions, then what follows the kernel
    seeds.push(named(
        "content",
        [&[PACKED_MARK, 0, 1][..], b"text"].concat(),
    ));
    // descriptor, window, no stated length, two blocks: a byte 16 times, and two raw bytes
    let frame = Pen::new()
        .bytes([FRAME_MARK, 0, 0x40])
        .bytes([0; 8])
        .bytes([1, 1, 16, 0, 9, 0, 2, 0, 7, 8]);
    seeds.push(named("frame", frame));
    seeds.push(named("elf", elf));
    seeds
}

/// A generation, where the memory lies, where in it the structure is, and the memory.
pub(super) fn start_infos() -> Vec<Seed> {
    let modules = [Module {
        paddr: Gpa(0x40_0000),
        size_bytes: 12_345,
        cmdline: Some(b"initrd"),
    }];
    let plain = [Module {
        cmdline: None,
        ..modules[0]
    }];
    let memmap = [MemmapRange {
        start: Gpa(0),
        len_bytes: 0x800_0000,
        kind: MemmapKind::RAM,
    }];
    let cases = [
        (
            0,
            Builder::new(Generation::V1)
                .modules(&modules)
                .memmap(&memmap)
                .rsdp(Gpa(0xf_0000)),
        ),
        (1, Builder::new(Generation::V0).modules(&modules)),
        (2, Builder::new(Generation::Draft).modules(&plain)),
    ];
    let seeds = cases.map(|(generation, builder)| {
        let mut block = [0; 512];
        let written = builder
            .cmdline(b"console=hvc0")
            .write(Gpa(0x8000), &mut block);
        let size = written.expect("it is sayable");
        let pen = Pen::new().bytes([generation]).address(0x8000).bytes([0]);
        let block = block.get(..size).unwrap_or_default();
        named(&format!("generation-{generation}"), pen.bytes(block))
    });
    seeds.into()
}

/// What a builder is asked: see its oracle for the order of the bytes.
pub(super) fn roundtrips() -> Vec<Seed> {
    let full = Pen::new()
        .bytes([0x48])
        .address(0x8000)
        .half(600)
        .addresses(&[0x40_0000, 0x3000])
        .bytes([104])
        .bytes("root")
        .addresses(&[0x50_0000, 0x1])
        .bytes([0])
        .addresses(&[0, 0xa_0000])
        .bytes([1])
        .addresses(&[0x10_0000, 0x700_0000])
        .bytes([1, 1])
        .address(0xf_0000)
        .bytes([1, 57])
        .bytes("console");
    let draft = Pen::new()
        .bytes([0x06])
        .address(0x9000)
        .half(100)
        .addresses(&[0x40_0000, 0x3000])
        .bytes([0, 0, 2, 51])
        .bytes("q");
    let v0 = Pen::new()
        .bytes([0x01])
        .address(0x9000)
        .half(100)
        .bytes([0, 2, 0]);
    vec![named("full", full), named("draft", draft), named("v0", v0)]
}

/// Limit, end of RAM, number and lengths of the modules' lines, the lines, the kernel's.
pub(super) fn cmdlines() -> Vec<Seed> {
    let three = Pen::new()
        .half(64)
        .bytes([200, 3, 4, 0, 8])
        .bytes("rootmodule=8console=hvc0 quiet");
    let short = Pen::new().half(5).bytes([3, 0, 0, 0, 0]).bytes("quiet");
    vec![named("three", three), named("short", short)]
}
