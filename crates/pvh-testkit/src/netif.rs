//! The bytes of network requests, laid out by hand after netif.h.

/// A transmit request: the reference and the offset of its data, flags, then id and size.
#[must_use]
pub const fn transmit(reference: u32, offset: u16, flags: u16, (id, size): (u16, u16)) -> [u8; 12] {
    let [r0, r1, r2, r3] = reference.to_le_bytes();
    let [o0, o1] = offset.to_le_bytes();
    let [f0, f1] = flags.to_le_bytes();
    let [i0, i1] = id.to_le_bytes();
    let [s0, s1] = size.to_le_bytes();
    [r0, r1, r2, r3, o0, o1, f0, f1, i0, i1, s0, s1]
}

/// An extra-info in a slot of the transmit ring: its type, its flags, and four bytes of its own.
#[must_use]
pub const fn extra(kind: u8, flags: u8, rest: [u8; 4]) -> [u8; 12] {
    let [a, b, c, d] = rest;
    [kind, flags, a, b, c, d, 0, 0, 0xEE, 0xEE, 0xEE, 0xEE]
}

/// A receive request: a page that the guest offers.
#[must_use]
pub const fn receive(id: u16, reference: u32) -> [u8; 8] {
    let [i0, i1] = id.to_le_bytes();
    let [r0, r1, r2, r3] = reference.to_le_bytes();
    [i0, i1, 0xEE, 0xEE, r0, r1, r2, r3]
}
