//! Handles SIGBUS when a mapped file is truncated and its lost pages are touched.
// UNSAFETY: a signal handler reads the address of the fault and maps a new page there, so that the
// access can continue.
#![expect(
    unsafe_code,
    reason = "a handler of SIGBUS that maps a new page over guest RAM"
)]

use std::{
    io, ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering::SeqCst},
    },
};

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::{
    eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd},
    signal::register_signal_handler,
};

use super::ram::GuestRam;

/// Keeps the process alive when a file mapped over guest RAM is truncated.
///
/// While it exists, an access by this process to a lost page of its RAM reads zeros instead of
/// ending the process. The guest's memory has changed then, so the caller should end the machine.
/// If the guest itself touches a lost page, [`Vcpu::run`](crate::Vcpu::run) returns an error or an
/// internal error, and `LostPages` does not record it.
#[derive(Debug)]
pub struct LostPages {
    slots: Vec<&'static Slot>,
    /// Kept mapped while a slot names its addresses.
    _ram: Arc<GuestRam>,
}

impl LostPages {
    /// Watches `ram`. From then on SIGBUS belongs to this crate; a SIGBUS outside watched RAM ends
    /// the process, as it does by default.
    ///
    /// # Errors
    ///
    /// The host's error, if it refuses the handler or the event; `OutOfMemory`, if more than 16
    /// ranges of memory would be watched at one time.
    pub fn watch(ram: &Arc<GuestRam>) -> io::Result<Self> {
        install()?;
        let mut watch = Self {
            slots: Vec::new(),
            _ram: Arc::clone(ram),
        };
        for (range, start) in ram.host_ranges() {
            let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
            let start = usize::try_from(start).map_err(invalid)?;
            let len = usize::try_from(range.len_bytes).map_err(invalid)?;
            let slot = claim_slot(start, start.saturating_add(len));
            watch.slots.push(slot.ok_or(io::ErrorKind::OutOfMemory)?);
        }
        Ok(watch)
    }

    /// Tells whether this process has touched a lost page of this RAM.
    #[must_use]
    pub fn any(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_hit.load(SeqCst))
    }

    /// Returns an event that becomes readable when a lost page of any watched RAM is touched.
    #[must_use]
    pub fn event(&self) -> Option<&EventFd> {
        EVENT.get()
    }
}

impl Drop for LostPages {
    fn drop(&mut self) {
        for slot in self.slots.drain(..) {
            slot.end.store(0, SeqCst);
            slot.is_hit.store(false, SeqCst);
            slot.start.store(0, SeqCst);
        }
    }
}

/// A range of watched addresses; unused while `start` is 0.
#[derive(Debug)]
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    is_hit: AtomicBool,
}

/// Static, because a signal handler can neither be given arguments nor allocate.
static SLOTS: [Slot; 16] = [const {
    Slot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        is_hit: AtomicBool::new(false),
    }
}; 16];

/// Never closed, so that a late handler cannot write to another descriptor.
static EVENT: OnceLock<EventFd> = OnceLock::new();

/// The number of `EVENT`'s descriptor, for the handler.
static EVENT_FD: AtomicI32 = AtomicI32::new(-1);

fn claim_slot(start: usize, end: usize) -> Option<&'static Slot> {
    let slot = SLOTS.iter().find(|slot| {
        slot.start
            .compare_exchange(0, start, SeqCst, SeqCst)
            .is_ok()
    })?;
    slot.end.store(end, SeqCst);
    Some(slot)
}

fn install() -> io::Result<()> {
    if EVENT.get().is_none() {
        // If two threads get here at once, one event is kept and the other closed.
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let event = EVENT.get_or_init(|| event);
        EVENT_FD.store(std::os::fd::AsRawFd::as_raw_fd(event), SeqCst);
    }
    register_signal_handler(libc::SIGBUS, on_sigbus)
        .map_err(|e| io::Error::from_raw_os_error(e.errno()))
}

/// Maps a zeroed page over a lost page of watched RAM. For any other address it restores the
/// default action, which takes place when the access is repeated.
extern "C" fn on_sigbus(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the handler was registered with SA_SIGINFO, so the kernel passes a pointer to a valid
    // `siginfo_t`, which lives until the handler returns.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS is a signal for which the kernel sets the address of the fault.
    let at = unsafe { info.si_addr() }.addr();
    let slot = SLOTS
        .iter()
        .find(|slot| slot.start.load(SeqCst) <= at && at < slot.end.load(SeqCst));
    match slot {
        Some(slot) if info.si_code == BUS_ADRERR && map_zero_page(at) => {
            slot.is_hit.store(true, SeqCst);
            notify();
        }
        _ => {
            // SAFETY: SIG_DFL is a valid action for SIGBUS, and a handler may call `signal`.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        }
    }
}

/// Maps a zeroed page over the page of `at`, which is watched. Returns whether the host did so.
fn map_zero_page(at: usize) -> bool {
    let start = at & !(PAGE_LEN - 1);
    // SAFETY: MAP_FIXED demands that the page is ours to replace. `at` lies in a watched slot,
    // whose RAM its `LostPages` keeps mapped, and this thread was accessing it. RAM starts and ends
    // at page boundaries, so the whole page lies inside it. Rust holds no reference into RAM: this
    // crate accesses it only through volatile slices and atomics, and the page is readable and
    // writable before and after. `mmap` is one system call, which a handler may make.
    let page = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(start),
            PAGE_LEN,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    page != libc::MAP_FAILED
}

/// Makes the event readable, and keeps `errno` for the code that was interrupted.
fn notify() {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: the function has no demands. It returns the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid for as long as the thread lives.
    let before = unsafe { *errno };
    // SAFETY: `one` is valid for reads of its length, the descriptor is never closed, and a handler
    // may call `write`. If the event's counter is full, the write fails, but the event is readable
    // already.
    let _ = unsafe { libc::write(EVENT_FD.load(SeqCst), one.as_ptr().cast(), one.len()) };
    // SAFETY: as for the read above.
    unsafe { *errno = before };
}

const PAGE_LEN: usize = 4096;

/// "Nonexistent physical address": the code of SIGBUS for a page beyond the end of a file.
const BUS_ADRERR: c_int = 2;
