//! The I/O ports of a machine: which device answers where.

use std::io::Write;

use pvh_layout::ports::{
    COM1, COM1_LAST, I8042_COMMAND, I8042_DATA, PIT, PIT_LAST, PM1A_EVENT, PM1A_LAST, RTC_DATA,
    RTC_INDEX,
};
use vm_superio::I8042Device;

use crate::{
    power::{Latch, Pm1},
    print_port::PrintPort,
    rtc::Rtc,
    serial::SerialPort,
};

/// A request of the guest to the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "what a PC's ports can ask for")]
pub enum Request {
    /// Power off.
    PowerOff,
    /// Reboot.
    Reboot,
}

/// The I/O ports of the machine. `docs/devices.md` of the repository has a table of them.
///
/// A wide access is a sequence of byte accesses at consecutive ports, as on an 8-bit bus. Ports
/// without a device read as all ones and ignore writes, as for a PVH guest on Xen.
#[derive(Debug)]
pub struct Ports<W: Write> {
    com1: Com1<W>,
    keyboard: I8042Device<Latch>,
    power: Pm1,
    /// The plain platform has a clock; a Xen domain has none, as on Xen.
    rtc: Option<Rtc>,
}

/// The device at the ports of COM1.
#[derive(Debug)]
enum Com1<W: Write> {
    /// A UART with its interrupt.
    Uart(SerialPort<W>),
    /// No UART: no interrupt line reaches the guest.
    Print(PrintPort<W>),
}

impl<W: Write> Ports<W> {
    /// The devices of the plain platform after reset: a serial port and a clock beside power
    /// management and reset.
    pub fn new(serial: SerialPort<W>, rtc: Rtc) -> Self {
        Self::with(Com1::Uart(serial), Some(rtc))
    }

    /// The devices of a Xen domain after reset: power management and reset. What is written to the
    /// data port of COM1 goes to `output`; there is no UART, because a domain has no interrupt line,
    /// and no clock.
    pub fn of_domain(output: W) -> Self {
        Self::with(Com1::Print(PrintPort::new(output)), None)
    }

    fn with(com1: Com1<W>, rtc: Option<Rtc>) -> Self {
        Self {
            com1,
            keyboard: I8042Device::new(Latch::default()),
            power: Pm1::default(),
            rtc,
        }
    }

    /// Reads `data` at `port`, one byte at each port from there.
    pub fn read(&mut self, port: u16, data: &mut [u8]) {
        for (step, byte) in (0..).zip(data) {
            *byte = match port.checked_add(step) {
                Some(port) => self.read_byte(port),
                None => ALL_ONES,
            };
        }
    }

    /// Writes `data` at `port`, one byte at each port from there; returns the last request among
    /// its bytes.
    pub fn write(&mut self, port: u16, data: &[u8]) -> Option<Request> {
        let ports = (0..).map_while(|step| port.checked_add(step));
        let requests = ports
            .zip(data)
            .filter_map(|(port, &byte)| self.write_byte(port, byte));
        requests.last()
    }

    /// Offers console input to the serial port; returns how many bytes it took. A Xen domain has
    /// none, and takes none.
    pub fn enqueue_input(&mut self, bytes: &[u8]) -> usize {
        match &mut self.com1 {
            Com1::Uart(serial) => serial.enqueue(bytes),
            Com1::Print(_) => 0,
        }
    }

    fn read_byte(&mut self, port: u16) -> u8 {
        match port {
            COM1..=COM1_LAST => {
                let offset = offset(port, COM1);
                match &mut self.com1 {
                    Com1::Uart(serial) => serial.read(offset),
                    Com1::Print(_) => PrintPort::<W>::read(offset),
                }
            }
            I8042_DATA | I8042_COMMAND => self.keyboard.read(offset(port, I8042_DATA)),
            PM1A_EVENT..=PM1A_LAST => self.power.read(offset(port, PM1A_EVENT)),
            // Ports of the PIT, which KVM serves where the machine has one. Elsewhere they read 0:
            // from all ones Linux would conclude that the counter runs, and calibrate its TSC with
            // 100,000 reads.
            PIT..=PIT_LAST => 0,
            RTC_INDEX | RTC_DATA => match &mut self.rtc {
                Some(rtc) => rtc.read(offset(port, RTC_INDEX)),
                None => ALL_ONES,
            },
            _ => ALL_ONES,
        }
    }

