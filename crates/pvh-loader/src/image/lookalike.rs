//! Names files that are often given by mistake.

/// Returns what the first bytes of a file that is not a kernel look like.
pub(crate) fn lookalike(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|tail| tail.starts_with(magic))
    };
    let known = MAGICS.iter().find(|(offset, magic, _)| at(*offset, magic));
    if let Some((_, _, name)) = known {
        return Some(name);
    }
    let all = |test: fn(&u8) -> bool| !head.is_empty() && head.iter().all(test);
    if all(|byte| *byte == 0) {
        return Some("nothing but zeros");
    }
    all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')).then_some("a text file")
}

/// Offset, magic, name. Kernels of other machines come before the EFI format that holds them.
const MAGICS: [(usize, &[u8], &str); 18] = [
    (0x38, b"ARM\x64", "an arm64 kernel"),
    (0x38, b"RSC\x05", "a RISC-V kernel"),
    (0, b"MZ", "an EFI program"),
    (0, b"#!", "a script"),
    (0, b"070701", "an initramfs (cpio)"),
    (0, b"070702", "an initramfs (cpio)"),
    (0, b"\xc7\x71", "an initramfs (old cpio)"),
    (0, b"\xfd7zXZ\0", "a file packed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "a file packed by zstd"),
    (0, b"BZh", "a file packed by bzip2"),
    (0, b"\x89LZO", "a file packed by lzop"),
    (0, b"\x02\x21\x4c\x18", "a file packed by lz4"),
    (0, b"\x04\x22\x4d\x18", "a file packed by lz4"),
    (0, b"\x5d\0\0", "a file packed by lzma"),
    (0, b"\x1f\x8b", "a file packed by gzip"),
    (
        0,
        b"!<arch>\n",
        "an archive (a Debian package or a static library)",
    ),
    (0, b"QFI\xfb", "a disk image (qcow2)"),
    (0, b"hsqs", "a file system (squashfs)"),
];

#[cfg(test)]
mod tests {
    use super::lookalike;

    #[test]
    fn what_is_often_given_by_mistake_is_named() {
        assert_eq!(lookalike(b"#!/bin/sh\n"), Some("a script"));
        assert_eq!(lookalike(b"0707010000"), Some("an initramfs (cpio)"));
        assert_eq!(lookalike(b"hello\n"), Some("a text file"));
        assert_eq!(lookalike(&[0; 16]), Some("nothing but zeros"));
        let mut arm = [0; 64];
        arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
        arm[..2].copy_from_slice(b"MZ");
        assert_eq!(lookalike(&arm), Some("an arm64 kernel"));
        assert_eq!(lookalike(&[1, 2, 3]), None);
        assert_eq!(lookalike(&[]), None);
    }
}
