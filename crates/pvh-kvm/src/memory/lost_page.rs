//! What happens when a mapped file is cut short: its pages are gone, and touching one raises SIGBUS.
// UNSAFETY: a signal handler looks at the address of the fault, and maps a fresh page there so that the access can
// go on.
#![expect(
    unsafe_code,
    reason = "a handler of SIGBUS, which maps a page of a mapping of ours anew"
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

/// Survives the loss of mapped pages: while it lives, an access of this process to a page of its RAM whose file has
/// become too short reads zeros instead of ending the process.
///
/// The guest's memory is not what it was then: end the machine. A guest that touches such a page by itself ends
/// [`Vcpu::run`](crate::Vcpu::run) with an error or an internal error, and is not noticed here.
#[derive(Debug)]
pub struct LostPages {
    slots: Vec<&'static Slot>,
    /// As long as a slot names its addresses.
    _ram: Arc<GuestRam>,
}

impl LostPages {
    /// Watches over `ram`. SIGBUS belongs to this crate from then on; one that is not about watched RAM ends the
    /// process, as it does by default.
    ///
    /// # Errors
    ///
    /// When the host refuses the handler or the event, or the RAM of too many machines is watched at a time.
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

    /// Tells whether a page of this RAM was lost.
    #[must_use]
    pub fn any(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_hit.load(SeqCst))
    }

    /// Becomes readable when a page is lost, of any watched RAM.
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

/// Addresses that are watched; free while `start` is 0.
#[derive(Debug)]
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    is_hit: AtomicBool,
}

/// A handler can reach nothing but statics, and can allocate nothing.
static SLOTS: [Slot; 16] = [const {
    Slot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        is_hit: AtomicBool::new(false),
    }
}; 16];

/// Never closed, so that a handler which is late writes to nothing else.
static EVENT: OnceLock<EventFd> = OnceLock::new();

/// The descriptor of `EVENT`, for the handler.
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
        // Of two threads that come here at once, one keeps its event.
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let event = EVENT.get_or_init(|| event);
        EVENT_FD.store(std::os::fd::AsRawFd::as_raw_fd(event), SeqCst);
    }
    register_signal_handler(libc::SIGBUS, on_sigbus)
        .map_err(|e| io::Error::from_raw_os_error(e.errno()))
}

/// Maps a zeroed page where a watched one is lost; otherwise the default action takes place when the access is
/// tried again.
extern "C" fn on_sigbus(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes a pointer to a valid `siginfo_t`, which lives until the handler returns; the
    // handler was registered with SA_SIGINFO.
    let info = unsafe { &*info };
    // SAFETY: SIGBUS is a signal that fills the address of the fault.
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
            // SAFETY: SIG_DFL is a valid action for SIGBUS; `signal` may be called in a handler.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        }
    }
}

/// Maps a zeroed page at the page of `at`, which is watched.
fn map_zero_page(at: usize) -> bool {
    let start = at & !(PAGE_LEN - 1);
    // SAFETY: MAP_FIXED demands that the page is ours to replace. `at` lies in a watched slot, whose RAM its
    // `LostPages` keeps mapped, and this thread was accessing it. RAM begins and ends at page borders, so the
    // page lies inside it as a whole. Rust holds no reference into RAM: it is only accessed through volatile slices and
    // atomics, and the page is readable and writable before and after. `mmap` is one system call, which a handler may make.
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

/// Makes the event readable, and leaves `errno` to the code that was interrupted.
fn notify() {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: it has no demands, and returns the address of this thread's `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the pointer is valid for as long as the thread lives.
    let before = unsafe { *errno };
    // SAFETY: `one` is valid for reads of its length; the descriptor is never closed. `write` may be called in a
    // handler. Full, it is readable already.
    let _ = unsafe { libc::write(EVENT_FD.load(SeqCst), one.as_ptr().cast(), one.len()) };
    // SAFETY: as for the read.
    unsafe { *errno = before };
}

const PAGE_LEN: usize = 4096;

/// "Nonexistent physical address": what a file that is too short gives.
const BUS_ADRERR: c_int = 2;