    fn write_byte(&mut self, port: u16, byte: u8) -> Option<Request> {
        match port {
            COM1..=COM1_LAST => {
                let offset = offset(port, COM1);
                match &mut self.com1 {
                    Com1::Uart(serial) => serial.write(offset, byte),
                    Com1::Print(printing) => printing.write(offset, byte),
                }
            }
            I8042_DATA | I8042_COMMAND => {
                let Ok(()) = self.keyboard.write(offset(port, I8042_DATA), byte);
                return self.keyboard.reset_evt().take().then_some(Request::Reboot);
            }
            PM1A_EVENT..=PM1A_LAST => return self.power.write(offset(port, PM1A_EVENT), byte),
            RTC_INDEX | RTC_DATA => {
                if let Some(rtc) = &mut self.rtc {
                    rtc.write(offset(port, RTC_INDEX), byte);
                }
            }
            _ => {}
        }
        None
    }
}

/// Reads guest-physical memory without RAM or device: all ones.
///
/// Writes there are ignored. The only memory-mapped devices are the interrupt controllers, which
/// KVM serves itself.
pub fn read_unclaimed(data: &mut [u8]) {
    data.fill(ALL_ONES);
}

/// Offset of a port in its device; callers match the range first, so it is below 8.
fn offset(port: u16, first: u16) -> u8 {
    u8::try_from(port.saturating_sub(first)).unwrap_or(ALL_ONES)
}

