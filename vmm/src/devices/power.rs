use std::{cell::Cell, convert::Infallible};

use vm_superio::Trigger;

use super::Request;

/// Remembers that a device pulled its line, until it is taken.
#[derive(Debug, Default)]
pub(crate) struct Latch(Cell<bool>);

impl Latch {
    /// Tells whether the line was pulled since the last call.
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

/// ACPI's sleep control register (ACPI 6.5, 4.8.3.7), which is also the upper byte of PM1a control.
#[derive(Debug)]
pub(crate) struct SleepControl;

impl SleepControl {
    /// What control and status read as: awake, nothing pending.
    pub(crate) const READS_AS: u8 = 0;

    /// Takes a write; sleep enable means power off, since no other sleep state is declared.
    #[expect(
        clippy::unused_self,
        reason = "a device is written to, even one without state"
    )]
    pub(crate) fn write(&self, byte: u8) -> Option<Request> {
        (byte & SLEEP_ENABLE != 0).then_some(Request::PowerOff)
    }
}

/// `SLP_EN`; the sleep type in bits 2 to 4 is not looked at.
const SLEEP_ENABLE: u8 = 1 << 5;
