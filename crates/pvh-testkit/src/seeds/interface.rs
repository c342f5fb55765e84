//! Seeds of the targets about single registers, leaves and calls.

use super::{Pen, Seed, named};

/// A selector, eight bytes of a GDT, a limit and how it is changed, attributes, a base, an entry, a start info.
pub(super) fn descriptors() -> Vec<Seed> {
    let cases: [(&str, u64, u32, u8, u16, u64, u64); 2] = [
        (
            "code32",
            0x00cf_9b00_0000_ffff,
            u32::MAX,
            0,
            0xc9b,
            0,
            0x7000,
        ),
        ("tss", 0x8b00_0000_0067, 0x67, 0, 0x8b, 0x1000, 1 << 32),
    ];
    let seed =
        |(name, word, limit, how, attributes, base, info): (&str, u64, u32, u8, u16, u64, u64)| {
            let pen = Pen::new().half(8).bytes(word.to_le_bytes()).word(limit);
            let pen = pen.bytes([how]).half(attributes).address(base);
            named(name, pen.word(0x10_0000).address(info))
        };
    cases.into_iter().map(seed).collect()
}

/// A stub, what is written to the MSR, a configuration, and two leaves to be asked for.
pub(super) fn interfaces() -> Vec<Seed> {
    let seed = |name: &str, stub: u8, value: u64, base: &[u8], leaves: [u8; 2]| {
        let pen = Pen::new().bytes([stub]).address(value).bytes(base);
        let pen = pen.half(4).half(17).word(7).word(3);
        let pen = pen.word(2).word(2).word(2_400_000).word(1);
        let pen = pen.bytes(0x1122_3344_5566_7788_u64.to_le_bytes());
        let pen = pen.word(0xd555_5555).bytes([0xff]).word(2_500_000);
        let [first, second] = leaves;
        let pen = pen.bytes([0, first, 1]).word(0x4000_0200).word(0x5c);
        named(name, pen.bytes([0, second, 2]))
    };
    vec![
        seed("port", 0x64, 0x4000, &[0], [0, 1]),
        seed("vmcall", 0x80, 0x9000, &[0x80], [3, 3]),
        seed("vmmcall", 0xc0, 0x4001, &[0xe0, 2], [4, 2]),
        seed("low", 0x64, 0x5000, &[0], [5, 4]),
    ]
}
