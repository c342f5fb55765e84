//! Runs guests of a few bytes on the Xen platform, and checks the output and the exit code.

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        path::PathBuf,
        process::{Child, Command, Stdio},
    };

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_testkit::elf::{Class, Elf, Note, Segment};
    use tempfile::TempDir;

    /// What a run printed, and its exit code.
    struct Run {
        code: Option<i32>,
        output: String,
        errors: String,
    }

    fn start(arguments: &[&str], kernel: Option<&PathBuf>) -> Child {
        let mut command = Command::cargo_bin("pvh-vmm").unwrap();
        command.arg("run").args(kernel).args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn finish(child: Child) -> Run {
        let done = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run {
            code: done.status.code(),
            output: text(&done.stdout),
            errors: text(&done.stderr),
        }
    }

    /// An image of `code` at 1 MiB, with notes besides its entry.
    fn image(code: &[u8], notes: &[Note]) -> (TempDir, PathBuf) {
        let notes = [&[Note::entry(0x10_0000)], notes].concat();
        let elf = Elf::new(Class::Elf32)
            .segment(Segment::load(0x10_0000, code))
            .segment(Segment::notes(&notes));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest.elf");
        std::fs::write(&path, elf.build()).unwrap();
        (dir, path)
    }

    /// Asks for the hypercall page at 0x5000.
    #[rustfmt::skip]
    const ASK_FOR_THE_PAGE: &[u8] = &[
        0xBC, 0x00, 0x80, 0, 0,                 // mov esp, 0x8000
        0xB9, 0x00, 0x00, 0x00, 0x40,           // mov ecx, 0x40000000
        0xB8, 0x00, 0x50, 0, 0,                 // mov eax, 0x5000
        0x31, 0xD2,                             // xor edx, edx
        0x0F, 0x30,                             // wrmsr
    ];

    /// Then makes SCHEDOP_shutdown with the reason `REASON`, by entry 29 of the page.
    #[rustfmt::skip]
    const SHUT_DOWN: &[u8] = &[
        0xC7, 0x05, 0x00, 0x20, 0, 0, REASON, 0, 0, 0, // mov dword [0x2000], reason
        0xBB, 0x02, 0, 0, 0,                    // mov ebx, 2
        0xB9, 0x00, 0x20, 0, 0,                 // mov ecx, 0x2000
        0xB8, 0xA0, 0x53, 0, 0,                 // mov eax, 0x53A0
        0xFF, 0xD0,                             // call eax
    ];
    const REASON: u8 = 0xEE;

    fn shutting_down(reason: u8) -> Vec<u8> {
        let code = [ASK_FOR_THE_PAGE, SHUT_DOWN].concat();
        let with = |byte| if byte == REASON { reason } else { byte };
        code.into_iter().map(with).collect()
    }

    /// Then echoes the input of the console ring at 0xFEFFF000, and powers off after a `P`.
    #[rustfmt::skip]
    const ECHO: &[u8] = &[
        0xBD, 0x00, 0xF0, 0xFF, 0xFE,           // mov ebp, 0xFEFFF000
        0x8B, 0x85, 0x00, 0x0C, 0, 0,           // next: mov eax, [ebp + 3072] (in_cons)
        0x3B, 0x85, 0x04, 0x0C, 0, 0,           // cmp eax, [ebp + 3076] (in_prod)
        0x74, 0xF2,                             // je next
        0x89, 0xC2,                             // mov edx, eax
        0x81, 0xE2, 0xFF, 0x03, 0, 0,           // and edx, 1023
        0x8A, 0x5C, 0x15, 0x00,                 // mov bl, [ebp + edx]
        0x40,                                   // inc eax
        0x89, 0x85, 0x00, 0x0C, 0, 0,           // mov [ebp + 3072], eax
        0x8B, 0x85, 0x0C, 0x0C, 0, 0,           // mov eax, [ebp + 3084] (out_prod)
        0x89, 0xC2,                             // mov edx, eax
        0x81, 0xE2, 0xFF, 0x07, 0, 0,           // and edx, 2047
        0x88, 0x9C, 0x15, 0x00, 0x04, 0, 0,     // mov [ebp + edx + 1024], bl
        0x40,                                   // inc eax
        0x89, 0x85, 0x0C, 0x0C, 0, 0,           // mov [ebp + 3084], eax
        0xC7, 0x05, 0x00, 0x20, 0, 0, 2, 0, 0, 0, // mov dword [0x2000], 2 (the console's port)
        0xBB, 0x04, 0, 0, 0,                    // mov ebx, 4 (EVTCHNOP_send)
        0xB9, 0x00, 0x20, 0, 0,                 // mov ecx, 0x2000
        0xB8, 0x00, 0x54, 0, 0,                 // mov eax, 0x5400 (entry 32)
        0xFF, 0xD0,                             // call eax
        0x8B, 0x85, 0x08, 0x0C, 0, 0,           // mov eax, [ebp + 3080] (out_cons)
        0x48,                                   // dec eax
        0x25, 0xFF, 0x07, 0, 0,                 // and eax, 2047
        0x80, 0xBC, 0x05, 0x00, 0x04, 0, 0, b'P', // cmp byte [ebp + eax + 1024], 'P'
        0x75, 0x92,                             // jne next
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_demo_guest_finds_a_domain_and_powers_off() {
        let run = finish(start(&["--platform", "xen", "--cpus", "2"], None));
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert!(run.output.contains("PVH demo: ok"), "{}", run.output);
        // Special pages and ACPI tables where Xen has them.
        for range in [
            "0x00000000feff8000 size=0x0000000000008000",
            "0x00000000fc001000",
        ] {
            assert!(run.output.contains(range), "{range}: {}", run.output);
        }
        assert_eq!(run.errors, "", "what was asked for needs no explanation");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn auto_says_in_one_line_what_it_chose() {
        let (_dir, kernel) = image(&shutting_down(0), &[]);
        let run = finish(start(&["--memory", "4M"], Some(&kernel)));
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert_eq!(run.errors.lines().count(), 1, "{}", run.errors);
        assert!(
            run.errors.starts_with("pvh-vmm: platform xen; "),
            "{}",
            run.errors
        );
        // A plain PC does not have this MSR, and the guest has no handler for #GP.
        let serial = ["--memory", "4M", "--cmdline", "console=ttyS0"];
        let run = finish(start(&serial, Some(&kernel)));
        assert_eq!(run.code, Some(5));
        let reason = "pvh-vmm: platform none: the command line's last console= is a serial port";
        assert!(run.errors.starts_with(reason), "{}", run.errors);
    }

    /// Powers off by ACPI's port: mov dx, 0x605; mov al, 0x34; out dx, al.
    const POWER_OFF: &[u8] = &[0x66, 0xBA, 0x05, 0x06, 0xB0, 0x34, 0xEE];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_linux_that_calls_bare_is_refused_or_explained_where_calls_cannot_be_caught() {
        const GUEST_OS: u32 = 6;
        let (_dir, kernel) = image(POWER_OFF, &[Note::xen(GUEST_OS, *b"linux\0")]);
        let auto = finish(start(&["--memory", "4M"], Some(&kernel)));
        assert_eq!(auto.code, Some(0), "{}", auto.errors);
        let asked = finish(start(
            &["--memory", "4M", "--platform", "xen"],
            Some(&kernel),
        ));
        if auto
            .errors
            .starts_with("pvh-vmm: platform xen; KVM intercepts hypercalls")
        {
            assert_eq!((asked.code, asked.errors.as_str()), (Some(0), ""));
            return;
        }
        for run in [&auto, &asked] {
            assert_eq!(run.errors.lines().count(), 1, "{}", run.errors);
            for word in ["HYPERCALL_PAGE", "VMCALL", "KVM_CAP_XEN_HVM"] {
                assert!(run.errors.contains(word), "{word}: {}", run.errors);
            }
        }
        assert!(
            auto.errors.starts_with("pvh-vmm: platform none: "),
            "{}",
            auto.errors
        );
        assert_eq!(asked.code, Some(4));
        let way_out = asked.errors.contains("--platform none");
        assert!(way_out, "{}", asked.errors);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn more_than_128_cpus_are_no_domain() {
        let (_dir, kernel) = image(POWER_OFF, &[]);
        let cpus = ["--memory", "4M", "--cpus", "129"];
        let asked = finish(start(
            &[&cpus[..], &["--platform", "xen"]].concat(),
            Some(&kernel),
        ));
        assert_eq!(asked.code, Some(2), "{}", asked.errors);
        assert!(asked.errors.contains("1 to 128"), "{}", asked.errors);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn each_reason_to_shut_down_has_its_exit_code_and_its_word() {
        let reasons = [
            (0, 0, ""),
            (1, 6, "asked to reboot"),
            (2, 5, "suspended"),
            (3, 5, "crashed"),
            (4, 5, "watchdog"),
            (9, 5, "unknown reason 9"),
        ];
        for (reason, code, word) in reasons {
            let (_dir, kernel) = image(&shutting_down(reason), &[]);
            let options = ["--memory", "4M", "--platform", "xen", "--no-reboot"];
            let run = finish(start(&options, Some(&kernel)));
            assert_eq!(run.code, Some(code), "{reason}: {}", run.errors);
            assert!(run.errors.contains(word), "{reason}: {}", run.errors);
            assert_eq!(run.errors.is_empty(), word.is_empty(), "{}", run.errors);
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_reboots_finds_a_new_domain() {
        // Prints a byte on COM1, then reboots: mov dx, 0x3F8; mov al, 'B'; out dx, al.
        let code = [
            &[0x66, 0xBA, 0xF8, 0x03, 0xB0, b'B', 0xEE],
            &shutting_down(1)[..],
        ]
        .concat();
        let (_dir, kernel) = image(&code, &[]);
        let mut child = start(&["--memory", "4M", "--platform", "xen"], Some(&kernel));
        let mut booted = [0; 3];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut booted)
            .unwrap();
        child.kill().unwrap();
        assert_eq!(&booted, b"BBB");
        child.wait().unwrap();
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_halts_with_interrupts_off_is_switched_off() {
        // cli; hlt
        let (_dir, kernel) = image(b"\xFA\xF4", &[]);
        for cpus in ["1", "3"] {
            let options = ["--memory", "4M", "--platform", "xen", "--cpus", cpus];
            let run = finish(start(&options, Some(&kernel)));
            assert_eq!((run.code, run.errors.as_str()), (Some(0), ""));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn what_is_typed_comes_by_the_console_ring_and_back() {
        let (_dir, kernel) = image(
            &[ASK_FOR_THE_PAGE, ECHO, &shutting_down(0)[19..]].concat(),
            &[],
        );
        let mut child = start(&["--memory", "4M", "--platform", "xen"], Some(&kernel));
        let text = "all of this, and more than fits into the ring at once. ".repeat(60);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.write_all(b"P").unwrap();
        let run = finish(child);
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert_eq!(run.output, format!("{text}P"));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_last_words_of_a_guest_are_printed_without_an_event() {
        // Puts "bad" into the console's ring, raises no event, and crashes or powers off.
        #[rustfmt::skip]
        let print = [
            0xBD, 0x00, 0xF0, 0xFF, 0xFE,           // mov ebp, 0xFEFFF000
            0xC7, 0x85, 0x00, 0x04, 0, 0, b'b', b'a', b'd', b'\n', // mov dword [ebp + 1024], "bad\n"
            0xC7, 0x85, 0x0C, 0x0C, 0, 0, 4, 0, 0, 0, // mov dword [ebp + 3084], 4 (out_prod)
        ];
        let ends = [
            (&b"\x0F\x0B"[..], 6),
            (&shutting_down(0), 0),
            (POWER_OFF, 0),
        ];
        for (end, code) in ends {
            let (_dir, kernel) = image(&[&print, end].concat(), &[]);
            let options = ["--memory", "4M", "--platform", "xen", "--no-reboot"];
            let run = finish(start(&options, Some(&kernel)));
            let got = (run.code, run.output.as_str());
            assert_eq!(got, (Some(code), "bad\n"), "{}", run.errors);
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn what_was_typed_and_not_taken_is_there_for_the_next_machine() {
        // Prints `B`, waits until the console's ring holds something, and reboots without taking
        // it.
        #[rustfmt::skip]
        let wait = [
            0x66, 0xBA, 0xF8, 0x03, 0xB0, b'B', 0xEE, // mov dx, 0x3F8; mov al, 'B'; out dx, al
            0xBD, 0x00, 0xF0, 0xFF, 0xFE,           // mov ebp, 0xFEFFF000
            0x8B, 0x85, 0x00, 0x0C, 0, 0,           // next: mov eax, [ebp + 3072] (in_cons)
            0x3B, 0x85, 0x04, 0x0C, 0, 0,           // cmp eax, [ebp + 3076] (in_prod)
            0x74, 0xF2,                             // je next
        ];
        let (_dir, kernel) = image(&[&wait[..], &shutting_down(1)].concat(), &[]);
        let mut child = start(&["--memory", "4M", "--platform", "xen"], Some(&kernel));
        // The ring holds 1024 bytes, and the test types no more.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&[b'x'; 4096]).unwrap();
        let mut booted = [0; 4];
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut booted).unwrap();
        child.kill().unwrap();
        assert_eq!(&booted, b"BBBB");
        child.wait().unwrap();
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn what_goes_to_port_0xe9_is_a_line_on_standard_error() {
        // mov esi, text; mov ecx, 7; mov dx, 0xE9; again: lodsb; out dx, al; loop again; jmp behind
        // the text.
        let mut code =
            b"\xBE\x15\x00\x10\x00\xB9\x07\x00\x00\x00\x66\xBA\xE9\x00\xAC\xEE\xE2\xFC".to_vec();
        code.extend(b"\xEB\x08\x90h\x01ello\n");
        code.extend(POWER_OFF);
        let (_dir, kernel) = image(&code, &[]);
        let run = finish(start(
            &["--memory", "4M", "--platform", "xen"],
            Some(&kernel),
        ));
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert_eq!(run.errors, "pvh-vmm: guest: hello\n");
        assert_eq!(run.output, "");
    }

    /// Starts a guest, and sends SIGTERM once it has printed something.
    fn signalled(kernel: &PathBuf) -> Run {
        use nix::{
            sys::signal::{Signal, kill},
            unistd::Pid,
        };
        let mut command = Command::new("env");
        // If the test runner ignores signals (nohup does), pvh-vmm would inherit that.
        let mut child = command
            .arg("--default-signal")
            .arg(assert_cmd::cargo::cargo_bin("pvh-vmm"))
            .arg("run")
            .arg(kernel)
            .args(["--memory", "4M", "--platform", "xen"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut booted = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut booted)
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        finish(child)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_signal_ends_a_guest_that_would_not_hear_a_request() {
        // Prints a byte on COM1, then spins.
        let (_dir, kernel) = image(b"\x66\xBA\xF8\x03\xB0B\xEE\xEB\xFE", &[]);
        let run = signalled(&kernel);
        assert_eq!((run.code, run.errors.as_str()), (Some(143), ""));
    }

    /// Watches the store's node for requests to power off, prints `W`, and goes on after a request;
    /// the message to the store is at 0x10_0002.
    #[rustfmt::skip]
    const HEAR: &[u8] = &[
        0xBF, 0x00, 0xC0, 0xFF, 0xFE,           // mov edi, 0xFEFFC000
        0xBE, 0x02, 0x00, 0x10, 0x00,           // mov esi, 0x100002
        0xB9, 0x25, 0, 0, 0,                    // mov ecx, 37
        0xF3, 0xA4,                             // rep movsb
        0xC7, 0x05, 0x04, 0xC8, 0xFF, 0xFE, 0x25, 0, 0, 0, // mov dword [0xFEFFC804], 37 (req_prod)
        0xC7, 0x05, 0x00, 0x20, 0, 0, 1, 0, 0, 0, // mov dword [0x2000], 1 (the store's port)
        0xBB, 0x04, 0, 0, 0,                    // mov ebx, 4 (EVTCHNOP_send)
        0xB9, 0x00, 0x20, 0, 0,                 // mov ecx, 0x2000
        0xB8, 0x00, 0x54, 0, 0,                 // mov eax, 0x5400 (entry 32)
        0xFF, 0xD0,                             // call eax
        0x8B, 0x1D, 0x0C, 0xC8, 0xFF, 0xFE,     // mov ebx, [0xFEFFC80C] (rsp_prod: the reply, and the first event)
        0x66, 0xBA, 0xF8, 0x03, 0xB0, b'W', 0xEE, // mov dx, 0x3F8; mov al, 'W'; out dx, al
        0x3B, 0x1D, 0x0C, 0xC8, 0xFF, 0xFE,     // wait: cmp ebx, [0xFEFFC80C]
        0x74, 0xF8,                             // je wait
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_that_reboots_when_it_is_asked_to_power_off_is_not_built_anew() {
        let words = [4_u32, 1, 0, 21]; // XS_WATCH, its id, no transaction, 21 bytes
        let request = [
            &words.map(u32::to_le_bytes).concat(),
            &b"control/shutdown\0tok\0"[..],
        ];
        let code = [b"\xEB\x25", &request.concat()[..], ASK_FOR_THE_PAGE, HEAR];
        let code = [&code.concat(), &shutting_down(1)[ASK_FOR_THE_PAGE.len()..]];
        let (_dir, kernel) = image(&code.concat(), &[]);
        let run = signalled(&kernel);
        assert_eq!((run.code, run.output.as_str()), (Some(143), ""));
        assert!(
            run.errors.contains("asked the guest to power off"),
            "{}",
            run.errors
        );
    }

    /// Maps shared info at 0x6000 and waits for 2^35 TSC ticks, 10 s at 3.4 GHz. If its time has then
    /// got six new stamps, the last one less than 2^32 ticks ago, it shuts down with reason 0
    /// (power-off), else with reason 3 (crash).
    #[rustfmt::skip]
    const WAIT_FOR_STAMPS: &[u8] = &[
        0xC7, 0x05, 0x00, 0x20, 0, 0, 0xF0, 0x7F, 0, 0, // mov dword [0x2000], 0x7FF0 (DOMID_SELF)
        0xC7, 0x05, 0x04, 0x20, 0, 0, 0, 0, 0, 0, // mov dword [0x2004], 0 (shared info)
        0xC7, 0x05, 0x08, 0x20, 0, 0, 0, 0, 0, 0, // mov dword [0x2008], 0
        0xC7, 0x05, 0x0C, 0x20, 0, 0, 6, 0, 0, 0, // mov dword [0x200C], 6 (the frame)
        0xBB, 0x07, 0, 0, 0,                    // mov ebx, 7 (XENMEM_add_to_physmap)
        0xB9, 0x00, 0x20, 0, 0,                 // mov ecx, 0x2000
        0xB8, 0x80, 0x51, 0, 0,                 // mov eax, 0x5180 (entry 12)
        0xFF, 0xD0,                             // call eax
        0x8B, 0x2D, 0x20, 0x60, 0, 0,           // mov ebp, [0x6020] (the version)
        0x0F, 0x31,                             // rdtsc
        0x89, 0xC6,                             // mov esi, eax
        0x89, 0xD7,                             // mov edi, edx
        0x0F, 0x31,                             // wait: rdtsc
        0x29, 0xF0,                             // sub eax, esi
        0x19, 0xFA,                             // sbb edx, edi
        0x83, 0xFA, 0x08,                       // cmp edx, 8
        0x72, 0xF5,                             // jb wait
        0x8B, 0x1D, 0x20, 0x60, 0, 0,           // mov ebx, [0x6020]
        0x29, 0xEB,                             // sub ebx, ebp
        0x83, 0xFB, 0x0C,                       // cmp ebx, 12
        0x72, 0x29,                             // jb crash
        0x8B, 0x0D, 0x20, 0x60, 0, 0,           // read: mov ecx, [0x6020]
        0xF6, 0xC1, 0x01,                       // test cl, 1
        0x75, 0xF5,                             // jnz read
        0x0F, 0x31,                             // rdtsc
        0x2B, 0x05, 0x28, 0x60, 0, 0,           // sub eax, [0x6028] (tsc_timestamp)
        0x1B, 0x15, 0x2C, 0x60, 0, 0,           // sbb edx, [0x602C]
        0x3B, 0x0D, 0x20, 0x60, 0, 0,           // cmp ecx, [0x6020]
        0x75, 0xDF,                             // jne read
        0x85, 0xD2,                             // test edx, edx
        0x75, 0x04,                             // jnz crash
        0x31, 0xC0,                             // xor eax, eax
        0xEB, 0x05,                             // jmp end
        0xB8, 0x03, 0, 0, 0,                    // crash: mov eax, 3
        0xA3, 0x00, 0x20, 0, 0,                 // end: mov [0x2000], eax
        0xBB, 0x02, 0, 0, 0,                    // mov ebx, 2 (SCHEDOP_shutdown)
        0xB9, 0x00, 0x20, 0, 0,                 // mov ecx, 0x2000
        0xB8, 0xA0, 0x53, 0, 0,                 // mov eax, 0x53A0 (entry 29)
        0xFF, 0xD0,                             // call eax
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_time_of_a_guest_gets_new_stamps_while_it_makes_no_call() {
        let code = [ASK_FOR_THE_PAGE, WAIT_FOR_STAMPS].concat();
        let (_dir, kernel) = image(&code, &[]);
        let run = finish(start(&["--platform", "xen"], Some(&kernel)));
        assert_eq!((run.code, run.errors.as_str()), (Some(0), ""));
    }
}
