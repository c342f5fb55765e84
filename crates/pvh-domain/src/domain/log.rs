use super::{Domain, Effect};

impl Domain {
    /// Takes a byte that the guest wrote to port 0xe9, which is part of a line of the log.
    pub fn debug_port(&mut self, byte: u8, effects: &mut Vec<Effect>) {
        self.log.write(&[byte], effects);
    }
}

/// The line that a guest is writing to the hypervisor's log: what can be printed of it, at most 80 bytes at once.
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
