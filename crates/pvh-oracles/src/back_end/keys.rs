//! A second reading of what front ends publish: the keys of a disk and of a network device.

use std::collections::BTreeMap;

use pvh_blkif::Protocol;
use pvh_netif::Channels;

/// What a front end has published, as plain numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Published {
    /// Whether the layout is that of 64-bit guests; references and port of each queue.
    Disk(bool, Vec<(Vec<u32>, u32)>),
    /// References of both rings, port and perhaps a second port of each queue; what it takes:
    /// scatter-gather, large packets by IPv4 and IPv6, blank checksums by IPv4 and IPv6.
    Network(Vec<(u32, u32, u32, Option<u32>)>, [bool; 5]),
}

/// The most queues that are offered.
pub(super) const MAX_QUEUES: u32 = 2;
/// The largest ring that is offered, as a power of two of pages.
pub(super) const MAX_RING_ORDER: u32 = 1;

/// The keys of a front end's folder.
pub(super) struct Keys(pub(super) BTreeMap<String, String>);

/// Refusals name their key.
type Found<T> = Result<T, String>;

impl From<pvh_blkif::Front> for Published {
    fn from(front: pvh_blkif::Front) -> Self {
        let queues = front.queues.into_iter();
        let queues = queues.map(|queue| (queue.ring_references, queue.event_channel));
        Self::Disk(front.protocol == Protocol::X86_64, queues.collect())
    }
}

impl From<pvh_netif::Front> for Published {
    fn from(front: pvh_netif::Front) -> Self {
        let queues = front.queues.into_iter().map(|queue| {
            let (first, second) = match queue.channels {
                Channels::Joint(port) => (port, None),
                Channels::Split { transmit, receive } => (transmit, Some(receive)),
            };
            let references = (queue.transmit_reference, queue.receive_reference);
            (references.0, references.1, first, second)
        });
        let takes = front.offloads;
        let takes = [
            takes.has_scatter_gather,
            takes.has_tcp_v4,
            takes.has_tcp_v6,
            takes.fills_checksums.ipv4,
            takes.fills_checksums.ipv6,
        ];
        Self::Network(queues.collect(), takes)
    }
}

impl Keys {
    /// What a disk's front end has published.
    pub(super) fn disk(&self) -> Found<Published> {
        let is_64_bit = match self.0.get("protocol").map(String::as_str) {
            None | Some("x86_32-abi") => false,
            Some("x86_64-abi") => true,
            Some(_) => return Err("protocol".into()),
        };
        let order = self.number("ring-page-order", 0, MAX_RING_ORDER)?;
        let pages = match order {
            Some(order) => Some(2_u32.pow(order)),
            None => self.number("num-ring-pages", 1, 2_u32.pow(MAX_RING_ORDER))?,
        };
        if pages.is_some_and(|pages| pages.count_ones() != 1) {
            return Err("num-ring-pages".into());
        }
        let mut queues = Vec::new();
        for folder in self.folders()? {
            let plain = self.needed(&format!("{folder}ring-ref"));
            let references = match (pages, plain) {
                (None, plain) => vec![plain?],
                (Some(1), Ok(reference)) => vec![reference],
                (Some(pages), _) => (0..pages)
                    .map(|page| self.needed(&format!("{folder}ring-ref{page}")))
                    .collect::<Found<_>>()?,
            };
            let port = self.needed(&format!("{folder}event-channel"))?;
            queues.push((references, port));
        }
        Ok(Published::Disk(is_64_bit, queues))
    }

    /// What a network device's front end has published.
    pub(super) fn network(&self) -> Found<Published> {
        if !self.flag("request-rx-copy")? {
            return Err("request-rx-copy".into());
        }
        let mut queues = Vec::new();
        for folder in self.folders()? {
            let joint = self.number(&format!("{folder}event-channel"), 0, u32::MAX)?;
            let transmit = self.number(&format!("{folder}event-channel-tx"), 0, u32::MAX)?;
            let ports = match transmit {
                Some(port) => (
                    port,
                    Some(self.needed(&format!("{folder}event-channel-rx"))?),
                ),
                None => (joint.ok_or(format!("{folder}event-channel"))?, None),
            };
            let tx = self.needed(&format!("{folder}tx-ring-ref"))?;
            let rx = self.needed(&format!("{folder}rx-ring-ref"))?;
            queues.push((tx, rx, ports.0, ports.1));
        }
        let takes = [
            self.flag("feature-sg")?,
            self.flag("feature-gso-tcpv4")?,
            self.flag("feature-gso-tcpv6")?,
            !self.flag("feature-no-csum-offload")?,
            self.flag("feature-ipv6-csum-offload")?,
        ];
        Ok(Published::Network(queues, takes))
    }

    fn folders(&self) -> Found<Vec<String>> {
        let count = self.number("multi-queue-num-queues", 1, MAX_QUEUES)?;
        Ok(match count.unwrap_or(1) {
            1 => vec![String::new()],
            count => (0..count).map(|queue| format!("queue-{queue}/")).collect(),
        })
    }

    fn needed(&self, key: &str) -> Found<u32> {
        self.number(key, 0, u32::MAX)?.ok_or_else(|| key.into())
    }

    fn flag(&self, key: &str) -> Found<bool> {
        Ok(self.number(key, 0, 1)?.unwrap_or(0) == 1)
    }

    /// A number in digits, as many as there are.
    fn number(&self, key: &str, least: u32, most: u32) -> Found<Option<u32>> {
        let Some(text) = self.0.get(key) else {
            return Ok(None);
        };
        let mut number = (!text.is_empty()).then_some(0_u32);
        for digit in text.chars() {
            let digit = "0123456789"
                .find(digit)
                .and_then(|digit| u32::try_from(digit).ok());
            let next = |(number, digit): (u32, u32)| number.checked_mul(10)?.checked_add(digit);
            number = number.zip(digit).and_then(next);
        }
        match number {
            Some(number) if number >= least && number <= most => Ok(Some(number)),
            _ => Err(key.into()),
        }
    }
}
