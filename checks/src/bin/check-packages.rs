//! Fails if a package that is published lacks something; `--order` prints the order to publish in.

use std::{path::Path, process::ExitCode};

use pvh_checks::packages::{self, PackagesError};

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        None => check(),
        Some("--order") => print_order(),
        Some(other) => {
            eprintln!("unknown option {other}; usage: check-packages [--order]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{}", pvh_checks::chain(&why));
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<bool, PackagesError> {
    let all = packages::packages()?;
    let mut found = Vec::new();
    let mut count = 0_u32;
    for package in all.iter().filter(|package| package.is_published) {
        count = count.saturating_add(1);
        found.extend(packages::faults(package, &all));
        let files = packages::files(&package.name)?;
        found.extend(packages::file_faults(package, Path::new("."), &files));
    }
    packages::order(&all)?;
    for fault in &found {
        eprintln!("{fault}");
    }
    if found.is_empty() {
        println!("packages: {count} can be published");
    }
    Ok(found.is_empty())
}

fn print_order() -> Result<bool, PackagesError> {
    for name in packages::order(&packages::packages()?)? {
        println!("{name}");
    }
    Ok(true)
}
