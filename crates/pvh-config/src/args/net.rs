//! The value of `--net`: what a guest's network is connected to.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use super::disk::split;

/// `tap=NAME`, `passt[=ARGS]` or `socket=PATH`, each with `[,mac=ADDRESS]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetArgument {
    /// The other end.
    pub link: LinkArgument,
    /// The address of the guest's device, if it was given.
    pub mac: Option<[u8; 6]>,
}

/// The other end of a network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkArgument {
    /// A tap with this name.
    Tap(String),
    /// passt, started with these arguments.
    Passt(Vec<String>),
    /// The program that listens on this unix socket.
    Socket(PathBuf),
}

/// Why a value of `--net` is wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetArgumentError {
    /// It does not begin with what the network is connected to.
    #[error("a network is tap=NAME, passt, passt=ARGUMENTS or socket=PATH, each with ,mac=ADDRESS")]
    Link,
    /// No interface has this name.
    #[error("'{name}' is no name of an interface: 1 to 15 bytes without '/' and spaces")]
    TapName {
        /// The name.
        name: String,
    },
    /// There is no such option.
    #[error("'{text}' is not mac=ADDRESS (a comma in the text before it is written ,,)")]
    Unknown {
        /// The option.
        text: String,
    },
    /// No device has this address.
    #[error("'{text}' is not the address of a device, as in mac=02:00:00:00:00:01")]
    Mac {
        /// The address.
        text: String,
    },
}

impl NetArgument {
    /// Reads a value of `--net`.
    ///
    /// # Errors
    ///
    /// [`NetArgumentError`].
    pub fn parse(text: OsString) -> Result<Self, NetArgumentError> {
        let mut parts = split(text.as_bytes()).into_iter();
        let first = parts.next().unwrap_or_default();
        let mut network = Self {
            link: LinkArgument::parse(&first)?,
            mac: None,
        };
        for part in parts {
            let text = OsStr::from_bytes(&part).to_string_lossy();
            let Some(address) = text.strip_prefix("mac=") else {
                let text = text.into_owned();
                return Err(NetArgumentError::Unknown { text });
            };
            let mac = mac(address).ok_or_else(|| NetArgumentError::Mac {
                text: address.to_owned(),
            })?;
            network.mac = Some(mac);
        }
        Ok(network)
    }
}

impl LinkArgument {
    fn parse(text: &[u8]) -> Result<Self, NetArgumentError> {
        if text == b"passt" {
            return Ok(Self::Passt(Vec::new()));
        }
        let mut parts = text.splitn(2, |byte| *byte == b'=');
        let (Some(kind), Some(value)) = (parts.next(), parts.next()) else {
            return Err(NetArgumentError::Link);
        };
        let words = String::from_utf8_lossy(value);
        match kind {
            b"tap" if is_interface(&words) => Ok(Self::Tap(words.into_owned())),
            b"tap" => Err(NetArgumentError::TapName {
                name: words.into_owned(),
            }),
            b"passt" => Ok(Self::Passt(
                words.split_whitespace().map(str::to_owned).collect(),
            )),
            b"socket" if !value.is_empty() => {
                Ok(Self::Socket(OsString::from_vec(value.to_vec()).into()))
            }
            _ => Err(NetArgumentError::Link),
        }
    }
}

/// Whether the kernel takes this name for an interface. A '%' would make it choose a number.
fn is_interface(name: &str) -> bool {
    let is_taken = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%');
    (1..=15).contains(&name.len()) && name.bytes().all(is_taken) && !matches!(name, "." | "..")
}

/// Reads the address of one device: six bytes in hexadecimal, not all 0, not of a group.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        let is_hex = part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| is_hex)?;
    }
    let [first, ..] = mac;
    let is_device = first & 1 == 0 && mac != [0; 6];
    (is_device && parts.next().is_none()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NetArgument, NetArgumentError> {
        NetArgument::parse(text.into())
    }

    #[test]
    fn each_end_has_its_word() {
        let link = |text| parse(text).unwrap().link;
        assert_eq!(link("tap=tap0"), LinkArgument::Tap("tap0".to_owned()));
        assert_eq!(link("passt"), LinkArgument::Passt(Vec::new()));
        let arguments = ["-t", "8080:80,443", "-u", "none"].map(str::to_owned);
        assert_eq!(
            link("passt=-t 8080:80,,443  -u none"),
            LinkArgument::Passt(arguments.to_vec())
        );
        assert_eq!(
            link("socket=/run/a=b"),
            LinkArgument::Socket("/run/a=b".into())
        );
    }

    #[test]
    fn an_address_is_six_bytes_of_one_device() {
        let mac = |text: &str| parse(&format!("passt,mac={text}")).map(|network| network.mac);
        let wanted = [2, 0x1A, 0xB, 0xFF, 0, 1];
        assert_eq!(mac("02:1a:0B:ff:00:01"), Ok(Some(wanted)));
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "+2:00:00:00:00:01",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
        ] {
            let refused = mac(text).unwrap_err();
            assert!(matches!(refused, NetArgumentError::Mac { .. }), "{text}");
        }
    }

    #[test]
    fn wrong_values_say_what_to_write() {
        for (text, word) in [
            ("", "tap=NAME"),
            ("tap", "tap=NAME"),
            ("bridge=br0", "tap=NAME"),
            ("socket=", "tap=NAME"),
            ("tap=", "'' is no name"),
            ("tap=0123456789abcdef", "is no name"),
            ("tap=a/b", "is no name"),
            ("tap=tap%d", "is no name"),
            ("passt,ro", "'ro' is not mac="),
            ("passt,", "'' is not mac="),
        ] {
            let refused = parse(text).unwrap_err().to_string();
            assert!(refused.contains(word), "{text}: {refused}");
        }
    }
}
