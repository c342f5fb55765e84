//! A tap: a network interface of the host whose other end is a file.
// UNSAFETY: the ioctls of /dev/net/tun have no safe wrapper in a crate that this project uses.
#![expect(unsafe_code, reason = "TUNSETIFF, TUNSETVNETHDRSZ and TUNSETOFFLOAD")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
};

use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref, ioctl_with_val};

/// A tap, open for this process alone. Reads and writes do not wait; each moves one packet behind a
/// `virtio_net_hdr` of 10 bytes.
#[derive(Debug)]
pub struct Tap(File);

/// What a tap may hand to this end, beyond whole packets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "if_tun.h has these")]
pub struct TapOffloads {
    /// Packets whose checksum is blank.
    pub has_blank_checksums: bool,
    /// Large TCP packets over IPv4; needs blank checksums.
    pub has_tcp_v4: bool,
    /// Large TCP packets over IPv6; needs blank checksums.
    pub has_tcp_v6: bool,
}

/// Why a tap cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The host's device for taps cannot be opened.
    #[error("cannot open {TUN_DEVICE}")]
    Device(#[source] io::Error),
    /// No interface can have this name.
    #[error("an interface has a name of 1 to 15 bytes")]
    Name,
    /// The tap cannot be attached or made.
    #[error("cannot use the tap")]
    Attach(#[source] io::Error),
}

impl Tap {
    /// Attaches to the tap `name`, or makes it, which needs CAP_NET_ADMIN; the kernel removes one
    /// that was made when it is dropped. Nobody brings the interface up.
    ///
    /// # Errors
    ///
    /// [`TapError`]. EPERM: it is another user's, or it is not there and cannot be made. EBUSY:
    /// another program has it. EINVAL: the interface is no tap, or one of several queues.
    pub fn open(name: &str) -> Result<Self, TapError> {
        let mut request = InterfaceRequest {
            name: [0; 16],
            flags: IFF_TAP | IFF_NO_PI | IFF_VNET_HDR,
            rest: [0; 22],
        };
        let space = request.name.get_mut(..name.len()).ok_or(TapError::Name)?;
        if !(1..=15).contains(&name.len()) || name.contains('\0') {
            return Err(TapError::Name);
        }
        space.copy_from_slice(name.as_bytes());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(TUN_DEVICE)
            .map_err(TapError::Device)?;
        // SAFETY: `file` is an open descriptor; the request reads and writes 40 bytes, the size of
        // `ifreq`, and `request` has that size, no padding, and any bytes are a value of it; the
        // kernel keeps no pointer to it.
        let attached = unsafe { ioctl_with_mut_ref(&file, TUNSETIFF, &mut request) };
        check(attached).map_err(TapError::Attach)?;
        let header_bytes: libc::c_int = 10;
        // SAFETY: `file` is an open descriptor; the request reads one int, and the kernel keeps no
        // pointer to it.
        let sized = unsafe { ioctl_with_ref(&file, TUNSETVNETHDRSZ, &header_bytes) };
        check(sized).map_err(TapError::Attach)?;
        Ok(Self(file))
    }

    /// Says what this end takes from now on. Packets that wait already stay as they are.
    ///
    /// # Errors
    ///
    /// The host's: the interface is gone.
    pub fn set_offloads(&self, offloads: TapOffloads) -> io::Result<()> {
        let TapOffloads {
            has_blank_checksums,
            has_tcp_v4,
            has_tcp_v6,
        } = offloads;
        let flags = [
            (has_blank_checksums, TUN_F_CSUM),
            (has_blank_checksums && has_tcp_v4, TUN_F_TSO4),
            (has_blank_checksums && has_tcp_v6, TUN_F_TSO6),
        ];
        let flags = flags
            .iter()
            .filter(|(is_set, _)| *is_set)
            .fold(0, |all, (_, flag)| all | flag);
        // SAFETY: the descriptor is open; the request takes a number and no pointer.
        let set = unsafe { ioctl_with_val(&self.0, TUNSETOFFLOAD, flags) };
        check(set)
    }

    /// The file that packets are read from and written to.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.0
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct ifreq` of if.h.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);

const TUN_DEVICE: &str = "/dev/net/tun";
/// if_tun.h.
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_has_are_refused_before_anything_is_opened() {
        for name in ["", "0123456789abcdef", "a\0b", &"x".repeat(300)] {
            assert!(matches!(Tap::open(name), Err(TapError::Name)), "{name:?}");
        }
    }

    #[test]
    fn an_interface_that_is_no_tap_is_refused() {
        match Tap::open("lo") {
            Err(TapError::Attach(error)) => {
                let number = error.raw_os_error();
                assert!(
                    [Some(libc::EINVAL), Some(libc::EPERM)].contains(&number),
                    "{error}"
                );
            }
            // Without the device or the right to open it there is nothing to see.
            Err(TapError::Device(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
