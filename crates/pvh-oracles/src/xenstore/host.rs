//! The events of a host connection: in the order of the changes, in a bounded queue.

use super::setup::HOME;

/// The host's watches, in the order in which they are set: nodes below the guest's home, and the
/// lengths of tokens. One is so long that five events fill the queue.
pub(super) const WATCHES: [(&str, usize); 2] = [("data", 500), ("data/a/b", 3)];

/// Header and bookkeeping of a waiting event, and the two NULs of its payload.
const EVENT_COST_BYTES: usize = 114;

/// Returns a token of this length.
pub(super) fn token(len: usize) -> String {
    "t".repeat(len)
}

/// Returns the events of changes that come one after the other, if none is taken in between.
///
/// A change is a node, and whether it changed by itself. Otherwise it was removed with a node
/// above, and only watches of this very node fire. An event that equals a waiting one is not
/// queued. A watch whose event finds no room queues none until all are taken, and then one with its
/// own node.
pub(super) fn queued(changes: &[(String, bool)], room_bytes: usize) -> Vec<(String, String)> {
    let mut events = Vec::new();
    let mut used_bytes = 0;
    let mut behind = [false; WATCHES.len()];
    for (node, by_itself) in changes {
        for (&(watched, len), is_behind) in WATCHES.iter().zip(&mut behind) {
            let below = node.strip_prefix(watched);
            let is_below = *by_itself && below.is_some_and(|rest| rest.starts_with('/'));
            let event = (format!("{HOME}/{node}"), token(len));
            if *is_behind || !(node == watched || is_below) || events.contains(&event) {
                continue;
            }
            let cost_bytes = event.0.len() + len + EVENT_COST_BYTES;
            if used_bytes + cost_bytes > room_bytes {
                *is_behind = true;
                continue;
            }
            used_bytes += cost_bytes;
            events.push(event);
        }
    }
    let late = WATCHES.iter().zip(behind);
    let late = late.filter(|(_, is_behind)| *is_behind);
    events.extend(late.map(|(&(node, len), _)| (format!("{HOME}/{node}"), token(len))));
    events
}
