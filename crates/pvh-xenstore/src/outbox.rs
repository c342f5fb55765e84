//! The messages that wait for one client.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use crate::{
    path::is_special,
    wire::{HEADER_BYTES, Header, MAX_PAYLOAD_BYTES, Message, MessageType},
};

/// Cost in bytes of a waiting message beside its header and payload: an entry in the queue, and one
/// in the set.
const QUEUED_BYTES: usize = 96;

/// A queue of messages, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Message>,
    /// The payloads of the events in the queue. An equal event is not queued again.
    events: HashSet<Arc<[u8]>>,
    replies: usize,
    bytes: usize,
}

impl Outbox {
    /// Returns how many replies wait.
    pub(crate) fn replies(&self) -> usize {
        self.replies
    }

    /// Returns the cost of the waiting messages in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues a reply. The caller bounds their number: it takes no request while many wait.
    pub(crate) fn reply(&mut self, header: Header, payload: Vec<u8>) {
        self.replies = self.replies.saturating_add(1);
        self.push(header, payload.into());
    }

    /// Queues a watch event and returns true, also if an equal event waits already. Returns false
    /// if the event is longer than a message, or if the outbox would cost more than `room_bytes`.
    pub(crate) fn event(&mut self, path: &[u8], token: &[u8], room_bytes: usize) -> bool {
        let len = path.len().saturating_add(token.len()).saturating_add(2);
        if len > MAX_PAYLOAD_BYTES {
            return false;
        }
        let payload: Arc<[u8]> = [path, b"\0", token, b"\0"].concat().into();
        let is_waiting = !is_special(path) && self.events.contains(&payload);
        if is_waiting || self.bytes.saturating_add(cost(len)) > room_bytes {
            return is_waiting;
        }
        self.events.insert(Arc::clone(&payload));
        let header = Header::new(MessageType::WATCH_EVENT, 0, 0, &payload);
        self.push(header, payload);
        true
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(cost(message.payload.len()));
        if message.header.kind.get() == MessageType::WATCH_EVENT.0 {
            self.events.remove(&message.payload);
        } else {
            self.replies = self.replies.saturating_sub(1);
        }
        Some(message)
    }

    fn push(&mut self, header: Header, payload: Arc<[u8]>) {
        self.bytes = self.bytes.saturating_add(cost(payload.len()));
        self.queue.push_back(Message { header, payload });
    }
}

/// Returns the cost of a message with a payload of this length.
fn cost(payload_len: usize) -> usize {
    payload_len
        .saturating_add(HEADER_BYTES)
        .saturating_add(QUEUED_BYTES)
}

#[cfg(test)]
mod tests {
    use super::Outbox;

    #[test]
    fn an_event_that_equals_a_waiting_one_is_not_queued() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            outbox.event(b"/a", b"t", usize::MAX);
        }
        assert_eq!(&*outbox.pop().unwrap().payload, b"/a\0t\0");
        assert_eq!((outbox.pop(), outbox.bytes()), (None, 0));
        outbox.event(b"/a", b"t", usize::MAX);
        assert!(outbox.pop().is_some());
    }

    #[test]
    fn an_event_that_equals_a_waiting_one_needs_no_room() {
        let mut outbox = Outbox::default();
        assert!(outbox.event(b"/a", b"t", 117) && outbox.event(b"/a", b"t", 117));
        assert!(!outbox.event(b"/b", b"t", 117));
    }

    #[test]
    fn special_events_are_all_queued() {
        let mut outbox = Outbox::default();
        outbox.event(b"@releaseDomain", b"t", usize::MAX);
        outbox.event(b"@releaseDomain", b"t", usize::MAX);
        assert!(outbox.pop().is_some() && outbox.pop().is_some());
    }

    #[test]
    fn an_event_that_does_not_fit_is_dropped() {
        let mut outbox = Outbox::default();
        outbox.event(b"/a", b"t", 116); // 16 + 96 + 5
        outbox.event(b"/a", &[b't'; 4093], usize::MAX); // 4097 bytes
        assert_eq!(outbox.pop(), None);
        outbox.event(b"/a", b"t", 117);
        outbox.event(b"/a", &[b't'; 4092], usize::MAX);
        assert!(outbox.pop().is_some() && outbox.pop().is_some());
    }
}
