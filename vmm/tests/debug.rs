//! gdb and crash reports of guests on /dev/kvm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod guest;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Enters long mode with the first 2 MiB mapped, sets a stack, and reads an address that is not
/// mapped. The 64-bit code is at 0x100100.
fn long_mode_then_page_fault() -> Vec<u8> {
    let mut code = Vec::new();
    for (at, value) in [
        (0x10000_u32, 0x11003_u32),
        (0x11000, 0x12003),
        (0x12000, 0x83),
    ] {
        code.extend([0xC7, 0x05]); // mov dword [at], value
        code.extend(at.to_le_bytes());
        code.extend(value.to_le_bytes());
    }
    code.extend([0xB8, 0, 0, 1, 0, 0x0F, 0x22, 0xD8]); // mov eax, 0x10000; mov cr3, eax
    code.extend([0xB8, 0x20, 0, 0, 0, 0x0F, 0x22, 0xE0]); // PAE
    code.extend([0xB9, 0x80, 0, 0, 0xC0, 0x0F, 0x32]); // EFER
    code.extend([0x0D, 0, 1, 0, 0, 0x0F, 0x30]); // LME
    code.extend([0xB8, 0x11, 0, 0, 0x80, 0x0F, 0x22, 0xC0]); // PG
    code.extend([0x0F, 0x01, 0x15, 0x20, 0x02, 0x10, 0]); // lgdt [0x100220]
    code.extend([0xEA, 0, 1, 0x10, 0, 8, 0]); // jmp 8:0x100100
    code.resize(0x100, 0x90);
    code.extend([0x48, 0xC7, 0xC4, 0, 0x80, 0, 0]); // mov rsp, 0x8000
    code.extend([0x48, 0x8B, 0x04, 0x25, 0, 0, 0, 0x40]); // mov rax, [0x40000000]
    code.resize(0x200, 0x90);
    code.extend(0_u64.to_le_bytes());
    code.extend(0x0020_9A00_0000_0000_u64.to_le_bytes());
    code.resize(0x220, 0);
    code.extend([15, 0, 0, 2, 0x10, 0]);
    code
}

fn run(kernel: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("60");
    command.arg(assert_cmd::cargo::cargo_bin("pvh-vmm"));
    command.args(["run", "--platform", "none", "--memory", "64M"]);
    command.arg(kernel).args(options).stdin(Stdio::null());
    command
}

