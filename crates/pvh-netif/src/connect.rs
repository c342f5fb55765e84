//! The keys of both ends: what the back end offers, and what the front end tells when it connects.

use pvh_xenbus::{FrontKeys, KeyError};

/// What a back end offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Features {
    max_queues: u32,
    has_segmentation: bool,
}

/// What a front end has written, read and checked.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Front {
    /// Its queues, at least one.
    pub queues: Vec<FrontQueue>,
    /// What it takes.
    pub offloads: Offloads,
}

/// One queue of a front end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FrontQueue {
    /// The grant reference of the transmit ring's page.
    pub transmit_reference: u32,
    /// The grant reference of the receive ring's page.
    pub receive_reference: u32,
    /// Its event channels.
    pub channels: Channels,
}

/// The ports of a queue's event channels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "feature-split-event-channels")]
pub enum Channels {
    /// One for both rings.
    Joint(u32),
    /// One for each.
    Split {
        /// The transmit ring's.
        transmit: u32,
        /// The receive ring's.
        receive: u32,
    },
}

/// What the other end takes beyond packets of one page.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "netif.h has these keys")]
pub struct Offloads {
    /// `feature-sg`: packets over several slots.
    pub has_scatter_gather: bool,
    /// `feature-gso-tcpv4`: large TCP packets over IPv4.
    pub has_tcp_v4: bool,
    /// `feature-gso-tcpv6`: large TCP packets over IPv6.
    pub has_tcp_v6: bool,
    /// For which packets it fills in blank checksums.
    pub fills_checksums: FillsChecksums,
}

/// Which blank checksums an end fills in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "netif.h has these keys")]
pub struct FillsChecksums {
    /// Those of TCP and UDP over IPv4: unless `feature-no-csum-offload` is set.
    pub ipv4: bool,
    /// Those over IPv6: `feature-ipv6-csum-offload`.
    pub ipv6: bool,
}

/// Why a front end cannot be connected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A key is missing, or it holds something else than a number that is allowed.
    #[error(transparent)]
    Key(KeyError),
    /// The front end wants its pages exchanged instead of copied, which no back end of today does.
    #[error("the front end has not set request-rx-copy to 1")]
    NoCopy,
}

impl Features {
    /// Offers `max_queues` queues, at least 1.
    #[must_use]
    pub fn new(max_queues: u32) -> Self {
        Self {
            max_queues: max_queues.max(1),
            has_segmentation: true,
        }
    }

    /// Does not offer to cut up large packets: a front end of Linux then sends none. One that sends
    /// them nevertheless has to be refused by the caller.
    #[must_use]
    pub const fn without_segmentation(mut self) -> Self {
        self.has_segmentation = false;
        self
    }

    /// Returns the keys that the back end writes before it enters `XenbusStateInitWait`.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let segmentation = self.has_segmentation.into();
        let flags = [
            ("feature-sg", 1),
            ("feature-gso-tcpv4", segmentation),
            ("feature-gso-tcpv6", segmentation),
            ("feature-ipv6-csum-offload", 1),
            ("feature-rx-copy", 1),
            ("feature-rx-flip", 0),
            ("feature-split-event-channels", 1),
            ("multi-queue-max-queues", self.max_queues),
        ];
        flags
            .into_iter()
            .map(|(key, value)| (key, value.to_string()))
    }

    /// Returns the key of the link's state, to be written whenever that changes.
    #[must_use]
    pub fn carrier(is_up: bool) -> (&'static str, String) {
        ("carrier", u32::from(is_up).to_string())
    }
}

impl Default for Features {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Front {
    /// Reads the front end's keys through `read`, which gets a key below the front end's folder.
    ///
    /// At most `max_queues` x 5 + 7 keys are read, and as much is allocated.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: which key is wrong.
    pub fn read(
        features: &Features,
        read: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, ConnectError> {
        let mut keys = FrontKeys::new(read);
        if !keys.flag("request-rx-copy")? {
            return Err(ConnectError::NoCopy);
        }
        let folders = keys.queue_folders(features.max_queues)?;
        let queues = folders.iter().map(|folder| queue(folder, &mut keys));
        let queues = queues.collect::<Result<_, _>>()?;
        let offloads = Offloads {
            has_scatter_gather: keys.flag("feature-sg")?,
            has_tcp_v4: keys.flag("feature-gso-tcpv4")?,
            has_tcp_v6: keys.flag("feature-gso-tcpv6")?,
            fills_checksums: FillsChecksums {
                ipv4: !keys.flag("feature-no-csum-offload")?,
                ipv6: keys.flag("feature-ipv6-csum-offload")?,
            },
        };
        Ok(Self { queues, offloads })
    }
}

impl From<KeyError> for ConnectError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

fn queue(
    folder: &str,
    keys: &mut FrontKeys<impl FnMut(&str) -> Option<String>>,
) -> Result<FrontQueue, KeyError> {
    let joint = keys.number(&format!("{folder}event-channel"), 0..=u32::MAX)?;
    let split = keys.number(&format!("{folder}event-channel-tx"), 0..=u32::MAX)?;
    let channels = match (split, joint) {
        (Some(transmit), _) => Channels::Split {
            transmit,
            receive: keys.needed(&format!("{folder}event-channel-rx"))?,
        },
        (None, Some(port)) => Channels::Joint(port),
        (None, None) => {
            let key = format!("{folder}event-channel");
            return Err(KeyError::Missing { key });
        }
    };
    Ok(FrontQueue {
        transmit_reference: keys.needed(&format!("{folder}tx-ring-ref"))?,
        receive_reference: keys.needed(&format!("{folder}rx-ring-ref"))?,
        channels,
    })
}
