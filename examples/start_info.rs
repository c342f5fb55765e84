//! The guest's side: reads a start info that pvh-start-info built by two readers, its own and that
//! of the crate `pvh` (rust-osdev), which guests written in Rust use, and compares.
//!
//! `cargo run -p pvh-examples --bin start-info`
//!
//! UNSAFETY: the reader of `pvh` follows physical addresses as pointers.
#![expect(unsafe_code, reason = "a guest's reader follows physical addresses")]

use std::{alloc::Layout, error::Error, ffi::CStr};

use pvh::start_info::reader::{MemMap, StartInfoReader};
use pvh_abi::{Gpa, start_info::MemmapKind};
use pvh_memory::{GuestMemory, VecMemory};
use pvh_start_info::{Builder, Generation, MemmapRange, Module, read, read_cmdline};

const AT: Gpa = Gpa(0x10_0000);
/// Where the module lies, in the same memory.
const MODULE: Gpa = Gpa(0x10_0800);

/// Guest memory at [`AT`], aligned as pages are.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Leads physical addresses to the page.
struct Map<'a>(&'a Page);

impl MemMap for Map<'_> {
    fn ptr(&self, paddr: usize, layout: Layout) -> *const u8 {
        let Self(Page(bytes)) = self;
        let from = usize::try_from(AT.0)
            .ok()
            .and_then(|at| paddr.checked_sub(at));
        let range = from.and_then(|from| bytes.get(from..)?.get(..layout.size()));
        range.map_or(std::ptr::null(), <[u8]>::as_ptr)
    }
}

/// Writes a start info with a command line, a module and a memory map.
fn build() -> Result<Page, Box<dyn Error>> {
    let modules = [Module {
        paddr: MODULE,
        size_bytes: 5,
        cmdline: Some(b"rdinit=/init"),
    }];
    let range = |start, len_bytes, kind| MemmapRange {
        start: Gpa(start),
        len_bytes,
        kind,
    };
    let memmap = [
        range(0, 0xa_0000, MemmapKind::RAM),
        range(0xf_0000, 0x1_0000, MemmapKind::RESERVED),
        range(0x10_0000, 0x700_0000, MemmapKind::RAM),
    ];
    let mut page = Page([0; 4096]);
    let Page(bytes) = &mut page;
    Builder::new(Generation::V1)
        .cmdline(b"console=hvc0")
        .modules(&modules)
        .memmap(&memmap)
        .rsdp(Gpa(0xf_1000))
        .write(AT, bytes)?;
    let module = bytes.get_mut(0x800..0x805).ok_or("a page")?;
    module.copy_from_slice(b"disks");
    Ok(page)
}

fn main() -> Result<(), Box<dyn Error>> {
    let page = build()?;
    // SAFETY: `Map` gives pointers into `page` alone, checked for their length, and `page` outlives
    // the reader; what lies there was written just now by the builder.
    let reader = unsafe { StartInfoReader::from_paddr(u32::try_from(AT.0)?, Map(&page)) };
    let theirs = reader.ok_or("no magic")?;
    let memory = VecMemory::from_bytes(AT, &page.0);
    let fetch = |at: Gpa, buf: &mut [u8]| memory.read(at, buf);
    let ours = read(Generation::V1, AT, fetch)?;

    let mut line = [0; 64];
    let cmdline = read_cmdline(ours.cmdline.ok_or("a line")?, &mut line, fetch)?;
    assert_eq!(Some(cmdline), theirs.cmdline().map(CStr::to_bytes));
    assert_eq!(ours.rsdp, Some(Gpa(theirs.raw().rsdp_paddr)));
    let map: Vec<_> = ours.memmap(8, fetch)?.collect::<Result<_, _>>()?;
    assert_eq!(map.len(), theirs.memmap().len());
    for (one, other) in map.iter().zip(theirs.memmap()) {
        let range = one.range;
        assert_eq!((range.start.0, range.len_bytes), (other.addr, other.size));
        assert_eq!(range.kind.0, other.ty);
    }
    let module = ours.modules(8, fetch)?.next().ok_or("a module")??;
    let other = theirs.modlist().next().ok_or("a module")?;
    assert_eq!(
        (module.paddr.0, module.size_bytes),
        (other.raw().paddr, other.raw().size)
    );
    assert_eq!(other.as_slice(), b"disks");
    assert_eq!(
        other.cmdline().map(CStr::to_bytes),
        Some(&b"rdinit=/init"[..])
    );
    let text = cmdline.escape_ascii();
    println!(
        "both read \"{text}\", a module, and {} memory map entries",
        map.len()
    );
    Ok(())
}
