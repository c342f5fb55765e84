//! Typed bytes on their way to the guest.

use std::collections::VecDeque;

use crate::escape::{Escape, Key};

/// A command of the user to the VMM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a program has to handle every key")]
pub enum Command {
    /// End the guest.
    Quit,
    /// List the keys.
    Help,
}

/// Bytes read from standard input that the guest has not taken yet.
///
/// From a terminal, the VMM takes out its own keys. It must look at every key even while the guest
/// takes none, so keys beyond the limit are dropped, as a serial line drops them. From a file or a
/// pipe every byte goes to the guest, and bytes beyond the limit stay unread:
/// [`Input::wants_more`].
#[derive(Debug)]
pub struct Input {
    escape: Option<Escape>,
    backlog: VecDeque<u8>,
}

impl Input {
    /// Input from a terminal, or from a file or pipe.
    #[must_use]
    pub fn new(from_terminal: bool) -> Self {
        Self {
            escape: from_terminal.then(Escape::default),
            backlog: VecDeque::new(),
        }
    }

    /// Tells whether to read more now.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.escape.is_some() || self.backlog.is_empty()
    }

    /// Takes bytes that were read; returns a command among them. Bytes after a `Quit` are dropped.
    pub fn receive(&mut self, bytes: &[u8]) -> Option<Command> {
        let mut command = None;
        for &byte in bytes {
            match self
                .escape
                .as_mut()
                .map_or(Key::Send(byte), |escape| escape.feed(byte))
            {
                Key::Send(byte) if self.backlog.len() < BACKLOG_LIMIT_BYTES => {
                    self.backlog.push_back(byte)
                }
                Key::Send(_) | Key::Nothing => {}
                Key::Help => command = Some(Command::Help),
                Key::Quit => return Some(Command::Quit),
            }
        }
        command
    }

    /// Offers all waiting bytes to `take`, which returns how many it took.
    pub fn deliver(&mut self, mut take: impl FnMut(&[u8]) -> usize) {
        let taken = take(self.backlog.make_contiguous());
        self.backlog.drain(..taken.min(self.backlog.len()));
    }
}

/// The most bytes kept for a guest that does not read; a pipe is read 4 KiB at a time.
const BACKLOG_LIMIT_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(input: &mut Input, room: usize) -> Vec<u8> {
        let mut out = Vec::new();
        input.deliver(|bytes| {
            let count = bytes.len().min(room);
            out.extend_from_slice(&bytes[..count]);
            count
        });
        out
    }

    #[test]
    fn what_the_guest_does_not_take_stays_in_order() {
        let mut input = Input::new(false);
        assert_eq!(input.receive(b"abcdef"), None);
        assert_eq!(drain(&mut input, 2), b"ab");
        assert_eq!(drain(&mut input, 0), b"");
        assert_eq!(drain(&mut input, 100), b"cdef");
        assert_eq!(drain(&mut input, 100), b"");
    }

    #[test]
    fn a_pipe_is_read_on_only_when_the_guest_has_taken_all() {
        let mut input = Input::new(false);
        assert!(input.wants_more());
        input.receive(b"abc");
        drain(&mut input, 2);
        assert!(!input.wants_more());
        drain(&mut input, 1);
        assert!(input.wants_more());
    }

    #[test]
    fn a_pipe_may_carry_ctrl_a() {
        let mut input = Input::new(false);
        assert_eq!(input.receive(b"\x01x"), None);
        assert_eq!(drain(&mut input, 9), b"\x01x");
    }

    #[test]
    fn a_terminal_is_heard_even_when_the_guest_takes_nothing() {
        let mut input = Input::new(true);
        for _ in 0..200 {
            assert_eq!(input.receive(&[b'x'; 1024]), None);
            assert!(input.wants_more());
        }
        assert_eq!(input.receive(b"\x01x"), Some(Command::Quit));
        assert_eq!(drain(&mut input, usize::MAX).len(), 64 * 1024);
    }

    #[test]
    fn commands_are_taken_out_of_the_typing() {
        let mut input = Input::new(true);
        assert_eq!(input.receive(b"a\x01hb\x01"), Some(Command::Help));
        assert_eq!(input.receive(b"ac"), None);
        assert_eq!(drain(&mut input, 9), b"ab\x01c");
    }
}
