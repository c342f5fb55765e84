//! What a process holds of its host: threads, open files, mappings, memory.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{fs, path::PathBuf};

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) threads: usize,
    pub(crate) files: usize,
    pub(crate) mappings: usize,
    pub(crate) timers: usize,
    pub(crate) file_locks: usize,
    pub(crate) locked_kib: u64,
    pub(crate) anonymous_kib: u64,
}

impl Held {
    pub(crate) fn of(pid: u32) -> Self {
        let count = |what: &str| {
            let entries = fs::read_dir(format!("/proc/{pid}/{what}"));
            entries.map_or(0, Iterator::count)
        };
        let read =
            |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let status = read("status");
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let links = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let links = links.flatten().map(|entry| fs::read_link(entry.path()));
        let is_timer = |link: &PathBuf| link.to_string_lossy().contains("timerfd");
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let has_lock = |line: &&str| line.split_whitespace().any(|word| word == pid.to_string());
        Self {
            threads: count("task"),
            files: count("fd"),
            mappings: read("maps").lines().count(),
            timers: links.flatten().filter(is_timer).count(),
            file_locks: locks.lines().filter(has_lock).count(),
            locked_kib: kib("VmLck:"),
            anonymous_kib: kib("RssAnon:"),
        }
    }

    /// The most of each.
    pub(crate) fn most(self, other: Self) -> Self {
        Self {
            threads: self.threads.max(other.threads),
            files: self.files.max(other.files),
            mappings: self.mappings.max(other.mappings),
            timers: self.timers.max(other.timers),
            file_locks: self.file_locks.max(other.file_locks),
            locked_kib: self.locked_kib.max(other.locked_kib),
            anonymous_kib: self.anonymous_kib.max(other.anonymous_kib),
        }
    }
}
