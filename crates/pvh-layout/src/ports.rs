//! I/O ports and interrupt lines of the machine that the ACPI tables of [`Layout`](crate::Layout)
//! describe.
//!
//! Ports of the Xen platform are named where they are served: hypercalls by port in pvh-hypercall,
//! the debug console in pvh-xen.

/// First port of the first serial port, as on a PC.
pub const COM1: u16 = 0x3F8;

/// Last port of the first serial port.
pub const COM1_LAST: u16 = 0x3FF;

/// Interrupt line (GSI) of the first serial port.
pub const COM1_GSI: u32 = 4;

/// Data port of the keyboard controller.
pub const I8042_DATA: u16 = 0x60;

/// Command port of the keyboard controller; the FADT's reset register.
pub const I8042_COMMAND: u16 = 0x64;

/// Keyboard controller command that resets the processor; the FADT's reset value.
pub const RESET_CPU: u8 = 0xFE;

/// ACPI PM1a event block: the status register, then the enable register, 2 bytes each.
pub const PM1A_EVENT: u16 = 0x600;

/// ACPI PM1a control register, 2 bytes.
pub const PM1A_CONTROL: u16 = 0x604;

/// Last port of the PM1a control register.
pub const PM1A_LAST: u16 = 0x605;

/// First port of the programmable interval timer.
pub const PIT: u16 = 0x40;

/// Last port of the programmable interval timer.
pub const PIT_LAST: u16 = 0x43;

/// Index port of the real-time clock and its memory.
pub const RTC_INDEX: u16 = 0x70;

/// Data port of the real-time clock.
pub const RTC_DATA: u16 = 0x71;

/// The clock's register for the century, as the FADT names it.
pub const RTC_CENTURY: u8 = 0x32;

#[cfg(test)]
mod tests {
    use super::*;

    /// PM1_EVT_LEN is 4 and PM1_CNT_LEN is 2 in the FADT; a 16550 has 8 registers; an 8254 has 4.
    #[test]
    fn each_device_has_as_many_ports_as_registers() {
        assert_eq!(PM1A_CONTROL - PM1A_EVENT, 4);
        assert_eq!(PM1A_LAST - PM1A_CONTROL + 1, 2);
        assert_eq!(COM1_LAST - COM1 + 1, 8);
        assert_eq!(PIT_LAST - PIT + 1, 4);
    }

    #[test]
    fn the_ports_are_those_of_a_pc() {
        assert_eq!((COM1, COM1_GSI), (0x3F8, 4));
        assert_eq!((I8042_DATA, I8042_COMMAND, RESET_CPU), (0x60, 0x64, 0xFE));
        assert_eq!((PIT, PM1A_EVENT), (0x40, 0x600));
        assert_eq!((RTC_INDEX, RTC_DATA, RTC_CENTURY), (0x70, 0x71, 0x32));
    }
}
