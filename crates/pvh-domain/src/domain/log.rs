//! The line that a guest writes to the hypervisor's log.

use super::Effect;

/// The line that a guest is writing to the hypervisor's log: its printable characters, at most 80
/// bytes at once.
#[derive(Debug, Default)]
pub(super) struct Log {
    line: Vec<u8>,
}

impl Log {
    pub(super) fn write(&mut self, text: &[u8], effects: &mut Vec<Effect>) {
        for &byte in text {
            match byte {
                b'\n' => self.end_line(effects),
                b'\t' | b' '..=b'~' => {
                    self.line.push(byte);
                    if self.line.len() >= LINE_BYTES {
                        self.end_line(effects);
                    }
                }
                _ => {}
            }
        }
    }

    fn end_line(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Log(core::mem::take(&mut self.line)));
    }
}

const LINE_BYTES: usize = 80;
