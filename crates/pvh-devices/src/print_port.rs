//! A port that prints, at the address of COM1: what a Xen domain has in place of a UART.

use std::io::Write;

/// Prints each byte that is written to the data register of COM1, and is no UART.
///
/// No interrupt line reaches a Xen domain, so a UART there would be half a device: a driver would
/// wait for its interrupt for ever. A driver that looks for a UART finds none here, because the
/// interrupt-enable register reads all ones, as all of COM1 does on Xen. A guest that prints
/// without a look is served: the line status says that the transmitter is empty and that nothing
/// was received.
///
/// It costs one write of a byte per access, waits only if that write does, and grows nothing.
#[derive(Debug)]
pub(crate) struct PrintPort<W> {
    output: W,
    /// The data register is a divisor's low byte.
    is_divisor: bool,
    /// The guest has turned on loopback: its bytes come back to it and are not printed.
    is_loop: bool,
}

impl<W: Write> PrintPort<W> {
    /// A port whose bytes go to `output`; a byte that `output` refuses is lost.
    pub(crate) const fn new(output: W) -> Self {
        Self {
            output,
            is_divisor: false,
            is_loop: false,
        }
    }

    /// Reads the register at `offset`.
    pub(crate) const fn read(offset: u8) -> u8 {
        match offset {
            LINE_STATUS => TRANSMITTER_EMPTY,
            _ => 0xFF,
        }
    }

    /// Writes the register at `offset`.
    pub(crate) fn write(&mut self, offset: u8, byte: u8) {
        match offset {
            DATA if !self.is_divisor && !self.is_loop => {
                // A byte that is refused is lost, as on an unplugged line.
                let _ = self.output.write_all(&[byte]);
            }
            LINE_CONTROL => self.is_divisor = byte & DIVISOR_LATCH != 0,
            MODEM_CONTROL => self.is_loop = byte & LOOP != 0,
            _ => {}
        }
    }
}

const DATA: u8 = 0;
const LINE_CONTROL: u8 = 3;
const MODEM_CONTROL: u8 = 4;
const LINE_STATUS: u8 = 5;

/// Bit 7 of line control: the data register is a divisor.
const DIVISOR_LATCH: u8 = 1 << 7;
/// Bit 4 of modem control.
const LOOP: u8 = 1 << 4;
/// Bits 5 and 6 of line status: the holding register and the shift register are empty.
const TRANSMITTER_EMPTY: u8 = 0x60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_data_is_printed_and_a_divisor_is_not() {
        let mut printed = Vec::new();
        let mut port = PrintPort::new(&mut printed);
        // As a guest sets 115200 baud: DLAB, divisor 1, 8 bits.
        for (offset, byte) in [(3, 0x80), (0, 1), (1, 0), (3, 0x03), (0, b'h'), (0, b'i')] {
            port.write(offset, byte);
        }
        port.write(4, 0x1B);
        port.write(0, b'x');
        port.write(4, 0x0B);
        port.write(0, b'!');
        assert_eq!(printed, b"hi!");
    }

    /// A driver's look: interrupt enable and scratch keep what is written into a UART.
    #[test]
    fn a_driver_finds_no_uart_and_a_polling_guest_may_print() {
        let mut port = PrintPort::new(Vec::<u8>::new());
        for offset in [1, 7] {
            for byte in [0, 0x0F, 0x5A] {
                port.write(offset, byte);
                assert_eq!(PrintPort::<Vec<u8>>::read(offset), 0xFF);
            }
        }
        assert_eq!(PrintPort::<Vec<u8>>::read(5), 0x60);
        assert!(port.output.is_empty());
    }
}
