//! The keys of a front end's folder.

use pvh_xenbus::{FrontKeys, KeyError};

/// A folder that has this one key.
fn folder(key: &str, value: &str) -> FrontKeys<impl FnMut(&str) -> Option<String>> {
    let (name, value) = (key.to_owned(), value.to_owned());
    FrontKeys::new(move |key: &str| (key == name).then(|| value.clone()))
}

#[test]
fn numbers_are_digits_within_bounds() {
    for (value, number) in [("0", 0), ("8", 8), ("007", 7), ("4294967295", u32::MAX)] {
        assert_eq!(folder("ring-ref", value).needed("ring-ref"), Ok(number));
    }
    for value in [
        "",
        "-1",
        "+1",
        "1 ",
        " 1",
        "0x1",
        "4294967296",
        "one",
        "1\0",
        "\u{663}",
    ] {
        let error = folder("ring-ref", value).needed("ring-ref").unwrap_err();
        let key = "ring-ref".to_owned();
        let (least, most) = (0, u32::MAX);
        assert_eq!(error, KeyError::Number { key, least, most }, "{value:?}");
    }
    for (value, is_allowed) in [("1", false), ("2", true), ("4", true), ("5", false)] {
        let read = folder("order", value).number("order", 2..=4);
        assert_eq!(read.is_ok(), is_allowed, "{value}");
    }
}

#[test]
fn a_missing_key_is_named_only_if_it_is_needed() {
    let mut keys = folder("event-channel", "3");
    assert_eq!(keys.number("ring-ref", 0..=9), Ok(None));
    assert_eq!(keys.text("ring-ref"), None);
    let error = keys.needed("ring-ref").unwrap_err();
    assert_eq!(error.to_string(), "the front end has not written ring-ref");
}

#[test]
fn a_flag_is_0_or_1_and_0_if_it_is_missing() {
    assert_eq!(folder("feature-sg", "1").flag("feature-sg"), Ok(true));
    assert_eq!(folder("feature-sg", "0").flag("feature-sg"), Ok(false));
    assert_eq!(folder("feature-sg", "1").flag("feature-rx"), Ok(false));
    let error = folder("feature-sg", "2").flag("feature-sg").unwrap_err();
    assert_eq!(error.to_string(), "feature-sg is not a number from 0 to 1");
}

#[test]
fn queues_have_folders_from_two_on() {
    let folders = |value| folder("multi-queue-num-queues", value).queue_folders(2);
    assert_eq!(folders("1"), Ok(vec![String::new()]));
    assert_eq!(folders("2"), Ok(vec!["queue-0/".into(), "queue-1/".into()]));
    assert!(folders("0").is_err() && folders("3").is_err());
    assert_eq!(
        folder("other", "2").queue_folders(2),
        Ok(vec![String::new()])
    );
}
