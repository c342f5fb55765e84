//! Reads values from a fuzzer's bytes, starting at the first byte, so that seeds can be written by
//! hand.

use arbitrary::Unstructured;

/// Reads values from bytes; past the end, all values are 0.
#[derive(Debug)]
pub struct Tape<'a>(Unstructured<'a>);

impl<'a> Tape<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// Tells whether all bytes are used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Two bytes, little-endian.
    pub fn half(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Four bytes, little-endian.
    pub fn word(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Eight bytes, little-endian.
    pub fn long(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// One byte's lowest bit.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `count`, of one byte.
    pub fn below(&mut self, count: u8) -> u8 {
        let last = count.saturating_sub(1);
        self.0.int_in_range(0..=last).unwrap_or_default()
    }

    /// An element of a list, chosen by one byte; the default for an empty list.
    pub fn pick<T: Copy + Default>(&mut self, list: &[T]) -> T {
        let count = u8::try_from(list.len()).unwrap_or(u8::MAX);
        let index = usize::from(self.below(count));
        list.get(index).copied().unwrap_or_default()
    }

    /// Up to `count` bytes, fewer if fewer are left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let count = count.min(self.0.len());
        self.0.bytes(count).unwrap_or_default()
    }

    /// A 64-bit number that is often near a limit: two to eleven bytes.
    ///
    /// The first byte selects the kind: a page (two bytes), a small number (two bytes), a limit
    /// plus a signed byte, or all 64 bits.
    pub fn address(&mut self) -> u64 {
        match self.byte() {
            0..=95 => u64::from(self.half()) << 12,
            96..=143 => u64::from(self.half()),
            144..=223 => {
                let edge = self.pick(&EDGES);
                let delta = i64::from(self.byte().cast_signed());
                edge.wrapping_add_signed(delta)
            }
            _ => self.long(),
        }
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}

/// Limits: where ranges end and numbers wrap.
const EDGES: [u64; 12] = [
    0,
    0x1_0000,
    0xa_0000,
    0x10_0000,
    0x20_0000,
    0x4000_0000,
    0x8000_0000,
    0xfc00_0000,
    0x1_0000_0000,
    1 << 52,
    1 << 63,
    u64::MAX,
];

#[cfg(test)]
mod tests {
    use super::Tape;

    #[test]
    fn values_come_in_the_order_of_the_bytes() {
        let mut tape = Tape::new(&[7, 0x34, 0x12, 3, 1, 9, 9]);
        assert_eq!((tape.byte(), tape.half()), (7, 0x1234));
        assert_eq!((tape.below(3), tape.flag()), (0, true));
        assert_eq!(tape.bytes(5), [9, 9]);
        assert!(tape.is_empty() && tape.long() == 0 && tape.bytes(1).is_empty());
    }

    #[test]
    fn an_address_can_be_written_by_hand() {
        assert_eq!(Tape::new(&[0, 0x10, 0]).address(), 0x1_0000);
        assert_eq!(Tape::new(&[144, 8, 0xff]).address(), 0xffff_ffff);
        assert_eq!(Tape::new(&[255, 1, 2]).address(), 0x201);
    }
}
