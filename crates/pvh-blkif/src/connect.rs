//! What the front end tells when it connects.

use crate::{Features, Protocol};

/// What a front end has written, read and checked.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Front {
    /// The layout of its slots.
    pub protocol: Protocol,
    /// Its queues, at least one.
    pub queues: Vec<FrontQueue>,
}

/// One queue of a front end.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FrontQueue {
    /// The grant references of its ring's pages; 1, 2, 4, 8 or 16.
    pub ring_references: Vec<u32>,
    /// The port of its event channel.
    pub event_channel: u32,
}

/// Why a front end cannot be connected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A key that has to be there is missing.
    #[error("the front end has not written {key}")]
    Missing {
        /// Which key, below the front end's folder.
        key: String,
    },
    /// A key holds something else than a number that it may hold.
    #[error("{key} is not a number from {least} to {most}")]
    Number {
        /// Which key.
        key: String,
        /// The least number allowed.
        least: u32,
        /// The greatest number allowed.
        most: u32,
    },
    /// The front end speaks another machine's layout.
    #[error("protocol is neither x86_64-abi nor x86_32-abi")]
    Protocol,
    /// A number of ring pages that is not a power of two.
    #[error("num-ring-pages is {pages}, not a power of two")]
    RingPages {
        /// How many.
        pages: u32,
    },
}

impl Front {
    /// Reads the front end's keys through `read`, which gets a key below the front end's folder.
    ///
    /// At most `max_queues` x 17 + 5 keys are read, and as much is allocated.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: which key is wrong.
    pub fn read(
        features: &Features,
        mut read: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, ConnectError> {
        let protocol = Protocol::of_key(read("protocol").as_deref());
        let protocol = protocol.ok_or(ConnectError::Protocol)?;
        let ring = ring_shape(features, &mut read)?;
        let queues = number(&mut read, "multi-queue-num-queues", 1, features.max_queues)?;
        let queues = match queues {
            // One queue stands in the folder itself, whether it was asked for or not.
            None | Some(1) => vec![queue("", ring, &mut read)?],
            Some(count) => (0..count)
                .map(|index| queue(&format!("queue-{index}/"), ring, &mut read))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self { protocol, queues })
    }
}

/// How many pages a ring has. `None`: the front end has said nothing, and has one page.
fn ring_shape(
    features: &Features,
    read: &mut impl FnMut(&str) -> Option<String>,
) -> Result<Option<u32>, ConnectError> {
    let order = number(read, "ring-page-order", 0, features.max_ring_order)?;
    if let Some(order) = order {
        return Ok(Some(1_u32.checked_shl(order).unwrap_or(1)));
    }
    let most = 1_u32.checked_shl(features.max_ring_order).unwrap_or(1);
    let pages = number(read, "num-ring-pages", 1, most)?;
    match pages {
        Some(pages) if !pages.is_power_of_two() => Err(ConnectError::RingPages { pages }),
        pages => Ok(pages),
    }
}

fn queue(
    folder: &str,
    ring: Option<u32>,
    read: &mut impl FnMut(&str) -> Option<String>,
) -> Result<FrontQueue, ConnectError> {
    let single = ring.is_none_or(|pages| pages == 1);
    let plain = needed(read, &format!("{folder}ring-ref"));
    let ring_references = match plain {
        Ok(reference) if single => vec![reference],
        Err(error) if ring.is_none() => return Err(error),
        // A ring of one page may be written either way once an order was given.
        _ => (0..ring.unwrap_or(1))
            .map(|index| needed(read, &format!("{folder}ring-ref{index}")))
            .collect::<Result<_, _>>()?,
    };
    Ok(FrontQueue {
        ring_references,
        event_channel: needed(read, &format!("{folder}event-channel"))?,
    })
}

fn needed(read: &mut impl FnMut(&str) -> Option<String>, key: &str) -> Result<u32, ConnectError> {
    let number = number(read, key, 0, u32::MAX)?;
    let key = || key.to_owned();
    number.ok_or_else(|| ConnectError::Missing { key: key() })
}

fn number(
    read: &mut impl FnMut(&str) -> Option<String>,
    key: &str,
    least: u32,
    most: u32,
) -> Result<Option<u32>, ConnectError> {
    let Some(text) = read(key) else {
        return Ok(None);
    };
    // As front ends print it: digits, no sign.
    let digits = Some(text.as_str()).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    match number.filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(ConnectError::Number {
            key: key.to_owned(),
            least,
            most,
        }),
    }
}
