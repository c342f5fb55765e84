//! The keys of both ends: what the back end offers, and what the front end tells when it connects.

/// What a back end offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Features {
    max_queues: u32,
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
        }
    }

    /// Returns the keys that the back end writes before it enters `XenbusStateInitWait`.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let flags = [
            ("feature-sg", 1),
            ("feature-gso-tcpv4", 1),
            ("feature-gso-tcpv6", 1),
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
        mut read: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, ConnectError> {
        let read = &mut read;
        if !flag(read, "request-rx-copy")? {
            return Err(ConnectError::NoCopy);
        }
        let queues = number(read, "multi-queue-num-queues", 1, features.max_queues)?;
        let queues = match queues {
            // One queue stands in the folder itself, whether it was asked for or not.
            None | Some(1) => vec![queue("", read)?],
            Some(count) => (0..count)
                .map(|index| queue(&format!("queue-{index}/"), read))
                .collect::<Result<_, _>>()?,
        };
        let offloads = Offloads {
            has_scatter_gather: flag(read, "feature-sg")?,
            has_tcp_v4: flag(read, "feature-gso-tcpv4")?,
            has_tcp_v6: flag(read, "feature-gso-tcpv6")?,
            fills_checksums: FillsChecksums {
                ipv4: !flag(read, "feature-no-csum-offload")?,
                ipv6: flag(read, "feature-ipv6-csum-offload")?,
            },
        };
        Ok(Self { queues, offloads })
    }
}

fn queue(
    folder: &str,
    read: &mut impl FnMut(&str) -> Option<String>,
) -> Result<FrontQueue, ConnectError> {
    let joint = number(read, &format!("{folder}event-channel"), 0, u32::MAX)?;
    let split = number(read, &format!("{folder}event-channel-tx"), 0, u32::MAX)?;
    let channels = match (split, joint) {
        (Some(transmit), _) => Channels::Split {
            transmit,
            receive: needed(read, &format!("{folder}event-channel-rx"))?,
        },
        (None, Some(port)) => Channels::Joint(port),
        (None, None) => {
            let key = format!("{folder}event-channel");
            return Err(ConnectError::Missing { key });
        }
    };
    Ok(FrontQueue {
        transmit_reference: needed(read, &format!("{folder}tx-ring-ref"))?,
        receive_reference: needed(read, &format!("{folder}rx-ring-ref"))?,
        channels,
    })
}

fn flag(read: &mut impl FnMut(&str) -> Option<String>, key: &str) -> Result<bool, ConnectError> {
    Ok(number(read, key, 0, 1)? == Some(1))
}

fn needed(read: &mut impl FnMut(&str) -> Option<String>, key: &str) -> Result<u32, ConnectError> {
    let number = number(read, key, 0, u32::MAX)?;
    number.ok_or_else(|| ConnectError::Missing {
        key: key.to_owned(),
    })
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
