//! The breakpoints that gdb has set: INT3 in guest memory, and the four debug registers.

use std::sync::Arc;

use pvh_abi::Gpa;
use pvh_memory::GuestMemory;

use crate::{
    machine::{HARDWARE_TRAPS, HardwareTrap, TrapAccess, Traps},
    view::View,
};

/// The breakpoints of one gdb, at most [`SOFTWARE_MAX`] and four.
#[derive(Debug, Default)]
pub(crate) struct Breakpoints {
    software: Vec<Software>,
    hardware: [Option<Hardware>; HARDWARE_TRAPS],
}

/// A byte of the guest that was replaced by INT3.
#[derive(Clone, Copy, Debug)]
struct Software {
    at: u64,
    /// Where the byte is: the guest may map something else at its address later.
    target: Gpa,
    byte: u8,
}

#[derive(Clone, Copy, Debug)]
struct Hardware {
    trap: HardwareTrap,
    /// gdb asked for a software breakpoint at an address that was not mapped yet.
    is_for_software: bool,
}

impl Breakpoints {
    /// Sets a software breakpoint. Where the guest has no memory at that address yet, for example a
    /// kernel's virtual address before paging, a debug register takes its place.
    pub(crate) fn add_software(&mut self, view: &View<'_>, at: u64) -> bool {
        if self.software.iter().any(|known| known.at == at) {
            return true;
        }
        if self.software.len() >= SOFTWARE_MAX {
            return false;
        }
        let mut byte = [0];
        let target = view.translate(at).ok();
        let target = target.filter(|_| view.read(at, &mut byte) == 1);
        let Some(target) = target.filter(|_| view.write(at, &[INT3]).is_ok()) else {
            return self.add_hardware(HardwareTrap::execute(at), true);
        };
        let [byte] = byte;
        self.software.push(Software { at, target, byte });
        true
    }

    /// Removes a software breakpoint; returns whether there was one.
    pub(crate) fn remove_software(&mut self, memory: &dyn GuestMemory, at: u64) -> bool {
        let Some(index) = self.software.iter().position(|known| known.at == at) else {
            return self.remove_hardware(HardwareTrap::execute(at), true);
        };
        self.software.swap_remove(index).restore(memory);
        true
    }

    /// Sets a hardware breakpoint or watchpoint; returns whether a debug register could take it.
    pub(crate) fn add_hardware(&mut self, trap: HardwareTrap, is_for_software: bool) -> bool {
        let new = Hardware {
            trap,
            is_for_software,
        };
        if self.position(trap, is_for_software).is_some() {
            return true;
        }
        let free = self.hardware.iter_mut().find(|slot| slot.is_none());
        let free = free.filter(|_| trap.is_possible());
        free.map(|slot| *slot = Some(new)).is_some()
    }

    /// Removes a hardware breakpoint or watchpoint; returns whether there was one.
    pub(crate) fn remove_hardware(&mut self, trap: HardwareTrap, is_for_software: bool) -> bool {
        let found = self.position(trap, is_for_software);
        let slot = found.and_then(|index| self.hardware.get_mut(index));
        slot.and_then(Option::take).is_some()
    }

    /// Removes all breakpoints, and gives the guest its bytes back.
    pub(crate) fn clear(&mut self, memory: &dyn GuestMemory) {
        self.software
            .drain(..)
            .for_each(|known| known.restore(memory));
        self.hardware = Default::default();
    }

    /// Returns what the vCPUs have to watch.
    pub(crate) fn traps(&self) -> Arc<Traps> {
        Arc::new(Traps {
            hardware: self.hardware.map(|slot| slot.map(|slot| slot.trap)),
            software: self.software.iter().map(|known| known.at).collect(),
        })
    }

    /// Returns what debug register `number` watches, and whether it stands for a software
    /// breakpoint.
    pub(crate) fn hardware(&self, number: usize) -> Option<(HardwareTrap, bool)> {
        let slot = self.hardware.get(number)?.as_ref()?;
        Some((slot.trap, slot.is_for_software))
    }

