//! One manual page: clap_mangen writes the options; the text below the options becomes sections.

use std::io;

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};

use super::Page;

/// Writes the page of the program or of one of its commands, which has been built.
pub(super) fn page(command: &Command, version: &str) -> Page {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let man = Man::new(command.clone())
        .title(name)
        .section("1")
        // Without a date the fields behind it move up; a blank one holds its place.
        .date(" ")
        .source(format!("pvh-vmm {version}"))
        .manual("User Commands");
    let mut text = Vec::new();
    // A `Vec` takes every write.
    let _ = described(&man, command, &mut text);
    let help = command.get_after_help().map(ToString::to_string);
    let mut roff = Roff::new();
    for block in blocks(help.as_deref().unwrap_or_default()) {
        add(&mut roff, &block);
    }
    let _ = roff.to_writer(&mut text);
    Page {
        name: format!("{name}.1"),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

/// Writes what clap knows of the command.
fn described(man: &Man, command: &Command, text: &mut Vec<u8>) -> io::Result<()> {
    man.render_title(text)?;
    man.render_name_section(text)?;
    man.render_synopsis_section(text)?;
    man.render_description_section(text)?;
    man.render_options_section(text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(text)?;
    }
    Ok(())
}

/// A part of the text below the options, which a blank line ends.
#[derive(Debug, Eq, PartialEq)]
struct Block<'a> {
    /// The section that begins here.
    heading: Option<String>,
    /// Lines that flow.
    text: Vec<&'a str>,
    /// Lines that stay as they are: the indented ones.
    lines: Vec<&'a str>,
}

/// Reads the text below the options. A block that begins with one or two words and a colon
/// ("Exit codes: 0 powered off") begins a section; a text without one is the section NOTES.
fn blocks(help: &str) -> Vec<Block<'_>> {
    let mut found: Vec<Block<'_>> = Vec::new();
    for block in help.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let (heading, rest) = match block.split_once(':') {
            Some((words, rest)) if is_heading(words) => (Some(section(words)), rest),
            _ if found.is_empty() => (Some("NOTES".to_owned()), block),
            _ => (None, block),
        };
        let lines = rest.lines().filter(|line| !line.trim().is_empty());
        let (lines, text) = lines.partition(|line| line.starts_with("  "));
        found.push(Block {
            heading,
            text,
            lines,
        });
    }
    found
}

fn is_heading(words: &str) -> bool {
    let is_word = |word: &str| word.chars().all(char::is_alphabetic);
    words.split(' ').count() <= 2 && words.split(' ').all(is_word)
}

/// The name that manual pages have for a section.
fn section(words: &str) -> String {
    match words {
        "Exit codes" => "EXIT STATUS".to_owned(),
        _ => words.to_uppercase(),
    }
}

fn add(roff: &mut Roff, block: &Block<'_>) {
    match &block.heading {
        Some(heading) => roff.control("SH", [heading.as_str()]),
        None => roff.control("PP", []),
    };
    for line in &block.text {
        roff.text([roman(line.trim())]);
    }
    if block.lines.is_empty() {
        return;
    }
    roff.control("nf", []);
    for line in &block.lines {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
}
