//! Where the threads of vCPUs stop for the debugger.
//!
//! A vCPU belongs to its thread, and so do its registers. The debugger posts requests at the gate;
//! each thread comes by before it enters the guest, and stays while the machine is stopped.

use std::{
    collections::VecDeque,
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_memory::GuestMemory;

use crate::machine::{Cause, Event, Machine, MachineError, Motion, Traps};

/// A vCPU on its own thread, as the gate uses it.
pub trait Cpu {
    /// Why the host refuses something, in one line.
    type Error: fmt::Display;

    /// Returns the registers.
    ///
    /// # Errors
    ///
    /// The host cannot read them.
    fn registers(&mut self) -> Result<EntryState, Self::Error>;

    /// Sets the registers.
    ///
    /// # Errors
    ///
    /// The host refuses them.
    fn set_registers(&mut self, state: &EntryState) -> Result<(), Self::Error>;

    /// Sets what the next runs watch for: breakpoints, and whether they stop after one instruction.
    ///
    /// # Errors
    ///
    /// The host refuses.
    fn set_debug(&mut self, traps: &Traps, is_step: bool) -> Result<(), Self::Error>;

    /// Gives the guest a breakpoint exception that is its own, not the debugger's.
    ///
    /// # Errors
    ///
    /// The host refuses.
    fn inject_breakpoint(&mut self, traps: &Traps) -> Result<(), Self::Error>;

    /// Returns what the vCPU does, for people.
    fn activity(&mut self) -> &'static str;
}

/// A debug exception that the host has reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "vectors 1 and 3")]
pub enum Trap {
    /// INT3 at this linear address.
    Breakpoint(u64),
    /// A debug exception with this value of DR6.
    Debug(u64),
}

/// The gate of a machine. It is closed at first: each vCPU stops before its first instruction.
pub struct Gate {
    shared: Mutex<Shared>,
    changed: Condvar,
    events: EventFd,
    ended: EventFd,
    kick: Box<dyn Fn(u32) + Send + Sync>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

struct Shared {
    is_closed: bool,
    slots: Vec<Slot>,
    traps: Arc<Traps>,
    /// Causes that gdb has not been told yet. The first one closed the gate.
    causes: VecDeque<(u32, Cause)>,
    /// The exit code, once the machine has ended.
    end: Option<u8>,
    is_end_told: bool,
}

/// What the gate knows of one vCPU.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// Its registers and activity while its thread waits at the gate.
    here: Option<(EntryState, &'static str)>,
    motion: Motion,
    /// New registers, which the thread has not set yet.
    wanted: Option<EntryState>,
    /// What came of setting them.
    answer: Option<Result<(), String>>,
}

impl Gate {
    /// A gate for this many vCPUs. `kick` makes a vCPU leave the guest, now or as soon as it enters
    /// it.
    ///
    /// # Errors
    ///
    /// The host has no more descriptors.
    pub fn new(vcpus: u32, kick: impl Fn(u32) + Send + Sync + 'static) -> io::Result<Arc<Self>> {
        let vcpus = usize::try_from(vcpus).unwrap_or(usize::MAX);
        Ok(Arc::new(Self {
            shared: Mutex::new(Shared {
                is_closed: true,
                slots: vec![Slot::default(); vcpus],
                traps: Arc::default(),
                causes: VecDeque::new(),
                end: None,
                is_end_told: false,
            }),
            changed: Condvar::new(),
            events: new_event()?,
            ended: new_event()?,
            kick: Box::new(kick),
        }))
    }

    /// Lets a vCPU's thread pass, or holds it while the gate is closed. The thread calls it before
    /// its first entry into the guest, and after each run that a kick has interrupted.
    ///
    /// # Errors
    ///
    /// The host cannot report the vCPU's registers, or refuses its breakpoints.
    pub fn pass<C: Cpu>(&self, vcpu: u32, cpu: &mut C) -> Result<(), C::Error> {
        let state = cpu.registers()?;
        let activity = cpu.activity();
        let mut shared = self.shared();
        if let Some(slot) = shared.slot(vcpu) {
            slot.here = Some((state, activity));
        }
        self.announce();
        loop {
            let is_closed = shared.is_closed && shared.end.is_none();
            let is_over = shared.end.is_some();
            let Some(slot) = shared.slot(vcpu) else {
                return Ok(());
            };
            if let Some(wanted) = slot.wanted.take() {
                drop(shared);
                let set = cpu.set_registers(&wanted);
                let now = cpu.registers();
                shared = self.shared();
                if let Some(slot) = shared.slot(vcpu) {
                    slot.here = now.ok().map(|now| (now, activity)).or(slot.here);
                    slot.answer = Some(set.map_err(|error| error.to_string()));
                }
                self.announce();
                continue;
            }
            if is_over || !is_closed && slot.motion != Motion::Stay {
                slot.here = None;
                let is_step = slot.motion == Motion::Step && !is_over;
                let traps = Arc::clone(&shared.traps);
                drop(shared);
                return match is_over {
                    true => cpu.set_debug(&Traps::default(), false),
                    false => cpu.set_debug(&traps, is_step),
                };
            }
            shared = self.wait(shared, None);
        }
    }

    /// Reports a debug exception of a vCPU, on its thread; then holds the thread.
    ///
    /// # Errors
    ///
    /// As for [`pass`](Self::pass).
    pub fn trapped<C: Cpu>(&self, vcpu: u32, cpu: &mut C, trap: Trap) -> Result<(), C::Error> {
        let traps = Arc::clone(&self.shared().traps);
        let cause = match trap {
            Trap::Breakpoint(at) if traps.software.contains(&at) => Cause::Software,
            Trap::Breakpoint(_) => return cpu.inject_breakpoint(&traps),
            Trap::Debug(dr6) => {
                match (0..4).find(|number| dr6.checked_shr(*number).unwrap_or(0) & 1 != 0) {
                    Some(number) if dr6 & DR6_HITS != 0 => {
                        Cause::Hardware(usize::try_from(number).unwrap_or(0))
                    }
                    _ => Cause::Step,
                }
            }
        };
        self.close(vcpu, cause);
        self.pass(vcpu, cpu)
    }

    /// Tells whether the debugger has set this breakpoint.
    #[must_use]
    pub fn is_own(&self, trap: Trap) -> bool {
        match trap {
            Trap::Breakpoint(at) => self.shared().traps.software.contains(&at),
            Trap::Debug(_) => true,
        }
    }

    /// Reports that a vCPU cannot go on, and holds its thread until the debugger has looked.
    pub fn crashed(&self, vcpu: u32, cpu: &mut impl Cpu) {
        self.close(vcpu, Cause::Crash);
        // The crash is reported whatever the host says here.
        let _ = self.pass(vcpu, cpu);
    }

    /// Opens the gate for good: the machine ends, with this exit code.
    pub fn end(&self, code: u8) {
        self.shared().end.get_or_insert(code);
        // It fails only if the counter is full: then it is readable.
        let _ = self.ended.write(1);
        self.announce();
    }

    /// Returns a descriptor that is readable once the machine has ended: what
    /// [`Server::serve`](crate::Server::serve) stops by.
    pub fn ended_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Closes the gate for this cause.
    fn close(&self, vcpu: u32, cause: Cause) {
        let mut shared = self.shared();
        let was_closed = shared.is_closed;
        shared.is_closed = true;
        // An execution trap that comes while the gate is closed happens again when the vCPU runs, and
        // a step that ends then needs no second stop.
        let repeats = match cause {
            Cause::Software | Cause::Step => true,
            Cause::Hardware(number) => shared.is_execution(number),
            _ => false,
        };
        if shared.causes.len() < shared.slots.len().saturating_add(1) && !(was_closed && repeats) {
            shared.causes.push_back((vcpu, cause));
        }
        let vcpus = shared.slots.len();
        drop(shared);
        if !was_closed {
            (0..)
                .take(vcpus)
                .filter(|&other| other != vcpu)
                .for_each(&self.kick);
        }
        self.announce();
    }

    /// Wakes everybody who waits for a change.
    fn announce(&self) {
        self.changed.notify_all();
        // It fails only if the counter is full: then it is readable.
        let _ = self.events.write(1);
    }

    fn wait<'a>(
        &self,
        shared: MutexGuard<'a, Shared>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Shared> {
        match limit {
            None => self
                .changed
                .wait(shared)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.changed.wait_timeout(shared, limit);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn slot(&mut self, vcpu: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(vcpu).ok()?)
    }

    fn is_execution(&self, number: usize) -> bool {
        let trap = self.traps.hardware.get(number).copied().flatten();
        trap.is_some_and(|trap| trap.access == crate::TrapAccess::Execute)
    }
}

/// `monitor` commands of an embedder, and how its machine is killed.
pub trait Commands {
    /// See [`Machine::command`].
    ///
    /// # Errors
    ///
    /// Those of `out`.
    fn command(&mut self, words: &[&str], out: &mut dyn fmt::Write) -> Result<bool, fmt::Error>;

    /// See [`Machine::command_help`].
    fn help(&self) -> &'static str;

    /// See [`Machine::kill`].
    fn kill(&mut self);
}

/// A machine behind a gate.
#[expect(clippy::exhaustive_structs, reason = "the parts that an embedder has")]
pub struct Debuggee<M, C> {
    /// Where its vCPUs stop.
    pub gate: Arc<Gate>,
    /// Its memory.
    pub memory: Arc<M>,
    /// The width of its physical addresses.
    pub address_bits: u8,
    /// Where its start-of-day structure is.
    pub start_info: Option<Gpa>,
    /// What else it can do.
    pub commands: C,
}

impl<M, C> fmt::Debug for Debuggee<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Debuggee").finish_non_exhaustive()
    }
}

