//! The plain conformance guest on machines made of this project's parts: whole ones, and ones with a single fault.

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test may start threads")]
    #![expect(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use std::{
        collections::{BTreeMap, BTreeSet},
        io::{self, Write},
        process::{Command, Stdio},
        sync::{Arc, Mutex},
        thread,
        time::Duration,
    };

    use assert_cmd::cargo::CommandCargoExt;
    use pvh_abi::Gpa;
    use pvh_conformance::tap::{Outcome, Tap};
    use pvh_devices::{InputWanted, IrqLine, Ports, Rtc, SerialPort};
    use pvh_entry::EntryState;
    use pvh_kvm::{GuestRam, HypervisorLeaves, Kvm, Vcpu, Vm, VmConfig, VmEntry, VmExit};
    use pvh_layout::{Layout, LayoutConfig, Platform};
    use pvh_loader::{Boot, Image, Method, ModuleSource};
    use pvh_memory::GuestMemory;
    use vmm_sys_util::eventfd::EventFd;

    /// The module of every machine: three bytes, whose SHA-256 is that of "abc" in FIPS 180-4.
    const MODULE: &[u8] = b"abc";
    const MODULE_CMDLINE: &str =
        "sha256=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const MEMORY_BYTES: u64 = 300 << 20;
    /// A page of RAM that nothing else uses.
    const PROLOGUE: u32 = 0x6000;

    /// A plain machine of two processors that has not started.
    struct Machine {
        ram: Arc<GuestRam>,
        layout: Layout,
        entry: EntryState,
        config: VmConfig,
        /// The processors whose threads run.
        running: u32,
    }

    impl Machine {
        fn new(kvm: &Kvm) -> Self {
            let address_bits = kvm.capabilities().address_bits;
            let layout = Layout::new(&LayoutConfig {
                platform: Platform::Plain,
                memory_bytes: MEMORY_BYTES,
                address_bits,
                apic_ids: &Platform::Plain.apic_ids(2),
            })
            .unwrap();
            let ram = GuestRam::with_ranges(&layout.ram, &layout.pages, address_bits).unwrap();
            let image = Image::from_bytes(pvh_conformance::plain_image().to_vec()).unwrap();
            let module = ModuleSource::from_bytes(MODULE.to_vec()).with_cmdline(MODULE_CMDLINE);
            let boot = Boot {
                memmap: layout.memory_map.clone(),
                rsdp: Some(layout.rsdp),
                modules: vec![module],
                ..Boot::default()
            };
            let loaded = image.plan(&boot).unwrap().commit(Method::Copy, &ram);
            for block in &layout.acpi {
                ram.write(block.at, &block.bytes).unwrap();
            }
            Self {
                ram: Arc::new(ram),
                layout,
                entry: loaded.unwrap().entry,
                config: VmConfig::new(2),
                running: 2,
            }
        }

        fn bytes<const N: usize>(&self, at: u64) -> [u8; N] {
            let mut bytes = [0; N];
            self.ram.read(Gpa(at), &mut bytes).unwrap();
            bytes
        }

        fn word(&self, at: u64) -> u32 {
            u32::from_le_bytes(self.bytes(at))
        }

        fn set_word(&self, at: u64, value: u32) {
            self.ram.write(Gpa(at), &value.to_le_bytes()).unwrap();
        }

        /// Address of the table with this signature.
        fn table(&self, signature: &[u8; 4]) -> u64 {
            let mut tables = self.layout.acpi.iter().flat_map(|block| {
                let places = block.bytes.windows(4).enumerate();
                let found = places.filter(|(_, bytes)| bytes == signature);
                found.map(|(offset, _)| block.at.0 + u64::try_from(offset).unwrap())
            });
            tables.next().unwrap()
        }

        /// Changes a word of a table, and its checksum too.
        fn change_table(&self, signature: &[u8; 4], offset: u64, change: impl Fn(u32) -> u32) {
            let at = self.table(signature);
            self.set_word(at + offset, change(self.word(at + offset)));
            let length = u64::from(self.word(at + 4));
            let sum = (0..length).fold(0_u8, |sum, byte| {
                sum.wrapping_add(self.bytes::<1>(at + byte)[0])
            });
            let checksum = self.bytes::<1>(at + 9)[0].wrapping_sub(sum);
            self.ram.write(Gpa(at + 9), &[checksum]).unwrap();
        }

        /// Runs these instructions before the image, on the machine's own registers.
        fn run_first(&mut self, code: &[u8]) {
            let jump_at = u64::from(PROLOGUE) + u64::try_from(code.len()).unwrap();
            let distance = self.entry.rip.wrapping_sub(jump_at + 5);
            let jump = [&[0xE9], &distance.to_le_bytes()[..4]].concat();
            let code = [code, &jump].concat();
            self.ram.write(Gpa(PROLOGUE.into()), &code).unwrap();
            self.entry.rip = PROLOGUE.into();
        }

        /// Runs the machine to its end, and reads the report.
        fn report(self, kvm: &Kvm) -> Tap {
            let vm = Vm::new(kvm, &self.config, self.ram).unwrap();
            let mut first = vm.create_vcpu(0).unwrap();
            let mut second = vm.create_vcpu(1).unwrap();
            first.set_entry(&self.entry).unwrap();
            let output = Output::default();
            let line = || EventFd::new(0).unwrap();
            let serial = SerialPort::new(IrqLine(line()), InputWanted(line()), output.clone());
            let ports = Mutex::new(Ports::new(serial, Rtc::new()));
            let (deadline, stop) = (first.kicker(), second.kicker());
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(120));
                let _ = deadline.kick();
            });
            let has_ended = thread::scope(|scope| {
                if self.running > 1 {
                    scope.spawn(|| run(&mut second, &ports));
                }
                let has_ended = run(&mut first, &ports);
                stop.kick().unwrap();
                has_ended
            });
            let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
            assert!(has_ended, "the guest did not end its machine: {text}");
            Tap::parse(&text).unwrap()
        }
    }

    /// Console output, shared with the port that writes it.
    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Runs a vCPU until the guest ends its machine (true), or somebody kicks it.
    fn run(vcpu: &mut Vcpu, ports: &Mutex<Ports<Output>>) -> bool {
        let mut answer = Vec::new();
        loop {
            let entry = match answer.as_slice() {
                [] => VmEntry::Resume,
                bytes => VmEntry::Read(bytes),
            };
            let exit = vcpu.run(entry).unwrap();
            answer.clear();
            match exit {
                VmExit::PortOut { port, data, .. } => {
                    let request = ports.lock().unwrap().write(port, data.as_bytes());
                    if request.is_some() {
                        return true;
                    }
                }
                VmExit::PortIn {
                    port, size_bytes, ..
                } => {
                    answer.resize(usize::from(size_bytes), 0);
                    ports.lock().unwrap().read(port, &mut answer);
                }
                VmExit::MmioRead { len_bytes, .. } => {
                    answer.resize(usize::from(len_bytes), 0xFF);
                }
                VmExit::MmioWrite { .. } => {}
                _ => return false,
            }
        }
    }

    fn group(name: &str) -> &str {
        name.split_once(": ").unwrap().0
    }

    /// The groups of a report, and the names of their checks that failed.
    fn failures(tap: &Tap) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for check in &tap.checks {
            let failed = groups.entry(group(&check.name)).or_default();
            if check.outcome == Outcome::Failed {
                failed.push(&check.name);
            }
        }
        groups
    }

    type Fault = fn(&mut Machine);

    /// One fault for each group: which part of the machine it changes, and a check that has to notice.
    const FAULTS: [(&str, &str, Fault); 19] = [
        (
            "image",
            "the first word of the data is the file's",
            |machine| {
                let words = (0x10_0000..0x12_0000_u32).step_by(4).rev().map(u64::from);
                let word = { words }.find(|&at| machine.word(at) == 0x900D_DA7A);
                machine.set_word(word.unwrap(), 0x900D_DA7B);
            },
        ),
        ("entry", "cr4.PSE is clear", |machine| {
            machine.entry.cr4 |= 1 << 4
        }),
        ("segments", "es reads at 256 MiB and 1 byte", |machine| {
            machine.entry.es.limit = 0x0FFF_FFFF;
        }),
        ("entry", "eflags.DF is clear", |machine| {
            machine.entry.rflags |= 1 << 10
        }),
        ("segments", "ss reads at 256 MiB and 1 byte", |machine| {
            machine.entry.ss.limit = 0x0FFF_FFFF;
        }),
        // A limit that lacks its last hexadecimal digit: the local APIC is out of reach, too.
        (
            "segments",
            "ds reads the local APIC at 0xfee00030",
            |machine| {
                let entry = &mut machine.entry;
                for segment in [&mut entry.cs, &mut entry.ds, &mut entry.es, &mut entry.ss] {
                    segment.limit = 0x0FFF_FFFF;
                }
            },
        ),
        ("segments", "es reads in the image", |machine| {
            machine.entry.es.base = 0x1000
        }),
        ("start-info", "image and command line", |machine| {
            machine.set_word(machine.entry.rbx + 24, 0x10_0000);
        }),
        (
            "acpi",
            "the RSDP's checksum over 20 bytes is 0",
            |machine| {
                let oem = machine.layout.rsdp.0 + 9;
                let [byte] = machine.bytes(oem);
                machine.ram.write(Gpa(oem), &[byte ^ 1]).unwrap();
            },
        ),
        ("msrs", "EFER.SCE is clear", |machine| {
            #[rustfmt::skip]
            machine.run_first(&[
                0xB9, 0x80, 0x00, 0x00, 0xC0, // mov ecx, 0xC0000080
                0xB8, 1, 0, 0, 0,             // mov eax, 1
                0x0F, 0x30,                   // wrmsr
                0xB9, 0, 0, 0, 0,             // mov ecx, 0
                0xB8, 0, 0, 0, 0,             // mov eax, 0
            ]);
        }),
        ("lapic", "the task priority is 0", |machine| {
            // mov dword [0xFEE00080], 0x20
            machine.run_first(&[0xC7, 0x05, 0x80, 0x00, 0xE0, 0xFE, 0x20, 0, 0, 0]);
        }),
        (
            "cpuid",
            "the hypervisor's leaves have a signature",
            |machine| {
                machine.config.hypervisor = HypervisorLeaves::Given(Vec::new());
            },
        ),
        ("start-info", "flags: reserved bits are clear", |machine| {
            machine.set_word(machine.entry.rbx + 8, 1 << 20);
        }),
        ("memory-map", "every reserved field is 0", |machine| {
            let map = u64::from(machine.word(machine.entry.rbx + 40));
            machine.set_word(map + 20, 1);
        }),
        (
            "modules",
            "module 0: its bytes have the hash of its command line",
            |machine| {
                let list = u64::from(machine.word(machine.entry.rbx + 16));
                let module = u64::from(machine.word(list));
                machine.ram.write(Gpa(module + 2), b"d").unwrap();
            },
        ),
        ("acpi", "FACP: its checksum is 0", |machine| {
            let checksum = machine.table(b"FACP") + 9;
            let [byte] = machine.bytes(checksum);
            machine.ram.write(Gpa(checksum), &[byte ^ 1]).unwrap();
        }),
        ("madt", "its local APIC address is 0xfee00000", |machine| {
            machine.change_table(b"APIC", 36, |address| address + 0x1000);
        }),
        (
            "processors",
            "processor 1 starts once by INIT and SIPI",
            |machine| machine.running = 1,
        ),
        (
            "devices",
            "the keyboard controller passes its self-test",
            // IAPC_BOOT_ARCH, bit 1: there is an 8042.
            |machine| machine.change_table(b"FACP", 109, |flags| flags | 1 << 1),
        ),
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_machine_without_a_fault_passes_more_than_200_checks_and_fails_none() {
        let kvm = Kvm::open().unwrap();
        let tap = Machine::new(&kvm).report(&kvm);
        let failed: Vec<_> = failures(&tap).into_values().flatten().collect();
        assert_eq!(failed, [""; 0]);
        assert!(tap.is_complete());
        assert!(tap.sums().ok >= 200, "{:?}", tap.sums());
        assert!(tap.checks.iter().all(|check| !check.clause.is_empty()));
        let groups: BTreeSet<&str> = failures(&tap).into_keys().collect();
        let faults: BTreeSet<&str> = FAULTS.iter().map(|(group, ..)| *group).collect();
        assert_eq!(groups, faults, "each group has its fault");
    }

    /// A machine whose ports do nothing, and which has no ACPI tables: the guest tries every way.
    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_machine_that_knows_no_end_is_asked_in_every_way_and_shut_down() {
        let kvm = Kvm::open().unwrap();
        let machine = Machine::new(&kvm);
        machine.set_word(machine.entry.rbx + 32, 0);
        let vm = Vm::new(&kvm, &machine.config, machine.ram).unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        vcpu.set_entry(&machine.entry).unwrap();
        let deadline = vcpu.kicker();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(120));
            let _ = deadline.kick();
        });
        let (mut log, mut asked, mut answer) = (Vec::new(), Vec::new(), Vec::new());
        let end = loop {
            let entry = match answer.as_slice() {
                [] => VmEntry::Resume,
                bytes => VmEntry::Read(bytes),
            };
            let exit = vcpu.run(entry).unwrap();
            answer.clear();
            match exit {
                VmExit::PortOut {
                    port: 0xE9, data, ..
                } => log.extend_from_slice(data.as_bytes()),
                VmExit::PortOut { port, data, .. } if !log.is_empty() => {
                    asked.push((port, data.as_bytes().to_vec()));
                }
                VmExit::PortOut { .. } => {}
                VmExit::PortIn { size_bytes, .. } => answer.resize(usize::from(size_bytes), 0xFF),
                end => break end,
            }
        };
        assert_eq!(end, VmExit::Shutdown);
        let ways = [
            (0x604, vec![0x00, 0x20]),
            (0x501, vec![0]),
            (0x64, vec![0xFE]),
        ];
        assert_eq!(asked, ways);
        let log = String::from_utf8(log).unwrap();
        let tap = Tap::parse(&log).unwrap();
        assert_eq!(
            (tap.note("output"), tap.is_complete()),
            (Some("port 0xE9"), true)
        );
        let ends = tap.notes.iter().filter(|(name, _)| name == "end");
        let ends: Vec<&str> = ends.map(|(_, way)| way.as_str()).collect();
        let want = [
            "power off: none: no RSDP",
            "no Xen",
            "0x2000 to port 0x604",
            "0 to port 0x501",
            "0xfe to port 0x64",
            "triple fault",
        ];
        assert_eq!(ends, want);
    }

    /// Boots the guest by the program, with this command line; returns its output and its log.
    fn program(image: &[u8], cmdline: &str) -> (String, String) {
        program_with(image, &["xen", "--cmdline", cmdline])
    }

    /// The same, with these words after `--platform`.
    fn program_with(image: &[u8], options: &[&str]) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("plain.elf");
        std::fs::write(&kernel, image).unwrap();
        let output = Command::cargo_bin("pvh-vmm")
            .unwrap()
            .arg("run")
            .arg(&kernel)
            .args(["--memory", "64M", "--platform"])
            .args(options)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        let [text, log] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (text, log.replace("pvh-vmm: guest: ", ""))
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_report_goes_where_the_command_line_says() {
        let xen = program(pvh_conformance::plain_image(), "output=xen").0;
        let port = program(pvh_conformance::plain_image_64(), "quiet output=e9").1;
        for (text, place) in [(xen, "the Xen console"), (port, "port 0xE9")] {
            let tap = Tap::parse(&text).unwrap();
            assert_eq!(tap.note("output"), Some(place));
            assert!(tap.is_complete(), "{place}");
            assert_eq!(tap.sums().failed, 0, "{place}");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn version_0_of_the_start_info_has_no_memory_map_and_fails_no_check() {
        let text = program_with(
            pvh_conformance::plain_image(),
            &["none", "--start-info", "0"],
        )
        .0;
        let tap = Tap::parse(&text).unwrap();
        assert_eq!((tap.is_complete(), tap.sums().failed), (true, 0), "{text}");
        assert_eq!(tap.note("start info version"), Some("0x00000000"));
        let map = "memory-map: there is RAM";
        let map = tap.checks.iter().find(|check| check.name == map).unwrap();
        assert_eq!(
            (map.outcome, map.note.as_str()),
            (Outcome::Skipped, "there is no memory map")
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn each_fault_turns_its_group_red_and_no_other() {
        let kvm = Kvm::open().unwrap();
        // Two machines at a time: each is busy on one processor.
        let (some, others) = FAULTS.split_at(FAULTS.len() / 2);
        thread::scope(|scope| {
            for faults in [some, others] {
                let kvm = &kvm;
                scope.spawn(move || {
                    for fault in faults {
                        turns_its_group_red(kvm, fault);
                    }
                });
            }
        });
    }

    fn turns_its_group_red(kvm: &Kvm, (name, check, fault): &(&str, &str, Fault)) {
        let mut machine = Machine::new(kvm);
        fault(&mut machine);
        let tap = machine.report(kvm);
        assert!(tap.is_complete(), "{name}");
        let mut red = failures(&tap);
        red.retain(|_, failed| !failed.is_empty());
        let groups: Vec<&str> = red.keys().copied().collect();
        assert_eq!(groups, [*name], "{red:?}");
        let expected = format!("{name}: {check}");
        assert!(red[name].contains(&expected.as_str()), "{red:?}");
    }
}
