//! A back end in a store, its host, and a front end that does anything.

use proptest::prelude::*;
use pvh_abi::DomId;
use pvh_xenbus::{Action, Attempt, BackEnd, Device, State, apply};
use pvh_xenstore::{HostId, Limits, Store};

const DISK: Device = Device {
    guest: DomId(1),
    class: "vbd",
    id: 1,
};

struct World {
    store: Store,
    host: HostId,
    back: BackEnd<Vec<u8>>,
    /// The embedder's rings: the attempt that has not been answered, or none.
    attached: Option<(Vec<u8>, Option<Attempt>)>,
    is_gone: bool,
    is_unplugged: bool,
}

impl World {
    fn new() -> Self {
        let mut store = Store::new(Limits::default());
        store.introduce(DISK.guest);
        let host = store.connect_host();
        apply(&DISK.create(&[], &[]), &mut store.host(host)).unwrap();
        store.host(host).watch(&DISK.front_path(), b"disk").unwrap();
        Self {
            store,
            host,
            back: BackEnd::new(DISK),
            attached: None,
            is_gone: false,
            is_unplugged: false,
        }
    }

    fn run(&mut self, actions: Vec<Action<Vec<u8>>>) {
        assert!(actions.len() <= 6, "{actions:?}");
        for action in actions {
            match action {
                Action::Change(change) => {
                    apply([&change], &mut self.store.host(self.host)).unwrap()
                }
                Action::Connect {
                    attempt,
                    parameters,
                } => {
                    let old = self.attached.replace((parameters, Some(attempt)));
                    assert_eq!(old, None, "two connections");
                }
                Action::Disconnect => assert!(self.attached.take().is_some(), "no connection"),
                Action::Gone => self.is_gone = true,
                other => panic!("{other:?}"),
            }
        }
        let own = format!("{}/state", DISK.back_path());
        let own = State::read(self.store.read(&own));
        assert_eq!(own, self.back.state(), "the store holds the state");
        let is_up = matches!(self.attached, Some((_, None)));
        assert_eq!(is_up, self.back.connection().is_some());
        // A device that is unplugged stays in use until the front end closes it.
        if is_up && !self.is_unplugged {
            assert_eq!(own, State::Connected);
        }
        if own == State::Closed {
            assert_eq!(self.attached, None);
        }
    }

    /// The host serves its watch.
    fn serve(&mut self) {
        while self.store.host(self.host).take_event().is_some() {
            let front = DISK.front_path();
            let state = State::read(self.store.read(&format!("{front}/state")));
            let ring = self.store.read(&format!("{front}/ring-ref"));
            let ring = ring.map(<[u8]>::to_vec).ok_or("ring-ref is missing");
            let actions = self.back.front_changed(state, || ring);
            self.run(actions);
        }
    }

    fn answer(&mut self, is_fine: bool) {
        let Some((_, attempt)) = &mut self.attached else {
            return;
        };
        let Some(attempt) = attempt.take() else {
            return;
        };
        let actions = if is_fine {
            self.back
                .connected(attempt, &[("sectors".into(), "8".into())])
        } else {
            self.back.failed(&"no such page")
        };
        self.run(actions);
    }

    fn front(&mut self, key: &str, value: &str) {
        let path = format!("{}/{key}", DISK.front_path());
        self.store.write(&path, value.as_bytes()).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Connections never overlap, the store always holds the state, and after anything that the
    /// front end has done it can close in order and start again.
    #[test]
    fn a_front_end_that_keeps_the_order_is_served_after_anything(
        steps in proptest::collection::vec((0_u8..12, "[0-9x]"), 0..40),
    ) {
        let mut world = World::new();
        for (what, text) in steps {
            match what {
                0..=3 => world.front("state", &text),
                4 | 5 => world.front("ring-ref", &text),
                6 => world.store.remove(&format!("{}/state", DISK.front_path())).unwrap(),
                7 => world.store.remove(&format!("{}/ring-ref", DISK.front_path())).unwrap(),
                8 => {
                    let actions = world.back.ready(vec![("max-ring-pages".into(), "16".into())]);
                    world.run(actions);
                }
                9 => world.answer(text != "x"),
                _ => world.serve(),
            }
        }
        let actions = world.back.ready(Vec::new());
        world.run(actions);
        world.serve();
        for (state, own) in [("5", None), ("6", None), ("1", Some(State::InitWait))] {
            world.front("state", state);
            world.serve();
            prop_assert!(own.is_none_or(|own| own == world.back.state()));
        }
        world.front("ring-ref", "7");
        world.front("state", "3");
        world.serve();
        world.answer(true);
        prop_assert_eq!(world.back.connection(), Some(&b"7".to_vec()));
        let actions = world.back.unplug();
        world.is_unplugged = true;
        world.run(actions);
        world.front("state", "5");
        world.serve();
        world.front("state", "6");
        world.serve();
        prop_assert!(world.is_gone && world.attached.is_none());
    }
}
