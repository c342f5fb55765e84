//! The keys that guests write, and their values.

use crate::tape::Tape;

/// All keys that are read of a class of devices.
pub(super) fn all(class: &str) -> impl Iterator<Item = &'static str> + use<> {
    let own: &'static [&'static str] = if class == "vif" { &NETWORK } else { &DISK };
    BOTH.iter().chain(own).copied()
}

/// One of these keys.
pub(super) fn key(tape: &mut Tape<'_>, class: &str) -> &'static str {
    let which = usize::from(tape.byte()) % all(class).count();
    all(class).nth(which).unwrap_or("state")
}

/// A number, or something that is nearly one, or any bytes.
pub(super) fn value(tape: &mut Tape<'_>) -> Vec<u8> {
    match tape.byte() {
        number @ 0..=127 => (number & 7).to_string().into(),
        which @ 128..=191 => VALUES[usize::from(which) % VALUES.len()].into(),
        _ => {
            let len = usize::from(tape.byte() & 15);
            tape.bytes(len).to_vec()
        }
    }
}

static BOTH: [&str; 5] = [
    "event-channel",
    "multi-queue-num-queues",
    "queue-0/event-channel",
    "queue-1/event-channel",
    "queue-2/event-channel",
];
static DISK: [&str; 11] = [
    "ring-ref",
    "protocol",
    "ring-page-order",
    "num-ring-pages",
    "ring-ref0",
    "ring-ref1",
    "queue-0/ring-ref",
    "queue-0/ring-ref0",
    "queue-0/ring-ref1",
    "queue-1/ring-ref",
    "queue-1/ring-ref0",
];
static NETWORK: [&str; 17] = [
    "tx-ring-ref",
    "rx-ring-ref",
    "request-rx-copy",
    "event-channel-tx",
    "event-channel-rx",
    "feature-sg",
    "feature-gso-tcpv4",
    "feature-gso-tcpv6",
    "feature-no-csum-offload",
    "feature-ipv6-csum-offload",
    "queue-0/tx-ring-ref",
    "queue-0/rx-ring-ref",
    "queue-0/event-channel-tx",
    "queue-0/event-channel-rx",
    "queue-1/tx-ring-ref",
    "queue-1/rx-ring-ref",
    "queue-1/event-channel-tx",
];
static VALUES: [&str; 13] = [
    "x86_64-abi",
    "x86_32-abi",
    "",
    "+1",
    "-1",
    "1 ",
    "01",
    "0x1",
    "4294967295",
    "4294967296",
    "18446744073709551617",
    "1\n",
    "\u{661}",
];
