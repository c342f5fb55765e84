//! Ends the process when a seccomp filter refuses one of its system calls, and says which it was.
// UNSAFETY: the handler of SIGSYS reads the kernel's description of the call, and ends the process
// by `_exit`, which runs nothing of this program.
#![expect(
    unsafe_code,
    reason = "a handler of SIGSYS that reads which call was refused"
)]

use std::{io, mem::offset_of, sync::OnceLock};

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::register_signal_handler;

/// A system call that a seccomp filter has refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RefusedCall {
    /// Its number.
    pub number: i64,
    /// Its first two arguments.
    pub args: [u64; 2],
}

/// Makes a system call that a filter traps (`SECCOMP_RET_TRAP`) end the process. From then on SIGSYS
/// belongs to this crate.
///
/// `report` runs in the handler of the signal, on the thread that made the call, and returns the
/// exit code of the process. It gets `None` for a SIGSYS that no filter has sent. It must not
/// allocate or wait for a lock, because the thread may hold any lock; system calls that the
/// thread's filter refuses end the process at once there, by the signal.
///
/// # Errors
///
/// The host refuses the handler, or this is the second call with another `report`.
pub fn end_on_refused_calls(report: Report) -> io::Result<()> {
    if REPORT.set(report).is_err() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    register_signal_handler(libc::SIGSYS, on_sigsys)
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

/// Says which call was refused, and returns the exit code of the process.
pub type Report = fn(Option<RefusedCall>) -> u8;

static REPORT: OnceLock<Report> = OnceLock::new();

extern "C" fn on_sigsys(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the handler was registered with SA_SIGINFO, so the kernel passes a pointer to a
    // `siginfo_t` of 128 bytes, which lives until the handler returns. `SigSys` has the layout that
    // the kernel gives it for SIGSYS, fits in it, has no invalid values, and is aligned as it is.
    let info = unsafe { &*info.cast::<SigSys>() };
    let call = (info.code == SYS_SECCOMP).then(|| {
        // SAFETY: with SA_SIGINFO the third argument points to the kernel's `ucontext`, which lives
        // until the handler returns. `Context` is its beginning on x86-64 and has no invalid
        // values.
        let context = unsafe { &*context.cast::<Context>() };
        RefusedCall {
            number: i64::from(info.number),
            args: [context.rdi, context.rsi],
        }
    });
    let code = REPORT.get().map_or(u8::MAX, |report| report(call));
    // SAFETY: `_exit` has no demands; it ends the process without running anything of it.
    unsafe { libc::_exit(c_int::from(code)) }
}

/// The kernel's `siginfo_t` for SIGSYS on x86-64 (asm-generic/siginfo.h).
#[repr(C)]
struct SigSys {
    _signal: c_int,
    _errno: c_int,
    code: c_int,
    _padding: c_int,
    _address: u64,
    number: c_int,
    _architecture: u32,
}

/// The beginning of the kernel's `ucontext` on x86-64 (asm/ucontext.h, asm/sigcontext.h).
#[repr(C)]
struct Context {
    _flags: u64,
    _link: u64,
    /// A `stack_t`.
    _stack: [u64; 3],
    /// R8 to R15.
    _registers: [u64; 8],
    rdi: u64,
    rsi: u64,
}

const _: () = assert!(size_of::<SigSys>() == 32 && size_of::<SigSys>() <= size_of::<siginfo_t>());
const _: () = assert!(offset_of!(SigSys, number) == 24);
const _: () = assert!(offset_of!(Context, rdi) == 0x68 && offset_of!(Context, rsi) == 0x70);

/// The code of a SIGSYS that a filter sends (asm-generic/siginfo.h).
const SYS_SECCOMP: c_int = 1;