fn gdb(commands: &[String]) -> String {
    let mut gdb = Command::new("timeout");
    gdb.args(["60", "gdb", "-batch", "-nx", "-ex", "set pagination off"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.output().expect("gdb runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn has_gdb() -> bool {
    Command::new("gdb").arg("--version").output().is_ok()
}

fn assert_has(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
}

/// Waits for the VMM's socket.
fn wait_for(socket: &Path) {
    let began = Instant::now();
    while !socket.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "no socket");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_triple_fault_in_long_mode_explains_itself() {
    let (_dir, kernel) = guest::image(&long_mode_then_page_fault());
    let output = run(&kernel, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.contains("registers are lost") {
        // An AMD host: the option is named, and keeps them.
        assert_has(&text, &["--debug-faults keeps the registers"]);
        let output = run(&kernel, &["--debug-faults"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_has(
            &text,
            &[
                "at 0x100107",
                "bytes of the instruction: 48 8b 04 25 00 00 00 40",
            ],
        );
        return;
    }
    assert_has(
        &text,
        &[
            "at 0x100107",
            "bytes of the instruction: 48 8b 04 25 00 00 00 40",
            "1. page fault #PF: access to 0x40000000: linear 0x40000000: no entry at level 3",
            "2. delivery of the page fault #PF failed: the IDT has no such entry (limit 0x0)",
            "level 3 at 0x11008: 0x0000000000000000 not present",
        ],
    );
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_that_steps_has_its_registers_before_the_fault() {
    let (_dir, kernel) = guest::image(&long_mode_then_page_fault());
    let output = run(&kernel, &["--debug-faults"]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_has(&text, &["triple fault at rip 0x100107 (64-bit mode)"]);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_crash_leaves_a_core_that_gdb_opens() {
    let (dir, kernel) = guest::image(&long_mode_then_page_fault());
    let core = dir.path().join("core");
    let option = core.display().to_string();
    let output = run(&kernel, &["--dump-on-crash", &option, "--debug-faults"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(core.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    if has_gdb() {
        let text = gdb(&[
            format!("core-file {option}"),
            "p/x $rip".to_owned(),
            "x/4xb $rip".to_owned(),
        ]);
        assert_has(&text, &["$1 = 0x100107", "0x48\t0x8b\t0x04\t0x25"]);
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_that_powers_off_leaves_no_core() {
    // mov dx, 0x605; mov al, 0x34; out dx, al
    let (dir, kernel) = guest::image(b"\x66\xBA\x05\x06\xB0\x34\xEE");
    let core = dir.path().join("core").display().to_string();
    let output = run(&kernel, &["--dump-on-crash", &core]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!Path::new(&core).exists());
}

/// A VMM that is killed when the test fails.
struct Vmm(Child);

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn gdb_goes_from_the_first_instruction_into_long_mode() {
    if !has_gdb() {
        return;
    }
    let (dir, kernel) = guest::image(&long_mode_then_page_fault());
    let socket = dir.path().join("gdb");
    let option = format!("unix:{}", socket.display());
    let mut vmm = Vmm(run(&kernel, &["--gdb", &option])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap());
    wait_for(&socket);
    let text = gdb(&[
        format!("target remote {}", socket.display()),
        "p/x $pc".to_owned(),
        "stepi 15".to_owned(),
        "p/x $efer".to_owned(),
        "p/x $pc".to_owned(),
        "x/i $pc".to_owned(),
        "monitor walk 0x40000000".to_owned(),
        "monitor start-info".to_owned(),
        // A software breakpoint in code that runs next.
        "break *0x100107".to_owned(),
        "continue".to_owned(),
        "p/x $rsp".to_owned(),
        "delete".to_owned(),
        "continue".to_owned(),
        "continue".to_owned(),
    ]);
    assert_has(
        &text,
        &[
            "$1 = 0x100000",
            "$2 = 0x500",
            "$3 = 0x100100",
            "mov    $0x8000,%rsp",
            "linear 0x40000000: no entry at level 3",
            "start info at",
            "Breakpoint 1",
            "$4 = 0x8000",
            "SIGSEGV",
            "exited with code 05",
        ],
    );
    assert!(!text.contains("too long"), "{text}");
    assert_eq!(vmm.0.wait().unwrap().code(), Some(5));
    assert!(!socket.exists());
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_guest_that_waits_for_gdb_can_be_ended() {
    let (dir, kernel) = guest::image(b"\xEB\xFE");
    let socket = dir.path().join("gdb");
    let option = format!("unix:{}", socket.display());
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("pvh-vmm"));
    command.args(["run", "--platform", "none", "--cpus", "3", "--gdb", &option]);
    command.arg(&kernel).stdin(Stdio::null());
    let mut vmm = Vmm(command.spawn().unwrap());
    wait_for(&socket);
    let id = vmm.0.id().to_string();
    Command::new("kill").arg(&id).status().unwrap();
    assert_eq!(vmm.0.wait().unwrap().code(), Some(143));
    assert!(!socket.exists());
}

#[test]
fn a_wrong_address_is_one_line() {
    let command = Command::new(assert_cmd::cargo::cargo_bin("pvh-vmm"))
        .args(["run", "--gdb", "localhost:1"])
        .output()
        .unwrap();
    assert_eq!(command.status.code(), Some(2));
    let text = String::from_utf8_lossy(&command.stderr).into_owned();
    assert_has(
        &text,
        &["--gdb", "neither a port (0 to 65535) nor unix:PATH"],
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

fn vmm(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("pvh-vmm"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn guests_and_unpacked_kernels_are_written_to_new_files_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for (command, name) in [("demo", "demo.elf"), ("conform", "conform.elf")] {
        let file = path(name);
        assert_eq!(
            vmm(&[command, "--write", &file]).status.code(),
            Some(0),
            "{command}"
        );
        assert_eq!(vmm(&["inspect", &file]).status.code(), Some(0), "{command}");
        let again = vmm(&[command, "--write", &file]);
        assert_eq!(again.status.code(), Some(4));
        assert_has(&text(&again.stderr), &["cannot write: File exists"]);
    }
    let (from, to) = (path("demo.elf"), path("copy.elf"));
    let gzip = Command::new("gzip").args(["-k", &from]).status().unwrap();
    assert!(gzip.success());
    let packed = format!("{from}.gz");
    assert_eq!(
        vmm(&["inspect", &packed, "--extract", &to]).status.code(),
        Some(0)
    );
    assert_eq!(std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
    let refused = vmm(&["inspect", "/dev/null", "--extract", &path("none")]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(!Path::new(&path("none")).exists());
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_record_is_printed_and_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (guest, record) = (path("guest.elf"), path("record"));
    vmm(&["conform", "--write", &guest]);
    let options = [
        "run",
        &guest,
        "--platform",
        "xen",
        "--cmdline",
        "only=events",
    ];
    vmm(&[&options[..], &["--record", &record]].concat());
    let calls = text(&vmm(&["trace", &record, "--only", "hypercall"]).stdout);
    assert_has(
        &calls,
        &[
            "hvm_op(get_param,",
            "{param=console_evtchn}",
            "event_channel_op(send,",
            "console output \"TAP version 14",
            "= -EINVAL",
        ],
    );
    let sends = text(&vmm(&["trace", &record, "--only", "send", "--limit", "3"]).stdout);
    assert_eq!(sends.lines().count(), 3);
    assert!(
        sends.lines().all(|line| line.contains("(send, ")),
        "{sends}"
    );
    let json = text(&vmm(&["trace", &record, "--json", "--limit", "5"]).stdout);
    assert!(
        json.lines().all(|line| line.starts_with("{\"record\":")),
        "{json}"
    );
    let replayed = vmm(&["trace", "--replay", &record]);
    assert_has(&text(&replayed.stdout), &["hypercalls", "all as recorded"]);
    // A record that breaks off says how far it goes.
    let whole = std::fs::read(&record).unwrap();
    std::fs::write(&record, &whole[..whole.len() - 3]).unwrap();
    let cut = vmm(&["trace", &record]);
    assert_eq!(cut.status.code(), Some(3));
    assert_has(
        &text(&cut.stderr),
        &["records were read", "ends in the middle of record"],
    );
    assert!(
        text(&cut.stdout).lines().count() > 50,
        "what was whole is printed"
    );
    assert_eq!(vmm(&["trace", &guest]).status.code(), Some(3));
}
