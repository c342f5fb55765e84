//! Where gdb connects: a port of the loopback interface, or a socket file.

use std::{
    ffi::OsStr,
    fmt, fs, io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::MetadataExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::sys::{
    socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
    stat::{Mode, fchmod},
};

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "gdb knows these two")]
pub enum Address {
    /// A TCP port of 127.0.0.1; 0 lets the host choose one.
    Loopback(u16),
    /// A socket file, which must not exist yet.
    Unix(PathBuf),
}

/// Why a text names no address.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is neither a port nor `unix:PATH`.
    #[error("neither a port (0 to 65535) nor unix:PATH")]
    Neither,
    /// The path of a socket file is empty or too long for the host.
    #[error("the path of a socket has 1 to {PATH_MAX} bytes")]
    Path,
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The host refuses the port.
    #[error("cannot listen on port {port} of 127.0.0.1")]
    Port {
        /// The port.
        port: u16,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The host refuses the socket file.
    #[error("cannot make the socket {}", path.display())]
    Socket {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file exists.
    #[error("{} exists; remove it if no other program uses it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

impl Address {
    /// Parses `PORT` or `unix:PATH`.
    ///
    /// # Errors
    ///
    /// [`AddressError`].
    pub fn parse(text: &OsStr) -> Result<Self, AddressError> {
        let bytes = text.as_encoded_bytes();
        if let Some(path) = bytes.strip_prefix(b"unix:") {
            if path.is_empty() || path.len() > PATH_MAX {
                return Err(AddressError::Path);
            }
            return Ok(Self::Unix(OsStr::from_bytes(path).into()));
        }
        let port = text.to_str().and_then(|text| text.parse().ok());
        port.map(Self::Loopback).ok_or(AddressError::Neither)
    }
}

/// Writes the address as gdb's `target remote` takes it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(port) => write!(f, "localhost:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A socket that listens. Dropping it removes its file.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, OwnFile),
}

/// A stream to a client.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket file that this process has made.
#[derive(Debug)]
pub(crate) struct OwnFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Listens. A socket file has mode 0600 from its first moment.
    pub(crate) fn bind(address: &Address) -> Result<Self, BindError> {
        match address {
            Address::Loopback(port) => {
                let port = *port;
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
                let listener = listener.and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                });
                listener
                    .map(Self::Tcp)
                    .map_err(|source| BindError::Port { port, source })
            }
            Address::Unix(path) => bind_file(path).map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => BindError::Exists { path: path.clone() },
                _ => BindError::Socket {
                    path: path.clone(),
                    source,
                },
            }),
        }
    }

    /// Returns the address with the port that the host has chosen.
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Tcp(listener) => {
                let port = listener.local_addr().map_or(0, |address| address.port());
                Address::Loopback(port)
            }
            Self::Unix(_, file) => Address::Unix(file.path.clone()),
        }
    }

    /// Accepts a client, if one waits.
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

/// Makes the socket. Linux gives the file the mode that the socket has when it is bound.
fn bind_file(path: &Path) -> io::Result<Listener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(made.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&made);
    bind(fd, &UnixAddr::new(path)?)?;
    let found = fs::symlink_metadata(path)?;
    let file = OwnFile {
        path: path.to_owned(),
        device: found.dev(),
        inode: found.ino(),
    };
    listen(&made, Backlog::new(1)?)?;
    Ok(Listener::Unix(UnixListener::from(made), file))
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        let is_ours =
            found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_ours {
            // A file that stays behind is named by the next run, which refuses it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl io::Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }
}

impl io::Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `sun_path` of `sockaddr_un`, without its NUL.
const PATH_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_socket_file() {
        let parse = |text: &str| Address::parse(OsStr::new(text));
        assert_eq!(parse("1234"), Ok(Address::Loopback(1234)));
        assert_eq!(parse("unix:/a/b"), Ok(Address::Unix("/a/b".into())));
        for text in ["", "65536", "-1", "localhost:1", "x"] {
            assert_eq!(parse(text), Err(AddressError::Neither), "{text}");
        }
        assert_eq!(parse("unix:"), Err(AddressError::Path));
        assert_eq!(
            parse(&format!("unix:{}", "a".repeat(108))),
            Err(AddressError::Path)
        );
    }

    #[test]
    fn a_socket_file_is_for_its_owner_alone_and_removed_by_its_maker_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gdb");
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            Listener::bind(&address),
            Err(BindError::Exists { .. })
        ));
        drop(listener);
        assert!(!path.exists());
        let listener = Listener::bind(&address).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(listener);
        assert_eq!(fs::read(&path).unwrap(), b"another's");
    }

    #[test]
    fn a_port_is_bound_on_the_loopback_interface_alone() {
        let listener = Listener::bind(&Address::Loopback(0)).unwrap();
        let Listener::Tcp(socket) = &listener else {
            panic!("{listener:?}");
        };
        assert!(socket.local_addr().unwrap().ip().is_loopback());
        let Address::Loopback(port) = listener.address() else {
            panic!("{listener:?}");
        };
        assert!(matches!(
            Listener::bind(&Address::Loopback(port)),
            Err(BindError::Port { .. })
        ));
    }
}
