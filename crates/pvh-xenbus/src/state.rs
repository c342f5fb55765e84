//! The states of the two ends of a device.

/// The state of one end (xen/include/public/io/xenbus.h). The store holds it as a decimal number.
#[doc(alias = "XenbusState")]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "xenbus.h has these nine")]
pub enum State {
    /// 0: the node is missing, or holds no state.
    Unknown,
    /// 1: the toolstack has made the device.
    Initialising,
    /// 2: the end is ready and waits for the other one.
    InitWait,
    /// 3: the end has published its ring and waits for a connection.
    Initialised,
    /// 4: the device is in use.
    Connected,
    /// 5: the end is closing, because of an error or an unplug.
    Closing,
    /// 6: the end is closed.
    Closed,
    /// 7: the device is being reconfigured.
    Reconfiguring,
    /// 8: the device has been reconfigured.
    Reconfigured,
}

/// All states, each at the index that is its number.
const STATES: [State; 9] = [
    State::Unknown,
    State::Initialising,
    State::InitWait,
    State::Initialised,
    State::Connected,
    State::Closing,
    State::Closed,
    State::Reconfiguring,
    State::Reconfigured,
];

impl State {
    /// Reads the value of a `state` node. Everything but one digit from 1 to 8 is
    /// [`State::Unknown`], and so is a missing node.
    #[must_use]
    pub fn read(value: Option<&[u8]>) -> Self {
        match value {
            Some(&[digit @ b'1'..=b'8']) => {
                let number = usize::from(digit.wrapping_sub(b'0'));
                STATES.get(number).copied().unwrap_or(Self::Unknown)
            }
            _ => Self::Unknown,
        }
    }

    /// Returns the value for a `state` node.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "0",
            Self::Initialising => "1",
            Self::InitWait => "2",
            Self::Initialised => "3",
            Self::Connected => "4",
            Self::Closing => "5",
            Self::Closed => "6",
            Self::Reconfiguring => "7",
            Self::Reconfigured => "8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{STATES, State};

    #[test]
    fn states_are_written_and_read_as_one_digit() {
        for state in STATES {
            assert_eq!(State::read(Some(state.as_str().as_bytes())), state);
        }
        for bad in ["", "9", "44", " 4", "4\0", "-1", "x"] {
            assert_eq!(State::read(Some(bad.as_bytes())), State::Unknown, "{bad:?}");
        }
        assert_eq!(State::read(None), State::Unknown);
    }
}
