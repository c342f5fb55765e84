//! The texts of plan errors.

use pvh_loader::plan::{Fix, WriteKind};

#[test]
fn each_fix_is_one_line() {
    let fixes = [
        (Fix::MoreRam { ram_bytes: 1 << 20 }, "give the guest 1 MiB"),
        (
            Fix::MoreRam {
                ram_bytes: (1 << 20) + 1,
            },
            "give the guest 2 MiB",
        ),
        (Fix::SmallerModules, "smaller modules"),
        (Fix::SmallerStartInfo, "shorter command lines"),
        (Fix::ShorterMemmap, "merge entries"),
        (Fix::MoveReserved, "reserved ranges"),
        (Fix::Relink, "PHYS32_RELOC"),
        (Fix::PhysicalAddresses, "AT() in the linker script"),
        (Fix::Rebuild, "build the image again"),
        (Fix::CorrectMemmap, "correct the memory map"),
        (Fix::FindStubs, "hypercall stubs"),
    ];
    for (fix, part) in fixes {
        let text = fix.to_string();
        assert!(text.contains(part) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn a_write_is_displayed_by_its_content() {
    let kinds = [
        (
            WriteKind::Segment {
                index: 2,
                file_offset: 0x1000,
            },
            "segment 2",
        ),
        (WriteKind::Bss { index: 3 }, "zeros of segment 3"),
        (WriteKind::Module { index: 4 }, "module 4"),
        (WriteKind::ModuleTail { index: 5 }, "zeros after module 5"),
        (WriteKind::StartInfo, "start info"),
    ];
    for (kind, text) in kinds {
        assert_eq!(kind.to_string(), text);
    }
}
