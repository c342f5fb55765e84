//! `pvh-vmm inspect FILE`: describes a kernel file and, if it cannot boot, says why.

use pvh_config::{
    InspectArguments,
    exit::{REFUSED, SUCCESS},
    input_file, input_name,
};
use pvh_loader::{
    Image,
    image::ImageError,
    inspect::{inspect, unreadable_json},
};
use pvh_terminal::Printable;

use crate::{
    exit::{complain, print, sentence},
    write_out,
};

/// Prints the report of a file and returns the exit code.
pub(crate) fn run(arguments: &InspectArguments) -> u8 {
    let file = input_file(arguments.file.clone());
    let shown = match arguments.json {
        // As it was given: programs compare it.
        true => &arguments.file,
        false => input_name(&file),
    };
    let name = Printable(&shown.display().to_string()).to_string();
    if let Some(path) = &arguments.extract {
        return match Image::open(&file) {
            Ok(image) => write_out::elf(path, &image),
            Err(error) => unreadable(&name, &error, false),
        };
    }
    let report = match inspect(&file) {
        Ok(report) => report,
        Err(error) => return unreadable(&name, &error, arguments.json),
    };
    let page = match arguments.json {
        true => report.json(&name),
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
        print(&unreadable_json(name, error), REFUSED);
    }
    complain(&format!("{name}: {}", sentence(error, error.fix())));
    REFUSED
}
