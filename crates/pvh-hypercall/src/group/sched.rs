//! `sched_op` (xen/include/public/sched.h).

use pvh_abi::{
    DomId, Errno,
    event_channel::Port,
    sched::{
        MAX_POLL_PORTS, SchedOp, SchedPoll, SchedPollCompat, SchedRemoteShutdown, SchedShutdown,
        SchedWatchdog, ShutdownReason,
    },
};
use zerocopy::little_endian::U32;

use super::low_32;
use crate::{Budget, Guest, GuestArray};

/// `sched_op`.
pub trait Sched {
    /// Yields the processor.
    fn yield_now(&mut self) {}

    /// Unmasks the calling vCPU's events and puts it to sleep until an event is due; the result is
    /// 0 whenever it wakes.
    fn block(&mut self);

    /// Stops the domain; the first reason wins.
    fn shutdown(&mut self, reason: ShutdownReason);

    /// Notes the reason of a shutdown to come.
    fn shutdown_code(&mut self, reason: ShutdownReason);

    /// Puts the calling vCPU to sleep until one of the ports is pending, an event is due, or the
    /// system time is `timeout_ns` (0: never); the answer is 0 whenever it wakes.
    ///
    /// # Errors
    ///
    /// EINVAL for a port that is not valid, EFAULT for a list that cannot be read.
    fn poll(&mut self, ports: &Ports<'_>, timeout_ns: u64) -> Result<(), Errno>;

    /// Stops another domain.
    ///
    /// # Errors
    ///
    /// ESRCH if there is none, which is the default; EPERM.
    fn remote_shutdown(&mut self, domain: DomId, reason: u32) -> Result<(), Errno> {
        let _ = (domain, reason);
        Err(Errno::ESRCH)
    }

    /// Makes a watchdog (`id` 0), restarts it, or stops it (`timeout_s` 0); returns the id of a new
    /// one, else 0.
    ///
    /// # Errors
    ///
    /// ENOSPC, EINVAL for an id that is not in use.
    fn watchdog(&mut self, id: u32, timeout_s: u32) -> Result<u32, Errno>;
}

/// The ports of a poll, at most 128, still in guest memory.
#[derive(Clone, Copy, Debug)]
pub struct Ports<'io> {
    list: GuestArray<'io, U32>,
    count: u32,
}

impl Ports<'_> {
    /// How many there are, at most 128.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Reads one port; an index past the end is EINVAL.
    ///
    /// # Errors
    ///
    /// EFAULT, EINVAL.
    pub fn get(&self, index: u32) -> Result<Port, Errno> {
        if index >= self.count {
            return Err(Errno::EINVAL);
        }
        Ok(Port(self.list.get(u64::from(index))?.get()))
    }
}

pub(crate) fn sched_op(
    sched: &mut dyn Sched,
    guest: Guest<'_>,
    [op, arg, ..]: [u64; 5],
) -> Result<i64, Errno> {
    match SchedOp(low_32(op)) {
        SchedOp::YIELD => sched.yield_now(),
        SchedOp::BLOCK => sched.block(),
        SchedOp::SHUTDOWN => {
            // A soft reset closes every port, and more.
            guest.budget().charge(Budget::GO);
            sched.shutdown(reason(guest, arg)?);
        }
        SchedOp::SHUTDOWN_CODE => sched.shutdown_code(reason(guest, arg)?),
        SchedOp::POLL => poll(sched, guest, arg)?,
        SchedOp::REMOTE_SHUTDOWN => {
            let remote: SchedRemoteShutdown = guest.read(arg)?;
            sched.remote_shutdown(DomId(remote.domain_id.get()), remote.reason.get())?;
        }
        SchedOp::WATCHDOG => {
            let watchdog: SchedWatchdog = guest.read(arg)?;
            return match sched.watchdog(watchdog.id.get(), watchdog.timeout.get()) {
                // Xen returns it as an unsigned 32-bit number: a 64-bit caller reads it without its
                // sign.
                Err(Errno::ENOSPC) => Ok(NO_WATCHDOG_LEFT),
                answer => answer.map(i64::from),
            };
        }
        // Only the hardware domain may; the argument is not read.
        SchedOp::PIN_OVERRIDE => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// The low 8 bits of the reason.
fn reason(guest: Guest<'_>, arg: u64) -> Result<ShutdownReason, Errno> {
    let shutdown: SchedShutdown = guest.read(arg)?;
    let [reason, ..] = shutdown.reason.to_bytes();
    Ok(ShutdownReason(reason))
}

fn poll(sched: &mut dyn Sched, guest: Guest<'_>, arg: u64) -> Result<(), Errno> {
    let poll: Poll = guest.read_either::<SchedPoll, SchedPollCompat, _>(arg)?;
    if poll.count > MAX_POLL_PORTS {
        return Err(Errno::EINVAL);
    }
    let ports = Ports {
        list: guest.array(poll.ports),
        count: poll.count,
    };
    sched.poll(&ports, poll.timeout_ns)
}

/// The argument of `poll`, from either layout.
struct Poll {
    ports: u64,
    count: u32,
    timeout_ns: u64,
}

impl From<SchedPoll> for Poll {
    fn from(poll: SchedPoll) -> Self {
        Self {
            ports: poll.ports.get(),
            count: poll.nr_ports.get(),
            timeout_ns: poll.timeout.get(),
        }
    }
}

impl From<SchedPollCompat> for Poll {
    fn from(poll: SchedPollCompat) -> Self {
        Self {
            ports: u64::from(poll.ports.get()),
            count: poll.nr_ports.get(),
            timeout_ns: poll.timeout.get(),
        }
    }
}

/// -ENOSPC in 32 bits.
const NO_WATCHDOG_LEFT: i64 = 0xffff_ffe4;
