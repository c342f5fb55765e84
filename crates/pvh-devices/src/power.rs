//! ACPI's power registers, and a latch that remembers an interrupt.

use std::{cell::Cell, convert::Infallible};

use vm_superio::Trigger;

use crate::ports::Request;

/// Remembers that a device triggered its interrupt, until [`Latch::take`].
#[derive(Debug, Default)]
pub(crate) struct Latch(Cell<bool>);

impl Latch {
    /// Tells whether the interrupt was triggered since the last call.
    pub(crate) fn take(&self) -> bool {
        self.0.take()
    }
}

impl Trigger for Latch {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// ACPI's PM1a event and control blocks (ACPI 6.5, 4.8.3.1 and 4.8.3.2), 6 contiguous bytes.
///
/// No event ever happens, so the status is 0. The enable bits read back as written: an OS would
/// treat other hardware as broken. ACPI mode is always on.
#[derive(Debug, Default)]
pub(crate) struct Pm1 {
    enable: [u8; 2],
}

impl Pm1 {
    /// Reads the byte at `offset`.
    pub(crate) const fn read(&self, offset: u8) -> u8 {
        let [low, high] = self.enable;
        match offset {
            2 => low,
            3 => high,
            4 => SCI_ENABLE,
            _ => 0,
        }
    }

    /// Writes the byte at `offset`; sleep enable powers off, the only sleep state that is declared.
    pub(crate) fn write(&mut self, offset: u8, byte: u8) -> Option<Request> {
        let [low, high] = &mut self.enable;
        match offset {
            2 => *low = byte,
            3 => *high = byte,
            5 if byte & SLEEP_ENABLE != 0 => return Some(Request::PowerOff),
            _ => {}
        }
        None
    }
}

/// `SCI_EN`, bit 0 of PM1 control: ACPI mode.
const SCI_ENABLE: u8 = 1;
/// `SLP_EN`: bit 13 of PM1 control, bit 5 of its upper byte; the sleep type is ignored.
const SLEEP_ENABLE: u8 = 1 << 5;