impl<M: GuestMemory, C: Commands> Machine for Debuggee<M, C> {
    fn vcpus(&self) -> u32 {
        u32::try_from(self.gate.shared().slots.len()).unwrap_or(u32::MAX)
    }

    fn registers(&mut self, vcpu: u32) -> Result<EntryState, MachineError> {
        let mut shared = self.gate.shared();
        let slot = shared.slot(vcpu).ok_or(MachineError::NoVcpu { vcpu })?;
        let here = slot.here.map(|(state, _)| state);
        here.ok_or(MachineError::NotStopped { vcpu })
    }

    fn set_registers(&mut self, vcpu: u32, state: &EntryState) -> Result<(), MachineError> {
        let mut shared = self.gate.shared();
        let slot = shared.slot(vcpu).ok_or(MachineError::NoVcpu { vcpu })?;
        if slot.here.is_none() {
            return Err(MachineError::NotStopped { vcpu });
        }
        slot.wanted = Some(*state);
        slot.answer = None;
        self.gate.changed.notify_all();
        let deadline = after(STOP_TIMEOUT);
        loop {
            let slot = shared.slot(vcpu).ok_or(MachineError::NoVcpu { vcpu })?;
            if let Some(answer) = slot.answer.take() {
                return answer.map_err(|what| MachineError::Host { vcpu, what });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                slot.wanted = None;
                return Err(MachineError::NotStopped { vcpu });
            }
            shared = self.gate.wait(shared, Some(left));
        }
    }

