//! Guests of a few bytes that start a secondary vCPU by a hypercall and by the local APIC's INIT
//! and SIPI.

#[cfg(test)]
mod vcpu;

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_testkit::elf::{Class, Elf, Note, Segment};

    use super::vcpu::context;

    const CODE_AT: u32 = 0x10_0000;

    /// Asks for the hypercall page at 0x5000, and copies the real-mode code to 0x6000.
    #[rustfmt::skip]
    const BEGIN: &[u8] = &[
        0xBC, 0x00, 0x80, 0, 0,                 // mov esp, 0x8000
        0xB9, 0x00, 0x00, 0x00, 0x40,           // mov ecx, 0x40000000
        0xB8, 0x00, 0x50, 0, 0,                 // mov eax, 0x5000
        0x31, 0xD2,                             // xor edx, edx
        0x0F, 0x30,                             // wrmsr
        0xBF, 0x00, 0x60, 0, 0,                 // mov edi, 0x6000
        0xBE, 0xD6, 0x00, 0x10, 0x00,           // mov esi, REAL_MODE
        0xB9, 0x07, 0, 0, 0,                    // mov ecx, 7
        0xF3, 0xA4,                             // rep movsb
        0xBD, 20, 0, 0, 0,                      // mov ebp, 20 (times)
        0xC7, 0x05, 0xF0, 0x00, 0xE0, 0xFE, 0xFF, 0x01, 0, 0, // mov dword [0xFEE000F0], 0x1FF
        // again: INIT to local APIC 2, which is vCPU 1's
        0xC7, 0x05, 0x10, 0x03, 0xE0, 0xFE, 0, 0, 0, 0x02, // mov dword [0xFEE00310], 0x2000000
        0xC7, 0x05, 0x00, 0x03, 0xE0, 0xFE, 0x00, 0x45, 0, 0, // mov dword [0xFEE00300], 0x4500
    ];

    /// Makes VCPUOP_initialise of vCPU 1.
    #[rustfmt::skip]
    const BY_ITSELF: &[u8] = &[
        0xBB, 0, 0, 0, 0,                       // mov ebx, 0
        0xB9, 1, 0, 0, 0,                       // mov ecx, 1
        0xBA, 0xDD, 0x00, 0x10, 0x00,           // mov edx, CONTEXT
        0xB8, 0x00, 0x53, 0, 0,                 // mov eax, 0x5300 (entry 24)
        0xFF, 0xD0,                             // call eax
    ];

    /// Makes the same call inside a multicall of one entry.
    #[rustfmt::skip]
    const BY_A_LIST: &[u8] = &[
        0xBB, 0x5D, 0x01, 0x10, 0x00,           // mov ebx, LIST
        0xB9, 1, 0, 0, 0,                       // mov ecx, 1
        0xB8, 0xA0, 0x51, 0, 0,                 // mov eax, 0x51A0 (entry 13)
        0xFF, 0xD0,                             // call eax
        0xA1, 0x61, 0x01, 0x10, 0x00,           // mov eax, [LIST + 4]
    ];

    /// Sends INIT and SIPI, waits until the vCPU counts, and asks whether it is up; then does all
    /// of that again and powers off. It shuts down with reason 10 if the call fails, 11 if the vCPU
    /// does not start, and 12 if the vCPU is not up.
    #[rustfmt::skip]
    const START: &[u8] = &[
        0xBE, 10, 0, 0, 0,                      // mov esi, 10
        0x85, 0xC0,                             // test eax, eax
        0x75, 0x59,                             // jnz end
        0x8A, 0x1D, 0x10, 0x60, 0, 0,           // mov bl, [0x6010]
        0xC7, 0x05, 0x10, 0x03, 0xE0, 0xFE, 0, 0, 0, 0x02, // mov dword [0xFEE00310], 0x2000000
        0xC7, 0x05, 0x00, 0x03, 0xE0, 0xFE, 0x00, 0x45, 0, 0, // mov dword [0xFEE00300], 0x4500
        0xC7, 0x05, 0x00, 0x03, 0xE0, 0xFE, 0x06, 0x46, 0, 0, // mov dword [0xFEE00300], 0x4606
        0x46,                                   // inc esi
        0xB9, 0x00, 0x00, 0x40, 0x00,           // mov ecx, 0x400000
        0x38, 0x1D, 0x10, 0x60, 0, 0,           // wait: cmp [0x6010], bl
        0x75, 0x07,                             // jne started
        0xF3, 0x90,                             // pause
        0x49,                                   // dec ecx
        0x75, 0xF3,                             // jnz wait
        0xEB, 0x20,                             // jmp end
        0x46,                                   // started: inc esi
        0xBB, 0x03, 0, 0, 0,                    // mov ebx, 3 (VCPUOP_is_up)
        0xB9, 0x01, 0, 0, 0,                    // mov ecx, 1
        0xB8, 0x00, 0x53, 0, 0,                 // mov eax, 0x5300
        0xFF, 0xD0,                             // call eax
        0x83, 0xF8, 0x01,                       // cmp eax, 1
        0x75, 0x09,                             // jne end
        0x4D,                                   // dec ebp
        0x0F, 0x85, 0x76, 0xFF, 0xFF, 0xFF,     // jnz again
        0x31, 0xF6,                             // xor esi, esi
        0x89, 0x35, 0x00, 0x20, 0, 0,           // end: mov [0x2000], esi
        0xBB, 0x02, 0, 0, 0,                    // mov ebx, 2 (SCHEDOP_shutdown)
        0xB9, 0x00, 0x20, 0, 0,                 // mov ecx, 0x2000
        0xB8, 0xA0, 0x53, 0, 0,                 // mov eax, 0x53A0 (entry 29)
        0xFF, 0xD0,                             // call eax
        0x2E, 0xFE, 0x06, 0x10, 0x00,           // REAL_MODE: inc byte cs:[0x10]
        0xEB, 0xFE,                             // jmp to itself
    ];

    /// Runs the guest that initialises vCPU 1 by the code `initialise`; returns the exit code and
    /// standard error.
    fn run(initialise: &[u8]) -> (Option<i32>, String) {
        let list = [24, 0, 0, 1, CODE_AT + 0xDD, 0, 0, 0].map(u32::to_le_bytes);
        let code = [BEGIN, initialise, START, &context(CODE_AT), &list.concat()].concat();
        let elf = Elf::new(Class::Elf32)
            .segment(Segment::load(CODE_AT.into(), code))
            .segment(Segment::notes(&[Note::entry(CODE_AT)]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.elf");
        std::fs::write(&path, elf.build()).unwrap();
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        let output = command
            .arg("run")
            .arg(&path)
            .args(["--platform", "xen", "--cpus", "2", "--memory", "4M"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), errors)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_that_is_initialised_is_started_by_init_and_sipi() {
        assert_eq!(run(BY_ITSELF), (Some(0), String::new()));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_list_of_calls_sees_an_init_as_a_single_call_does() {
        assert_eq!(run(BY_A_LIST), (Some(0), String::new()));
    }
}
