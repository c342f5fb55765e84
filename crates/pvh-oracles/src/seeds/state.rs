//! Seeds of the targets that run sequences of events.

use super::{Pen, Seed, named};

/// An entry to write: page, index, target, flags, high bits.
fn entry(pen: Pen, [page, index, target]: [u8; 3], flags: u16) -> Pen {
    pen.bytes([page, index, target]).half(flags).bytes([0])
}

/// An access: four indices, an offset, what it is.
fn access(pen: Pen, indices: [u8; 4], offset: u16, what: u8) -> Pen {
    pen.bytes(indices).half(offset).bytes([what])
}

/// Page tables in each paging mode.
pub(super) fn linears() -> Vec<Seed> {
    let wide = |pen: Pen| {
        let steps = [
            ([0, 0, 1], 7),
            ([1, 0, 2], 7),
            ([2, 0, 3], 7),
            ([2, 1, 0xa0], 0x87),
            ([3, 0, 4], 7),
            ([3, 1, 5], 3),
            ([3, 2, 6], 5),
            ([1, 1, 0xc0], 0x87),
        ];
        let pen = pen.bytes([8]);
        let pen = steps
            .into_iter()
            .fold(pen, |pen, (at, flags)| entry(pen, at, flags));
        let pen = access(pen, [0; 4], 0xff0, 0x20);
        let pen = access(pen, [0, 0, 0, 1], 8, 0x90);
        let pen = access(pen, [0, 0, 1, 2], 0, 0xe1);
        access(access(pen, [0, 0, 0, 2], 0, 0x88), [0, 1, 0, 3], 0, 4)
    };
    let four_level = wide(Pen::new().bytes([0x44, 0x62, 0, 0]));
    let guarded = wide(Pen::new().bytes([0x74, 0x73, 0, 0]).word(0x5555_5554));
    // PAE's highest table has no rights: a table at page 8 points to the second one
    let pae = Pen::new().bytes([0x45, 0x60, 0, 8, 6]);
    let steps = [([8, 0, 2], 1), ([2, 0, 3], 7), ([2, 1, 0xa0], 0x87)];
    let pae = steps
        .into_iter()
        .fold(pae, |pen, (at, flags)| entry(pen, at, flags));
    let steps = [([3, 0, 4], 7), ([3, 1, 5], 5), ([8, 1, 2], 1)];
    let pae = steps
        .into_iter()
        .fold(pae, |pen, (at, flags)| entry(pen, at, flags));
    let pae = access(access(pae, [0; 4], 0xff8, 0x30), [1, 0, 0, 0], 0, 0x88);
    let narrow = Pen::new().bytes([0x0e, 0x64, 0, 0, 5]);
    let steps = [
        ([0, 0, 1], 7),
        ([0, 1, 0], 0x87),
        ([1, 0, 4], 7),
        ([1, 1, 5], 1),
        ([0, 2, 1], 5),
    ];
    let narrow = steps
        .into_iter()
        .fold(narrow, |pen, (at, flags)| entry(pen, at, flags));
    let narrow = access(access(narrow, [0; 4], 0xffc, 0x28), [0, 0, 1, 0], 4, 0x84);
    vec![
        named("four-level", four_level),
        named("guarded", guarded),
        named("pae", pae),
        named("two-level", narrow),
    ]
}

/// One of each mode, as it is and with a register changed.
pub(super) fn contexts() -> Vec<Seed> {
    let names = [
        "flat", "16-bit", "real", "pae", "compat", "64-bit", "empty-32", "empty-64",
    ];
    let seeds = names.iter().zip(0_u8..).map(|(name, which)| {
        // eip or rip becomes another one
        named(name, [0, which, 40, 1, which])
    });
    seeds.collect()
}

/// Calls (kind, vCPU, argument) and threads that get the notices.
pub(super) fn lifecycles() -> Vec<Seed> {
    let start = [[0_u8, 1, 0].as_slice(), &[2, 1], &[6, 1, 0], &[8, 1]].concat();
    let stop = [&start[..], &[3, 1], &[6, 0, 0], &[2, 1], &[6, 0, 0]].concat();
    let reset = [&start[..], &[4, 1], &[5, 1, 9], &[7, 1], &[3, 0], &[3, 1]].concat();
    vec![
        named("start", start),
        named("stop", stop),
        named("reset", reset),
    ]
}

