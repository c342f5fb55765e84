//! Runs each example and looks at what it prints.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use assert_cmd::Command;

fn output(path: &str) -> String {
    let ran = Command::new(path).output().unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{errors}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn the_loader_fills_memory_of_three_methods() {
    let text = output(env!("CARGO_BIN_EXE_loader-vec"));
    assert!(text.contains("start info begins with 0x336ec578"), "{text}");
}

#[test]
fn the_loader_fills_guest_memory_of_vm_memory() {
    let text = output(env!("CARGO_BIN_EXE_loader-vm-memory"));
    assert!(text.contains("start info begins with 0x336ec578"), "{text}");
}

#[test]
fn a_domain_answers_without_a_hypervisor() {
    let text = output(env!("CARGO_BIN_EXE_domain"));
    let want =
        "version 4.17\nshutdown answers 0\nlog: hello from nowhere\nShutdown(ShutdownReason(0))\n";
    assert_eq!(text, want);
}

#[test]
fn a_domain_changes_frames_of_vm_memory() {
    let text = output(env!("CARGO_BIN_EXE_domain-vm-memory"));
    let want = "add_to_physmap answers 0; RAM there: true\n\
                decrease_reservation answers 1; RAM there: false\n";
    assert_eq!(text, want);
}

#[test]
fn the_guests_reader_of_rust_osdev_reads_what_we_build() {
    let text = output(env!("CARGO_BIN_EXE_start-info"));
    assert_eq!(
        text,
        "both read \"console=hvc0\", a module, and 3 memory map entries\n"
    );
}

#[test]
#[ignore = "needs /dev/kvm"]
fn a_small_vmm_boots_the_demo_guest() {
    let text = output(env!("CARGO_BIN_EXE_vmm"));
    assert!(text.contains("PVH demo: ok"), "{text}");
    assert!(
        text.contains("the guest ended: Hlt") || text.contains("the guest ended: Shutdown"),
        "{text}"
    );
}
