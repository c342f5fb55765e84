//! What each input does.

use pvh_hypercall::{Budget, Call};
use pvh_memory::Frames;
use pvh_vcpu::Orders;

use super::{Answer, Domain, Effect, Env, Input, Origin, Output, session::Session};

impl Domain {
    /// Chooses whether calls wait for vCPUs to be observed: for the replay of traces of version 1.
    #[cfg(feature = "trace")]
    pub(crate) const fn set_observes(&mut self, observes: bool) {
        self.observes = observes;
    }

    /// Chooses whether the time is written every second: for the replay of traces of version 2.
    #[cfg(feature = "trace")]
    pub(crate) const fn set_refreshes(&mut self, refreshes: bool) {
        self.refreshes = refreshes;
    }

    /// Chooses whether one go of a call has a budget: for the replay of traces up to version 3.
    #[cfg(feature = "trace")]
    pub(crate) const fn set_has_budget(&mut self, has_budget: bool) {
        self.has_budget = has_budget;
    }

    /// Does what an input says, unrecorded: for [`Domain`]'s methods, and for a replay.
    pub(crate) fn act(
        &mut self,
        memory: &dyn Frames,
        effects: &mut Vec<Effect>,
        input: Input<'_>,
    ) -> Output {
        match input {
            Input::Orders { vcpu } => {
                let orders = self.set.orders(vcpu).unwrap_or(Orders::End);
                return Output::Orders(Box::new(orders));
            }
            Input::Hypercall { origin, call } => {
                return Output::Answer(self.run_call(memory, &origin, call, effects));
            }
            Input::Console { bytes, now } => {
                return Output::Count(self.push_input(&mut Env::new(memory, now, effects), bytes));
            }
            Input::BackEnd(input) => return self.act_for_back_end(memory, effects, input),
            Input::Entered { vcpu, now } => self.enter(&mut Env::new(memory, now, effects), vcpu),
            Input::HypercallPageWritten { width, now } => self.latch(memory, width, now),
            Input::DebugPort { byte } => self.log.write(&[byte], effects),
            Input::StateChanged { vcpu, state, now } => {
                self.change_runstate(memory, vcpu, state, now.system_ns);
            }
            Input::UpdateTime { vcpu } => self.write_time(memory, vcpu),
            Input::Init { vcpu, now } => self.reset_vcpu(&mut Env::new(memory, now, effects), vcpu),
            Input::Sipi { vcpu, vector, now } => {
                let changed = self.set.sipi(vcpu, vector);
                self.lifecycle_changed(&mut Env::new(memory, now, effects), changed);
            }
            Input::FoundRunning { vcpu, now } => self.find_running(memory, vcpu, now),
            Input::Halted { vcpu, now } => {
                let changed = self.set.down(vcpu);
                self.lifecycle_changed(&mut Env::new(memory, now, effects), changed);
            }
            Input::Tick { now } => self.run_due(&mut Env::new(memory, now, effects)),
            Input::RequestShutdown { kind, now } => {
                self.ask_to_stop(&mut Env::new(memory, now, effects), kind)
            }
            Input::End { reason, now } => {
                let env = &mut Env::new(memory, now, effects);
                self.serve_console(env);
                self.shut_down(env, reason);
            }
        }
        Output::Nothing
    }

    /// Runs a hypercall, or a bounded part of it. It is the same function as [`Domain::hypercall`]
    /// when nothing records; the two are kept apart by nothing but the recorder.
    #[inline(always)]
    pub(crate) fn run_call(
        &mut self,
        memory: &dyn Frames,
        origin: &Origin<'_>,
        call: Call,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let budget = match self.has_budget {
            true => Budget::new(Budget::GO),
            false => Budget::unlimited(),
        };
        let env = Env::new(memory, origin.now, effects);
        Session::new(self, env, origin, call.width, &budget).run(call)
    }
}