    fn position(&self, trap: HardwareTrap, is_for_software: bool) -> Option<usize> {
        self.hardware.iter().position(|slot| {
            slot.is_some_and(|slot| slot.trap == trap && slot.is_for_software == is_for_software)
        })
    }
}

impl HardwareTrap {
    /// A trap on the execution of the instruction at a linear address.
    #[must_use]
    pub const fn execute(at: u64) -> Self {
        Self {
            at,
            len_bytes: 1,
            access: TrapAccess::Execute,
        }
    }
}

impl Software {
    /// Gives the guest its byte back, unless the guest has overwritten the INT3.
    fn restore(self, memory: &dyn GuestMemory) {
        let mut byte = [0];
        if memory.read(self.target, &mut byte).is_ok() && byte == [INT3] {
            // It was RAM when the breakpoint was set; memory that is gone needs no byte.
            let _ = memory.write(self.target, &[self.byte]);
        }
    }
}

const INT3: u8 = 0xCC;
/// gdb sets a few; a client that sets more is refused.
const SOFTWARE_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use pvh_entry::EntryState;
    use pvh_memory::VecMemory;

    use super::*;

    fn memory() -> VecMemory {
        let memory = VecMemory::zeroed(&[(Gpa(0), 0x4000)]).unwrap();
        memory.write(Gpa(0x1000), &[0x90; 16]).unwrap();
        memory
    }

    fn byte(memory: &VecMemory, at: u64) -> u8 {
        let mut byte = [0];
        memory.read(Gpa(at), &mut byte).unwrap();
        byte[0]
    }

    fn unpaged() -> EntryState {
        EntryState::pvh(0x1000, Gpa(0x2000)).unwrap()
    }

    #[test]
    fn a_software_breakpoint_gives_its_byte_back() {
        let memory = memory();
        let mut breakpoints = Breakpoints::default();
        let view = View::new(&memory, &unpaged(), 36);
        assert!(breakpoints.add_software(&view, 0x1004));
        assert!(breakpoints.add_software(&view, 0x1004), "twice is once");
        assert_eq!(byte(&memory, 0x1004), 0xCC);
        assert_eq!(breakpoints.traps().software, [0x1004]);
        assert!(breakpoints.remove_software(&memory, 0x1004));
        assert_eq!(byte(&memory, 0x1004), 0x90);
        assert!(!breakpoints.remove_software(&memory, 0x1004));
    }

    #[test]
    fn a_byte_that_the_guest_has_overwritten_stays() {
        let memory = memory();
        let mut breakpoints = Breakpoints::default();
        breakpoints.add_software(&View::new(&memory, &unpaged(), 36), 0x1004);
        memory.write(Gpa(0x1004), &[0xC3]).unwrap();
        breakpoints.clear(&memory);
        assert_eq!(byte(&memory, 0x1004), 0xC3);
    }

    #[test]
    fn an_address_without_memory_takes_a_debug_register() {
        let memory = memory();
        let mut breakpoints = Breakpoints::default();
        let view = View::new(&memory, &unpaged(), 36);
        let kernel = 0xFFFF_FFFF_8100_0000;
        assert!(breakpoints.add_software(&view, kernel));
        let traps = breakpoints.traps();
        assert_eq!(traps.hardware[0], Some(HardwareTrap::execute(kernel)));
        assert!(traps.software.is_empty());
        assert!(breakpoints.hardware(0).unwrap().1);
        assert!(breakpoints.remove_software(&memory, kernel));
        assert_eq!(breakpoints.traps(), Arc::default());
    }

    #[test]
    fn there_are_four_debug_registers_and_1024_software_breakpoints() {
        let memory = memory();
        let mut breakpoints = Breakpoints::default();
        let added = (0..5).map(|at| breakpoints.add_hardware(HardwareTrap::execute(at), false));
        assert_eq!(added.collect::<Vec<_>>(), [true, true, true, true, false]);
        let view = View::new(&memory, &unpaged(), 36);
        let added = (0..1025).filter(|at| breakpoints.add_software(&view, 0x1000 + at));
        assert_eq!(added.count(), 1024);
    }
}
