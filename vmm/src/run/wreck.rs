//! What is left of a machine that crashed: its memory and registers, explained and written.

use std::{path::Path, sync::Arc};

use pvh_abi::sched::ShutdownReason;
use pvh_crash::{CoreDump, ElfBytes, Scene, Symbols, explain};
use pvh_entry::EntryState;
use pvh_kvm::{Crash, Failure, GuestRam};
use pvh_loader::Image;
use pvh_terminal::GuestLog;

use crate::{
    exit::sentence,
    machine::{Board, End},
};

/// A machine whose threads have ended.
pub(super) struct Wreck {
    pub(super) ram: Arc<GuestRam>,
    pub(super) board: Arc<Board>,
    pub(super) address_bits: u8,
}

/// The bytes of a kernel.
struct Kernel<'a>(&'a Image);

impl ElfBytes for Kernel<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> bool {
        self.0.read_at(offset, buf).is_ok()
    }
}

impl Wreck {
    /// Adds the explanation to a crash, if this is one, and writes the core, if it is wanted.
    pub(super) fn examine(
        &self,
        end: &mut End,
        kernel: &Image,
        core: Option<&Path>,
        log: &GuestLog,
    ) {
        let crash = match end {
            End::TripleFault(crash) | End::Crash(crash) => Some(crash),
            End::Shutdown(ShutdownReason::CRASH | ShutdownReason::WATCHDOG) => None,
            _ => return,
        };
        let first = crash.as_ref().and_then(|crash| {
            let registers = crash.registers.as_ref()?;
            Some((crash.vcpu, registers.state))
        });
        if let Some(crash) = crash {
            self.explain(crash, kernel);
        }
        if let Some(path) = core {
            log.say(&self.dump(first, path));
        }
    }

    fn explain(&self, crash: &mut Crash, kernel: &Image) {
        let Some(registers) = &crash.registers else {
            return;
        };
        let symbols = Symbols::read(&Kernel(kernel));
        let scene = Scene {
            state: &registers.state,
            memory: &*self.ram,
            symbols: symbols.as_ref(),
            address_bits: self.address_bits,
            is_triple_fault: matches!(crash.failure, Failure::TripleFault),
        };
        crash.explanation = Some(explain(&scene));
    }

    /// Writes the core; returns the line that says so.
    fn dump(&self, first: Option<(u32, EntryState)>, path: &Path) -> String {
        let mut vcpus: Vec<_> = first.into_iter().collect();
        let others = self.board.take_registers().into_iter();
        vcpus.extend(others.filter(|(vcpu, _)| first.is_none_or(|(first, _)| first != *vcpu)));
        let ranges = self.ram.ram_ranges();
        let ram: Vec<_> = ranges
            .iter()
            .map(|range| (range.start, range.len_bytes))
            .collect();
        let dump = CoreDump {
            ram: &ram,
            memory: &*self.ram,
            vcpus: &vcpus,
        };
        let name = path.display();
        match dump.write_file(path) {
            Ok(dumped) => format!(
                "{name}: the core of the guest, {} MiB of which {} are in use",
                dumped.len_bytes >> 20,
                dumped.written_bytes.div_ceil(1 << 20)
            ),
            Err(error) => format!("{name}: {}", sentence(&error, None::<&str>)),
        }
    }
}
