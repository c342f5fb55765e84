//! Keys for the VMM instead of the guest: Ctrl-A and a second key, as in QEMU.

/// What a typed byte means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Key {
    /// The guest gets this byte.
    Send(u8),
    /// No effect: the first key of a sequence, or an unknown sequence.
    Nothing,
    /// End the guest.
    Quit,
    /// List the keys.
    Help,
}

/// The state of a sequence: whether Ctrl-A was typed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Escape {
    has_ctrl_a: bool,
}

impl Escape {
    /// Takes the next typed byte.
    pub(crate) fn feed(&mut self, byte: u8) -> Key {
        if !self.has_ctrl_a {
            self.has_ctrl_a = byte == CTRL_A;
            return if self.has_ctrl_a {
                Key::Nothing
            } else {
                Key::Send(byte)
            };
        }
        self.has_ctrl_a = false;
        match byte {
            b'x' | b'X' => Key::Quit,
            b'h' | b'H' | b'?' => Key::Help,
            b'a' | b'A' | CTRL_A => Key::Send(CTRL_A),
            _ => Key::Nothing,
        }
    }
}

/// The text that Ctrl-A H prints.
pub const HELP: &str = "\r\n\
    Ctrl-A H  this help\r\n\
    Ctrl-A X  end the virtual machine\r\n\
    Ctrl-A A  send Ctrl-A to the guest\r\n";

const CTRL_A: u8 = 0x01;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> Vec<Key> {
        let mut escape = Escape::default();
        bytes.iter().map(|&byte| escape.feed(byte)).collect()
    }

    #[test]
    fn every_byte_but_ctrl_a_goes_to_the_guest() {
        for byte in (0..=u8::MAX).filter(|&byte| byte != 0x01) {
            assert_eq!(typed(&[byte]), [Key::Send(byte)]);
        }
    }

    #[test]
    fn ctrl_a_x_quits_and_ctrl_a_h_helps() {
        assert_eq!(typed(b"\x01x"), [Key::Nothing, Key::Quit]);
        assert_eq!(typed(b"\x01X"), [Key::Nothing, Key::Quit]);
        assert_eq!(typed(b"\x01h"), [Key::Nothing, Key::Help]);
    }

    #[test]
    fn ctrl_a_twice_or_with_a_sends_one() {
        let sent = [Key::Nothing, Key::Send(1)];
        for sequence in [b"\x01\x01", b"\x01a", b"\x01A"] {
            assert_eq!(typed(sequence), sent);
        }
        assert_eq!(typed(b"\x01\x01x")[2], Key::Send(b'x'));
    }

    #[test]
    fn an_unknown_sequence_is_dropped_and_later_keys_are_sent() {
        assert_eq!(
            typed(b"\x01qx"),
            [Key::Nothing, Key::Nothing, Key::Send(b'x')]
        );
    }
}
