//! A machine as gdbstub sees it.

use std::{collections::BTreeMap, fmt, num::NonZeroUsize};

use gdbstub::{
    common::{Signal, Tid},
    stub::MultiThreadStopReason,
    target::{
        Target, TargetError, TargetResult,
        ext::{
            base::{
                BaseOps,
                multithread::{
                    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps,
                    MultiThreadSchedulerLocking, MultiThreadSchedulerLockingOps,
                    MultiThreadSingleStep, MultiThreadSingleStepOps,
                },
            },
            breakpoints::{
                Breakpoints as BreakpointOps, BreakpointsOps, HwBreakpoint, HwBreakpointOps,
                HwWatchpoint, HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
            },
            monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps},
            thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps},
        },
    },
};
use pvh_entry::EntryState;

use crate::{
    breakpoints::Breakpoints,
    machine::{Cause, HardwareTrap, Machine, MachineError, Motion, TrapAccess},
    monitor,
    registers::{Amd64, GdbRegisters},
    view::View,
};

/// A machine under a debugger.
pub(crate) struct Debugged<'m> {
    pub(crate) machine: &'m mut dyn Machine,
    pub(crate) breakpoints: Breakpoints,
    motions: BTreeMap<u32, Motion>,
    is_locked: bool,
    /// The vCPU whose registers or memory gdb read last: `monitor walk` is about it.
    current: u32,
}

/// The target never ends a session by an error of its own.
#[derive(Debug)]
pub(crate) enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl<'m> Debugged<'m> {
    pub(crate) fn new(machine: &'m mut dyn Machine) -> Self {
        Self {
            machine,
            breakpoints: Breakpoints::default(),
            motions: BTreeMap::new(),
            is_locked: false,
            current: 0,
        }
    }

    /// Removes every breakpoint and lets the machine run.
    pub(crate) fn release(&mut self) {
        self.remove_breakpoints();
        self.machine.resume(&|_| Motion::Run);
    }

    /// Removes every breakpoint.
    pub(crate) fn remove_breakpoints(&mut self) {
        self.breakpoints.clear(self.machine.memory());
        self.machine.set_traps(self.breakpoints.traps());
    }

    /// Returns what gdb is told about a stop.
    pub(crate) fn stop_reason(&mut self, vcpu: u32, cause: Cause) -> MultiThreadStopReason<u64> {
        self.current = vcpu;
        let tid = tid(vcpu);
        let signal = |signal| MultiThreadStopReason::SignalWithThread { tid, signal };
        match cause {
            Cause::Request => signal(Signal::SIGINT),
            Cause::Step => signal(Signal::SIGTRAP),
            Cause::Crash => signal(Signal::SIGSEGV),
            Cause::Software => MultiThreadStopReason::SwBreak(tid),
            Cause::Hardware(number) => match self.breakpoints.hardware(number) {
                Some((_, true)) => MultiThreadStopReason::SwBreak(tid),
                Some((trap, false)) => match trap.access {
                    TrapAccess::Execute => MultiThreadStopReason::HwBreak(tid),
                    TrapAccess::Write => MultiThreadStopReason::Watch {
                        tid,
                        kind: WatchKind::Write,
                        addr: trap.at,
                    },
                    TrapAccess::ReadWrite => MultiThreadStopReason::Watch {
                        tid,
                        kind: WatchKind::ReadWrite,
                        addr: trap.at,
                    },
                },
                None => signal(Signal::SIGTRAP),
            },
        }
    }

    fn state(&mut self, tid: Tid) -> Result<EntryState, TargetError<Never>> {
        let vcpu = vcpu_of(tid).ok_or(TargetError::NonFatal)?;
        self.current = vcpu;
        self.machine.registers(vcpu).map_err(refused)
    }

    /// The registers of the current vCPU, or of the first that has stopped.
    fn any_state(&mut self) -> Option<EntryState> {
        let current = self.current;
        let others = 0..self.machine.vcpus();
        let mut candidates = [current].into_iter().chain(others);
        candidates.find_map(|vcpu| self.machine.registers(vcpu).ok())
    }
}

fn refused(error: MachineError) -> TargetError<Never> {
    match error {
        MachineError::NoVcpu { .. } => TargetError::Errno(ESRCH),
        MachineError::NotStopped { .. } => TargetError::Errno(EBUSY),
        MachineError::Host { .. } => TargetError::Errno(EINVAL),
    }
}

