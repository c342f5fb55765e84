//! What the front end tells when it connects.

use pvh_xenbus::{FrontKeys, KeyError};

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
    /// A key is missing, or it holds something else than a number that is allowed.
    #[error(transparent)]
    Key(KeyError),
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
        read: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, ConnectError> {
        let mut keys = FrontKeys::new(read);
        let protocol = Protocol::of_key(keys.text("protocol").as_deref());
        let protocol = protocol.ok_or(ConnectError::Protocol)?;
        let ring = ring_shape(features, &mut keys)?;
        let folders = keys.queue_folders(features.max_queues)?;
        let queues = folders.iter().map(|folder| queue(folder, ring, &mut keys));
        let queues = queues.collect::<Result<_, _>>()?;
        Ok(Self { protocol, queues })
    }
}

impl From<KeyError> for ConnectError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

/// How many pages a ring has. `None`: the front end has said nothing, and has one page.
fn ring_shape(
    features: &Features,
    keys: &mut FrontKeys<impl FnMut(&str) -> Option<String>>,
) -> Result<Option<u32>, ConnectError> {
    let order = keys.number("ring-page-order", 0..=features.max_ring_order)?;
    if let Some(order) = order {
        return Ok(Some(1_u32.checked_shl(order).unwrap_or(1)));
    }
    let most = 1_u32.checked_shl(features.max_ring_order).unwrap_or(1);
    let pages = keys.number("num-ring-pages", 1..=most)?;
    match pages {
        Some(pages) if !pages.is_power_of_two() => Err(ConnectError::RingPages { pages }),
        pages => Ok(pages),
    }
}

fn queue(
    folder: &str,
    ring: Option<u32>,
    keys: &mut FrontKeys<impl FnMut(&str) -> Option<String>>,
) -> Result<FrontQueue, KeyError> {
    let single = ring.is_none_or(|pages| pages == 1);
    let plain = keys.needed(&format!("{folder}ring-ref"));
    let ring_references = match plain {
        Ok(reference) if single => vec![reference],
        Err(error) if ring.is_none() => return Err(error),
        // A ring of one page may be written either way once an order was given.
        _ => (0..ring.unwrap_or(1))
            .map(|index| keys.needed(&format!("{folder}ring-ref{index}")))
            .collect::<Result<_, _>>()?,
    };
    Ok(FrontQueue {
        ring_references,
        event_channel: keys.needed(&format!("{folder}event-channel"))?,
    })
}
