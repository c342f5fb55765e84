//! Turns event-channel signals into upcalls and wake-ups.

use pvh_hypercall::Width;
use pvh_memory::Frames;

use super::{Domain, Effect, Env, Now};
use crate::parts::{
    event::{self, Delivery, EventChannels},
    runstate::RunState,
};

impl Domain {
    /// Runs an operation on the event channels, and carries out its signals.
    pub(super) fn with_events<T>(
        &mut self,
        env: &mut Env<'_>,
        act: impl FnOnce(&mut EventChannels, &mut Delivery<'_>) -> T,
    ) -> T {
        let mut delivery = Delivery::new(env.memory, &self.shared_info, &self.vcpu_infos);
        let answer = act(&mut self.events, &mut delivery);
        let signals = delivery.signals;
        if !signals.is_empty() {
            self.carry_out(env, signals);
        }
        answer
    }

    #[inline(never)]
    fn carry_out(&mut self, env: &mut Env<'_>, signals: Vec<event::Signal>) {
        for signal in signals {
            match signal {
                event::Signal::Upcall(vcpu) => self.upcall(env, vcpu),
                event::Signal::Unblock(vcpu) => self.wake(env, vcpu),
                event::Signal::Host(end) => self.serve(env, end),
            }
        }
    }

    /// Sends the upcall of a vCPU whose upcall flag was set just now, and wakes it.
    pub(super) fn upcall(&mut self, env: &mut Env<'_>, vcpu: u32) {
        if let Some(vector) = self.hvm.vcpu_vector(vcpu) {
            let effect = Effect::VcpuVector { vcpu, vector };
            env.effects.push(effect);
        }
        if let Some(vector) = self.hvm.global_vector() {
            let effect = Effect::GlobalVector { vcpu, vector };
            env.effects.push(effect);
        }
        self.wake(env, vcpu);
    }

    /// Ends the sleep of a vCPU, if it sleeps.
    pub(super) fn wake(&mut self, env: &mut Env<'_>, vcpu: u32) {
        if self.stop_sleep(vcpu) {
            self.change_runstate(env.memory, vcpu, RunState::Runnable, env.now.system_ns);
            env.effects.push(Effect::Wake(vcpu));
        }
    }

    /// Ends the sleep of a vCPU without an effect, and tells whether it slept.
    pub(super) fn stop_sleep(&mut self, vcpu: u32) -> bool {
        let Some(data) = self.vcpus.get_mut(vcpu as usize) else {
            return false;
        };
        // A vCPU that polls is asleep.
        if data.asleep.take().is_none() {
            return false;
        }
        data.poll_until_ns = None;
        self.events.stop_poll(vcpu);
        true
    }

    pub(super) fn latch(&mut self, memory: &dyn Frames, width: Width, now: Now) {
        self.shared_info.latch(memory, width);
        self.write_wallclock(memory, now);
    }
}
