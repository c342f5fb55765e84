//! The explanation of a crash, in lines of text.

use std::fmt::Write as _;

use pvh_entry::EntryState;
use pvh_memory::{
    Access, GuestMemory, LinearAddress, LinearMemory, PagingMode, PagingPolicy, PagingState,
};

use crate::{
    Symbols,
    idt::{Gate, Vector},
};

/// What is left of a guest: the registers of the vCPU that crashed, and memory.
#[derive(Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "what an embedder has")]
pub struct Scene<'a> {
    /// The registers.
    pub state: &'a EntryState,
    /// Guest memory.
    pub memory: &'a dyn GuestMemory,
    /// The kernel's symbols, if it has any.
    pub symbols: Option<&'a Symbols>,
    /// The width of a guest-physical address.
    pub address_bits: u8,
    /// Whether the vCPU had a triple fault.
    pub is_triple_fault: bool,
}

impl std::fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").finish_non_exhaustive()
    }
}

/// The exception that began a chain, as far as registers and memory tell.
struct First {
    vector: Vector,
    what: String,
}

/// Explains a crash: the place with its symbol, the instruction, the chain of faults before a triple
/// fault, page walks and the entries of the interrupt table.
///
/// It is a reconstruction from what is left, and says so where it has to guess. The work is bounded:
/// a few page walks and reads of less than 100 bytes.
#[must_use]
pub fn explain(scene: &Scene<'_>) -> String {
    let mut text = String::new();
    // A String accepts everything.
    let _ = write_place(scene, &mut text);
    if scene.is_triple_fault {
        let _ = write_chain(scene, &mut text);
    }
    text.truncate(text.trim_end().len());
    text
}

fn write_place(scene: &Scene<'_>, text: &mut String) -> std::fmt::Result {
    let at = scene.pc();
    writeln!(text, "at {}", scene.name(at))?;
    let mut bytes = [0; INSTRUCTION_MAX];
    match scene.read(at, &mut bytes) {
        0 => {
            writeln!(text, "no instruction can be read there")?;
            write_walk(scene, "page walk of the instruction", at, text)
        }
        len => {
            let bytes = bytes.get(..len).unwrap_or_default();
            writeln!(text, "bytes of the instruction: {}", Hex(bytes))
        }
    }
}

fn write_chain(scene: &Scene<'_>, text: &mut String) -> std::fmt::Result {
    writeln!(text, "the faults before it, as registers and memory tell:")?;
    let first = scene.first();
    let vector = match &first {
        Some(First { vector, what }) => {
            writeln!(text, "  1. {vector}: {what}")?;
            *vector
        }
        None => {
            writeln!(text, "  1. an exception that left no sign")?;
            Vector(13)
        }
    };
    write_delivery(scene, "  2. delivery of the", vector, first.is_some(), text)?;
    write_delivery(
        scene,
        "  3. delivery of the",
        Vector::DOUBLE_FAULT,
        true,
        text,
    )?;
    if first.is_some_and(|first| first.vector == Vector::PAGE_FAULT) {
        let at = scene.fault_address();
        if at != scene.pc() {
            write_walk(scene, "page walk of the address", at, text)?;
        }
    }
    Ok(())
}

fn write_delivery(
    scene: &Scene<'_>,
    head: &str,
    vector: Vector,
    is_known: bool,
    text: &mut String,
) -> std::fmt::Result {
    let name = if is_known {
        vector.to_string()
    } else {
        "exception".to_owned()
    };
    match scene.deliver(vector) {
        Err(obstacle) => writeln!(text, "{head} {name} failed: {obstacle}"),
        Ok(_) if !is_known => writeln!(text, "{head} {name} failed"),
        Ok(Gate {
            handler, selector, ..
        }) => writeln!(
            text,
            "{head} {name}: its IDT entry ({selector:#x}:{}) looks usable now",
            scene.name(handler)
        ),
    }
}

