//! What a guest of a real Xen 4.17 was answered, asked again here.
//!
//! Each file of `recorded/` is what one guest printed: `>` is a request as type, transaction and payload; `<` a
//! message that came back, as type and payload; `=` how often a repeated request was not refused, and the refusal.
//! In payloads `\0` is a NUL, `{x*20}` is 20 times x, `%` the number of the turn of a repeated request (`TYPE*N`).
//! `TYPE=A` keeps the id of a new transaction as A.

use std::{collections::HashMap, fmt::Write as _};

use crate::client::{Client, booted};

#[test]
fn messages_and_watches_are_answered_as_by_xen_4_17() {
    replay_all(include_str!("recorded/messages.txt"));
}

#[test]
fn transactions_are_answered_as_by_xen_4_17() {
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

/// The bytes of a payload as it is written in the file.
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

/// The payload as the recording guest printed it: runs of more than 20 are shortened.
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
