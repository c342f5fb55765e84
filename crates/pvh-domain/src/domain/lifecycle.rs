//! How vCPUs and the domain begin and end.

use pvh_abi::{Errno, sched::ShutdownReason, vcpu::VcpuHvmContext};
use pvh_memory::Frames;
use pvh_vcpu::{Orders, VcpuError};

use super::{Domain, Effect, Now, Scene};
use crate::{hvm, runstate::State};

/// What the threads of vCPUs do here. An id that no vCPU has is nothing's: nothing happens.
impl Domain {
    /// Tells what a vCPU's thread has to do now; registers are handed out once.
    pub fn orders(&mut self, vcpu: u32) -> Orders {
        self.set.orders(vcpu).unwrap_or(Orders::End)
    }

    /// Tells where a vCPU is in its life; `None` if there is no such vCPU.
    #[must_use]
    pub fn lifecycle(&self, vcpu: u32) -> Option<pvh_vcpu::State> {
        self.set.state(vcpu).ok()
    }

    /// A vCPU is about to run, after it slept, was down, or was never up: it sleeps no longer, its time is written
    /// anew, and a periodic timer that stood still goes on.
    pub fn entered(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        self.stop_sleep(vcpu);
        self.change_runstate(memory, vcpu, State::Running, now.system_ns);
        self.write_time(memory, vcpu);
        let scene = &mut Scene {
            memory,
            now,
            effects,
        };
        self.run_periodic(scene, vcpu);
    }

    /// A vCPU does something else from now on, as far as its runstate tells.
    ///
    /// What follows from calls (a sleep, down, up, a wake) is noted by itself.
    pub fn state_changed(&mut self, memory: &dyn Frames, vcpu: u32, state: State, now: Now) {
        self.change_runstate(memory, vcpu, state, now.system_ns);
    }

    /// Writes the time of a vCPU anew.
    pub fn update_time(&self, memory: &dyn Frames, vcpu: u32) {
        self.write_time(memory, vcpu);
    }

    /// INIT came for a vCPU: it goes down, and can be given new registers.
    pub fn init(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        let changed = self.set.init(vcpu);
        let scene = &mut Scene {
            memory,
            now,
            effects,
        };
        self.stop_sleep(vcpu);
        // What was left of a call of its is never made.
        if let Some(data) = self.vcpus.get_mut(vcpu as usize) {
            data.is_in_call = false;
        }
        self.lifecycle_changed(scene, changed);
    }

    /// The start-up interrupt came for a vCPU: one that has no registers starts in real mode.
    pub fn sipi(
        &mut self,
        memory: &dyn Frames,
        vcpu: u32,
        vector: u8,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let changed = self.set.sipi(vcpu, vector);
        let scene = &mut Scene {
            memory,
            now,
            effects,
        };
        self.lifecycle_changed(scene, changed);
    }

    /// A vCPU waits with its interrupts off (HLT with RFLAGS.IF clear): nothing but an NMI could wake it, so it goes down, and
    /// with the last one the domain powers off.
    pub fn halted(&mut self, memory: &dyn Frames, vcpu: u32, now: Now, effects: &mut Vec<Effect>) {
        let changed = self.set.down(vcpu);
        let scene = &mut Scene {
            memory,
            now,
            effects,
        };
        self.lifecycle_changed(scene, changed);
    }

    /// A vCPU was found running that was never given registers here: something below, such as KVM's local APIC, has
    /// started it. It is up from now on, with the registers it has.
    pub fn found_running(&mut self, memory: &dyn Frames, vcpu: u32, now: Now) {
        if let Ok(Some(_)) = self.set.sipi(vcpu, 0) {
            // The registers of such a start are there already.
            let _ = self.set.orders(vcpu);
            self.change_runstate(memory, vcpu, State::Running, now.system_ns);
        }
    }

    /// Ends the domain for a reason of the embedder, such as a triple fault. Text in the console's ring comes
    /// out first, even if the domain is over already: a guest that ends may not raise the console's event.
    pub fn end(
        &mut self,
        memory: &dyn Frames,
        reason: ShutdownReason,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        let scene = &mut Scene {
            memory,
            now,
            effects,
        };
        self.serve_console(scene);
        self.shut_down(scene, reason);
    }

