//! `set_timer_op`, `console_io` and `vm_assist` (xen/include/public/xen.h).

use pvh_abi::Errno;

use super::{as_result, low_32};
use crate::{Call, Guest, Outcome, Width};

/// `set_timer_op`.
pub trait Timer {
    /// Starts the calling vCPU's one-shot timer, the same as `vcpu_op`'s: 0 stops it, a time that
    /// is past fires at once, and one that is negative or more than 2^50 ns ahead becomes 100 ms
    /// from now.
    fn set_timer(&mut self, at_ns: i64);
}

/// `console_io`, for a domain that may write to the hypervisor's console; other domains do not
/// offer it.
pub trait Console {
    /// Writes text.
    fn write(&mut self, text: &[u8]);

    /// Reads at most `buf.len()` bytes of input; returns how many.
    fn read(&mut self, buf: &mut [u8]) -> usize {
        let _ = buf;
        0
    }
}

/// `vm_assist`: HVM has one of its types.
pub trait Assist {
    /// Turns the flag "runstate is being updated" on or off.
    fn runstate_update_flag(&mut self, enable: bool);
}

pub(crate) fn set_timer_op(timer: &mut dyn Timer, width: Width, args: [u64; 5]) -> i64 {
    let [first, second, ..] = args;
    let at_ns = match width {
        Width::Native => first,
        // Two registers, the low word first.
        Width::Compat => second << 32 | first,
    };
    timer.set_timer(at_ns.cast_signed());
    0
}

pub(crate) fn vm_assist(assist: &mut dyn Assist, args: [u64; 5]) -> Result<i64, Errno> {
    let [command, kind, ..] = args.map(low_32);
    // Xen checks the type before the command.
    if kind != RUNSTATE_UPDATE_FLAG {
        return Err(Errno::EINVAL);
    }
    match command {
        ENABLE => assist.runstate_update_flag(true),
        DISABLE => assist.runstate_update_flag(false),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// A domain without the console is refused before its command is read.
pub(crate) fn console_io(
    console: Option<&mut dyn Console>,
    guest: Guest<'_>,
    call: Call,
) -> Result<Outcome, Errno> {
    let console = console.ok_or(Errno::EPERM)?;
    let [command, count, buffer, ..] = call.args;
    match low_32(command) {
        CONSOLE_WRITE => write(console, guest, call),
        CONSOLE_READ => read(console, guest, low_32(count), buffer).map(Outcome::Return),
        _ => Err(Errno::ENOSYS),
    }
}

/// Writes one piece, and leaves the rest to the next call.
fn write(console: &mut dyn Console, guest: Guest<'_>, call: Call) -> Result<Outcome, Errno> {
    let [command, count, buffer, d, e] = call.args;
    let count = u64::from(low_32(count));
    let mut text = [0; PIECE_BYTES];
    let len = usize::try_from(count)
        .unwrap_or(PIECE_BYTES)
        .min(PIECE_BYTES);
    let piece = text.get_mut(..len).unwrap_or_default();
    guest.read_bytes(buffer, piece)?;
    console.write(piece);
    let done = piece.len() as u64;
    let left = count.saturating_sub(done);
    if left == 0 {
        return Ok(Outcome::Return(0));
    }
    let next = buffer.checked_add(done).ok_or(Errno::EFAULT)?;
    Ok(Outcome::Again(call.with_args([command, left, next, d, e])))
}

/// Reads at most one piece: the guest calls again for more.
fn read(
    console: &mut dyn Console,
    guest: Guest<'_>,
    count: u32,
    buffer: u64,
) -> Result<i64, Errno> {
    if i32::try_from(count).is_err() {
        return Err(Errno::E2BIG);
    }
    let mut text = [0; PIECE_BYTES];
    let len = usize::try_from(count)
        .unwrap_or(PIECE_BYTES)
        .min(PIECE_BYTES);
    let piece = text.get_mut(..len).unwrap_or_default();
    let got = console.read(piece).min(piece.len());
    let read = piece.get(..got).unwrap_or_default();
    guest.write(buffer, read)?;
    Ok(as_result(read.len() as u64))
}

const CONSOLE_WRITE: u32 = 0;
const CONSOLE_READ: u32 = 1;
const PIECE_BYTES: usize = 256;

const ENABLE: u32 = 0;
const DISABLE: u32 = 1;
const RUNSTATE_UPDATE_FLAG: u32 = 5;
