//! The advice on every kind of file that is given by mistake, followed word for word: what comes of
//! it can be booted.

use std::{fs, process::Command};

use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_loader::{
    Boot, ImageError, ModuleSource,
    image::{Codec, Image, Limits},
    plan::Fix,
};
use pvh_start_info::MemmapRange;
use pvh_testkit::{
    bzimage::{SetupHeader, headed},
    elf::{Class, Elf, Note, Segment},
};

use crate::pack::{HEADER, bzimage, elf, gzip, payload, stream};

const MIB: u64 = 1 << 20;

/// Where a container has its kernel: past every magic.
const INSIDE_AT: usize = 0x2_0000;

fn boot(ram_bytes: u64) -> Boot {
    let ram = MemmapRange {
        start: Gpa(0),
        len_bytes: ram_bytes,
        kind: MemmapKind::RAM,
    };
    Boot {
        memmap: vec![ram],
        ..Boot::default()
    }
}

/// A file that is not the kernel, and the kernel that its owner finds in it, if there is one.
struct Given {
    file: Vec<u8>,
    inside: Option<Vec<u8>>,
}

/// A container: `magic` at `offset`, and a kernel in it.
fn container(offset: usize, magic: &[u8]) -> Given {
    let mut file = vec![0; INSIDE_AT];
    for (to, from) in file.iter_mut().skip(offset).zip(magic) {
        *to = *from;
    }
    let kernel = elf();
    file.extend(&kernel);
    Given {
        file,
        inside: Some(kernel),
    }
}

/// A file with no kernel in it.
fn bare(file: impl Into<Vec<u8>>) -> Given {
    Given {
        file: file.into(),
        inside: None,
    }
}

/// A kernel packed by a tool, which unpacks to it.
fn packed(file: Vec<u8>) -> Given {
    Given {
        file,
        inside: Some(elf()),
    }
}

/// Does what the advice says, and checks that the result can be booted.
fn follow(fix: &str, given: Given) {
    let mut boot = boot(64 * MIB);
    let kernel = match fix {
        "give it as the initrd, after the kernel" => {
            boot.modules = vec![ModuleSource::from_bytes(given.file)];
            elf()
        }
        "unpack it first"
        | "unpack it and give the ELF in it"
        | "unpack it (scripts/extract-vmlinux) and give the vmlinux"
        | "if you trust the file, unpack it first and give the ELF"
        | "give a kernel file from inside it" => given.inside.expect("there is a kernel in it"),
        "give an ELF (vmlinux) or a bzImage (vmlinuz)"
        | "give a kernel for x86 or x86-64"
        | "give a kernel: firmware has no PVH entry point"
        | "copy or download the file again"
        | "copy or download the file again, or build it again"
        | "take a kernel from 2.6.24 or later, or give its unpacked vmlinux"
        | "it has no PVH entry point: give an ELF (vmlinux) or a bzImage (vmlinuz)" => {
            assert!(given.inside.is_none(), "{fix}: its kernel could be used");
            for kernel in [elf(), bzimage(&payload(Codec::Gzip, &elf()))] {
                assert!(Image::from_bytes(kernel).is_ok());
            }
            elf()
        }
        command if command.contains(": objcopy ") => objcopy(command, &given.file),
        other => panic!("nobody has followed this advice: {other}"),
    };
    let image = Image::from_bytes(kernel).unwrap();
    assert!(image.plan(&boot).is_ok(), "{fix}");
}

