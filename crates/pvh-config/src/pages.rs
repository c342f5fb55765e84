//! The manual pages and shell completions of pvh-vmm, made from the definition of its command line.

mod manual;

use clap_complete::{Shell, generate};

use crate::args;

/// A file, as its name and its text.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a file is its name and its text")]
pub struct Page {
    /// The file's name, without a folder: a manual page's ends with its section.
    pub name: String,
    /// The file's text.
    pub text: String,
}

/// Writes the manual pages: one of the program, one of each command, all of section 1.
///
/// They have no date, so that two builds have the same bytes.
#[must_use]
pub fn manual() -> Vec<Page> {
    // `help` has no page: each command has `--help`.
    let mut program = args::definition().disable_help_subcommand(true);
    program.build();
    let version = env!("CARGO_PKG_VERSION");
    let mut pages = vec![manual::page(&program, version)];
    let commands = program.get_subcommands();
    pages.extend(commands.map(|command| manual::page(command, version)));
    pages
}

/// Writes the completions for bash, zsh and fish, each under the name that its shell looks for.
#[must_use]
pub fn completions() -> Vec<Page> {
    let shells = [
        (Shell::Bash, "pvh-vmm"),
        (Shell::Zsh, "_pvh-vmm"),
        (Shell::Fish, "pvh-vmm.fish"),
    ];
    let write = |(shell, name): (Shell, &str)| {
        let mut text = Vec::new();
        generate(shell, &mut args::definition(), "pvh-vmm", &mut text);
        let text = String::from_utf8_lossy(&text);
        Page {
            name: name.to_owned(),
            // For bash, clap_complete 4.6 writes the `-` of a program's name in two ways: commands would not be found.
            text: text.replace("pvh__subcmd__vmm", "pvh__vmm"),
        }
    };
    shells.map(write).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: &str) -> String {
        let found = manual().into_iter().find(|page| page.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).text
    }

    #[test]
    fn each_command_has_a_page_and_each_option_of_run_is_in_its_page() {
        let definition = args::definition();
        for command in definition.get_subcommands() {
            page(&format!("pvh-vmm-{}.1", command.get_name()));
        }
        let run = page("pvh-vmm-run.1");
        let mut definition = definition;
        definition.build();
        let options = definition.find_subcommand("run").unwrap().get_arguments();
        let mut count = 0;
        for long in options.filter_map(|option| option.get_long()) {
            let entry = format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-"));
            let described = run.split(".SH OPTIONS").nth(1).unwrap();
            assert!(described.contains(&entry), "{entry}");
            count += 1;
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn the_text_below_the_options_becomes_sections() {
        for (name, sections) in [
            ("pvh-vmm.1", &["EXIT STATUS"][..]),
            ("pvh-vmm-run.1", &["EXIT STATUS", "KEYS", "EXAMPLES"]),
            ("pvh-vmm-conform.1", &["SECTIONS", "EXIT STATUS", "EXAMPLE"]),
            ("pvh-vmm-tap.1", &["NOTES", "EXIT STATUS", "EXAMPLE"]),
        ] {
            let text = page(name);
            let headings = text.lines().filter_map(|line| line.strip_prefix(".SH "));
            let behind: Vec<_> = headings
                .map(|heading| heading.trim_matches('"'))
                .skip_while(|heading| *heading != "OPTIONS")
                .filter(|heading| !["OPTIONS", "SUBCOMMANDS", "VERSION"].contains(heading))
                .collect();
            assert_eq!(behind, sections, "{name}");
        }
    }

    #[test]
    fn examples_keep_their_lines() {
        let run = page("pvh-vmm-run.1");
        let (_, examples) = run.split_once(".SH EXAMPLES\n.nf\n").unwrap();
        let (examples, _) = examples.split_once("\n.fi").unwrap();
        let lines: Vec<_> = examples.lines().collect();
        assert_eq!(lines[0], "pvh\\-vmm run");
        assert!(lines.len() > 3, "{examples}");
    }

    #[test]
    fn pages_are_the_same_each_time_and_have_no_date() {
        assert_eq!(manual(), manual());
        assert_eq!(completions(), completions());
        for page in manual() {
            let title = page.text.lines().find(|line| line.starts_with(".TH"));
            let version = env!("CARGO_PKG_VERSION");
            let fields = format!(" 1 \" \" \"pvh-vmm {version}\" \"User Commands\"");
            assert!(title.unwrap().ends_with(&fields), "{title:?}");
        }
    }

    #[test]
    fn each_command_that_bash_finds_has_words() {
        let pages = completions();
        let text = &pages
            .iter()
            .find(|page| page.name == "pvh-vmm")
            .unwrap()
            .text;
        let found = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("cmd=\"")?.strip_suffix('"'));
        let mut count = 0;
        for command in found.filter(|command| !command.is_empty()) {
            let case = format!("{command})");
            assert!(text.lines().any(|line| line.trim() == case), "{command}");
            count += 1;
        }
        assert!(count > 10, "{count}");
    }

    /// clap_complete puts the help of a value between double quotes for fish, and escapes none there.
    #[test]
    fn the_help_of_a_value_has_nothing_that_fish_would_read() {
        let mut definition = args::definition();
        definition.build();
        let mut count = 0;
        for command in definition.get_subcommands() {
            for value in command
                .get_arguments()
                .flat_map(|a| a.get_possible_values())
            {
                let help = value.get_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                assert!(!help.contains(['"', '$', '\\', '`']), "{help}");
                count += 1;
            }
        }
        assert!(count > 10, "{count}");
    }

    #[test]
    fn completions_know_the_commands_and_the_options_of_run() {
        for page in completions() {
            for word in ["conform", "inspect", "start-info", "on-crash"] {
                assert!(page.text.contains(word), "{}: {word}", page.name);
            }
        }
    }
}
