//! The machine that measures: its hardware, its load, and how steady its clock is.

use std::{fs, hint::black_box, process::Command, time::Instant};

use crate::stats::Summary;

/// Returns the main facts about the machine, as names and values.
#[must_use]
pub fn facts() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpus = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let model = field(&cpuinfo, "model name").unwrap_or("unknown");
    let meminfo = read("/proc/meminfo");
    let pages = |name: &str| {
        let text = read(&format!("/sys/kernel/mm/transparent_hugepage/{name}"));
        chosen(&text).unwrap_or("none").to_owned()
    };
    let describe = ["describe", "--always", "--dirty", "--abbrev=10"];
    vec![
        ("CPU", format!("{cpus} x {model}")),
        ("memory", field(&meminfo, "MemTotal").unwrap_or("?").into()),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().into()),
        ("transparent huge pages", pages("enabled")),
        ("compiler", output("rustc", &["--version"])),
        ("commit", output("git", &describe)),
        ("date", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
    ]
}

/// Returns the load of the last minute, five, and fifteen.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    words.join(", ")
}

/// Times the same sum many times, and returns the times in ms. On a quiet machine the tenths are
/// close together.
#[must_use]
pub fn noise() -> Option<Summary> {
    Summary::of((0..SUMS).map(|_| {
        let start = Instant::now();
        let mut sum = 1_u64;
        for step in 0..STEPS {
            sum = black_box(
                sum.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(step),
            );
        }
        black_box(sum);
        start.elapsed().as_secs_f64() * 1000.0
    }))
}

/// Returns the value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.trim() == name)?;
    Some(found.1.trim())
}

/// Returns the word in brackets.
fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok();
    let output = output.filter(|output| output.status.success());
    output.map_or("unknown".to_owned(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

const SUMS: usize = 500;
const STEPS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_what_stands_behind_its_name() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn a_choice_is_the_word_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("always\n"), None);
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_load() {
        let facts = facts();
        let kernel = facts.iter().find(|(name, _)| *name == "kernel").unwrap();
        assert!(kernel.1.starts_with(|c: char| c.is_ascii_digit()));
        assert_eq!(load().split(", ").count(), 3);
    }
}
