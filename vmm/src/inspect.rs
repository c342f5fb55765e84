//! `pvh-vmm inspect FILE`: describes a kernel file and, if it cannot boot, says why.

mod json;

use std::io::{self, Write};

use pvh_loader::{image::ImageError, inspect::inspect};

use crate::{
    args::InspectArguments,
    config::input_file,
    exit::{HOST, Printable, REFUSED, SUCCESS, complain, sentence},
};

/// Prints the report of a file and returns the exit code.
pub(crate) fn run(arguments: &InspectArguments) -> u8 {
    let file = input_file(arguments.file.clone());
    let name = Printable(&file.display().to_string()).to_string();
    let report = match inspect(&file) {
        Ok(report) => report,
        Err(error) => return unreadable(&name, &error, arguments.json),
    };
    let page = match arguments.json {
        true => json::report(&name, &report).to_string(),
        false => report.page(&name).to_string(),
    };
    let code = if report.verdict.is_bootable() {
        SUCCESS
    } else {
        REFUSED
    };
    print(&page, code)
}

fn unreadable(name: &str, error: &ImageError, as_json: bool) -> u8 {
    if as_json {
        print(&json::unreadable(name, error).to_string(), REFUSED);
    }
    complain(&format!("{name}: {}", sentence(error, error.fix())));
    REFUSED
}

/// Prints to standard output and returns `code`. A closed pipe is no error, other lost output is.
fn print(page: &str, code: u8) -> u8 {
    match writeln!(io::stdout(), "{}", page.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write to standard output: {error}"));
            HOST
        }
        _ => code,
    }
}