/// Runs the command in an advice on a file.
fn objcopy(advice: &str, file: &[u8]) -> Vec<u8> {
    let (_, command) = advice.split_once(": ").unwrap();
    let mut words = command.split(' ');
    let dir = std::env::temp_dir().join(format!("pvh-loader-objcopy-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (from, to) = (dir.join("program.efi"), dir.join("kernel"));
    fs::write(&from, file).unwrap();
    let mut objcopy = Command::new(words.next().unwrap());
    let copied = objcopy.args(words).args([&from, &to]).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let kernel = fs::read(to).unwrap();
    fs::remove_dir_all(dir).unwrap();
    kernel
}

/// A section of code.
const TEXT: (&str, &[u8]) = (".text", &[0xF4; 16]);

/// An EFI program with these sections.
fn efi(machine: u16, sections: &[(&str, &[u8])]) -> Vec<u8> {
    const HEADERS: usize = 0x400;
    let mut file = vec![0; 0x40];
    file[..2].copy_from_slice(b"MZ");
    file[0x3C] = 0x40;
    file.extend(b"PE\0\0");
    file.extend(machine.to_le_bytes());
    file.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    file.extend([0; 12]);
    // Length of the optional header; executable, large addresses.
    file.extend(0xF0_u16.to_le_bytes());
    file.extend(0x22_u16.to_le_bytes());
    let mut optional = vec![0; 0xF0];
    let mut put = |at: usize, bytes: &[u8]| optional[at..][..bytes.len()].copy_from_slice(bytes);
    put(0, &0x020B_u16.to_le_bytes()); // PE32+
    put(16, &0x1000_u32.to_le_bytes()); // entry point
    put(32, &0x1000_u32.to_le_bytes()); // alignment in memory
    put(36, &0x200_u32.to_le_bytes()); // alignment in the file
    put(56, &0x100_0000_u32.to_le_bytes()); // length in memory
    put(60, &u32::try_from(HEADERS).unwrap().to_le_bytes());
    put(68, &10_u16.to_le_bytes()); // an EFI application
    put(108, &16_u32.to_le_bytes()); // data directories
    file.extend(optional);
    let mut offset = HEADERS;
    let mut address = 0x1000_u32;
    for (name, bytes) in sections {
        let len = bytes.len().next_multiple_of(0x200);
        let mut header = [0; 40];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let numbers = [
            u32::try_from(bytes.len()).unwrap(),
            address,
            u32::try_from(len).unwrap(),
            u32::try_from(offset).unwrap(),
        ];
        for (at, number) in (8..).step_by(4).zip(numbers) {
            header[at..][..4].copy_from_slice(&number.to_le_bytes());
        }
        // Initialised data, readable.
        header[36..].copy_from_slice(&0x4000_0040_u32.to_le_bytes());
        file.extend(header);
        offset = offset.saturating_add(len);
        let pages = u32::try_from(len.next_multiple_of(0x1000)).unwrap();
        address = address.saturating_add(pages);
    }
    file.resize(HEADERS, 0);
    for (_, bytes) in sections {
        file.extend(*bytes);
        file.resize(file.len().next_multiple_of(0x200), 0);
    }
    file
}

/// A packed EFI kernel: its first section has the payload.
fn zboot(machine: u16) -> Vec<u8> {
    let mut file = efi(machine, &[TEXT]);
    file[4..8].copy_from_slice(b"zimg");
    file
}

fn cpio() -> Vec<u8> {
    let mut cpio = b"070701".to_vec();
    cpio.resize(240, b'0');
    cpio
}

/// What is often given in place of a kernel, by its name in the message.
#[rustfmt::skip]
fn mistakes() -> Vec<(&'static str, Given)> {
    let linux = bzimage(&payload(Codec::Gzip, &elf()));
    let uki = efi(0x8664, &[TEXT, (".linux", &linux)]);
    let mut firmware = vec![0; 0x2000];
    firmware[0x1FF0..0x1FF5].copy_from_slice(b"\xEA\x5B\xE0\x00\xF0");
    vec![
        ("an initramfs (cpio)", bare(cpio())),
        ("an initramfs (cpio)", bare(gzip(&cpio()))),
        ("an initramfs (old cpio)", bare([&b"070707"[..], &[b'0'; 100]].concat())),
        ("a script", bare(*b"#!/bin/sh\nexec something --with arguments that are long enough\n")),
        ("a text file", bare([b'a'; 100])),
        ("nothing but zeros", bare([0; 100])),
        ("a disk image or a sparse file (it begins with zeros)", bare([vec![0; 0x3_0000], vec![1]].concat())),
        ("a file packed by xz", packed(stream(Codec::Xz, &elf()))),
        ("a file packed by zstd", packed(stream(Codec::Zstd, &elf()))),
        ("a file packed by bzip2", packed(stream(Codec::Bzip2, &elf()))),
        ("a file packed by lzop", packed(stream(Codec::Lzo, &elf()))),
        ("a file packed by lz4", packed(stream(Codec::Lz4, &elf()))),
        ("a file packed by lzma", packed(stream(Codec::Lzma, &elf()))),
        ("a file packed by gzip", packed(gzip(&gzip(&elf())))),
        ("an archive (a Debian package or a static library)", container(0, b"!<arch>\n")),
        ("an archive (tar)", container(257, b"ustar")),
        ("a disk image (qcow2)", container(0, b"QFI\xFB")),
        ("a disk image (GPT)", container(0x200, b"EFI PART")),
        ("a CD image (ISO 9660)", container(0x8001, b"CD001")),
        ("a file system (squashfs)", container(0, b"hsqs")),
        ("a file system (XFS)", container(0, b"XFSB")),
        ("a file system (EROFS)", container(0x400, b"\xE2\xE1\xF5\xE0")),
        ("a file system (ext2, ext3 or ext4)", container(0x438, b"\x53\xEF")),
        ("a file system (btrfs)", container(0x1_0040, b"_BHRfS_M")),
        ("firmware of a PC", bare(firmware)),
        ("an EFI program", bare(efi(0x8664, &[TEXT]))),
        ("an EFI program for arm64", bare(efi(0xAA64, &[TEXT]))),
        ("a packed EFI kernel (zboot)", bare(zboot(0x8664))),
        ("a packed arm64 kernel (EFI zboot)", bare(zboot(0xAA64))),
        ("an EFI program with a Linux kernel in it", bare(uki)),
    ]
}

#[test]
fn a_file_given_by_mistake_is_named_and_its_advice_leads_to_a_boot() {
    for (name, given) in mistakes() {
        let error = Image::from_bytes(given.file.clone()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(&format!("it looks like {name}")),
            "{name}: {error}"
        );
        follow(error.fix().unwrap(), given);
    }
}

#[test]
fn the_advice_on_a_broken_kernel_leads_to_a_boot() {
    let whole = bzimage(&payload(Codec::Gzip, &elf()));
    let mut cut = whole.clone();
    cut.truncate(5000);
    let mut damaged = whole;
    damaged[0x900] ^= 0xFF;
    let arm = Elf::new(Class::Elf64).machine(183);
    let arm = arm.segment(Segment::load(0x10_0000, vec![0; 64]));
    let arm = arm
        .segment(Segment::notes(&[Note::entry(0x10_0000)]))
        .build();
    let too_old = SetupHeader {
        version: [7, 2],
        ..HEADER
    };
    let unknown_codec = Given {
        file: bzimage(b"unknown codec"),
        inside: Some(elf()),
    };
    let not_an_elf = Given {
        file: gzip(&[0x81; 200]),
        inside: Some(elf()),
    };
    for given in [
        bare([]),
        bare([7]),
        bare([0x81; 1000]),
        bare(cut),
        bare(damaged),
        bare(b"\x7FELF".to_vec()),
        bare(arm),
        bare(headed(&too_old, b"\x1F\x8B")),
        bare(bzimage(b"")),
        unknown_codec,
        not_an_elf,
    ] {
        let error = Image::from_bytes(given.file.clone()).unwrap_err();
        let fix = error
            .fix()
            .unwrap_or_else(|| panic!("{error} has no advice"));
        follow(fix, given);
    }
}

#[test]
fn a_kernel_beyond_the_limit_may_be_unpacked_first() {
    let file = bzimage(&payload(Codec::Gzip, &elf()));
    let limits = Limits {
        max_unpacked_bytes: 1000,
        ..Limits::default()
    };
    let error = Image::from_bytes_within(file.clone(), &limits).unwrap_err();
    assert!(matches!(error, ImageError::Unpack { .. }), "{error}");
    let given = Given {
        file,
        inside: Some(elf()),
    };
    follow(error.fix().unwrap(), given);
}

/// The advice names a size of RAM; with it the same files fit.
#[test]
fn the_advice_on_ram_is_enough_ram() {
    let with_bss = |mem_size: u64| {
        let segment = Segment::load(0x10_0000, vec![0xF4; 16]).mem_size(mem_size);
        let elf = Elf::new(Class::Elf64).segment(segment);
        elf.segment(Segment::notes(&[Note::entry(0x10_0000)]))
            .build()
    };
    let module = |len: usize| vec![ModuleSource::from_bytes(vec![0; len])];
    let cases = [
        (with_bss(64 * MIB), 0, 32 * MIB),
        (with_bss(3 * MIB), 0, MIB),
        (with_bss(16), 8 << 20, 4 * MIB),
        (with_bss(9 * MIB), 9 << 20, 16 * MIB),
    ];
    for (kernel, module_len, ram_bytes) in cases {
        let image = Image::from_bytes(kernel).unwrap();
        let with = |ram_bytes| Boot {
            modules: module(module_len),
            cmdline: b"quiet".to_vec(),
            ..boot(ram_bytes)
        };
        let (mut ram_bytes, mut followed) = (ram_bytes, 0);
        loop {
            let boot = with(ram_bytes);
            let Err(error) = image.plan(&boot).map(|_| ()) else {
                break;
            };
            let Some(Fix::MoreRam { ram_bytes: advised }) = error.fix() else {
                panic!("{error}: {:?}", error.fix());
            };
            assert!(advised > ram_bytes, "{error}: {advised:#x}");
            // The text has whole MiB.
            ram_bytes = advised.next_multiple_of(MIB);
            followed += 1;
            // The kernel may want more room first, then its modules, then the start info.
            assert!(followed <= 3, "{error}");
        }
        assert!(followed >= 1);
    }
}
