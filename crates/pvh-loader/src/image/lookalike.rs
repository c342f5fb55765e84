//! Names files that are often given by mistake, and says what to give instead.

mod efi;

use super::source::Backing;
use efi::TAKE_X86;

/// A known file format that is not a kernel for PVH.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Lookalike {
    /// The format, with its article: "an initramfs (cpio)".
    pub name: &'static str,
    /// What the user can do.
    pub fix: &'static str,
}

/// Returns the format that a file looks like, or `None` for an unknown one.
///
/// At most the first 66 KiB and the last 16 bytes are read.
pub(crate) fn lookalike(file: &Backing) -> Option<Lookalike> {
    let len_bytes = file.len_bytes();
    let head = file.range(0, len_bytes.min(HEAD_BYTES)).ok()?;
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|tail| tail.starts_with(magic))
    };
    let known = MAGICS.iter().find(|(offset, magic, ..)| at(*offset, magic));
    if let Some(&(_, magic, name, fix)) = known {
        let program = efi::describe(&head).filter(|_| magic == b"MZ");
        let (name, fix) = program.unwrap_or((name, fix));
        return Some(Lookalike { name, fix });
    }
    if is_pc_firmware(file) {
        return Some(FIRMWARE);
    }
    let all = |test: fn(&u8) -> bool| !head.is_empty() && head.iter().all(test);
    if all(|byte| *byte == 0) {
        let is_whole = head.len() as u64 == len_bytes;
        let name = if is_whole {
            "nothing but zeros"
        } else {
            "a disk image or a sparse file (it begins with zeros)"
        };
        return Some(Lookalike { name, fix: TAKE });
    }
    let is_text = all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~'));
    is_text.then_some(Lookalike {
        name: "a text file",
        fix: TAKE,
    })
}

/// Tells whether a file ends as the firmware of a PC does: its last 16 bytes, where the CPU starts,
/// are a far jump to segment 0xF000.
fn is_pc_firmware(file: &Backing) -> bool {
    let mut reset = [0; 5];
    let start = file.len_bytes().checked_sub(16);
    let is_read = start.is_some_and(|start| file.read(start, &mut reset).is_ok());
    is_read && file.len_bytes().is_multiple_of(4096) && matches!(reset, [0xEA, _, _, 0x00, 0xF0])
}

const TAKE: &str = "give an ELF (vmlinux) or a bzImage (vmlinuz)";
const INITRD: &str = "give it as the initrd, after the kernel";
const UNPACK: &str = "unpack it first";
const INSIDE: &str = "give a kernel file from inside it";

/// The content of a packed file that has next to none.
pub(crate) const EMPTY: Lookalike = Lookalike {
    name: "an empty file",
    fix: TAKE,
};

const FIRMWARE: Lookalike = Lookalike {
    name: "firmware of a PC",
    fix: "give a kernel: firmware has no PVH entry point",
};

