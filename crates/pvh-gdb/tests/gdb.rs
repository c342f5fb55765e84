//! The real gdb against the model machine.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may panic"
)]

mod support;

use std::process::Command;

use pvh_gdb::{Address, Served};
use support::{COUNTER, ENTRY, HIGH, KERNEL, LONG, Model};

/// Runs gdb with these commands after it has connected; returns all that it printed.
fn gdb(address: &Address, commands: &[&str]) -> String {
    let mut gdb = Command::new("timeout");
    gdb.args(["60", "gdb", "-batch", "-nx"]);
    gdb.args(["-ex", "set pagination off", "-ex", "set confirm off"]);
    gdb.args(["-ex", &format!("target remote {address}")]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.output().expect("gdb runs");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn assert_has(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
    for bad in [
        "too long",
        "Cannot access",
        "Ignoring packet error",
        "Cannot insert",
    ] {
        assert!(!text.contains(bad), "{bad:?} in:\n{text}");
    }
}

/// An address as gdb prints it.
fn hex(address: u64) -> String {
    format!("{address:#x}")
}

#[test]
#[ignore = "needs gdb"]
fn gdb_steps_from_the_first_instruction_into_long_mode() {
    let model = Model::start(1);
    let text = gdb(
        &model.address,
        &[
            "p/x $pc",
            "p/x $rbx",
            "x/2xb $pc",
            "stepi",
            "p/x $pc",
            "p/x $cr0",
            // Over the move to CR0, the far jump, and to the kernel's own address.
            &format!("hbreak *{LONG:#x}"),
            "continue",
            "p/x $cr0",
            "p/x $efer",
            "x/i $pc",
            "stepi",
            "stepi",
            "p/x $pc",
            "info registers rip",
            "p/x $r15",
        ],
    );
    assert_has(
        &text,
        &[
            &format!("$1 = {:#x}", ENTRY),
            "$2 = 0x9000",
            "0x90\t0x90",
            &format!("$3 = {:#x}", ENTRY + 1),
            "$4 = 0x11",
            "$5 = 0x80000011",
            "$6 = 0x500",
            "movabs $0xffffffff80100200,%rax",
            &format!("$7 = {}", hex(KERNEL)),
        ],
    );
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn a_breakpoint_in_the_kernel_can_be_set_before_paging() {
    let model = Model::start(1);
    let text = gdb(
        &model.address,
        &[
            // The address is not mapped at the entry: a debug register takes it.
            &format!("break *{KERNEL:#x}"),
            "continue",
            "p/x $pc",
            "continue",
            "p/x $rax",
            // Now it is, and the next one is INT3 in memory.
            &format!("break *{:#x}", KERNEL + 2),
            "continue",
            "p/x $pc",
            "info breakpoints",
        ],
    );
    assert_has(
        &text,
        &[
            &format!("$1 = {}", hex(KERNEL)),
            &format!("$3 = {}", hex(KERNEL + 2)),
            "breakpoint already hit 2 times",
        ],
    );
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn a_watchpoint_stops_after_the_write() {
    let model = Model::start(1);
    let text = gdb(
        &model.address,
        &[
            &format!("hbreak *{KERNEL:#x}"),
            "continue",
            "delete",
            &format!("watch *(long *){COUNTER:#x}"),
            "continue",
            "p/x $pc",
        ],
    );
    assert_has(
        &text,
        &[
            "atchpoint 2",
            "Old value = 0",
            "New value = ",
            &hex(KERNEL + 12),
        ],
    );
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn registers_and_memory_are_written() {
    let model = Model::start(1);
    let text = gdb(
        &model.address,
        &[
            "set $r15 = 0x1122334455667788",
            "p/x $r15",
            "set *(int *)0x5000 = 0x12345678",
            "x/xw 0x5000",
            "set $efer = 0x8000",
            "p/x $efer",
        ],
    );
    assert!(text.contains("$1 = 0x1122334455667788"), "{text}");
    assert!(text.contains("0x5000:\t0x12345678"), "{text}");
    // The host refuses this value, and gdb says so.
    assert!(text.contains("Could not write registers"), "{text}");
    assert!(!text.contains("$2 = 0x8000"), "{text}");
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn vcpus_are_threads() {
    let model = Model::start(3);
    let text = gdb(
        &model.address,
        &[
            "info threads",
            "thread 3",
            "stepi",
            "p/x $pc",
            "thread 1",
            "set scheduler-locking on",
            "stepi",
            "thread 2",
            "p/x $pc",
        ],
    );
    assert_has(
        &text,
        &["vCPU 0: running", "vCPU 2: running", &hex(ENTRY + 1)],
    );
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn monitor_commands_tell_what_gdb_cannot() {
    let model = Model::start(1);
    let text = gdb(
        &model.address,
        &[
            "monitor help",
            "monitor start-info",
            "monitor walk 0x1234",
            &format!("hbreak *{LONG:#x}"),
            "continue",
            &format!("monitor walk {:#x}", HIGH + 0x3000),
            "monitor walk 0x8000000000",
            "monitor walk x",
            "monitor domain",
            "monitor nonsense",
        ],
    );
    assert_has(
        &text,
        &[
            "walk ADDR",
            "the state of the domain",
            "command line at",
            "console=hvc0",
            "paging mode Unpaged",
            "leads to 0x1234",
            "level 4 at 0x10ff8: 0x0000000000012003 present writable",
            "level 2 at 0x13000: 0x00000000000000a3 present writable accessed large",
            "leads to 0x3000",
            "no entry at level 4",
            "x: not an address",
            "a model has no domain",
            "no such command",
        ],
    );
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn after_detach_the_guest_runs_and_a_second_gdb_stops_it() {
    let model = Model::start(2);
    let text = gdb(
        &model.address,
        &[&format!("break *{KERNEL:#x}"), "continue", "detach"],
    );
    assert_has(&text, &["detached"]);
    let told: Vec<_> = model.told.try_iter().collect();
    assert_eq!(told, [Served::Connected, Served::Detached]);
    let before = model.counter();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(
        model.counter() > before,
        "it runs, and no breakpoint is left"
    );
    let text = gdb(&model.address, &["p/x $cr0", "p/x $efer", "info threads"]);
    assert_has(&text, &["$1 = 0x80000011", "$2 = 0x500", "vCPU 1"]);
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn kill_ends_the_machine() {
    let model = Model::start(1);
    gdb(&model.address, &["kill"]);
    let killed = model.killed.recv_timeout(std::time::Duration::from_secs(5));
    assert!(
        killed.is_ok(),
        "{:?}",
        model.told.try_iter().collect::<Vec<_>>()
    );
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn ctrl_c_stops_all_vcpus() {
    let model = Model::start(2);
    // gdb is interrupted by its own timer: SIGINT of `timeout` stands for the key.
    let output = Command::new("timeout")
        .args(["-s", "KILL", "60", "bash", "-c"])
        .arg(format!(
            "gdb -batch -nx -ex 'set pagination off' -ex 'target remote {}' \
             -ex 'python import threading, os, signal; \
                  threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()' \
             -ex continue -ex 'p/x $cr0' -ex 'thread 2' -ex 'p/x $cr0' -ex detach 2>&1",
            model.address
        ))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_has(&text, &["SIGINT", "$1 = 0x80000011", "$2 = 0x80000011"]);
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn a_crash_is_shown_before_the_machine_ends() {
    let model = Model::start(1);
    let text = gdb(
        &model.address,
        &[
            "set *(char *)0x100001 = 0x0f",
            "continue",
            "p/x $pc",
            "continue",
        ],
    );
    assert_has(&text, &["SIGSEGV", "$1 = 0x100001", "exited with code 05"]);
    model.end();
}

#[test]
#[ignore = "needs gdb"]
fn a_socket_file_serves_gdb_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gdb");
    let model = Model::start_at(1, &Address::Unix(path.clone()));
    let text = gdb(&model.address, &["p/x $pc"]);
    assert_has(&text, &["$1 = 0x100000"]);
    model.end();
    assert!(!path.exists());
}
