//! The state machine: drawn tables and the ways of a device's life.

use pvh_abi::DomId;
use pvh_xenbus::{Action, Attempt, BackEnd, Change, Device, State};

const DISK: Device = Device {
    guest: DomId(1),
    class: "vbd",
    id: 51712,
};

type Actions = Vec<Action<u32>>;

/// A back end, with its actions as letters.
struct Machine {
    back: BackEnd<u32>,
    attempts: Vec<Attempt>,
}

impl Machine {
    fn new() -> Self {
        Self {
            back: BackEnd::new(DISK),
            attempts: Vec::new(),
        }
    }

    /// A back end that waits for a front end.
    fn ready() -> Self {
        let mut machine = Self::new();
        let actions = machine.back.ready(vec![("feature".into(), "1".into())]);
        assert_eq!(machine.text(&actions), "feature 2");
        machine
    }

    /// A back end that is connected to a front end with these parameters.
    fn connected(parameters: u32) -> Self {
        let mut machine = Self::ready();
        let connect = machine.front(State::Initialised, parameters);
        assert_eq!(connect, format!("connect({parameters})"));
        assert_eq!(machine.answer(), "sectors 4");
        machine
    }

    fn front(&mut self, state: State, parameters: u32) -> String {
        let read = || Ok::<_, &str>(parameters);
        let actions = self.back.front_changed(state, read);
        self.text(&actions)
    }

    fn answer(&mut self) -> String {
        let attempt = *self.attempts.last().unwrap();
        let sectors = [("sectors".into(), "8".into())];
        let actions = self.back.connected(attempt, &sectors);
        self.text(&actions)
    }

    /// Changes of the state as digits, other keys by name.
    fn text(&mut self, actions: &Actions) -> String {
        let texts: Vec<String> = actions.iter().map(|action| self.word(action)).collect();
        texts.join(" ")
    }

