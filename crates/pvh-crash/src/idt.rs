//! What a processor would do to deliver an exception: the entry of the interrupt table, the stack.

use std::fmt;

use pvh_memory::{Access, LinearAddress};

use crate::explain::Scene;

/// An exception that a processor can have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Vector(pub(crate) u8);

impl Vector {
    pub(crate) const BREAKPOINT: Self = Self(3);
    pub(crate) const INVALID_OPCODE: Self = Self(6);
    pub(crate) const DOUBLE_FAULT: Self = Self(8);
    pub(crate) const PAGE_FAULT: Self = Self(14);
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "divide error #DE",
            1 => "debug exception #DB",
            3 => "breakpoint #BP",
            6 => "invalid opcode #UD",
            8 => "double fault #DF",
            11 => "segment not present #NP",
            12 => "stack fault #SS",
            13 => "general protection fault #GP",
            14 => "page fault #PF",
            other => return write!(f, "exception {other}"),
        };
        f.write_str(name)
    }
}

/// An entry of the interrupt table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Gate {
    pub(crate) selector: u16,
    pub(crate) handler: u64,
    pub(crate) kind: u8,
    pub(crate) is_present: bool,
    /// Which stack of the task segment it uses; 0 for none.
    pub(crate) stack: u8,
}

/// Why an exception cannot be delivered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Obstacle {
    /// The table ends before the entry.
    PastLimit { limit: u16 },
    /// The entry is in no memory.
    NoTable { at: u64, why: String },
    /// The entry is no gate.
    NoGate { at: u64, gate: Gate },
    /// The entry is not present.
    NotPresent { at: u64 },
    /// The stack for the frame is in no memory.
    NoStack { at: u64, why: String },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PastLimit { limit } => write!(f, "the IDT has no such entry (limit {limit:#x})"),
            Self::NoTable { at, why } => write!(f, "its IDT entry at {at:#x} is not there: {why}"),
            Self::NoGate { at, gate } => write!(
                f,
                "its IDT entry at {at:#x} is no interrupt or trap gate (type {:#x})",
                gate.kind
            ),
            Self::NotPresent { at } => write!(f, "its IDT entry at {at:#x} is not present"),
            Self::NoStack { at, why } => {
                write!(f, "its frame has no stack at {at:#x}: {why}")
            }
        }
    }
}

impl Scene<'_> {
    /// Looks whether an exception could be delivered now; returns its gate.
    pub(crate) fn deliver(&self, vector: Vector) -> Result<Gate, Obstacle> {
        let idt = self.state.idtr;
        let size = if self.is_long() { 16_u64 } else { 8 };
        let offset = size.saturating_mul(vector.0.into());
        let last = offset.saturating_add(size).saturating_sub(1);
        if last > u64::from(idt.limit) {
            return Err(Obstacle::PastLimit { limit: idt.limit });
        }
        let at = idt.base.wrapping_add(offset);
        let mut bytes = [0; 16];
        let place = bytes.get_mut(..usize::try_from(size).unwrap_or(0));
        let read = self
            .linear()
            .read(LinearAddress(at), place.unwrap_or_default());
        read.map_err(|fault| Obstacle::NoTable {
            at,
            why: fault.to_string(),
        })?;
        let gate = Gate::parse(bytes, self.is_long());
        // 32-bit and 64-bit interrupt and trap gates, and 16-bit ones of a 32-bit table.
        let is_gate =
            matches!(gate.kind, 0xE | 0xF) || !self.is_long() && matches!(gate.kind, 5..=7);
        match (is_gate, gate.is_present) {
            (false, _) => return Err(Obstacle::NoGate { at, gate }),
            (true, false) => return Err(Obstacle::NotPresent { at }),
            (true, true) => {}
        }
        self.check_stack(gate)?;
        Ok(gate)
    }

    /// Looks whether the frame of an exception has memory. A stack of the task segment is taken
    /// where the gate names one.
    fn check_stack(&self, gate: Gate) -> Result<(), Obstacle> {
        let mut top = self.state.rsp;
        if gate.stack != 0 && self.is_long() {
            let slot = u64::from(gate.stack).saturating_mul(8).saturating_add(0x1C);
            let mut bytes = [0; 8];
            let from = LinearAddress(self.state.tr.base.wrapping_add(slot));
            let read = self.linear().read(from, &mut bytes);
            read.map_err(|fault| Obstacle::NoStack {
                at: from.0,
                why: fault.to_string(),
            })?;
            top = u64::from_le_bytes(bytes);
        }
        let width = if self.is_long() { 8 } else { 4 };
        let base = if self.is_long() {
            0
        } else {
            self.state.ss.base
        };
        let at = base.wrapping_add(top).wrapping_sub(width);
        let target = self.linear().translate(LinearAddress(at), Access::Write);
        let target = target.map_err(|fault| Obstacle::NoStack {
            at,
            why: fault.to_string(),
        })?;
        match self.memory.is_ram(target, width) {
            true => Ok(()),
            false => Err(Obstacle::NoStack {
                at,
                why: format!("{target} is not RAM"),
            }),
        }
    }
}

impl Gate {
    const fn parse(bytes: [u8; 16], is_long: bool) -> Self {
        let [a, b, s0, s1, stack, kind, c, d, e, f, g, h, ..] = bytes;
        let handler = if is_long {
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        } else {
            u64::from_le_bytes([a, b, c, d, 0, 0, 0, 0])
        };
        Self {
            selector: u16::from_le_bytes([s0, s1]),
            handler,
            kind: kind & 0xF,
            is_present: kind & 0x80 != 0,
            stack: stack & 7,
        }
    }
}