/// Whole requests, and bytes through the ring.
pub(super) fn stores() -> Vec<Seed> {
    // what, path, transaction, and what the request needs
    let tree = Pen::new()
        .bytes([0, 0, 1, 0, 3])
        .bytes("one")
        .bytes([8, 0, 0, 0, 0, 5, 0, 2])
        .bytes("xy")
        .bytes([5, 5, 0, 6, 1, 0, 7, 1, 0, 3, 12, 1, 0, 0, 4, 1, 0]);
    let transaction = Pen::new()
        .bytes([0, 10, 0, 0, 0, 1, 1, 3])
        .bytes("one")
        .bytes([5, 1, 1, 11, 0, 1, 1, 5, 1, 0]);
    let message = |kind: u32, payload: &[u8]| {
        let head = Pen::new().word(kind).word(7).word(0);
        let len = u32::try_from(payload.len()).unwrap_or(0);
        Vec::from(head.word(len).bytes(payload))
    };
    let mut wire = vec![1];
    for (kind, payload) in [(11, &b"data/a\0v"[..]), (2, b"data/a\0"), (4, b"data\0t\0")] {
        let message = message(kind, payload);
        let len = u8::try_from(message.len()).unwrap_or(0);
        wire.extend([0, len]);
        wire.extend(message);
        wire.push(6);
    }
    let mut broken = wire.clone();
    broken.extend([5, 1, 0, 0, 0, 0x80, 7, 6]);
    // More nodes than the guest may own: each leaf below three levels of three letters is made.
    let leaves = (0_u8..64).filter(|leaf| {
        [leaf & 3, leaf >> 2 & 3, leaf >> 4]
            .iter()
            .all(|&name| name > 0)
    });
    let full = leaves.fold(Pen::new().bytes([0]), |pen, leaf| pen.bytes([3, leaf, 0]));
    vec![
        named("full", full),
        named("tree", tree),
        named("transaction", transaction),
        named("wire", wire),
        named("broken", broken),
    ]
}

/// Text both ways, and indices at their ends.
pub(super) fn consoles() -> Vec<Seed> {
    let print = Pen::new()
        .bytes([4, 5])
        .bytes("hello")
        .bytes([0])
        .half(3)
        .bytes([0])
        .half(100);
    let typed = Pen::new().bytes([1]).half(900).bytes([2, 0, 0]).half(500);
    let wrap = Pen::new()
        .bytes([3, 2])
        .word(0xffff_fffe)
        .bytes([3, 3])
        .word(0xffff_fffe);
    let wrap = wrap.bytes([4, 6]).bytes("around").bytes([0]).half(64);
    vec![
        named("print", print),
        named("typed", typed.bytes([1]).half(200)),
        named("wrap", wrap),
    ]
}

/// Sequences of a domain: the vCPUs that run 32-bit code, then the events; see the oracle.
pub(super) fn domains() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, history) in HISTORIES {
        for (width, narrow) in [("64", 0), ("32", 7)] {
            let bytes = [&[narrow][..], &history.concat()].concat();
            seeds.push(named(&format!("{name}-{width}"), bytes));
        }
    }
    seeds
}

/// Sequences to record, unchanged and with one or two bytes changed, and a nearly empty trace.
pub(super) fn traces() -> Vec<Seed> {
    let mut seeds = vec![
        named("file", crate::trace::recorded(&[0])),
        named("header", *b"PVHTRACE\x01\0"),
    ];
    for (name, history) in HISTORIES {
        let history = [&[0][..], &history.concat()].concat();
        // three places to change, and how: none of them, or the first
        let sound = Pen::new().bytes([0; 15]).bytes(&history);
        let changed = Pen::new().word(0x1_0000).bytes([1]);
        let changed = changed.bytes([0; 10]).bytes(&history);
        seeds.push(named(name, sound));
        seeds.push(named(&format!("{name}-changed"), changed));
    }
    seeds
}

const HISTORIES: [(&str, &[&[u8]]); 5] = [
    // two ports joined, an event sent; an IPI and a timer's port
    (
        "events",
        &[
            &[12, 0, 0, 0],
            &[12, 0, 3, 1],
            &[12, 0, 4, 5],
            &[12, 0, 0, 3, 0],
            &[12, 0, 0, 2, 0, 0],
            &[12, 0, 5, 5],
        ],
    ),
    // vCPU 1 gets registers, goes up, down and up again
    (
        "lifecycle",
        &[
            &[19, 0, 1, 0, 5],
            &[19, 0, 1, 2],
            &[3, 1],
            &[2, 1],
            &[12, 1, 0, 3, 1],
            &[19, 0, 1, 4],
            &[19, 0, 1, 2],
            &[6, 1],
        ],
    ),
    // a one-shot and a periodic timer, a poll that ends by time
    (
        "timers",
        &[
            &[12, 0, 0, 2, 0, 0],
            &[21, 0, 0, 0x10, 0, 0, 0, 0],
            &[21, 0, 0, 0, 0, 0, 0, 3, 1, 0],
            &[0, 0, 0, 0x20, 0x20, 0],
            &[1, 0],
            &[22, 0, 4, 0x33, 200],
            &[0, 0, 0, 0, 0x10, 0],
            &[1, 0],
            &[2, 0],
            &[22, 0, 0, 0],
        ],
    ),
    // frames given back and taken again, shared info moved, a grant frame
    (
        "memory",
        &[
            &[23, 0, 0x20, 3, 2],
            &[23, 0, 0x20, 19, 2],
            &[23, 0, 0x50, 0, 0],
            &[23, 0, 0x51, 1, 0],
            &[23, 0, 0x51, 0, 1],
            &[23, 0, 0, 0, 4],
        ],
    ),
    (
        "others",
        &[
            &[25, 0, 12, 2, 0, 0],
            &[25, 0, 1, 0x38],
            &[26, 0, 3, 0, 150, 1, 150, 6],
            &[8, 0, 0],
            &[7, 0, 2, b'h', b'i'],
            &[9, 0, 10],
            &[27, 0, 6, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0x84, 2],
        ],
    ),
];
