//! Writes the values that a tape reads.

/// Writes values that [`Tape`](crate::tape::Tape) reads.
#[derive(Clone, Debug, Default)]
pub struct Pen(Vec<u8>);

impl Pen {
    /// Starts with nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Bytes as they are.
    #[must_use]
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// Two bytes.
    #[must_use]
    pub fn half(self, value: u16) -> Self {
        self.bytes(value.to_le_bytes())
    }

    /// Four bytes.
    #[must_use]
    pub fn word(self, value: u32) -> Self {
        self.bytes(value.to_le_bytes())
    }

    /// An address: of a page below 256 MiB in three bytes, else in nine.
    #[must_use]
    pub fn address(self, value: u64) -> Self {
        match u16::try_from(value >> 12) {
            Ok(page) if value & 0xfff == 0 => self.bytes([0]).half(page),
            _ => self.bytes([255]).bytes(value.to_le_bytes()),
        }
    }

    /// Several addresses.
    #[must_use]
    pub fn addresses(self, values: &[u64]) -> Self {
        values.iter().fold(self, |pen, &value| pen.address(value))
    }
}

impl From<Pen> for Vec<u8> {
    fn from(pen: Pen) -> Self {
        pen.0
    }
}

#[cfg(test)]
mod tests {
    use super::Pen;
    use crate::tape::Tape;

    #[test]
    fn a_tape_reads_what_a_pen_has_written() {
        let bytes: Vec<u8> = Pen::new()
            .addresses(&[0x7000, 0x1234, 1 << 40])
            .half(9)
            .into();
        let mut tape = Tape::new(&bytes);
        let addresses = [(); 3].map(|()| tape.address());
        assert_eq!((addresses, tape.half()), ([0x7000, 0x1234, 1 << 40], 9));
        assert!(tape.is_empty());
    }
}
