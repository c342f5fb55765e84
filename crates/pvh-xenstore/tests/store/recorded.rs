//! Sends requests again that a guest sent on a real Xen 4.17, and compares the replies.
//!
//! Each file of `recorded/` is the output of one guest:
//!
//! - `>` is a request: type, transaction and payload. `TYPE*N` repeats it N times. `TYPE=A` names
//!   the id of a new transaction A.
//! - `<` is a message that came back: type and payload.
//! - `=` says how often a repeated request succeeded, and the error that ended it.
//!
//! In payloads `\0` is a NUL, `{x*20}` is 20 times x, and `%` the number of the repetition.

use std::{collections::HashMap, fmt::Write as _};

use crate::client::{Client, booted};

#[test]
fn messages_and_watches_are_those_of_xen_4_17() {
    replay_all(include_str!("recorded/messages.txt"));
}

#[test]
fn transactions_are_those_of_xen_4_17() {
    replay_all(include_str!("recorded/transactions.txt"));
}

#[test]
fn limits_are_those_of_xen_4_17() {
    replay_all(include_str!("recorded/limits.txt"));
}

fn replay_all(recorded: &str) {
    let mut client = booted();
    let mut ids = HashMap::new();
    let recorded = recorded.lines().filter(|line| !line.starts_with('#'));
    let recorded: Vec<&str> = recorded.collect();
    let mut replayed = String::new();
    for request in recorded.iter().filter_map(|line| line.strip_prefix("> ")) {
        writeln!(replayed, "> {request}").unwrap();
        replay(&mut client, &mut ids, request, &mut replayed);
    }
    let mut request = "";
    for (recorded, found) in recorded.iter().zip(replayed.lines()) {
        if recorded.starts_with('>') {
            request = recorded;
        }
        assert_eq!(*recorded, found, "after {request}");
    }
    assert_eq!(recorded.len(), replayed.lines().count());
    assert!(recorded.len() > 50);
}

fn replay(client: &mut Client, ids: &mut HashMap<String, u32>, line: &str, out: &mut String) {
    let mut words = line.splitn(3, ' ');
    let [name, transaction, payload] = [(); 3].map(|()| words.next().unwrap());
    let (name, slot) = name.split_once('=').unwrap_or((name, ""));
    let (name, turns) = name.split_once('*').unwrap_or((name, "1"));
    let turns: u32 = turns.parse().unwrap();
    let kind = kind(name);
    let transaction = match transaction.parse() {
        Ok(id) => id,
        Err(_) => ids[transaction],
    };
    for turn in 0..turns {
        let text = if turns > 1 {
            payload.replace('%', &turn.to_string())
        } else {
            payload.to_owned()
        };
        let messages = client.all(kind, transaction, &bytes(&text));
        for (kind, payload) in &messages {
            let mut shown = show(payload);
            if *kind == 22 {
                shown.replace_range(..shown.find('\\').unwrap(), "G");
            }
            let shown = format!("< {kind} {shown}");
            let is_absence = payload.starts_with(b"ENOENT");
            match (turns, kind) {
                (1, _) => writeln!(out, "{shown}").unwrap(),
                (_, 16) if !is_absence => {
                    writeln!(out, "= {turn} then {shown}").unwrap();
                    return;
                }
                _ => {}
            }
        }
        if let Some((_, id)) = messages
            .iter()
            .find(|(kind, _)| !slot.is_empty() && *kind == 6)
        {
            let id = std::str::from_utf8(&id[..id.len() - 1]).unwrap();
            ids.insert(slot.to_owned(), id.parse().unwrap());
        }
    }
    if turns > 1 {
        writeln!(out, "= all").unwrap();
    }
}

fn kind(name: &str) -> u32 {
    let names = "CONTROL DIRECTORY READ GET_PERMS WATCH UNWATCH TRANSACTION_START TRANSACTION_END INTRODUCE \
        RELEASE GET_DOMAIN_PATH WRITE MKDIR RM SET_PERMS WATCH_EVENT ERROR IS_DOMAIN_INTRODUCED RESUME \
        SET_TARGET RESTRICT RESET_WATCHES DIRECTORY_PART";
    match names.split_whitespace().position(|known| known == name) {
        Some(kind) => kind as u32,
        None => name.parse().unwrap(),
    }
}

/// Returns the bytes of a payload that is written in the file.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\\0") {
            bytes.push(0);
            rest = after;
        } else if let Some((run, after)) =
            rest.strip_prefix('{').and_then(|run| run.split_once('}'))
        {
            let (byte, count) = run.split_once('*').unwrap();
            bytes.extend(byte.repeat(count.parse().unwrap()).bytes());
            rest = after;
        } else {
            bytes.extend(first.to_string().bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    bytes
}

/// Returns a payload as the recording guest printed it: runs of more than 20 bytes are shortened.
fn show(payload: &[u8]) -> String {
    let mut text = String::new();
    for run in payload.chunk_by(|one, other| one == other) {
        let byte = char::from(run[0]);
        if run.len() > 20 {
            write!(text, "{{{byte}*{}}}", run.len()).unwrap();
        } else if run[0] == 0 {
            text.push_str(&"\\0".repeat(run.len()));
        } else {
            text.push_str(&byte.to_string().repeat(run.len()));
        }
    }
    text
}
