//! The state that the threads of one machine share.

use std::{
    io,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pvh_devices::{InputWanted, IrqLine, Ports, Request, Rtc, SerialPort};
use pvh_kvm::{Crash, Halts, LostPages};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::console::ConsoleQueue;
use pvh_abi::sched::ShutdownReason;

/// Why a machine ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The guest requested it.
    Request(Request),
    /// A vCPU had a triple fault, which resets the machine.
    TripleFault(Box<Crash>),
    /// The guest cannot go on.
    Crash(Box<Crash>),
    /// The domain was shut down for a reason other than power-off or reboot.
    Shutdown(ShutdownReason),
    /// The user ended it at the terminal.
    Quit,
    /// A signal with this number ended it.
    Signal(i32),
    /// A vCPU thread panicked: a bug in pvh-vmm.
    Panic,
    /// Guest memory that was mapped from a file is lost.
    LostMemory,
    /// Every vCPU of a plain machine has halted for good.
    Halted,
}

/// The devices of a machine, and why it ends: the first reason counts.
#[derive(Debug)]
pub(crate) struct Board {
    ports: Mutex<Ports<ConsoleQueue>>,
    output: ConsoleQueue,
    input_wanted: EventFd,
    stopping: AtomicBool,
    end: Mutex<Option<End>>,
    ended: EventFd,
    /// Watches memory that is mapped from files.
    lost: OnceLock<LostPages>,
    /// Watches for the halt of a plain machine.
    halts: OnceLock<Halts>,
}

impl Board {
    /// Devices after reset: those of a plain machine, in which `com1` becomes an edge on the serial
    /// port's interrupt line; without a line, those of a Xen domain.
    ///
    /// # Errors
    ///
    /// The host has no more descriptors.
    pub(crate) fn new(output: ConsoleQueue, com1: Option<EventFd>) -> io::Result<Self> {
        let input_wanted = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let wanted = InputWanted(input_wanted.try_clone()?);
        output.hold();
        let ports = match com1 {
            Some(line) => {
                let serial = SerialPort::new(IrqLine(line), wanted, output.clone());
                Ports::new(serial, Rtc::new())
            }
            None => Ports::of_domain(output.clone()),
        };
        Ok(Self {
            ports: Mutex::new(ports),
            output,
            input_wanted,
            stopping: AtomicBool::new(false),
            end: Mutex::new(None),
            ended: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            lost: OnceLock::new(),
            halts: OnceLock::new(),
        })
    }

    /// Asks these vCPUs from now on whether they have halted for good.
    pub(crate) fn watch_halts(&self, halts: Halts) {
        // A machine has one set of vCPUs, so this is the first call.
        let _ = self.halts.set(halts);
    }

    /// The watch for a halt of all vCPUs, which a plain machine has.
    pub(crate) fn halts(&self) -> Option<&Halts> {
        self.halts.get()
    }

    /// Makes the loss of mapped memory end the machine.
    pub(crate) fn watch(&self, lost: LostPages) {
        // A machine has one memory, so this is the first call.
        let _ = self.lost.set(lost);
    }

    /// Becomes readable when mapped memory is lost, if it is watched.
    pub(crate) fn lost(&self) -> Option<&EventFd> {
        self.lost.get()?.event()
    }

    /// Tells whether mapped memory of this machine was lost.
    pub(crate) fn has_lost_memory(&self) -> bool {
        self.lost.get().is_some_and(LostPages::any)
    }

    /// Locks the ports for one access.
    pub(crate) fn ports(&self) -> MutexGuard<'_, Ports<ConsoleQueue>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of the guest's console output.
    pub(crate) const fn output(&self) -> &ConsoleQueue {
        &self.output
    }

    /// Becomes readable when the guest has room for more input.
    pub(crate) const fn input_wanted(&self) -> &EventFd {
        &self.input_wanted
    }

    /// Tells the event loop that the guest has room for more input.
    pub(crate) fn want_input(&self) {
        // It fails only if the counter is full: then the event loop has been told already.
        let _ = self.input_wanted.write(1);
    }

    /// Becomes readable when the machine has ended.
    pub(crate) const fn ended(&self) -> &EventFd {
        &self.ended
    }

    /// Ends the machine, unless it has ended already.
    pub(crate) fn end(&self, reason: End) {
        self.lock_end().get_or_insert(reason);
        // It fails only if the counter is full: then it is readable.
        let _ = self.ended.write(1);
    }

    /// Takes why the machine ended.
    pub(crate) fn take_end(&self) -> Option<End> {
        self.lock_end().take()
    }

    /// Makes the vCPU threads return at their next exit, and ends their waiting for the console.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.output.release();
    }

    /// Tells whether the vCPU threads must return.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn lock_end(&self) -> MutexGuard<'_, Option<End>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_to_end_counts() {
        let board = Board::new(ConsoleQueue::default(), None).unwrap();
        assert!(board.ended().read().is_err());
        board.end(End::Request(Request::Reboot));
        board.end(End::Quit);
        assert_eq!(board.ended().read().unwrap(), 2);
        assert!(matches!(
            board.take_end(),
            Some(End::Request(Request::Reboot))
        ));
        assert!(board.take_end().is_none());
    }
}
