//! `xen_version` (xen/include/public/version.h).

use pvh_abi::{
    Errno,
    version::{CompileInfo, FeatureInfo, VersionOp},
};
use zerocopy::little_endian::{U32, U64};

use super::low_32;
use crate::{Guest, Width};

/// `xen_version`.
pub trait Version {
    /// What follows the version, NUL-terminated.
    fn extra_version(&self) -> [u8; 16];

    /// How the hypervisor was built, each text NUL-terminated.
    fn compile_info(&self) -> CompileInfo;

    /// The guest types that can run, separated by spaces.
    fn capabilities(&self) -> &[u8];

    /// The source's state, NUL-terminated.
    fn changeset(&self) -> [u8; 64];

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
        VersionOp::VERSION => {
            let (major, minor) = guest.answers().release;
            Ok(i64::from(major) << 16 | i64::from(minor))
        }
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
            Width::Native => guest.write(arg, &U64::new(guest.answers().virt_start))?,
            Width::Compat => guest.write(arg, &[0_u8; 4])?,
        },
        VersionOp::GET_FEATURES => get_features(guest, arg)?,
        VersionOp::PAGESIZE if arg == 0 => return Ok(4096),
        VersionOp::PAGESIZE => return Err(Errno::EINVAL),
        VersionOp::GUEST_HANDLE => guest.write(arg, &version.uuid())?,
        VersionOp::COMMANDLINE => command_line(version.command_line(), guest, arg)?,
        VersionOp::BUILD_ID => return Err(Errno::EPERM),
        op if guest.answers().has_long_texts => return long_text(version, guest, op, arg),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

fn get_features(guest: Guest<'_>, arg: u64) -> Result<(), Errno> {
    let mut info: FeatureInfo = guest.read(arg)?;
    if info.submap_idx.get() != 0 {
        return Err(Errno::EINVAL);
    }
    info.submap.set(guest.answers().features.0);
    guest.write(arg, &info)
}

/// A text of any length, without its NUL: its length if `arg` is null, else the text goes after the
/// 32-bit length of the buffer at `arg`.
fn long_text(
    version: &dyn Version,
    guest: Guest<'_>,
    op: VersionOp,
    arg: u64,
) -> Result<i64, Errno> {
    let (extra, changeset) = (version.extra_version(), version.changeset());
    let bytes = match op {
        VersionOp::EXTRAVERSION2 => until_nul(&extra),
        VersionOp::CAPABILITIES2 => version.capabilities(),
        VersionOp::CHANGESET2 => until_nul(&changeset),
        VersionOp::COMMANDLINE2 => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOSYS),
    };
    let len = u32::try_from(bytes.len()).map_err(|_| Errno::E2BIG)?;
    if arg == 0 {
        return Ok(i64::from(len));
    }
    let room: U32 = guest.read(arg)?;
    if len > room.get() {
        return Err(Errno::ENOBUFS);
    }
    let buffer = arg.checked_add(4).ok_or(Errno::EFAULT)?;
    guest.write(buffer, bytes)?;
    Ok(i64::from(len))
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
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
