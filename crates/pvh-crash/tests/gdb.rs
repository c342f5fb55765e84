//! Cores that the real gdb opens.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use std::{fs, process::Command};

use pvh_abi::Gpa;
use pvh_crash::CoreDump;
use pvh_memory::GuestMemory;
use support::{HIGH, RAM, long_mode, memory};

#[test]
#[ignore = "needs gdb"]
fn gdb_sees_vcpus_and_memory_by_linear_address() {
    let memory = memory();
    memory.write(Gpa(0x10_0200), &[0xF4, 0xEB, 0xFD]).unwrap();
    let mut second = long_mode();
    second.rip = HIGH + 0x10_0300;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("core");
    let dump = CoreDump {
        ram: &RAM,
        memory: &memory,
        vcpus: &[(0, long_mode()), (1, second)],
    };
    let dumped = dump.write_file(&path).unwrap();
    assert!(!dumped.is_map_cut_short);
    assert_eq!(fs::metadata(&path).unwrap().len(), dumped.len_bytes);
    let output = Command::new("timeout")
        .args(["60", "gdb", "-batch", "-nx", "-ex"])
        .arg(format!("core-file {}", path.display()))
        .args(["-ex", "info threads", "-ex", "p/x $rip", "-ex", "x/2i $rip"])
        .args(["-ex", &format!("x/3xb {:#x}", HIGH + 0x10_0200)])
        .args(["-ex", "thread 2", "-ex", "p/x $rip", "-ex", "p $_siginfo"])
        .output()
        .expect("gdb runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    for wanted in [
        &format!("$1 = {:#x}", HIGH + 0x10_0200),
        "hlt",
        "0xf4\t0xeb\t0xfd",
        &format!("$2 = {:#x}", HIGH + 0x10_0300),
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
}
