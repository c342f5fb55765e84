//! One vCPU of the domain, as its thread drives it: exits, hypercalls and requests.

use std::sync::Arc;

use pvh_abi::cpuid::XEN_HYPERCALL_MSR;
use pvh_domain::{Effect, Origin};
use pvh_hypercall::{Call, MSR_READ, Outcome, Width, write_msr};
use pvh_kvm::{Activity, HypercallState, Vcpu, VcpuError, VmEntry, VmExit};
use pvh_memory::LinearMemory;

use crate::{
    XenPlatform,
    effects::Backpressure,
    requests::{Requests, VcpuRequests},
};

/// One vCPU of a platform; owned by the thread that runs it.
#[derive(Debug)]
pub struct XenVcpu {
    pub(crate) platform: Arc<XenPlatform>,
    pub(crate) index: u32,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) idle: Idle,
    effects: Vec<Effect>,
}

/// Whether a vCPU has been started, as far as its thread knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lifecycle {
    /// It waits in KVM for a start-up IPI.
    Unstarted,
    /// It has registers to run with.
    Started,
}

/// Whether a vCPU sleeps by its own hypercall (`SCHEDOP_block`, `SCHEDOP_poll`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Idle {
    /// It runs.
    Awake,
    /// It will sleep once its hypercall has returned.
    FallingAsleep,
    /// It sleeps.
    Asleep,
}

/// What an exit led to.
#[derive(Debug)]
pub(crate) enum Handled {
    /// Enter the vCPU with this.
    Entry(VmEntry<'static>),
    /// The domain is over.
    Over,
    /// The exit is not the platform's.
    Not(VmExit),
}

impl XenVcpu {
    /// vCPU number `index` of `platform`, before it first runs. vCPU 0 is started; the others wait
    /// for INIT and a start-up IPI, or for `VCPUOP_initialise` and `VCPUOP_up`.
    pub fn new(platform: Arc<XenPlatform>, index: u32) -> Self {
        let is_boot = index == 0;
        let mut vcpu = Self {
            platform,
            index,
            lifecycle: if is_boot {
                Lifecycle::Started
            } else {
                Lifecycle::Unstarted
            },
            idle: Idle::Awake,
            effects: Vec::new(),
        };
        if is_boot {
            vcpu.entered();
        }
        vcpu
    }

    /// Runs guest code until an exit; then serves the posted requests if the exit is
    /// [`VmExit::Interrupted`].
    ///
    /// # Errors
    ///
    /// Those of [`Vcpu::run`]; KVM refuses to report or set the vCPU's state.
    pub(crate) fn run(&mut self, vcpu: &mut Vcpu, entry: VmEntry<'_>) -> Result<VmExit, VcpuError> {
        let platform = Arc::clone(&self.platform);
        let Some(requests) = platform.requests_of(self.index) else {
            return vcpu.run(entry);
        };
        requests.enter();
        let ran = vcpu.run(entry);
        let queries = requests.queries();
        let ran = ran.and_then(|exit| {
            match exit {
                VmExit::Interrupted => self.serve(vcpu, requests)?,
                _ => self.has_run(),
            }
            Ok(exit)
        });
        // A thread that returns to the guest at once stays available for state queries.
        if matches!(ran, Ok(VmExit::Interrupted)) && !platform.host.is_stopping() {
            requests.acknowledge(queries);
        } else {
            requests.leave_guest();
        }
        ran
    }

    /// Handles an exit if it is the platform's.
    pub(crate) fn handle(&mut self, vcpu: &mut Vcpu, exit: VmExit) -> Handled {
        let entry = match exit {
            VmExit::Hypercall(state) => VmEntry::Hypercall(self.hypercall(&state)),
            VmExit::MsrWrite {
                index: XEN_HYPERCALL_MSR,
                value,
            } => self.write_hypercall_page(vcpu, value),
            VmExit::MsrRead {
                index: XEN_HYPERCALL_MSR,
            } => VmEntry::Msr(MSR_READ),
            VmExit::PortOut {
                port: DEBUG_PORT,
                size_bytes: 1,
                data,
            } => {
                self.write_log(&data);
                VmEntry::Resume
            }
            other => return Handled::Not(other),
        };
        if self.platform.domain().is_over() {
            return Handled::Over;
        }
        Handled::Entry(entry)
    }

    /// The vCPU ran guest code, so it was not waiting for a start-up IPI, nor asleep.
    fn has_run(&mut self) {
        if self.lifecycle == Lifecycle::Unstarted {
            self.found_running();
        }
        if self.idle == Idle::Asleep {
            self.wake_up();
        }
    }

