//! EFI programs: for which machine they are, and whether they hold a Linux kernel.

/// Returns the name of an EFI program (a PE file) and what to do, or `None` for another file.
pub(super) fn describe(head: &[u8]) -> Option<(&'static str, &'static str)> {
    if !head.starts_with(b"MZ") {
        return None;
    }
    let pe = usize::try_from(u32::from_le_bytes(*array(head, 0x3C)?)).ok()?;
    let pe = head.get(pe..)?;
    if !pe.starts_with(b"PE\0\0") {
        return None;
    }
    let machine = u16::from_le_bytes(*array(pe, 4)?);
    let is_zboot = head.get(4..8) == Some(b"zimg");
    Some(match (machine, is_zboot) {
        (AMD64 | I386, true) => ("a packed EFI kernel (zboot)", NO_ENTRY),
        (AMD64 | I386, false) if has_linux_section(pe) => (
            "an EFI program with a Linux kernel in it",
            "take the kernel out of it: objcopy -O binary --only-section=.linux",
        ),
        (AMD64 | I386, false) => ("an EFI program", NO_ENTRY),
        (ARM64, true) => ("a packed arm64 kernel (EFI zboot)", TAKE_X86),
        (ARM64, false) => ("an EFI program for arm64", TAKE_X86),
        (_, true) => ("a packed EFI kernel (zboot) for another machine", TAKE_X86),
        (_, false) => ("an EFI program for another machine", TAKE_X86),
    })
}

/// Tells whether the section table of a PE file names a section `.linux`.
fn has_linux_section(pe: &[u8]) -> bool {
    let number = |at| array(pe, at).map(|bytes| usize::from(u16::from_le_bytes(*bytes)));
    let (Some(count), Some(optional_bytes)) = (number(6), number(20)) else {
        return false;
    };
    let table = pe.get(24_usize.saturating_add(optional_bytes)..);
    let sections = table.unwrap_or_default().chunks_exact(SECTION_BYTES);
    let mut names = sections.take(count);
    names.any(|section| section.starts_with(b".linux\0"))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

pub(super) const TAKE_X86: &str = "give a kernel for x86 or x86-64";
const NO_ENTRY: &str = "it has no PVH entry point: give an ELF (vmlinux) or a bzImage (vmlinuz)";

/// Machines of a PE file.
const I386: u16 = 0x014C;
const AMD64: u16 = 0x8664;
const ARM64: u16 = 0xAA64;

/// Length of an entry of the section table.
const SECTION_BYTES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn program(machine: u16, sections: &[&[u8]], zboot: bool) -> Vec<u8> {
        let mut file = vec![0; 0x80];
        file[..2].copy_from_slice(b"MZ");
        if zboot {
            file[4..8].copy_from_slice(b"zimg");
        }
        file[0x3C] = 0x80;
        file.extend(b"PE\0\0");
        file.extend(machine.to_le_bytes());
        file.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
        file.extend([0; 12]);
        file.extend(0xF0_u16.to_le_bytes());
        file.extend([0; 2 + 0xF0]);
        for name in sections {
            let mut section = [0; 40];
            section[..name.len()].copy_from_slice(name);
            file.extend(section);
        }
        file
    }

    #[test]
    fn the_machine_and_the_linux_section_are_reported() {
        for (file, name, fix) in [
            (
                program(0x8664, &[b".text", b".reloc"], false),
                "an EFI program",
                NO_ENTRY,
            ),
            (
                program(0x8664, &[b".text", b".linux"], false),
                "an EFI program with a Linux kernel in it",
                "take the kernel out of it: objcopy -O binary --only-section=.linux",
            ),
            (
                program(0xAA64, &[b".text"], true),
                "a packed arm64 kernel (EFI zboot)",
                TAKE_X86,
            ),
            (
                program(0xAA64, &[b".linux"], false),
                "an EFI program for arm64",
                TAKE_X86,
            ),
            (
                program(0x8664, &[], true),
                "a packed EFI kernel (zboot)",
                NO_ENTRY,
            ),
        ] {
            assert_eq!(describe(&file), Some((name, fix)));
        }
    }

    #[test]
    fn a_program_cut_anywhere_does_no_harm() {
        let file = program(0x8664, &[b".text", b".linux"], false);
        for len in 0..file.len() {
            assert_ne!(
                describe(&file[..len]).map(|(name, _)| name),
                Some("an EFI program with a Linux kernel in it"),
                "{len}"
            );
        }
    }
}
