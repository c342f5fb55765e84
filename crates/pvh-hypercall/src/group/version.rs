//! `xen_version` (xen/include/public/version.h).

use pvh_abi::{
    Errno,
    version::{CompileInfo, FeatureInfo, Features, VersionOp},
};
use zerocopy::little_endian::U64;

use super::low_32;
use crate::{Guest, Width};

/// `xen_version`.
pub trait Version {
    /// The version: major in the high half, minor in the low.
    fn version(&self) -> u32 {
        4 << 16 | 17
    }

    /// What follows the version, NUL-terminated.
    fn extra_version(&self) -> [u8; 16];

    /// How the hypervisor was built, each text NUL-terminated.
    fn compile_info(&self) -> CompileInfo;

    /// The guest types that can run, separated by spaces.
    fn capabilities(&self) -> &[u8];

    /// The source's state, NUL-terminated.
    fn changeset(&self) -> [u8; 64];

    /// The features of submap 0.
    fn features(&self) -> Features {
        Features::PVH
    }

    /// The domain's UUID.
    fn uuid(&self) -> [u8; 16];

    /// The hypervisor's command line, which Xen does not show to a domU.
    fn command_line(&self) -> &[u8] {
        b"<denied>"
    }
}

pub(crate) fn xen_version(
    version: &dyn Version,
    guest: Guest<'_>,
    [op, arg, ..]: [u64; 5],
) -> Result<i64, Errno> {
    match VersionOp(low_32(op)) {
        // The one that guests ask often.
        VersionOp::VERSION => Ok(i64::from(version.version())),
        op => describe(version, guest, op, arg),
    }
}

/// The operations that copy a text or a structure out. They have 2 KiB of stack, which
/// `VERSION` need not set up.
#[inline(never)]
fn describe(
    version: &dyn Version,
    guest: Guest<'_>,
    op: VersionOp,
    arg: u64,
) -> Result<i64, Errno> {
    match op {
        VersionOp::EXTRAVERSION => guest.write(arg, &version.extra_version())?,
        VersionOp::COMPILE_INFO => guest.write(arg, &version.compile_info())?,
        VersionOp::CAPABILITIES => guest.write(arg, &text(version.capabilities()))?,
        VersionOp::CHANGESET => guest.write(arg, &version.changeset())?,
        VersionOp::PLATFORM_PARAMETERS => match guest.width() {
            Width::Native => guest.write(arg, &U64::new(VIRT_START))?,
            Width::Compat => guest.write(arg, &[0_u8; 4])?,
        },
        VersionOp::GET_FEATURES => get_features(version, guest, arg)?,
        VersionOp::PAGESIZE if arg == 0 => return Ok(4096),
        VersionOp::PAGESIZE => return Err(Errno::EINVAL),
        VersionOp::GUEST_HANDLE => guest.write(arg, &version.uuid())?,
        VersionOp::COMMANDLINE => command_line(version.command_line(), guest, arg)?,
        VersionOp::BUILD_ID => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

fn get_features(version: &dyn Version, guest: Guest<'_>, arg: u64) -> Result<(), Errno> {
    let mut info: FeatureInfo = guest.read(arg)?;
    if info.submap_idx.get() != 0 {
        return Err(Errno::EINVAL);
    }
    info.submap.set(version.features().0);
    guest.write(arg, &info)
}

/// Writes the command line and its NUL; the bytes after them in the 1024-byte field stay.
fn command_line(line: &[u8], guest: Guest<'_>, arg: u64) -> Result<(), Errno> {
    let bytes = text(line);
    let len = line.len().saturating_add(1).min(bytes.len());
    guest.write(arg, bytes.get(..len).unwrap_or(&bytes))
}

/// A text in its 1024 bytes, cut so that a NUL ends it.
fn text(text: &[u8]) -> [u8; 1024] {
    let mut bytes = [0; 1024];
    for (byte, text) in bytes.iter_mut().take(1023).zip(text) {
        *byte = *text;
    }
    bytes
}

/// The start of the hypervisor's addresses for a 64-bit PV guest; up to Xen 4.17 at least, HVM
/// guests read it too. 32-bit guests read 0.
const VIRT_START: u64 = 0xffff_8000_0000_0000;