    /// Serves the posted requests between two runs, after a look at what KVM reports of the vCPU.
    fn serve(&mut self, vcpu: &mut Vcpu, requests: &VcpuRequests) -> Result<(), VcpuError> {
        let pending = requests.take();
        let activity = vcpu.activity()?;
        self.observe(activity);
        if activity == Activity::Halted && self.is_halted_for_good(vcpu) {
            self.go_down(vcpu, requests)?;
        }
        if pending.orders {
            self.apply_orders(vcpu, requests)?;
        }
        self.update_idle(vcpu, pending)?;
        if pending.nmi {
            vcpu.nmi()?;
        }
        if pending.flush {
            vcpu.flush_tlb()?;
        }
        if let Some(vector) = pending.inject {
            let was_injected = vcpu.inject(vector)?;
            if was_injected && self.idle == Idle::Asleep {
                self.wake_up();
            }
            let retry_at = requests.schedule_level_retry(vector, was_injected);
            self.platform.timer.retry_at(retry_at);
        }
        Ok(())
    }

    /// Puts the vCPU to sleep, or wakes it.
    fn update_idle(&mut self, vcpu: &mut Vcpu, pending: Requests) -> Result<(), VcpuError> {
        match (self.idle, pending.wake) {
            (Idle::FallingAsleep, true) => self.wake_up(),
            (Idle::FallingAsleep, false) => {
                vcpu.set_activity(Activity::Halted)?;
                self.idle = Idle::Asleep;
            }
            (Idle::Asleep, true) => {
                vcpu.set_activity(Activity::Running)?;
                self.wake_up();
            }
            (Idle::Awake, _) | (Idle::Asleep, false) => {}
        }
        Ok(())
    }

    /// Serves a hypercall to its end, continuations included; returns the new value of RAX.
    fn hypercall(&mut self, state: &HypercallState) -> u64 {
        let platform = Arc::clone(&self.platform);
        let width = state.caller.mode().width();
        let mut call = match Call::decode(&state.registers, &state.caller) {
            Ok(call) => call,
            Err(refused) => return width.result(refused.as_result()),
        };
        let io = LinearMemory::new(&*platform.ram, &state.paging, &platform.paging);
        let takes_interrupts = state.caller.rflags & RFLAGS_IF != 0;
        let mut level = None;
        loop {
            let answer = platform.call_domain(&mut self.effects, |domain, memory, now, effects| {
                let origin = Origin {
                    vcpu: self.index,
                    io: &io,
                    takes_interrupts,
                    now,
                };
                let answer = domain.hypercall(memory, &origin, call, effects);
                if takes_interrupts && domain.is_upcall_pending(memory, self.index) {
                    level = domain.global_vector();
                }
                if answer.sleep.is_some()
                    && let Some(requests) = platform.requests_of(self.index)
                {
                    requests.forget_wake();
                }
                answer
            });
            platform.carry_out(&mut self.effects, Backpressure::Wait);
            match answer.outcome {
                Outcome::Return(result) => {
                    if answer.sleep.is_some() {
                        self.fall_asleep();
                    }
                    self.finished(level);
                    return width.result(result);
                }
                Outcome::Again(rest) if !platform.host.is_stopping() => {
                    if let Some(whom) = answer.observe {
                        self.observe_others(whom);
                    }
                    call = rest;
                }
                Outcome::Again(_) => return 0,
            }
        }
    }

    /// After a hypercall: requests the injection of the global vector if the guest has set its
    /// upcall flag itself.
    fn finished(&self, level: Option<u8>) {
        if let (Some(vector), Some(requests)) = (level, self.platform.requests_of(self.index))
            && !requests.has_level_retry()
        {
            requests.post(|pending| pending.inject = Some(vector));
        }
    }

    /// Sleeps after the hypercall has returned: the kick makes the vCPU leave at once.
    fn fall_asleep(&mut self) {
        self.idle = Idle::FallingAsleep;
        if let Some(requests) = self.platform.requests_of(self.index) {
            requests.kick();
        }
    }

    fn write_hypercall_page(&mut self, vcpu: &mut Vcpu, value: u64) -> VmEntry<'static> {
        let platform = &self.platform;
        if write_msr(value, platform.stub, &*platform.ram).is_err() {
            return VmEntry::GeneralProtection;
        }
        let caller = vcpu.caller();
        let width = caller.map_or(Width::Compat, |caller| caller.mode().width());
        platform.with_domain(Backpressure::Ignore, |domain, memory, now, _| {
            domain.hypercall_page_written(memory, width, now);
        });
        VmEntry::Resume
    }

    fn write_log(&mut self, data: &[u8]) {
        self.platform
            .with_domain(Backpressure::Ignore, |domain, _, _, effects| {
                for &byte in data {
                    domain.debug_port(byte, effects);
                }
            });
    }

    /// The vCPU is awake.
    pub(crate) fn wake_up(&mut self) {
        self.idle = Idle::Awake;
        self.entered();
    }

    /// Tells the domain that the vCPU runs from now on.
    pub(crate) fn entered(&mut self) {
        let index = self.index;
        let platform = &self.platform;
        platform.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.entered(memory, index, now, effects);
        });
    }
}

/// The port of the hypervisor's log, one byte a write.
const DEBUG_PORT: u16 = 0xE9;
pub(crate) const RFLAGS_IF: u64 = 1 << 9;
