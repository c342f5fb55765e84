//! The addresses of the guest's network devices.

use std::collections::BTreeSet;

use crate::args::NetArgument;

/// Why the networks of a run cannot have addresses.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// More networks than there are threads for.
    #[error("--net is given {count} times: a guest has at most {NETWORKS_MAX} networks")]
    TooMany {
        /// How many were given.
        count: usize,
    },
    /// Two devices have one address.
    #[error("--net: two devices have the address {mac}")]
    SameAddress {
        /// The address.
        mac: String,
    },
}

/// Gives each network device its address: the one that was asked for, or one of Xen's (00:16:3e)
/// that ends in bytes of `random`, which should differ from run to run.
///
/// # Errors
///
/// [`NetworkError`].
pub fn network_addresses(
    networks: &[NetArgument],
    random: [u8; 3],
) -> Result<Vec<[u8; 6]>, NetworkError> {
    let count = networks.len();
    if count > NETWORKS_MAX {
        return Err(NetworkError::TooMany { count });
    }
    let mut taken = BTreeSet::new();
    for mac in networks.iter().filter_map(|network| network.mac) {
        if !taken.insert(mac) {
            let bytes = mac.map(|byte| format!("{byte:02x}"));
            let mac = bytes.join(":");
            return Err(NetworkError::SameAddress { mac });
        }
    }
    let [first, second, third] = random;
    let mut free = (0..=u8::MAX)
        .map(|step| {
            [
                0x00,
                0x16,
                0x3E,
                first & 0x7F,
                second,
                third.wrapping_add(step),
            ]
        })
        .filter(|mac| !taken.contains(mac));
    let addresses = networks.iter().map(|network| {
        // There are more addresses than networks.
        let mac = network.mac.or_else(|| free.next());
        mac.ok_or(NetworkError::TooMany { count })
    });
    addresses.collect()
}

/// Each network costs a thread, two descriptors, 320 KiB, and a device in the store.
const NETWORKS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(values: &[&str]) -> Result<Vec<[u8; 6]>, NetworkError> {
        let networks = values.iter().map(|value| NetArgument::parse(value.into()));
        let networks: Vec<_> = networks.map(Result::unwrap).collect();
        network_addresses(&networks, [0xFF, 2, 0xFF])
    }

    #[test]
    fn addresses_are_those_asked_for_or_xens_and_all_differ() {
        let found = addresses(&["passt", "passt,mac=00:16:3e:7f:02:00", "tap=a"]).unwrap();
        let xen = |last| [0x00, 0x16, 0x3E, 0x7F, 2, last];
        assert_eq!(found, [xen(0xFF), xen(0), xen(1)]);
    }

    #[test]
    fn an_address_given_twice_and_too_many_networks_are_refused() {
        let twice = ["passt,mac=02:00:00:00:00:01"; 2];
        let error = addresses(&twice).unwrap_err();
        assert!(
            error.to_string().ends_with("address 02:00:00:00:00:01"),
            "{error}"
        );
        assert!(addresses(&["passt"; 16]).is_ok());
        let many = addresses(&["passt"; 17]).unwrap_err();
        assert_eq!(many, NetworkError::TooMany { count: 17 });
    }
}
