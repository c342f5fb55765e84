//! Turns clap's errors into one line that says what is wrong and what to do.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Turns an error of clap into one line, without the leading "pvh-vmm:".
pub(crate) fn line(error: &clap::Error, is_file: impl FnOnce(&Path) -> bool) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing, for example run or inspect; see pvh-vmm --help".to_owned();
    }
    if let Some(kernel) = kernel_as_command(error, is_file) {
        return format!("'{kernel}' is not a command; did you mean `pvh-vmm run {kernel}`?");
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let what = paragraphs.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    // clap's other tip, to pass an unknown option as a value, is wrong: no value looks like one.
    let tip = paragraphs
        .map(str::trim)
        .find(|part| part.starts_with("tip: a "));
    let tip = tip.and_then(|tip| tip.strip_prefix("tip: "));
    let fix = match (tip, error.kind()) {
        (Some(tip), _) => format!("; {tip}"),
        // The value's own error says what to write.
        (None, ErrorKind::ValueValidation) => String::new(),
        (None, _) => "; see --help".to_owned(),
    };
    let line = format!("{what}{fix}");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A file that was given where the command belongs.
fn kernel_as_command(error: &clap::Error, is_file: impl FnOnce(&Path) -> bool) -> Option<&str> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    is_file(Path::new(word)).then_some(word)
}

/// Another command where only `run` can stand.
pub(crate) const NOT_RUN: &str = "a configuration file belongs to `run`; see pvh-vmm run --help";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Arguments;

    fn told(arguments: &[&str]) -> String {
        let words = ["pvh-vmm"].iter().chain(arguments);
        line(&Arguments::try_parse_from(words).unwrap_err(), |path| {
            path == Path::new("/boot/vmlinuz")
        })
    }

    #[test]
    fn what_and_the_way_out_are_one_line() {
        let cases = [
            (&["run", "--memroy", "1G"][..], "--memory"),
            (&["run", "--memory", "lots"], "not a size"),
            (&["run", "--memory", "512"], "did you mean 512M?"),
            (&["run", "--memory"], "a value is required for '--memory"),
            (&["run", "--platform", "vmware"], "auto, xen, none"),
            (&["run", "a", "b"], "unexpected argument 'b'"),
            (&["walk"], "unrecognized subcommand 'walk'"),
            (
                &["/boot/vmlinuz"],
                "'/boot/vmlinuz' is not a command; did you mean `pvh-vmm run /boot/vmlinuz`?",
            ),
            (&["inspect"], "<FILE>"),
            (&[], "run or inspect; see pvh-vmm --help"),
        ];
        for (arguments, word) in cases {
            let told = told(arguments);
            assert!(told.contains(word), "{told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }
}
