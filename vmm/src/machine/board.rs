//! What the threads of one machine share.

use std::{
    io,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pvh_kvm::{Crash, LostPages};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::{
    console::Output,
    devices::{InputWanted, IrqLine, Ports, Request, SerialPort},
};
use pvh_abi::sched::ShutdownReason;

/// Why a machine ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The guest asked for it.
    Request(Request),
    /// A vCPU had a triple fault, which resets the machine.
    TripleFault(Box<Crash>),
    /// The guest cannot go on.
    Crash(Box<Crash>),
    /// The guest's domain was shut down, for a reason that is neither to switch off nor to start anew.
    Shutdown(ShutdownReason),
    /// The user asked for it at the terminal.
    Quit,
    /// A signal with this number asked for it.
    Signal(i32),
    /// A vCPU thread panicked: a fault of this program.
    Panic,
    /// Guest memory is lost that was mapped from a file.
    LostMemory,
}

/// The devices of a machine, and how it ends: the first reason counts.
#[derive(Debug)]
pub(crate) struct Board {
    ports: Mutex<Ports>,
    output: Output,
    input_wanted: EventFd,
    stopping: AtomicBool,
    end: Mutex<Option<End>>,
    ended: EventFd,
    /// Watches over memory that is mapped from files.
    lost: OnceLock<LostPages>,
}

impl Board {
    /// Devices after reset; `com1` becomes an edge on the serial port's interrupt line.
    ///
    /// # Errors
    ///
    /// When the host has no more descriptors.
    pub(crate) fn new(output: Output, com1: EventFd) -> io::Result<Self> {
        let input_wanted = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let wanted = InputWanted(input_wanted.try_clone()?);
        output.hold();
        let serial = SerialPort::new(IrqLine(com1), wanted, output.clone());
        Ok(Self {
            ports: Mutex::new(Ports::new(serial)),
            output,
            input_wanted,
            stopping: AtomicBool::new(false),
            end: Mutex::new(None),
            ended: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            lost: OnceLock::new(),
        })
    }

    /// Has the loss of mapped memory end the machine.
    pub(crate) fn watch(&self, lost: LostPages) {
        // A machine has one memory, so one watch.
        let _ = self.lost.set(lost);
    }

    /// Readable when mapped memory was lost, if any is watched.
    pub(crate) fn lost(&self) -> Option<&EventFd> {
        self.lost.get()?.event()
    }

    /// Tells whether mapped memory of this machine was lost.
    pub(crate) fn has_lost_memory(&self) -> bool {
        self.lost.get().is_some_and(LostPages::any)
    }

    /// The ports, for one access.
    pub(crate) fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the guest's output goes.
    pub(crate) const fn output(&self) -> &Output {
        &self.output
    }

    /// Readable when the guest has room for more input.
    pub(crate) const fn input_wanted(&self) -> &EventFd {
        &self.input_wanted
    }

    /// Says that the guest has room for more input.
    pub(crate) fn want_input(&self) {
        // The only failure is a counter that is full: then the event loop has been told already.
        let _ = self.input_wanted.write(1);
    }

    /// Readable when the machine has ended.
    pub(crate) const fn ended(&self) -> &EventFd {
        &self.ended
    }

    /// Ends the machine, unless something else has.
    pub(crate) fn end(&self, reason: End) {
        self.lock_end().get_or_insert(reason);
        // It fails only when it has been written to 2^64 - 2 times: then it is readable.
        let _ = self.ended.write(1);
    }

    /// Takes why the machine ended.
    pub(crate) fn take_end(&self) -> Option<End> {
        self.lock_end().take()
    }

    /// Has the vCPU threads leave at their next exit, and lets go those that wait for the console.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.output.release();
    }

    /// Tells whether the vCPU threads are to leave.
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
        let board = Board::new(Output::default(), EventFd::new(0).unwrap()).unwrap();
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