    fn activity(&self, vcpu: u32) -> Option<&'static str> {
        let mut shared = self.gate.shared();
        shared.slot(vcpu)?.here.map(|(_, activity)| activity)
    }

    fn memory(&self) -> &dyn GuestMemory {
        &*self.memory
    }

    fn address_bits(&self) -> u8 {
        self.address_bits
    }

    fn start_info(&self) -> Option<Gpa> {
        self.start_info
    }

    fn set_traps(&mut self, traps: Arc<Traps>) {
        self.gate.shared().traps = traps;
    }

    fn resume(&mut self, motion: &dyn Fn(u32) -> Motion) {
        let mut shared = self.gate.shared();
        for (vcpu, slot) in (0..).zip(&mut shared.slots) {
            slot.motion = motion(vcpu);
        }
        // A cause that has not been told comes first.
        if shared.causes.is_empty() {
            shared.is_closed = false;
        }
        drop(shared);
        self.gate.announce();
    }

    fn stop(&mut self) {
        if !self.gate.shared().is_closed {
            let first = 0;
            self.gate.close(first, Cause::Request);
            (self.gate.kick)(first);
        }
    }

    fn event(&mut self) -> Option<Event> {
        // Reset first, so that no later event is lost.
        let _ = self.gate.events.read();
        let mut shared = self.gate.shared();
        let deadline = after(STOP_TIMEOUT);
        loop {
            if let Some(code) = shared.end {
                let is_news = !std::mem::replace(&mut shared.is_end_told, true);
                return is_news.then_some(Event::Ended(code));
            }
            if shared.causes.is_empty() {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // A vCPU that waits for its start, or whose thread is busy, is not waited for longer.
            if left.is_zero() || shared.slots.iter().all(|slot| slot.here.is_some()) {
                let (vcpu, cause) = shared.causes.pop_front()?;
                return Some(Event::Stopped { vcpu, cause });
            }
            shared = self.gate.wait(shared, Some(left));
        }
    }

    fn events_fd(&self) -> BorrowedFd<'_> {
        self.gate.events.as_fd()
    }

    fn kill(&mut self) {
        self.commands.kill();
    }

    fn command(&mut self, words: &[&str], out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        self.commands.command(words, out)
    }

    fn command_help(&self) -> &'static str {
        self.commands.help()
    }
}

fn new_event() -> io::Result<EventFd> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    Ok(EventFd::from_value_and_flags(0, flags)?)
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// How long the debugger waits for the threads of vCPUs. A thread leaves the guest within
/// microseconds; one that waits for orders does not come at all.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Bits 3:0 of DR6: the debug registers whose condition was met.
const DR6_HITS: u64 = 0xF;