/// gdb counts threads from 1.
fn tid(vcpu: u32) -> Tid {
    let number = usize::try_from(vcpu)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

fn vcpu_of(tid: Tid) -> Option<u32> {
    u32::try_from(tid.get().saturating_sub(1)).ok()
}

impl Target for Debugged<'_> {
    type Arch = Amd64;
    type Error = Never;

    fn base_ops(&mut self) -> BaseOps<'_, Amd64, Never> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Debugged<'_> {
    fn read_registers(&mut self, regs: &mut GdbRegisters, tid: Tid) -> TargetResult<(), Self> {
        *regs = GdbRegisters::of(&self.state(tid)?);
        Ok(())
    }

    fn write_registers(&mut self, regs: &GdbRegisters, tid: Tid) -> TargetResult<(), Self> {
        let mut state = self.state(tid)?;
        regs.write_to(&mut state);
        let vcpu = vcpu_of(tid).ok_or(TargetError::NonFatal)?;
        self.machine.set_registers(vcpu, &state).map_err(refused)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let state = self.state(tid)?;
        let bits = self.machine.address_bits();
        match View::new(self.machine.memory(), &state, bits).read(start, data) {
            0 if !data.is_empty() => Err(TargetError::Errno(EFAULT)),
            len => Ok(len),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let state = self.state(tid)?;
        let bits = self.machine.address_bits();
        let view = View::new(self.machine.memory(), &state, bits);
        view.write(start, data)
            .map_err(|_| TargetError::Errno(EFAULT))
    }

    fn list_active_threads(
        &mut self,
        thread_is_active: &mut dyn FnMut(Tid),
    ) -> Result<(), Self::Error> {
        let mut listed = 0_u32;
        for vcpu in 0..self.machine.vcpus() {
            if self.machine.activity(vcpu).is_some() {
                thread_is_active(tid(vcpu));
                listed = listed.saturating_add(1);
            }
        }
        if listed == 0 {
            // gdb takes a list without threads for the end of the program.
            thread_is_active(tid(0));
        }
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Debugged<'_> {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Never> {
        let vcpu = vcpu_of(tid).unwrap_or(0);
        let activity = self.machine.activity(vcpu).unwrap_or("not stopped");
        let text = format!("vCPU {vcpu}: {activity}");
        let len = text.len().min(buf.len());
        let place = buf.get_mut(..len).unwrap_or_default();
        place.copy_from_slice(text.as_bytes().get(..len).unwrap_or_default());
        Ok(len)
    }
}

impl MultiThreadResume for Debugged<'_> {
    fn resume(&mut self) -> Result<(), Never> {
        let rest = match self.is_locked {
            true => Motion::Stay,
            false => Motion::Run,
        };
        self.machine.set_traps(self.breakpoints.traps());
        let motions = &self.motions;
        let motion = |vcpu| motions.get(&vcpu).copied().unwrap_or(rest);
        self.machine.resume(&motion);
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Never> {
        self.motions.clear();
        self.is_locked = false;
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Never> {
        self.set_motion(tid, Motion::Run);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl Debugged<'_> {
    /// A thread that the machine does not have is not kept: a client could name any number of them.
    fn set_motion(&mut self, tid: Tid, motion: Motion) {
        let vcpu = vcpu_of(tid).filter(|&vcpu| vcpu < self.machine.vcpus());
        if let Some(vcpu) = vcpu {
            self.motions.insert(vcpu, motion);
        }
    }
}

impl MultiThreadSingleStep for Debugged<'_> {
    fn set_resume_action_step(&mut self, tid: Tid, _: Option<Signal>) -> Result<(), Never> {
        self.set_motion(tid, Motion::Step);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Debugged<'_> {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Never> {
        self.is_locked = true;
        Ok(())
    }
}

impl BreakpointOps for Debugged<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Debugged<'_> {
    fn add_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        let Some(state) = self.any_state() else {
            return Err(TargetError::Errno(EBUSY));
        };
        let bits = self.machine.address_bits();
        let view = View::new(self.machine.memory(), &state, bits);
        Ok(self.breakpoints.add_software(&view, addr))
    }

    fn remove_sw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self
            .breakpoints
            .remove_software(self.machine.memory(), addr))
    }
}

impl HwBreakpoint for Debugged<'_> {
    fn add_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self
            .breakpoints
            .add_hardware(HardwareTrap::execute(addr), false))
    }

    fn remove_hw_breakpoint(&mut self, addr: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self
            .breakpoints
            .remove_hardware(HardwareTrap::execute(addr), false))
    }
}

impl HwWatchpoint for Debugged<'_> {
    fn add_hw_watchpoint(
        &mut self,
        addr: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let trap = watch(addr, len, kind);
        Ok(trap.is_some_and(|trap| self.breakpoints.add_hardware(trap, false)))
    }

    fn remove_hw_watchpoint(
        &mut self,
        addr: u64,
        len: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let trap = watch(addr, len, kind);
        Ok(trap.is_some_and(|trap| self.breakpoints.remove_hardware(trap, false)))
    }
}

/// Returns the trap of a watchpoint. Watching for reads alone is not possible on x86: gdb then
/// refuses `rwatch` with its own words.
fn watch(at: u64, len: u64, kind: WatchKind) -> Option<HardwareTrap> {
    let access = match kind {
        WatchKind::Write => TrapAccess::Write,
        WatchKind::ReadWrite => TrapAccess::ReadWrite,
        WatchKind::Read => return None,
    };
    let len_bytes = u8::try_from(len).ok()?;
    Some(HardwareTrap {
        at,
        len_bytes,
        access,
    })
}

impl MonitorCmd for Debugged<'_> {
    fn handle_monitor_cmd(&mut self, cmd: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Never> {
        let state = self.any_state();
        // The client reads the output, or its connection ends.
        let _ = monitor::run(self.machine, state.as_ref(), cmd, &mut out);
        Ok(())
    }
}

const ESRCH: u8 = 3;
const EFAULT: u8 = 14;
const EBUSY: u8 = 16;
const EINVAL: u8 = 22;