/// Offset, magic, name, fix.
const MAGICS: [(usize, &[u8], &str, &str); 28] = [
    (0x38, b"ARM\x64", "an arm64 kernel", TAKE_X86),
    (0x38, b"RSC\x05", "a RISC-V kernel", TAKE_X86),
    (
        0x24,
        b"\x18\x28\x6f\x01",
        "an ARM kernel (zImage)",
        TAKE_X86,
    ),
    (0, b"MZ", "a DOS or EFI program", TAKE),
    (0, b"#!", "a script", TAKE),
    (0, b"070701", "an initramfs (cpio)", INITRD),
    (0, b"070702", "an initramfs (cpio)", INITRD),
    (0, b"070707", "an initramfs (old cpio)", INITRD),
    (0, b"\xc7\x71", "an initramfs (old cpio)", INITRD),
    (0, b"\xfd7zXZ\0", "a file packed by xz", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a file packed by zstd", UNPACK),
    (0, b"BZh", "a file packed by bzip2", UNPACK),
    (0, b"\x89LZO", "a file packed by lzop", UNPACK),
    (0, b"\x02\x21\x4c\x18", "a file packed by lz4", UNPACK),
    (0, b"\x04\x22\x4d\x18", "a file packed by lz4", UNPACK),
    (0, b"\x5d\0\0", "a file packed by lzma", UNPACK),
    (0, b"\x1f\x8b", "a file packed by gzip", UNPACK),
    (
        0,
        b"!<arch>\n",
        "an archive (a Debian package or a static library)",
        INSIDE,
    ),
    (257, b"ustar", "an archive (tar)", INSIDE),
    (0, b"QFI\xfb", "a disk image (qcow2)", INSIDE),
    (0, b"hsqs", "a file system (squashfs)", INSIDE),
    (0, b"XFSB", "a file system (XFS)", INSIDE),
    (0x8001, b"CD001", "a CD image (ISO 9660)", INSIDE),
    (0x400, b"\xe2\xe1\xf5\xe0", "a file system (EROFS)", INSIDE),
    (
        0x438,
        b"\x53\xef",
        "a file system (ext2, ext3 or ext4)",
        INSIDE,
    ),
    (0x1_0040, b"_BHRfS_M", "a file system (btrfs)", INSIDE),
    (0x200, b"EFI PART", "a disk image (GPT)", INSIDE),
    (0x28, b"_FVH", FIRMWARE.name, FIRMWARE.fix),
];

/// The btrfs magic is the farthest.
const HEAD_BYTES: u64 = 0x1_0800;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> Option<&'static str> {
        lookalike(&Backing::Bytes(bytes.to_vec())).map(|found| found.name)
    }

    #[test]
    fn files_given_by_mistake_are_named() {
        assert_eq!(name(b"#!/bin/sh\n"), Some("a script"));
        assert_eq!(name(b"0707010000"), Some("an initramfs (cpio)"));
        assert_eq!(name(b"hello\n"), Some("a text file"));
        assert_eq!(name(&[0; 16]), Some("nothing but zeros"));
        let mut arm = [0; 64];
        arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
        arm[..2].copy_from_slice(b"MZ");
        assert_eq!(name(&arm), Some("an arm64 kernel"));
        assert_eq!(name(&[1, 2, 3]), None);
        assert_eq!(name(&[]), None);
    }

    /// Zeros, with `magic` at `offset`.
    fn with(len: usize, offset: usize, magic: &[u8]) -> Vec<u8> {
        let mut file = vec![0; len];
        for (to, from) in file.iter_mut().skip(offset).zip(magic) {
            *to = *from;
        }
        file
    }

    #[test]
    fn disk_images_and_firmware_begin_with_zeros_and_are_named() {
        for (file, want) in [
            (with(0x9000, 0x8001, b"CD001"), "a CD image (ISO 9660)"),
            (
                with(0x1000, 0x438, b"\x53\xef"),
                "a file system (ext2, ext3 or ext4)",
            ),
            (
                with(0x1000, 0x400, b"\xe2\xe1\xf5\xe0"),
                "a file system (EROFS)",
            ),
            (
                with(0x2_0000, 0x1_0040, b"_BHRfS_M"),
                "a file system (btrfs)",
            ),
            (
                with(0x2000, 0x1FF0, b"\xea\x5b\xe0\x00\xf0"),
                "firmware of a PC",
            ),
            (with(0x1000, 0x28, b"_FVH"), "firmware of a PC"),
            (
                with(0x2_0000, 0x1_F000, b"x"),
                "a disk image or a sparse file (it begins with zeros)",
            ),
        ] {
            assert_eq!(name(&file), Some(want));
        }
    }

    /// `tests/image/follow.rs` follows each of these.
    #[test]
    fn every_advice_is_one_that_a_test_follows() {
        for (.., fix) in MAGICS {
            let followed = [TAKE, INITRD, UNPACK, INSIDE, TAKE_X86, FIRMWARE.fix];
            assert!(followed.contains(&fix), "{fix}");
        }
    }

    #[test]
    fn every_magic_of_the_table_is_found_and_has_a_fix() {
        for (offset, magic, name, fix) in MAGICS {
            let found = lookalike(&Backing::Bytes(with(0x1_0100, offset, magic)));
            assert_eq!(found, Some(Lookalike { name, fix }));
        }
    }
}
