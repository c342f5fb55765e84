//! Starts and stops vCPUs, and ends the domain.

use pvh_abi::{Errno, sched::ShutdownReason, vcpu::VcpuHvmContext};
use pvh_memory::Frames;
use pvh_vcpu::{State, VcpuError};

use super::{Domain, Effect, Env, Now, vcpu::Stage};
use crate::parts::{hvm, runstate::RunState};

/// What happens to a vCPU.
impl Domain {
    pub(super) fn enter(&mut self, env: &mut Env<'_>, vcpu: u32) {
        self.stop_sleep(vcpu);
        self.change_runstate(env.memory, vcpu, RunState::Running, env.now.system_ns);
        self.write_time(env.memory, vcpu);
        self.run_periodic(env, vcpu);
    }

    pub(super) fn reset_vcpu(&mut self, env: &mut Env<'_>, vcpu: u32) {
        let changed = self.set.init(vcpu);
        self.forget_call(vcpu);
        self.lifecycle_changed(env, changed);
    }

    /// Forgets the call that a vCPU was in, or sleeps by: after INIT, the rest of it is never made.
    fn forget_call(&mut self, vcpu: u32) {
        self.stop_sleep(vcpu);
        if let Some(data) = self.vcpus.get_mut(vcpu as usize) {
            data.stage = Stage::Between;
        }
    }

    pub(super) fn find_running(&mut self, memory: &dyn Frames, vcpu: u32, now: Now) {
        if self.lifecycle(vcpu) == Some(State::Down) {
            // INIT came first; a vCPU that is down changes nothing else by it.
            let _ = self.set.init(vcpu);
            self.forget_call(vcpu);
        }
        if let Ok(Some(_)) = self.set.sipi(vcpu, 0) {
            // The registers of such a start are there already.
            let _ = self.set.orders(vcpu);
            self.change_runstate(memory, vcpu, RunState::Running, now.system_ns);
        }
    }
}

/// Calls of the guest.
impl Domain {
    pub(super) fn initialise(&mut self, vcpu: u32, context: &VcpuHvmContext) -> Result<(), Errno> {
        let initialised = self.set.initialise(vcpu, context, &self.config.cpu);
        initialised.map_err(|error| error.errno())
    }

    /// Carries out the effect of a lifecycle call.
    pub(super) fn lifecycle_changed(
        &mut self,
        env: &mut Env<'_>,
        changed: Result<Option<pvh_vcpu::Effect>, VcpuError>,
    ) {
        let Ok(Some(effect)) = changed else {
            return;
        };
        match effect {
            pvh_vcpu::Effect::Start(vcpu) => self.came_up(env, vcpu, Effect::Start(vcpu)),
            pvh_vcpu::Effect::Resume(vcpu) => self.came_up(env, vcpu, Effect::Resume(vcpu)),
            pvh_vcpu::Effect::Stop(vcpu) => {
                self.change_runstate(env.memory, vcpu, RunState::Offline, env.now.system_ns);
                env.effects.push(Effect::Stop(vcpu));
            }
            _ => {
                // A soft reset may have been announced, but no vCPU is left that could go on after
                // it.
                let announced = self.reason.take();
                self.reason = announced.filter(|reason| *reason != ShutdownReason::SOFT_RESET);
                self.shut_down(env, ShutdownReason::POWEROFF);
            }
        }
    }

    fn came_up(&mut self, env: &mut Env<'_>, vcpu: u32, effect: Effect) {
        // A vCPU that went down while it slept is still asleep.
        let asleep = self.vcpus.get(vcpu as usize);
        let asleep = asleep.is_some_and(|data| data.asleep.is_some());
        let state = if asleep {
            RunState::Blocked
        } else {
            RunState::Runnable
        };
        self.change_runstate(env.memory, vcpu, state, env.now.system_ns);
        env.effects.push(effect);
    }

    /// Ends the domain, or does a soft reset; the first reason given counts.
    pub(super) fn shut_down(&mut self, env: &mut Env<'_>, reason: ShutdownReason) {
        let mut reason = *self.reason.get_or_insert(reason);
        if self.is_over {
            return;
        }
        if reason == ShutdownReason::SOFT_RESET {
            if self.soft_reset(env.memory).is_ok() {
                self.reason = None;
                return;
            }
            reason = ShutdownReason::CRASH;
        }
        self.is_over = true;
        self.set.end();
        env.effects.push(Effect::Shutdown(reason));
    }

    /// Carries out the changes that a call of `hvm_op` made.
    pub(super) fn hvm_changed(
        &mut self,
        env: &mut Env<'_>,
        width: pvh_hypercall::Width,
        changed: Vec<hvm::Change>,
    ) {
        for change in changed {
            match change {
                hvm::Change::GlobalVector(_) => self.resend_upcalls(env),
                hvm::Change::VcpuVector { vcpu, vector } => {
                    let effect = Effect::VcpuVector { vcpu, vector };
                    env.effects.push(effect);
                    self.wake(env, vcpu);
                }
                hvm::Change::LatchWidth => self.latch(env.memory, width, env.now),
                hvm::Change::FlushTlbs => env.effects.push(Effect::FlushTlbs),
                hvm::Change::Crash => self.shut_down(env, ShutdownReason::CRASH),
            }
        }
    }

    /// Sends the upcall again to every vCPU that is up and whose upcall flag is set.
    fn resend_upcalls(&mut self, env: &mut Env<'_>) {
        for vcpu in 0..self.config.vcpus {
            let is_up = self.set.is_up(vcpu).unwrap_or(false);
            if is_up && self.is_upcall_pending(env.memory, vcpu) {
                self.upcall(env, vcpu);
            }
        }
    }
}
