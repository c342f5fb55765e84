//! Any sequence of requests against a model that is a map of paths.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pvh_xenstore::Limits;

use crate::client::{GUEST, booted};

/// A tree below `data`, as a map from paths to values.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<String, Vec<u8>>);

impl Model {
    fn write(&mut self, path: &str, value: &[u8]) {
        self.make(path);
        self.0.insert(path.to_owned(), value.to_vec());
    }

    fn make(&mut self, path: &str) {
        let ends = path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()]);
        for end in ends {
            self.0.entry(path[..end].to_owned()).or_default();
        }
    }

    fn remove(&mut self, path: &str) -> bool {
        let above = path.rsplit_once('/').unwrap().0;
        let below = format!("{path}/");
        self.0
            .retain(|key, _| key != path && !key.starts_with(&below));
        self.0.contains_key(above)
    }

    fn children(&self, path: &str) -> Option<Vec<&str>> {
        self.0.get(path)?;
        let below = self
            .0
            .keys()
            .filter_map(|key| key.strip_prefix(path)?.strip_prefix('/'));
        Some(below.filter(|name| !name.contains('/')).collect())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(String, Vec<u8>),
    Mkdir(String),
    Rm(String),
    Start,
    End(bool),
}

fn paths() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab]", 1..4).prop_map(|names| format!("data/{}", names.join("/")))
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (paths(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(path, value)| Step::Write(path, value)),
        1 => paths().prop_map(Step::Mkdir),
        2 => paths().prop_map(Step::Rm),
        1 => Just(Step::Start),
        1 => any::<bool>().prop_map(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_tree_is_that_of_the_model(steps in proptest::collection::vec(steps(), 1..60)) {
        let mut client = booted();
        let nodes_before = client.store.usage(GUEST).unwrap().nodes;
        let mut outside = Model::default();
        outside.make("data");
        let mut inside: Option<(u32, Model)> = None;
        for step in steps {
            let id = inside.as_ref().map_or(0, |(id, _)| *id);
            let model = inside.as_mut().map_or(&mut outside, |(_, model)| model);
            match step {
                Step::Write(path, value) => {
                    model.write(&path, &value);
                    client.ask(11, id, &[path.as_bytes(), b"\0", &value].concat()).unwrap();
                }
                Step::Mkdir(path) => {
                    model.make(&path);
                    client.ask(12, id, format!("{path}\0").as_bytes()).unwrap();
                }
                Step::Rm(path) => {
                    let is_fine = model.remove(&path);
                    let answer = client.ask(13, id, format!("{path}\0").as_bytes());
                    prop_assert_eq!(answer.is_ok(), is_fine);
                }
                Step::Start if id == 0 => {
                    inside = Some((client.start(), outside.clone()));
                }
                Step::End(commit) if id != 0 => {
                    client.ask(7, id, if commit { b"T\0" } else { b"F\0" }).unwrap();
                    let (_, model) = inside.take().unwrap();
                    if commit {
                        outside = model;
                    }
                }
                Step::Start | Step::End(_) => {}
            }
        }
        if let Some((id, _)) = inside {
            client.ask(7, id, b"F\0").unwrap();
        }
        for (path, value) in &outside.0 {
            prop_assert_eq!(&client.ask(2, 0, format!("{path}\0").as_bytes()).unwrap(), value);
            let listed = client.ask(1, 0, format!("{path}\0").as_bytes()).unwrap();
            let listed = String::from_utf8(listed).unwrap();
            let mut names: Vec<&str> = listed.split_terminator('\0').collect();
            names.sort_unstable();
            prop_assert_eq!(Some(names), outside.children(path));
        }
        let nodes = client.store.usage(GUEST).unwrap().nodes;
        prop_assert_eq!(nodes, nodes_before + outside.0.len() - 1);
    }

    /// No request panics, none takes the guest over its limits, and all that was counted is given
    /// back.
    #[test]
    fn any_requests_stay_within_the_limits(requests in proptest::collection::vec(
        (
            0_u32..28,
            0_u32..6,
            prop_oneof![
                "(data|control|/|@releaseDomain|name|/local/domain/1/error|)(/[a-c]){0,3}\0(t|T|n1|r0|5|)\0?(r0\0)?",
                "\\PC{0,20}",
            ],
            prop_oneof![Just(0_usize), 1990..2030_usize],
        ),
        1..100,
    )) {
        let mut client = booted();
        let before = client.store.usage(GUEST).unwrap();
        let limits = Limits::default();
        for (kind, transaction, text, extra) in requests {
            let payload = [text.as_bytes(), &vec![b'x'; extra]].concat();
            let replies = client.all(kind, transaction, &payload);
            prop_assert!(replies.iter().all(|(_, payload)| payload.len() <= 4096));
            let usage = client.store.usage(GUEST).unwrap();
            prop_assert!(usage.nodes <= limits.nodes && usage.watches <= limits.watches + 1);
            prop_assert!(usage.transactions <= limits.transactions + 1);
            prop_assert!(usage.memory_bytes <= limits.memory_bytes);
        }
        client.ask(21, 0, b"\0").unwrap();
        for directory in ["data", "error", "control", "drivers", "feature", "attr", "device"] {
            client.store.remove(&format!("/local/domain/1/{directory}")).unwrap();
        }
        let after = client.store.usage(GUEST).unwrap();
        prop_assert_eq!((after.nodes, after.memory_bytes, after.watches), (0, 0, 0));
        prop_assert!(before.nodes > 0);
    }
}
