//! The state that the threads of one machine share.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pvh_config::exit::SUCCESS;
use pvh_devices::{InputWanted, IrqLine, Ports, Request, Rtc, SerialPort};
use pvh_entry::EntryState;
use pvh_gdb::Gate;
use pvh_kvm::{Crash, Halts, LostPages};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use pvh_abi::sched::ShutdownReason;
use pvh_terminal::ConsoleQueue;

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
    /// A thread could not enter the sandbox.
    Sandbox,
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
    /// Where the vCPUs stop for a debugger.
    gate: OnceLock<Arc<Gate>>,
    /// The vCPUs execute one instruction at a time.
    steps: AtomicBool,
    wants_registers: AtomicBool,
    /// The last registers of the vCPUs, for a core.
    registers: Mutex<Vec<(u32, EntryState)>>,
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
            gate: OnceLock::new(),
            steps: AtomicBool::new(false),
            wants_registers: AtomicBool::new(false),
            registers: Mutex::default(),
        })
    }

    /// Asks these vCPUs from now on whether they have halted for good.
    pub(crate) fn watch_halts(&self, halts: Halts) {
        // A machine has one set of vCPUs, so this is the first call.
        let _ = self.halts.set(halts);
    }

    /// Makes the vCPUs stop at this gate.
    pub(crate) fn debug(&self, gate: Arc<Gate>) {
        // A machine has one gate, so this is the first call.
        let _ = self.gate.set(gate);
    }

    /// Where the vCPUs stop for a debugger, if there is one.
    pub(crate) fn gate(&self) -> Option<&Gate> {
        self.gate.get().map(Arc::as_ref)
    }

    /// Makes the vCPUs execute one instruction at a time, and keep the registers before each.
    pub(crate) fn step(&self) {
        self.steps.store(true, Ordering::SeqCst);
    }

    /// Tells whether the vCPUs execute one instruction at a time.
    pub(crate) fn is_stepping(&self) -> bool {
        self.steps.load(Ordering::SeqCst)
    }

    /// Wants the registers that the vCPUs have at the end.
    pub(crate) fn want_registers(&self) {
        self.wants_registers.store(true, Ordering::SeqCst);
    }

    /// Tells whether the registers at the end are wanted.
    pub(crate) fn keeps_registers(&self) -> bool {
        self.wants_registers.load(Ordering::SeqCst)
    }

    /// Keeps the last registers of a vCPU whose thread ends.
    pub(crate) fn keep_registers(&self, vcpu: u32, state: EntryState) {
        self.lock_registers().push((vcpu, state));
    }

    /// Takes the last registers of the vCPUs, by index.
    pub(crate) fn take_registers(&self) -> Vec<(u32, EntryState)> {
        let mut registers = std::mem::take(&mut *self.lock_registers());
        registers.sort_unstable_by_key(|(vcpu, _)| *vcpu);
        registers
    }

    fn lock_registers(&self) -> MutexGuard<'_, Vec<(u32, EntryState)>> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        if let Some(gate) = self.gate() {
            gate.end(SUCCESS);
        }
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
