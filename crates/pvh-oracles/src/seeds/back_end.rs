//! Seeds of the targets in which a guest and a back end take turns.

use super::{Pen, Seed, named};

/// A grant reference and the sectors `first` to `last` of its page.
const fn piece(reference: u8, first: u8, last: u8) -> [u8; 2] {
    [reference, first | last << 3]
}

/// A read, write or flush: operation, id, sector, then its segments.
fn transfer(pen: Pen, operation: u8, (id, sector): (u8, u8), pieces: &[[u8; 2]]) -> Pen {
    let count = u8::try_from(pieces.len()).unwrap_or(0);
    pen.bytes([0, operation, id, sector, count])
        .bytes(pieces.as_flattened())
}

/// Layout, ring and offers; what the disk is; then steps: see the oracle.
pub(super) fn disks() -> Vec<Seed> {
    let serve_all = [5, 8, 0, 0, 9, 10];
    let pages = [piece(0x10, 0, 7), piece(0x11, 2, 3)];
    let plain = transfer(Pen::new().bytes([0, 0]), 0, (1, 8), &pages).bytes(serve_all);
    let plain = transfer(plain, 1, (2, 9), &[piece(0x18, 1, 1)]).bytes(serve_all);
    let plain = transfer(plain, 3, (3, 0), &[]).bytes(serve_all);
    // 32-bit, two pages of ring, indices near their end
    let wrap = Pen::new().bytes([0x23, 1]);
    let wrap = (0..6).fold(wrap, |pen, id| transfer(pen, 0, (id, id), &pages));
    let wrap = wrap.bytes([5, 5, 5, 8, 1, 0, 9, 5, 5, 5, 8, 0, 1, 9, 10]);
    // a page of segments: operation, id, sector, two references, how many, those that are written
    let indirect = Pen::new()
        .bytes([0x10, 0, 2, 0, 4, 1, 0x12, 0])
        .half(20)
        .bytes([2]);
    let indirect = indirect.bytes(pages.as_flattened()).bytes(serve_all);
    let discard = Pen::new().bytes([1, 6, 3, 1, 5, 8, 16]).bytes(serve_all);
    // an index that jumps, a change while a request is read, a grant that ends
    let hostile = Pen::new()
        .bytes([0, 0, 11, 0])
        .word(0x8000_0000)
        .bytes([5, 11, 0])
        .word(0);
    let hostile = transfer(
        hostile.bytes([12, 1, 64]).half(64).bytes([1, 9]),
        0,
        (4, 1),
        &pages,
    );
    let hostile = hostile.bytes([5, 13, 0x10, 0, 5]);
    vec![
        named("plain", plain),
        named("wrap", wrap),
        named("indirect", indirect),
        named("discard", discard),
        named("hostile", hostile),
    ]
}

/// A transmit request: reference, flags, offset, size, id.
fn sent(pen: Pen, reference: u8, flags: u8, (offset, size): (u16, u16), id: u8) -> Pen {
    let pen = pen.bytes([0, reference, flags]).half(offset).half(size);
    pen.bytes([id])
}

/// What the guest takes, then steps: see the oracle.
pub(super) fn networks() -> Vec<Seed> {
    let send_all = [4, 6, 9, 0, 0, 11, 12];
    let plain = sent(Pen::new().bytes([0x1F]), 0x10, 2, (64, 60), 1).bytes(send_all);
    let plain = sent(plain, 0x10, 4, (0, 300), 2);
    let plain = sent(plain, 0x18, 0, (100, 200), 3).bytes(send_all);
    // a large packet: the first request, how to cut it up, the rest
    let large = sent(Pen::new().bytes([0x3F]), 0x11, 0x0D, (0, 1500), 1);
    let large = sent(large.bytes([2, 0xA8, 5, 1, 1]), 0x12, 0, (0, 700), 2).bytes(send_all);
    // pages are offered, and packets delivered: flags, length, offloads
    let offers = [5, 4, 1, 0x10, 2, 0x11, 3, 0x12, 4, 0x13];
    let delivered = Pen::new().bytes([0x1F]).bytes(offers);
    let delivered = delivered.bytes([10, 8]).half(60).bytes([0, 11]);
    let delivered = delivered
        .bytes([10, 0x88])
        .half(5000)
        .bytes([6])
        .half(1448)
        .bytes([11]);
    // without room, to a page for reading, and an index that moves back
    let refused = Pen::new()
        .bytes([0, 10, 8])
        .half(60)
        .bytes([0, 5, 1, 1, 0x18, 10, 8]);
    let refused = refused
        .half(60)
        .bytes([0, 11, 14, 1, 4])
        .word(0)
        .bytes([5, 1, 1, 0x10]);
    vec![
        named("plain", plain),
        named("large", large),
        named("delivered", delivered),
        named("refused", refused.bytes([10, 8]).half(60).bytes([0])),
    ]
}

/// A disk or a network device, then steps: see the oracle.
pub(super) fn handshakes() -> Vec<Seed> {
    // features; the ring's key and port, Initialised, the host serves, attaches and updates
    let disk = Pen::new().bytes([0, 8, 2, 3, 5, 8, 3, 0, 3, 0, 3, 14, 9, 0, 1, 1, 11, 1]);
    let disk = disk.bytes([0, 4, 14, 0, 5, 14, 0, 6, 14, 0, 1, 14]);
    let network = Pen::new().bytes([1, 8, 1, 3, 5, 8, 3, 6, 9, 3, 7, 1, 3, 0, 3, 0, 3, 14]);
    let network = network.bytes([9, 0, 1, 0, 12, 0, 0, 5, 14, 0, 6, 14]);
    let refused = Pen::new().bytes([0, 8, 0, 3, 5, 129, 0, 3, 14, 0, 6, 14, 7, 14, 12, 1]);
    // a front end that closes before it is connected, and is connected at its second attempt
    let again = Pen::new().bytes([0, 8, 1, 3, 5, 8, 3, 0, 3, 0, 3, 14, 0, 6, 14, 0, 1, 14]);
    let again = again.bytes([0, 3, 14, 9, 0, 1, 0]);
    vec![
        named("disk", disk),
        named("again", again),
        named("network", network),
        named("refused", refused),
    ]
}
