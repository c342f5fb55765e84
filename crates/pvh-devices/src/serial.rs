//! The first serial port, COM1: a 16550 connected to the console.

use std::{
    cell::Cell,
    io::{self, Write},
};

use vm_superio::{Serial, Trigger, serial::SerialEvents};
use vmm_sys_util::eventfd::EventFd;

/// An edge-triggered interrupt line: an event descriptor that KVM watches.
#[derive(Debug)]
pub struct IrqLine(pub EventFd);

impl Trigger for IrqLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Tells the event loop that the guest has room for more input.
#[derive(Debug)]
pub struct InputWanted(pub EventFd);

/// Takes the reports of the 16550.
#[derive(Debug)]
struct InputEvents {
    wanted: InputWanted,
    /// Input was refused since the event loop was told last. Without it, a guest that reads an
    /// empty FIFO or leaves loopback mode again and again wakes nobody.
    has_refused: Cell<bool>,
}

impl InputEvents {
    /// Tells the event loop, once for each refusal.
    fn signal(&self) {
        if self.has_refused.replace(false) {
            // It fails only if the counter is full: then the event loop has been told already.
            let _ = self.wanted.0.write(1);
        }
    }
}

impl SerialEvents for InputEvents {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        self.signal();
    }
}

/// A 16550: its output goes to a writer, its input comes from [`enqueue`](Self::enqueue).
#[derive(Debug)]
pub struct SerialPort<W: Write>(Serial<IrqLine, InputEvents, W>);

impl<W: Write> SerialPort<W> {
    /// A port after reset, whose output goes to `output`. A byte that `output` refuses is lost, as
    /// on an unplugged line.
    pub fn new(line: IrqLine, wanted: InputWanted, output: W) -> Self {
        let events = InputEvents {
            wanted,
            has_refused: Cell::new(false),
        };
        Self(Serial::with_events(line, events, output))
    }

    /// Reads the register at `offset`.
    pub fn read(&mut self, offset: u8) -> u8 {
        self.0.read(offset)
    }

    /// Writes the register at `offset`.
    pub fn write(&mut self, offset: u8, byte: u8) {
        // Output that is refused is lost, and an interrupt whose counter is full is pending
        // already.
        let _ = self.0.write(offset, byte);
        if offset == MODEM_CONTROL {
            // In loopback mode the port refuses input. Nothing else reports the end of that mode.
            self.0.events().signal();
        }
    }

    /// Offers input; returns how many bytes were taken. If that is not all, [`InputWanted`] tells
    /// once when to offer the rest.
    pub fn enqueue(&mut self, bytes: &[u8]) -> usize {
        let room = self.0.fifo_capacity().min(bytes.len());
        let offered = bytes.get(..room).unwrap_or_default();
        // The FIFO has room; see `write` for the interrupt. Bytes are in the FIFO even if the
        // interrupt failed.
        let taken = self.0.enqueue_raw_bytes(offered).unwrap_or(room);
        if taken < bytes.len() {
            self.0.events().has_refused.set(true);
        }
        taken
    }
}

/// Offset of the modem control register.
const MODEM_CONTROL: u8 = 4;
