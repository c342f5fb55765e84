//! The lifecycle of one vCPU, as a table of states and events.

use crate::VcpuError;

/// The lifecycle state of a vCPU.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the three states that Xen's two flags make"
)]
pub enum State {
    /// Not initialised: it has no registers to run with.
    #[default]
    Reset,
    /// Initialised and stopped.
    Down,
    /// Running, or free to.
    Up,
}

/// What happens to a vCPU: three calls of `vcpu_op`, and two interrupts of the local APIC.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "nothing else moves a vCPU")]
pub enum Event {
    /// `VCPUOP_initialise` with a context that passed.
    Initialise,
    /// `VCPUOP_up`.
    Up,
    /// `VCPUOP_down`.
    Down,
    /// INIT.
    Init,
    /// The start-up interrupt.
    Sipi,
}

impl State {
    /// Returns the state that follows.
    ///
    /// | | Initialise | Up | Down | Init | Sipi |
    /// |---|---|---|---|---|---|
    /// | Reset | Down | refused | Reset | Reset | Up |
    /// | Down | refused | Up | Down | Reset | Down |
    /// | Up | refused | Up | Down | Reset | Up |
    ///
    /// Taking the last vCPU that is up out of `Up` ends the domain: [`VcpuSet`](crate::VcpuSet)
    /// sees to that, for one state does not know of the others.
    ///
    /// # Errors
    ///
    /// [`VcpuError::AlreadyInitialised`] for `Initialise` of a state other than `Reset`,
    /// [`VcpuError::NotInitialised`] for `Up` of `Reset`.
    pub const fn on(self, event: Event) -> Result<Self, VcpuError> {
        match (self, event) {
            (Self::Reset, Event::Initialise) => Ok(Self::Down),
            (Self::Down | Self::Up, Event::Initialise) => Err(VcpuError::AlreadyInitialised),
            (Self::Reset, Event::Up) => Err(VcpuError::NotInitialised),
            (Self::Down | Self::Up, Event::Up) => Ok(Self::Up),
            (Self::Reset, Event::Down) => Ok(Self::Reset),
            (Self::Down | Self::Up, Event::Down) => Ok(Self::Down),
            (_, Event::Init) => Ok(Self::Reset),
            (Self::Reset, Event::Sipi) => Ok(Self::Up),
            (Self::Down | Self::Up, Event::Sipi) => Ok(self),
        }
    }

    /// Tells what `VCPUOP_is_up` answers.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Up)
    }
}

#[cfg(test)]
mod tests {
    use pvh_abi::Errno;

    use super::*;

    const STATES: [State; 3] = [State::Reset, State::Down, State::Up];
    const EVENTS: [Event; 5] = [
        Event::Initialise,
        Event::Up,
        Event::Down,
        Event::Init,
        Event::Sipi,
    ];

    fn letter(state: State) -> char {
        match state {
            State::Reset => 'R',
            State::Down => 'D',
            State::Up => 'U',
        }
    }

    #[test]
    fn every_pair_is_as_drawn() {
        // columns: initialise up down INIT SIPI; rows: Reset, Down (initialised), Up
        let drawn = ["D-RRU", "-UDRD", "-UDRU"];
        for (state, row) in STATES.into_iter().zip(drawn) {
            for (event, want) in EVENTS.into_iter().zip(row.chars()) {
                let got = state.on(event).map_or('-', letter);
                assert_eq!(got, want, "{state:?} on {event:?}");
            }
        }
    }

    #[test]
    fn initialise_of_an_initialised_vcpu_is_eexist() {
        for state in [State::Down, State::Up] {
            let refused = state.on(Event::Initialise).unwrap_err();
            assert_eq!(refused.errno(), Errno(17), "{state:?}");
        }
    }

    #[test]
    fn up_of_a_vcpu_that_was_never_initialised_is_einval() {
        assert_eq!(State::Reset.on(Event::Up).unwrap_err().errno(), Errno(22));
    }

    #[test]
    fn only_a_vcpu_that_is_up_is_up() {
        assert_eq!(STATES.map(State::is_up), [false, false, true]);
    }
}