    /// The reason that a triple fault ends the domain with.
    #[must_use]
    pub fn triple_fault_reason(&self) -> ShutdownReason {
        let value = self.hvm.value(pvh_abi::hvm::HvmParam::TRIPLE_FAULT_REASON);
        ShutdownReason(u8::try_from(value).unwrap_or(ShutdownReason::CRASH.0))
    }

    /// Tells whether the domain is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Calls of the guest.
impl Domain {
    pub(super) fn initialise(&mut self, vcpu: u32, context: &VcpuHvmContext) -> Result<(), Errno> {
        let initialised = self.set.initialise(vcpu, context, &self.config.cpu);
        initialised.map_err(|error| error.errno())
    }

    /// Carries out what a call of the lifecycle came to.
    pub(super) fn lifecycle_changed(
        &mut self,
        scene: &mut Scene<'_>,
        changed: Result<Option<pvh_vcpu::Effect>, VcpuError>,
    ) {
        let Ok(Some(effect)) = changed else {
            return;
        };
        match effect {
            pvh_vcpu::Effect::Start(vcpu) => self.is_up_now(scene, vcpu, Effect::Start(vcpu)),
            pvh_vcpu::Effect::Resume(vcpu) => self.is_up_now(scene, vcpu, Effect::Resume(vcpu)),
            pvh_vcpu::Effect::Stop(vcpu) => {
                self.change_runstate(scene.memory, vcpu, State::Offline, scene.now.system_ns);
                scene.effects.push(Effect::Stop(vcpu));
            }
            _ => {
                // No vCPU is left that a soft reset, had one been announced, could return to.
                let announced = self.reason.take();
                self.reason = announced.filter(|reason| *reason != ShutdownReason::SOFT_RESET);
                self.shut_down(scene, ShutdownReason::POWEROFF);
            }
        }
    }

    fn is_up_now(&mut self, scene: &mut Scene<'_>, vcpu: u32, effect: Effect) {
        // A vCPU that went down in its sleep sleeps on.
        let asleep = self.vcpus.get(vcpu as usize);
        let asleep = asleep.is_some_and(|data| data.asleep.is_some());
        let state = if asleep {
            State::Blocked
        } else {
            State::Runnable
        };
        self.change_runstate(scene.memory, vcpu, state, scene.now.system_ns);
        scene.effects.push(effect);
    }

    /// Ends the domain, or resets it softly; the first reason that was said is the one.
    pub(super) fn shut_down(&mut self, scene: &mut Scene<'_>, reason: ShutdownReason) {
        let mut reason = *self.reason.get_or_insert(reason);
        if self.is_over {
            return;
        }
        if reason == ShutdownReason::SOFT_RESET {
            if self.soft_reset(scene.memory).is_ok() {
                self.reason = None;
                return;
            }
            reason = ShutdownReason::CRASH;
        }
        self.is_over = true;
        self.set.end();
        scene.effects.push(Effect::Shutdown(reason));
    }

    /// Carries out what a call of `hvm_op` came to.
    pub(super) fn hvm_changed(
        &mut self,
        scene: &mut Scene<'_>,
        width: pvh_hypercall::Width,
        changed: Vec<hvm::Change>,
    ) {
        for change in changed {
            match change {
                hvm::Change::GlobalVector(_) => self.tell_pending(scene),
                hvm::Change::VcpuVector { vcpu, vector } => {
                    let effect = Effect::VcpuVector { vcpu, vector };
                    scene.effects.push(effect);
                    self.wake(scene, vcpu);
                }
                hvm::Change::LatchWidth => self.latch(scene.memory, width, scene.now),
                hvm::Change::FlushTlbs => scene.effects.push(Effect::FlushTlbs),
                hvm::Change::Crash => self.shut_down(scene, ShutdownReason::CRASH),
            }
        }
    }

    /// Tells every vCPU again that is up and whose upcall flag is set.
    fn tell_pending(&mut self, scene: &mut Scene<'_>) {
        for vcpu in 0..self.config.vcpus {
            let is_up = self.set.is_up(vcpu).unwrap_or(false);
            if is_up && self.is_upcall_pending(scene.memory, vcpu) {
                self.upcall(scene, vcpu);
            }
        }
    }
}
