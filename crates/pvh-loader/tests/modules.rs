//! Which files can be modules.

use std::fs::File;

use pvh_loader::module::{ModuleError, ModuleSource};

#[test]
fn an_empty_file_is_a_module_of_no_bytes() {
    let empty = tempfile::tempfile().unwrap();
    let module = ModuleSource::from_file(empty).unwrap();
    assert!(module.file().is_some());
    assert!(ModuleSource::from_bytes(Vec::new()).file().is_none());
}

#[test]
fn a_file_without_a_length_and_a_directory_are_refused() {
    // Files of procfs say that they are empty.
    let version = File::open("/proc/version").unwrap();
    assert!(matches!(
        ModuleSource::from_file(version),
        Err(ModuleError::UnknownLength)
    ));
    let directory = File::open("/").unwrap();
    assert!(matches!(
        ModuleSource::from_file(directory),
        Err(ModuleError::NotRegular)
    ));
}