fn write_walk(scene: &Scene<'_>, what: &str, at: u64, text: &mut String) -> std::fmt::Result {
    if scene.paging().mode() == PagingMode::Unpaged {
        return Ok(());
    }
    writeln!(text, "{what} {at:#x}, cr3 {:#x}:", scene.state.cr3)?;
    let trace = scene.linear().trace(LinearAddress(at), Access::Read);
    for line in trace.to_string().lines() {
        writeln!(text, "  {line}")?;
    }
    Ok(())
}

impl<'a> Scene<'a> {
    /// The linear address of the instruction.
    fn pc(&self) -> u64 {
        match self.is_long() && self.state.cs.attributes.is_long() {
            true => self.state.rip,
            false => self.state.cs.base.wrapping_add(self.state.rip) & 0xFFFF_FFFF,
        }
    }

    /// Whether long mode is active.
    pub(crate) const fn is_long(&self) -> bool {
        self.state.efer & EFER_LMA != 0
    }

    fn name(&self, address: u64) -> String {
        match self.symbols {
            Some(symbols) => symbols.describe(address),
            None => format!("{address:#x}"),
        }
    }

    /// The exception that came first.
    fn first(&self) -> Option<First> {
        let at = self.pc();
        let mut bytes = [0; 2];
        let len = self.read(at, &mut bytes);
        if len == 0 {
            let why = match self.linear().translate(LinearAddress(at), Access::Read) {
                Err(fault) => fault.to_string(),
                Ok(target) => format!("{target} is not RAM"),
            };
            return Some(First {
                vector: Vector::PAGE_FAULT,
                what: format!("the instruction cannot be read: {why}"),
            });
        }
        let by_instruction = |vector, what: &str| {
            Some(First {
                vector,
                what: what.to_owned(),
            })
        };
        match bytes {
            [0x0F, 0x0B | 0xB9 | 0xFF] => {
                return by_instruction(Vector::INVALID_OPCODE, "the instruction is UD");
            }
            [0xCC, _] => return by_instruction(Vector::BREAKPOINT, "the instruction is INT3"),
            [0xCD, vector] => return by_instruction(Vector(vector), "the instruction is INT"),
            _ => {}
        }
        if self.state.cr0 & CR0_PG == 0 {
            return None;
        }
        let at = self.state.cr2;
        let fault = self
            .linear()
            .translate(LinearAddress(at), Access::Write)
            .err()?;
        Some(First {
            vector: Vector::PAGE_FAULT,
            what: format!("access to {}: {fault}", self.name(at)),
        })
    }

    /// The address of the page fault that came first.
    fn fault_address(&self) -> u64 {
        match self.read(self.pc(), &mut [0]) {
            0 => self.pc(),
            _ => self.state.cr2,
        }
    }

    /// Reads bytes as far as they can be read; returns how many.
    fn read(&self, at: u64, buf: &mut [u8]) -> usize {
        let linear = self.linear();
        let lens = (1..=buf.len()).rev();
        let found = lens.into_iter().find(|&len| {
            let part = buf.get_mut(..len).unwrap_or_default();
            linear.read(LinearAddress(at), part).is_ok()
        });
        found.unwrap_or(0)
    }

    pub(crate) fn linear(&self) -> LinearMemory<'a, dyn GuestMemory + 'a> {
        let policy = PagingPolicy {
            address_bits: self.address_bits,
            is_amd: false,
            has_gib_pages: true,
            has_pse36: true,
        };
        LinearMemory::new(self.memory, &self.paging(), &policy)
    }

    fn paging(&self) -> PagingState {
        let s = self.state;
        PagingState {
            cr0: s.cr0,
            cr3: s.cr3,
            cr4: s.cr4 & !CR4_SMAP,
            efer: s.efer,
            rflags: s.rflags,
            pkru: 0,
        }
    }
}

/// Bytes in two hexadecimal digits each.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The longest instruction.
const INSTRUCTION_MAX: usize = 15;
const CR0_PG: u64 = 1 << 31;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