    fn word(&mut self, action: &Action<u32>) -> String {
        match action {
            Action::Change(Change::Write { path, value }) if path.ends_with("/state") => {
                assert_eq!(path, "/local/domain/0/backend/vbd/1/51712/state");
                value.clone()
            }
            Action::Change(Change::Write { path, .. }) => {
                path.rsplit_once('/').unwrap().1.to_owned()
            }
            Action::Connect {
                attempt,
                parameters,
            } => {
                self.attempts.push(*attempt);
                format!("connect({parameters})")
            }
            Action::Disconnect => "off".into(),
            Action::Gone => "gone".into(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_device_starts_as_drawn() {
    let mut machine = Machine::new();
    assert_eq!(machine.front(State::Initialising, 0), "");
    let actions = machine.back.ready(Vec::new());
    assert_eq!(machine.text(&actions), "2");
    assert_eq!(machine.front(State::Initialising, 0), "");
    assert_eq!(machine.front(State::Initialised, 8), "connect(8)");
    assert_eq!(machine.back.connection(), None);
    assert_eq!(machine.answer(), "sectors 4");
    assert_eq!(machine.front(State::Connected, 8), "");
    assert_eq!(machine.back.connection(), Some(&8));
}

#[test]
fn a_front_end_may_leave_states_out() {
    // It did not wait for InitWait.
    let mut machine = Machine::new();
    assert_eq!(machine.front(State::Initialised, 8), "");
    let _ = machine.back.ready(Vec::new());
    assert_eq!(machine.front(State::Initialised, 8), "connect(8)");
    // It says Connected at once.
    let mut machine = Machine::ready();
    assert_eq!(machine.front(State::Connected, 8), "connect(8)");
    // It closed, and comes back without Initialising.
    let mut machine = Machine::connected(8);
    machine.front(State::Closed, 0);
    assert_eq!(machine.front(State::Initialised, 9), "feature 2 connect(9)");
}

/// A connected back end whose front end then has this state.
fn after(front: State) -> Machine {
    let mut machine = Machine::connected(8);
    machine.front(front, 0);
    machine
}

/// A back end that attaches to rings.
fn pending() -> Machine {
    let mut machine = Machine::ready();
    machine.front(State::Initialised, 8);
    machine
}

/// Rows are the back end's states, columns the front end's from 0 to 8.
#[test]
fn every_pair_is_as_drawn() {
    type Make = fn() -> Machine;
    let drawn: [(&str, Make, &str); 6] = [
        ("1", Machine::new, "||||||||"),
        ("2", Machine::ready, "6|||connect(9)|connect(9)|5|6||"),
        (
            "2, pending",
            pending,
            "off 6|off feature||off connect(9)||off 5|off 6||",
        ),
        (
            "4",
            || Machine::connected(8),
            "off 6|off feature 2||off connect(9)||off 5|off 6||",
        ),
        ("5", || after(State::Closing), "6|feature 2|||||6||"),
        (
            "6",
            || after(State::Closed),
            "|feature 2||feature 2 connect(9)|feature 2 connect(9)||||",
        ),
    ];
    let states = [
        State::Unknown,
        State::Initialising,
        State::InitWait,
        State::Initialised,
        State::Connected,
        State::Closing,
        State::Closed,
        State::Reconfiguring,
        State::Reconfigured,
    ];
    for (own, make, row) in drawn {
        assert_eq!(row.split('|').count(), states.len());
        for (front, want) in states.into_iter().zip(row.split('|')) {
            assert_eq!(make().front(front, 9), want, "{own}, front end {front:?}");
        }
    }
}

#[test]
fn a_closed_device_starts_again() {
    let mut machine = Machine::connected(8);
    assert_eq!(machine.front(State::Closing, 0), "off 5");
    assert_eq!(machine.front(State::Closed, 0), "6");
    assert_eq!(machine.front(State::Initialising, 0), "feature 2");
    assert_eq!(machine.front(State::Initialised, 9), "connect(9)");
    assert_eq!(machine.answer(), "sectors 4");
}

/// A Linux that was started by kexec finds devices in use. It writes 5, waits for 5, writes 6,
/// waits for 6, writes 1 and waits for 2.
#[test]
fn a_kexec_closes_and_starts_again() {
    let mut machine = Machine::connected(8);
    for (front, back) in [
        (State::Closing, State::Closing),
        (State::Closed, State::Closed),
        (State::Initialising, State::InitWait),
    ] {
        machine.front(front, 0);
        assert_eq!(machine.back.state(), back);
    }
}

#[test]
fn a_front_end_that_starts_without_closing_is_connected_anew() {
    let mut machine = Machine::connected(8);
    assert_eq!(machine.front(State::Initialised, 8), "", "the same rings");
    assert_eq!(machine.front(State::Initialised, 9), "off connect(9)");
    assert_eq!(machine.answer(), "sectors 4", "the state is written again");
    assert_eq!(machine.front(State::Initialising, 0), "off feature 2");
}

#[test]
fn an_answer_to_an_ended_attempt_does_nothing() {
    let mut machine = Machine::ready();
    machine.front(State::Initialised, 8);
    machine.front(State::Closed, 0);
    assert_eq!(machine.answer(), "");
    machine.front(State::Initialising, 0);
    machine.front(State::Initialised, 9);
    let old = machine.attempts[0];
    assert_eq!(machine.back.connected(old, &[]), []);
    assert_eq!(machine.answer(), "sectors 4");
    assert_eq!(machine.answer(), "", "it is answered");
}

#[test]
fn what_cannot_be_connected_is_said_in_the_store_and_closed() {
    let mut machine = Machine::ready();
    let read = || Err::<u32, _>("ring-ref is missing");
    let actions = machine.back.front_changed(State::Initialised, read);
    let Action::Change(Change::Write { path, value }) = &actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(path, "/local/domain/0/error/backend/vbd/1/51712/error");
    assert_eq!(value, "ring-ref is missing");
    assert_eq!(machine.text(&actions), "error 5");
    assert_eq!(machine.front(State::Initialised, 8), "");
    assert_eq!(machine.front(State::Closed, 0), "6");
    assert_eq!(machine.front(State::Initialising, 0), "feature 2");
    let mut machine = Machine::connected(8);
    let actions = machine.back.failed(&"the disk is gone");
    assert_eq!(machine.text(&actions), "off error 5");
}

#[test]
fn a_device_in_use_tells_of_a_new_size() {
    let size = [("sectors".into(), "16".into())];
    let mut machine = Machine::connected(8);
    let actions = machine.back.update(&size);
    assert_eq!(machine.text(&actions), "sectors 4");
    assert_eq!(Machine::ready().back.update(&size), []);
}

#[test]
fn an_unplug_ends_when_the_front_end_has_closed() {
    let mut machine = Machine::connected(8);
    let actions = machine.back.unplug();
    assert_eq!(machine.text(&actions), "online 5");
    assert_eq!(machine.back.unplug(), []);
    assert_eq!(machine.front(State::Connected, 8), "", "it is still in use");
    assert_eq!(machine.front(State::Closing, 0), "off");
    assert_eq!(machine.front(State::Closed, 0), "6 gone");
    assert_eq!(machine.front(State::Initialising, 0), "");
    // A front end that has not started, and one that has closed.
    let mut machine = Machine::ready();
    let _ = machine.back.unplug();
    assert_eq!(machine.front(State::Initialising, 0), "6 gone");
    let mut machine = Machine::connected(8);
    machine.front(State::Closed, 0);
    let actions = machine.back.unplug();
    assert_eq!(machine.text(&actions), "online gone");
}

#[test]
fn a_removal_does_not_wait() {
    let mut machine = Machine::connected(8);
    let actions = machine.back.remove();
    assert_eq!(machine.text(&actions), "off 6 gone");
    assert_eq!(machine.front(State::Initialised, 8), "");
}