const ALL_ONES: u8 = 0xFF;

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::*;
    use crate::{InputWanted, IrqLine};
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    /// Console output; clones share it.
    #[derive(Clone, Debug, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Board {
        ports: Ports<Output>,
        output: Output,
        line: EventFd,
        wanted: EventFd,
    }

    fn board() -> Board {
        let output = Output::default();
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let wanted = EventFd::new(EFD_NONBLOCK).unwrap();
        let serial = SerialPort::new(
            IrqLine(line.try_clone().unwrap()),
            InputWanted(wanted.try_clone().unwrap()),
            output.clone(),
        );
        let rtc = Rtc::with_clock(|| Duration::from_secs(1_796_050_678));
        Board {
            ports: Ports::new(serial, rtc),
            output,
            line,
            wanted,
        }
    }

    fn read<const N: usize>(ports: &mut Ports<Output>, port: u16) -> [u8; N] {
        let mut data = [0x5A; N];
        ports.read(port, &mut data);
        data
    }

    #[test]
    fn a_port_nobody_claims_reads_all_ones_and_drops_writes() {
        let mut domain = Ports::of_domain(Output::default());
        for ports in [&mut board().ports, &mut domain] {
            for port in [0x20, 0x61, 0x70, 0xCF8, 0x2F8, 0xFFFF] {
                assert_eq!(read::<1>(ports, port), [0xFF]);
                assert_eq!(ports.write(port, &[0xFE]), None);
            }
            assert_eq!(read::<4>(ports, 0xCFC), [0xFF; 4]);
        }
        assert_eq!(read::<1>(&mut domain, 0x71), [0xFF], "no clock");
    }

    #[test]
    fn a_domain_has_a_port_that_prints_and_no_uart() {
        let output = Output::default();
        let mut ports = Ports::of_domain(output.clone());
        for byte in b"hello" {
            assert_eq!(ports.write(0x3F8, &[*byte]), None);
        }
        assert_eq!(*output.0.lock().unwrap(), b"hello");
        assert_eq!(read::<1>(&mut ports, 0x3FD), [0x60]);
        assert_eq!(read::<1>(&mut ports, 0x3F9), [0xFF]);
        assert_eq!(ports.enqueue_input(b"x"), 0);
    }

    #[test]
    fn a_clock_that_is_there_shows_a_date_in_this_century() {
        let mut board = board();
        assert_eq!(board.ports.write(0x70, &[0x32]), None);
        assert_eq!(read::<1>(&mut board.ports, 0x71), [0x20]);
        assert_eq!(board.ports.write(0x70, &[0x0A]), None);
        assert_eq!(read::<2>(&mut board.ports, 0x70), [0xFF, 0x26]);
    }

    #[test]
    fn a_timer_that_is_not_there_does_not_seem_to_run() {
        let mut board = board();
        assert_eq!(read::<4>(&mut board.ports, 0x40), [0; 4]);
        assert_eq!(read::<1>(&mut board.ports, 0x61), [0xFF]);
    }

    #[test]
    fn an_access_past_the_last_port_wraps_nowhere() {
        let mut board = board();
        assert_eq!(read::<4>(&mut board.ports, 0xFFFE), [0xFF; 4]);
        assert_eq!(board.ports.write(0xFFFF, &[0, 0, 0, 0]), None);
    }

    #[test]
    fn bytes_written_to_com1_are_console_output() {
        let mut board = board();
        for byte in b"hello" {
            assert_eq!(board.ports.write(0x3F8, &[*byte]), None);
        }
        assert_eq!(*board.output.0.lock().unwrap(), b"hello");
    }

    #[test]
    fn com1_reads_its_line_status_as_ready_to_send() {
        let mut board = board();
        assert_eq!(read::<1>(&mut board.ports, 0x3FD), [0x60]);
    }

    #[test]
    fn input_raises_line_4_when_the_guest_wants_it_and_is_read_in_order() {
        let mut board = board();
        assert_eq!(board.ports.write(0x3F9, &[1]), None);
        assert_eq!(board.ports.enqueue_input(b"ok"), 2);
        assert_eq!(board.line.read().unwrap(), 1);
        assert_eq!(board.ports.enqueue_input(&[b'x'; 63]), 62);
        assert_eq!(read::<1>(&mut board.ports, 0x3F8), [b'o']);
        let rest = [(); 62].map(|()| read::<1>(&mut board.ports, 0x3F8)[0]);
        assert_eq!((rest[0], rest[61]), (b'k', b'x'));
        assert!(board.wanted.read().is_err(), "one byte is still there");
        assert_eq!(read::<1>(&mut board.ports, 0x3F8), [b'x']);
        assert_eq!(board.wanted.read().unwrap(), 1);
    }

    #[test]
    fn a_guest_wakes_the_event_loop_once_for_each_refusal_of_input() {
        let mut board = board();
        for _ in 0..100 {
            // Reads of the empty FIFO, and loopback mode on and off.
            read::<1>(&mut board.ports, 0x3F8);
            board.ports.write(0x3FC, &[0x10]);
            board.ports.write(0x3FC, &[0]);
        }
        assert!(board.wanted.read().is_err(), "no input was refused");
        board.ports.write(0x3FC, &[0x10]);
        assert_eq!(board.ports.enqueue_input(b"x"), 0);
        for _ in 0..100 {
            board.ports.write(0x3FC, &[0]);
            board.ports.write(0x3FC, &[0x10]);
        }
        assert_eq!(board.wanted.read().unwrap(), 1);
    }

    #[test]
    fn a_full_fifo_takes_no_more_input() {
        let mut board = board();
        assert_eq!(board.ports.enqueue_input(&[b'x'; 100]), 64);
        assert_eq!(board.ports.enqueue_input(b"y"), 0);
    }

    #[test]
    fn leaving_loopback_asks_for_the_input_that_was_held() {
        let mut board = board();
        board.ports.write(0x3FC, &[0x10]);
        let _ = board.wanted.read();
        assert_eq!(board.ports.enqueue_input(b"x"), 0);
        board.ports.write(0x3FC, &[0x08]);
        assert_eq!(board.wanted.read().unwrap(), 1);
        assert_eq!(board.ports.enqueue_input(b"x"), 1);
    }

    #[test]
    fn the_keyboard_controllers_reset_command_reboots() {
        let mut board = board();
        assert_eq!(board.ports.write(0x64, &[0xFE]), Some(Request::Reboot));
        assert_eq!(board.ports.write(0x64, &[0xD1]), None);
        assert_eq!(board.ports.write(0x60, &[0xFE]), None);
        assert_eq!(read::<1>(&mut board.ports, 0x64), [0]);
    }

    #[test]
    fn pm1_events_can_be_enabled_and_never_happen() {
        let mut board = board();
        assert_eq!(board.ports.write(0x602, &[0x20, 0x01]), None);
        assert_eq!(board.ports.write(0x600, &[0xFF, 0xFF]), None);
        assert_eq!(read::<4>(&mut board.ports, 0x600), [0, 0, 0x20, 0x01]);
    }

    #[test]
    fn acpi_mode_is_on() {
        let mut board = board();
        assert_eq!(read::<2>(&mut board.ports, 0x604), [1, 0]);
    }

    #[test]
    fn pm1a_control_with_sleep_enable_powers_off() {
        let mut board = board();
        // SLP_TYP 5 in bits 10 to 12, SLP_EN bit 13, little endian.
        assert_eq!(
            board.ports.write(0x604, &[0x00, 0x34]),
            Some(Request::PowerOff)
        );
        assert_eq!(board.ports.write(0x604, &[0x01, 0x00]), None);
    }

    #[test]
    fn unclaimed_memory_reads_all_ones() {
        let mut data = [0; 8];
        read_unclaimed(&mut data);
        assert_eq!(data, [0xFF; 8]);
    }
}
