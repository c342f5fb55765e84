//! Seeds of the targets about single registers, leaves and calls.

use super::{Pen, Seed, named};

/// A selector, eight bytes of a GDT, a limit and how it is changed, attributes, a base, an entry, a
/// start info.
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

/// A mode, what is not offered, answers, memory, and calls: a number and five arguments.
///
/// Of each call there is one of a 64-bit and one of a 32-bit vCPU; its structure is at 0x1000.
pub(super) fn dispatches() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, number, ops) in CALLS {
        for (width, mode) in [("64", 0), ("32", 2)] {
            for (op, page) in ops.iter().zip(0_u8..) {
                let pen = Pen::new()
                    .bytes([mode, 3])
                    .half(0)
                    .bytes([page, 1, 2, 3, 0xff, 5, 6, 3]);
                let pen = structure(pen, width == "64");
                // an operation, where the structure is, and numbers that mean something at either
                // place
                let call = match number {
                    13 => [0x40, 3, 0, 0, 0],
                    18 => [*op, 63, 0x40, 0, 0],
                    20 => [*op, 0x40, 1, 0, 0],
                    21 => [*op, 5, 0, 0, 0],
                    24 => [*op, 1, 0x40, 0, 0],
                    _ => [*op, 0x40, 0, 0, 0],
                };
                let pen = pen.bytes([number, 0]).bytes(call);
                seeds.push(named(&format!("{name}-{op}-{width}"), pen));
            }
        }
    }
    // a list in which a call is not done at once: more text than one go writes
    for (width, mode, word) in [("64", 0, 8), ("32", 2, 4)] {
        let pen = Pen::new().bytes([mode, 3]).half(0).bytes([1; 8]);
        let entry = [18_u64, 0, 0, 0x200, 0x1000, 0, 0, 0];
        let words = entry.map(|value| value.to_le_bytes());
        let entry = words.iter().flat_map(|bytes| bytes.iter().take(word));
        let entry: Vec<u8> = entry.copied().collect();
        let halves = u8::try_from(entry.len() / 2).unwrap_or(0);
        let pen = pen.bytes([halves]).bytes(&entry);
        let pen = pen.bytes([13, 0, 0x40, 1, 0, 0, 0]);
        seeds.push(named(&format!("multicall-rest-{width}"), pen));
    }
    seeds
}

/// Words that are small counts, and addresses of more.
fn structure(pen: Pen, is_wide: bool) -> Pen {
    let words: [u64; 8] = [0x1040, 2, 0x1060, 0x1080, 1, 0x1100, 0, 3];
    let pen = pen.bytes([32]);
    words.into_iter().fold(pen, |pen, word| match is_wide {
        true => pen.bytes(word.to_le_bytes()),
        false => pen.word(u32::try_from(word).unwrap_or(0)).word(0),
    })
}

/// Numbers, and sub-operations of theirs.
const CALLS: [(&str, u8, &[u8]); 12] = [
    ("memory", 12, &[0, 1, 2, 3, 6, 7, 9, 13, 15, 23, 27]),
    ("multicall", 13, &[0]),
    ("timer", 15, &[5]),
    ("version", 17, &[0, 2, 3, 5, 6, 7, 9]),
    ("console", 18, &[0, 1]),
    ("grants", 20, &[0, 1, 2, 5, 6, 8, 10, 11]),
    ("assist", 21, &[0]),
    ("vcpu", 24, &[0, 1, 3, 4, 5, 6, 8, 10, 13]),
    ("sched", 29, &[0, 2, 3, 4, 6]),
    ("event", 32, &[0, 1, 5, 6, 7, 11, 12]),
    ("hvm", 34, &[0, 1, 10, 11, 15, 23]),
    ("refused", 35, &[1]),
];
