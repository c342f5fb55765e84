//! What a guest finds before it has set anything up: a stack, and a clock with the date.

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use assert_cmd::prelude::*;
    use pvh_testkit::elf::{Class, Elf, Note, Segment};

    const ENTRY: u32 = 0x10_0000;

    /// Ends a check: jumps over an instruction that crashes if the flags say "equal".
    const EQUAL_OR_CRASH: &[u8] = &[0x74, 0x02, 0x0F, 0x0B];

    /// Powers off by the PM1a control register.
    #[rustfmt::skip]
    const POWER_OFF: &[u8] = &[
        0x66, 0xBA, 0x04, 0x06, // mov dx, 0x604
        0x66, 0xB8, 0x00, 0x34, // mov ax, 0x3400
        0x66, 0xEF,             // out dx, ax
        0xF4,                   // hlt
    ];

    /// Runs a guest of this code; its exit code is 0 if it powers off, and another if it crashes.
    fn exit_code(platform: &str, checks: &[&[u8]]) -> Option<i32> {
        let code = [checks.concat(), POWER_OFF.to_vec()].concat();
        let elf = Elf::new(Class::Elf32)
            .segment(Segment::load(ENTRY.into(), code))
            .segment(Segment::notes(&[Note::entry(ENTRY)]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.elf");
        std::fs::write(&path, elf.build()).unwrap();
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let output = command
            .arg("run")
            .arg(&path)
            .args(["--platform", platform, "--memory", "4M", "--no-reboot"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output.status.code()
    }

    /// Reads a register of the clock and compares it.
    fn clock_register(register: u8, value: u8) -> Vec<u8> {
        let code = [
            0xB0, register, // mov al, register
            0xE6, 0x70, // out 0x70, al
            0xE4, 0x71, // in al, 0x71
            0x3C, value, // cmp al, value
        ];
        [&code, EQUAL_OR_CRASH].concat()
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_can_call_a_subroutine_before_it_has_set_a_stack() {
        #[rustfmt::skip]
        let call = [
            0xE8, 0, 0, 0, 0,                // call the next instruction
            0x58,                            // pop eax
            0x3D, 0x05, 0x00, 0x10, 0x00,    // cmp eax, 0x100005
        ];
        for platform in ["none", "xen"] {
            let code = exit_code(platform, &[&call, EQUAL_OR_CRASH]);
            assert_eq!(code, Some(0), "{platform}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_first_stack_ends_at_640_kib() {
        #[rustfmt::skip]
        let compare = [
            0x81, 0xFC, 0x00, 0x00, 0x0A, 0x00, // cmp esp, 0xA0000
        ];
        for platform in ["none", "xen"] {
            let code = exit_code(platform, &[&compare, EQUAL_OR_CRASH]);
            assert_eq!(code, Some(0), "{platform}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_plain_guest_reads_the_century_and_sees_no_update_in_progress() {
        let (status_a, century) = (clock_register(0x0A, 0x26), clock_register(0x32, 0x20));
        assert_eq!(exit_code("none", &[&status_a, &century]), Some(0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_xen_domain_has_no_clock() {
        let ones = clock_register(0x0A, 0xFF);
        assert_eq!(exit_code("xen", &[&ones]), Some(0));
    }
}
