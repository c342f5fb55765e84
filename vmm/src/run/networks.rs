//! Opens the networks of a run, and says what to do about one that cannot be used.

use std::{
    io::{self, ErrorKind},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
};

use pvh_backends::{Link, MacAddress, Network, PasstError, start_passt};
use pvh_config::{LinkArgument, NetArgument, network_addresses};
use pvh_kvm::{Tap, TapError};

use super::{error::RunError, uuid::Uuids};

/// Why a network cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkRefusal {
    /// A tap.
    #[error("--net tap={name}")]
    Tap {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        source: TapError,
    },
    /// passt.
    #[error("--net passt")]
    Passt(#[source] PasstError),
    /// A socket.
    #[error("--net socket={}: cannot connect", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Opens taps and sockets, starts passt, and gives each device its address.
///
/// # Errors
///
/// [`RunError::Networks`], [`RunError::Network`].
pub(super) fn open(networks: &[NetArgument]) -> Result<Vec<Network>, RunError> {
    let [first, second, third, ..] = Uuids::open().next();
    let addresses = network_addresses(networks, [first, second, third]);
    let addresses = addresses.map_err(RunError::Networks)?;
    let networks = (0..).zip(networks).zip(addresses);
    let networks = networks.map(|((number, network), mac)| {
        let link = connect(&network.link).map_err(RunError::Network)?;
        Ok(Network {
            link: Arc::new(link),
            number,
            mac: MacAddress(mac),
        })
    });
    networks.collect()
}

fn connect(link: &LinkArgument) -> Result<Link, NetworkRefusal> {
    match link {
        LinkArgument::Tap(name) => match Tap::open(name) {
            Ok(tap) => Ok(Link::tap(tap, name)),
            Err(source) => Err(NetworkRefusal::Tap {
                name: name.clone(),
                source,
            }),
        },
        LinkArgument::Passt(arguments) => {
            let stream = start_passt(arguments).map_err(NetworkRefusal::Passt)?;
            let link = Link::stream(stream, "passt");
            link.map_err(|error| NetworkRefusal::Passt(PasstError::Socket(error)))
        }
        LinkArgument::Socket(path) => {
            let stream = UnixStream::connect(path);
            let title = format!("socket {}", path.display());
            let link = stream.and_then(|stream| Link::stream(stream, title));
            link.map_err(|source| NetworkRefusal::Socket {
                path: path.clone(),
                source,
            })
        }
    }
}

/// What the user can do.
pub(super) fn fix(refusal: &NetworkRefusal) -> Option<String> {
    use ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, ResourceBusy};
    let fix = match refusal {
        NetworkRefusal::Tap { name, source } => match source {
            TapError::Device(error) if error.kind() == NotFound => "modprobe tun".to_owned(),
            TapError::Device(_) => "allow this user to open it, or use --net passt".to_owned(),
            TapError::Attach(error) => match error.kind() {
                PermissionDenied => format!(
                    "make one for this user: sudo ip tuntap add {name} mode tap user $USER && sudo ip link set {name} \
                     up; or use --net passt"
                ),
                ResourceBusy => "end the program that has it, or use another tap".to_owned(),
                ErrorKind::InvalidInput => {
                    format!("{name} is another kind of interface: ip tuntap list shows the taps")
                }
                _ => return None,
            },
            _ => return None,
        },
        NetworkRefusal::Passt(PasstError::Run(error)) if error.kind() == NotFound => {
            "install it: sudo apt install passt".to_owned()
        }
        NetworkRefusal::Socket { source, .. } => match source.kind() {
            NotFound | ConnectionRefused => "start the program that listens there first".to_owned(),
            PermissionDenied => "allow this user to write to it".to_owned(),
            _ => return None,
        },
        NetworkRefusal::Passt(_) => return None,
    };
    Some(fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::sentence;

    fn line(refusal: &NetworkRefusal) -> String {
        sentence(refusal, fix(refusal))
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_gets_it() {
        let passt = |kind: ErrorKind| NetworkRefusal::Passt(PasstError::Run(kind.into()));
        let missing = line(&passt(ErrorKind::NotFound));
        assert!(
            missing.ends_with("; install it: sudo apt install passt"),
            "{missing}"
        );
        let tap = |source| NetworkRefusal::Tap {
            name: "tap7".to_owned(),
            source,
        };
        let denied = line(&tap(TapError::Attach(ErrorKind::PermissionDenied.into())));
        assert!(
            denied.contains("ip tuntap add tap7 mode tap user $USER"),
            "{denied}"
        );
        let module = line(&tap(TapError::Device(ErrorKind::NotFound.into())));
        assert!(module.ends_with("; modprobe tun"), "{module}");
        let other = line(&tap(TapError::Attach(ErrorKind::InvalidInput.into())));
        assert!(other.contains("ip tuntap list"), "{other}");
    }

    #[test]
    fn a_socket_where_nobody_listens_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let refusal = connect(&LinkArgument::Socket(path.clone())).unwrap_err();
        let line = line(&refusal);
        assert!(line.contains(&path.display().to_string()), "{line}");
        assert!(
            line.ends_with("start the program that listens there first"),
            "{line}"
        );
    }
}
