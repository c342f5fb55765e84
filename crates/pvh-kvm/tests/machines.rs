//! Machines on /dev/kvm: memory above 4 GiB, interrupts, several vCPUs, limits.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod kvm {
    use std::{fs::File, io::Write, os::fd::AsFd, sync::Arc, thread};

    use pvh_abi::{Gpa, GuestRange};
    use pvh_entry::{DescriptorTable, EntryState, Segment, SegmentAttributes};
    use pvh_kvm::{
        ApicIds, GuestRam, InterruptControllers, Kvm, Vcpu, VcpuError, Vm, VmConfig, VmError,
        VmExit,
    };
    use pvh_memory::{FileRange, GuestMemory};
    use vmm_sys_util::eventfd::EventFd;

    use crate::support::{
        CODE, START_INFO, guest, kick_after_a_minute, machine, out, resume, u32_at,
    };

    /// Puts vCPU 0 into 64-bit mode, with 2 MiB from 0 on and 2 MiB from 4 GiB on identity-mapped.
    fn enter_64_bit_mode(vm: &Vm, vcpu: &mut Vcpu) {
        let entries: [(u64, u64); 5] = [
            (0x1000, 0x2003),        // level 4: the first 512 GiB
            (0x2000, 0x3003),        // level 3: the first GiB
            (0x2020, 0x4003),        // level 3: the fifth GiB
            (0x3000, 0x83),          // level 2: 2 MiB at 0
            (0x4000, 0x1_0000_0083), // level 2: 2 MiB at 4 GiB
        ];
        for (at, entry) in entries {
            vm.ram().write(Gpa(at), &entry.to_le_bytes()).unwrap();
        }
        let mut state = EntryState::pvh(CODE, START_INFO).unwrap();
        state.cr0 = 0x8000_0011; // PG, ET, PE
        state.cr3 = 0x1000;
        state.cr4 = 0x20; // PAE
        state.efer = 0x500; // LME, LMA
        state.cs = Segment::FLAT_CODE_64;
        vcpu.set_entry(&state).unwrap();
    }

    #[rustfmt::skip]
    const TOUCH_4_GIB: &[u8] = &[
        0x48, 0xB8, 0, 0, 0, 0, 1, 0, 0, 0, // mov rax, 0x100000000
        0x8B, 0x18,                         // mov ebx, [rax]
        0x81, 0x40, 0x08, 1, 0, 0, 0,       // add dword [rax + 8], 1
        0x88, 0xD8,                         // mov al, bl
        0xE6, 0xF4,                         // out 0xF4, al
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_uses_ram_above_4_gib() {
        let (vm, mut vcpu) = machine(&VmConfig::new(1), 0xFC00_0000 + 0x20_0000, TOUCH_4_GIB);
        let high = GuestRange::new(Gpa(0x1_0000_0000), 0x20_0000);
        assert_eq!(vm.ram().ram_ranges()[1], high);
        vm.ram().write(high.start, &[0x42; 16]).unwrap();
        enter_64_bit_mode(&vm, &mut vcpu);
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x42));
        assert_eq!(u32_at(&vm, 0x1_0000_0008), 0x4242_4243);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_can_have_more_memory_than_the_host() {
        let (vm, mut vcpu) = machine(&VmConfig::new(1), 256 << 30, TOUCH_4_GIB);
        assert_eq!(vm.ram().size_bytes(), 256 << 30);
        enter_64_bit_mode(&vm, &mut vcpu);
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_reads_a_file_mapped_before_its_machine_was_created() {
        let (vm, mut vcpu) = guest(&[
            0xA0, 0x10, 0x20, 0, 0, // mov al, [0x2010]
            0xE6, 0xF4, // out 0xF4, al
            0xFE, 0x05, 0x10, 0x20, 0, 0, // inc byte [0x2010]
            0xE6, 0xF5, // out 0xF5, al
        ]);
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(&[0x77; 0x1000]).unwrap();
        let range = FileRange {
            file: file.as_fd(),
            offset: 0,
            len_bytes: 0x1000,
        };
        vm.ram().map_file(Gpa(0x2000), range).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x77));
        assert_eq!(resume(&mut vcpu), out(0xF5, 0x77));
        assert_eq!(u32_at(&vm, 0x2010), 0x7777_7778);
    }

    /// Routes line 4 of the PIC to vector 0x24 and waits for it in HLT. The handler writes to port
    /// 0xF4.
    #[rustfmt::skip]
    const WAIT_FOR_LINE_4: &[u8] = &[
        0xB0, 0x11, 0xE6, 0x20, // ICW1: edge, cascade, ICW4 follows
        0xB0, 0x20, 0xE6, 0x21, // ICW2: vectors from 0x20 on
        0xB0, 0x04, 0xE6, 0x21, // ICW3
        0xB0, 0x01, 0xE6, 0x21, // ICW4: 8086 mode
        0xB0, 0xEF, 0xE6, 0x21, // mask all but line 4
        0xBC, 0x00, 0x80, 0, 0, // mov esp, 0x8000
        0xE6, 0xF3,             // out 0xF3, al: ready
        0xFB,                   // sti
        0xF4, 0xEB, 0xFD,       // hlt, again and again
    ];

    fn waiting_for_line_4() -> (Vm, Vcpu) {
        let (vm, mut vcpu) = guest(WAIT_FOR_LINE_4);
        let handler = [0xE6, 0xF4]; // out 0xF4, al
        vm.ram().write(Gpa(0x6000), &handler).unwrap();
        // A GDT of null, code and data. Entry 0x24 of the IDT is a 32-bit interrupt gate to
        // 0x08:0x6000.
        let gdt = [0, 0x00CF_9B00_0000_FFFF_u64, 0x00CF_9300_0000_FFFF];
        for (at, entry) in (0x4000..).step_by(8).zip(gdt) {
            vm.ram().write(Gpa(at), &entry.to_le_bytes()).unwrap();
        }
        let gate = 0x0000_8E00_0008_6000_u64;
        vm.ram()
            .write(Gpa(0x5000 + 0x24 * 8), &gate.to_le_bytes())
            .unwrap();
        let mut state = EntryState::pvh(CODE, START_INFO).unwrap();
        state.cs.selector = 0x08;
        state.ss.selector = 0x10;
        state.gdtr = DescriptorTable {
            base: 0x4000,
            limit: 0x17,
        };
        state.idtr = DescriptorTable {
            base: 0x5000,
            limit: 0x7FF,
        };
        vcpu.set_entry(&state).unwrap();
        assert!(matches!(
            resume(&mut vcpu),
            VmExit::PortOut { port: 0xF3, .. }
        ));
        (vm, vcpu)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_raised_line_wakes_a_halted_guest() {
        let (vm, mut vcpu) = waiting_for_line_4();
        let waiter = thread::spawn(move || resume(&mut vcpu));
        vm.set_irq_line(4, true).unwrap();
        let exit = waiter.join().unwrap();
        assert!(
            matches!(exit, VmExit::PortOut { port: 0xF4, .. }),
            "{exit:?}"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_written_eventfd_wakes_a_halted_guest() {
        let (vm, mut vcpu) = waiting_for_line_4();
        let event = EventFd::new(0).unwrap();
        vm.register_irqfd(&event, 4).unwrap();
        let waiter = thread::spawn(move || resume(&mut vcpu));
        event.write(1).unwrap();
        let exit = waiter.join().unwrap();
        assert!(
            matches!(exit, VmExit::PortOut { port: 0xF4, .. }),
            "{exit:?}"
        );
    }

    /// Starts the processor with APIC id 1 by INIT and SIPI, and stores the time before and after.
    #[rustfmt::skip]
    const START_SECOND: &[u8] = &[
        0x0F, 0x31,                             // rdtsc
        0xA3, 0x00, 0x20, 0, 0,                 // mov [0x2000], eax
        0x89, 0x15, 0x04, 0x20, 0, 0,           // mov [0x2004], edx
        0xBB, 0x00, 0x03, 0xE0, 0xFE,           // mov ebx, 0xFEE00300 (interrupt command)
        0x81, 0x8B, 0xF0, 0xFD, 0xFF, 0xFF,     // or dword [ebx - 0x210], 1 << 8:
        0x00, 0x01, 0, 0,                       //     the local APIC is on
        0xC7, 0x43, 0x10, 0, 0, 0, 1,           // mov dword [ebx + 0x10], 1 << 24
        0xC7, 0x03, 0x00, 0x45, 0, 0,           // mov dword [ebx], 0x4500: INIT
        0xC7, 0x43, 0x10, 0, 0, 0, 1,           // mov dword [ebx + 0x10], 1 << 24
        0xC7, 0x03, 0x08, 0x46, 0, 0,           // mov dword [ebx], 0x4608: SIPI to 0x8000
        0xA1, 0x00, 0x21, 0, 0,                 // mov eax, [0x2100]
        0x3D, 0x34, 0x12, 0, 0,                 // cmp eax, 0x1234
        0x75, 0xF4,                             // jne back
        0x0F, 0x31,                             // rdtsc
        0xA3, 0x08, 0x20, 0, 0,                 // mov [0x2008], eax
        0x89, 0x15, 0x0C, 0x20, 0, 0,           // mov [0x200C], edx
        0xE6, 0xF4,                             // out 0xF4, al
    ];

    /// The second processor's code, at 0x8000 in real mode: stores its time, its MTRR default type
    /// and its APIC id.
    #[rustfmt::skip]
    const SECOND: &[u8] = &[
        0x31, 0xC0,                             // xor ax, ax
        0x8E, 0xD8,                             // mov ds, ax
        0x0F, 0x31,                             // rdtsc
        0x66, 0xA3, 0x04, 0x21,                 // mov [0x2104], eax
        0x66, 0x89, 0x16, 0x08, 0x21,           // mov [0x2108], edx
        0x66, 0xB9, 0xFF, 0x02, 0, 0,           // mov ecx, 0x2FF
        0x0F, 0x32,                             // rdmsr
        0x66, 0xA3, 0x0C, 0x21,                 // mov [0x210C], eax
        0x66, 0xB8, 1, 0, 0, 0,                 // mov eax, 1
        0x0F, 0xA2,                             // cpuid
        0x66, 0x89, 0x1E, 0x10, 0x21,           // mov [0x2110], ebx
        0x66, 0xB8, 0x34, 0x12, 0, 0,           // mov eax, 0x1234
        0x66, 0xA3, 0x00, 0x21,                 // mov [0x2100], eax
        0xF4, 0xEB, 0xFD,                       // hlt, again and again
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_starts_its_second_vcpu_by_init_and_sipi() {
        let (vm, mut first) = machine(&VmConfig::new(2), 16 << 20, START_SECOND);
        vm.ram().write(Gpa(0x8000), SECOND).unwrap();
        let mut second = vm.create_vcpu(1).unwrap();
        let kicker = second.kicker();
        let second = thread::spawn(move || {
            let exit = resume(&mut second);
            (exit, second.registers().unwrap())
        });
        let exit = resume(&mut first);
        assert!(
            matches!(exit, VmExit::PortOut { port: 0xF4, .. }),
            "{exit:?}"
        );
        kicker.kick().unwrap();
        let (exit, registers) = second.join().unwrap();
        assert_eq!(exit, VmExit::Interrupted, "the second halts in the kernel");
        assert_eq!(registers.state.cs.selector, 0x800);

        assert_eq!(
            u32_at(&vm, 0x210C),
            0x806,
            "MTRR default type of the second"
        );
        assert_eq!(u32_at(&vm, 0x2110) >> 16, 0x0102, "APIC id 1 of 2");
        let time = |at| u64::from(u32_at(&vm, at)) | u64::from(u32_at(&vm, at + 4)) << 32;
        let times = [time(0x2000), time(0x2104), time(0x2008)];
        assert!(
            times.is_sorted(),
            "time went back between vCPUs: {times:x?}"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_unstarted_vcpu_waits_and_can_be_kicked() {
        let (vm, _first) = machine(&VmConfig::new(2), 16 << 20, &[]);
        let mut second = vm.create_vcpu(1).unwrap();
        let kicker = second.kicker();
        let waiter = thread::spawn(move || resume(&mut second));
        kicker.kick().unwrap();
        assert_eq!(waiter.join().unwrap(), VmExit::Interrupted);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_second_vcpu_can_be_started_by_its_entry_state() {
        let (vm, _first) = machine(&VmConfig::new(2), 16 << 20, &[0xE6, 0xF4]);
        let mut second = vm.create_vcpu(1).unwrap();
        kick_after_a_minute(&second);
        second
            .set_entry(&EntryState::pvh(CODE, START_INFO).unwrap())
            .unwrap();
        assert_eq!(resume(&mut second), out(0xF4, 0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn apic_ids_can_be_twice_the_index() {
        let mut config = VmConfig::new(4);
        config.apic_ids = ApicIds::TwiceIndex;
        // mov eax, 1; cpuid; shr ebx, 24; mov al, bl; out 0xF4, al
        let code = [
            0xB8, 1, 0, 0, 0, 0x0F, 0xA2, 0xC1, 0xEB, 24, 0x88, 0xD8, 0xE6, 0xF4,
        ];
        let (vm, mut first) = machine(&config, 16 << 20, &code);
        assert_eq!(resume(&mut first), out(0xF4, 0));
        let mut last = vm.create_vcpu(3).unwrap();
        assert_eq!((last.index(), last.apic_id()), (3, 6));
        last.set_entry(&EntryState::pvh(CODE, START_INFO).unwrap())
            .unwrap();
        assert_eq!(resume(&mut last), out(0xF4, 6));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn too_many_vcpus_are_refused_with_the_limit() {
        let kvm = Kvm::open().unwrap();
        let max = kvm.capabilities().max_vcpus;
        let ram = Arc::new(GuestRam::new(0x1000).unwrap());
        let mut config = VmConfig::new(max + 1);
        for (vcpus, most) in [(0, max), (max + 1, max), (u32::MAX, max)] {
            config.vcpus = vcpus;
            match Vm::new(&kvm, &config, Arc::clone(&ram)) {
                Err(VmError::VcpuCount { limit, .. }) => assert_eq!(limit, most),
                other => panic!("{other:?}"),
            }
        }
        config.vcpus = 2;
        config.interrupt_controllers = InterruptControllers::None;
        let error = Vm::new(&kvm, &config, ram).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this machine can have 1 to 1 vCPUs, not 2"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_is_created_once_and_below_the_machines_number() {
        let (vm, _first) = machine(&VmConfig::new(2), 0x20_0000, &[]);
        let error = vm.create_vcpu(2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "vCPU 2 does not exist: the machine has 2 vCPUs"
        );
        let error = vm.create_vcpu(0).unwrap_err();
        assert!(
            matches!(
                error,
                VcpuError::Host {
                    step: "KVM_CREATE_VCPU",
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_outlives_the_handle_of_its_machine() {
        let (vm, mut vcpu) = guest(&[0xFE, 0x05, 0x00, 0x20, 0, 0, 0xE6, 0xF4]); // inc byte [0x2000]; out
        let ram = Arc::clone(vm.ram());
        drop(vm);
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
        drop(vcpu);
        let mut byte = [0];
        ram.read(Gpa(0x2000), &mut byte).unwrap();
        assert_eq!(byte, [1]);
        assert_eq!(Arc::strong_count(&ram), 1);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn registers_read_back_are_those_that_were_set() {
        let (_vm, mut vcpu) = guest(&[]);
        let mut state = EntryState::pvh(CODE, START_INFO).unwrap();
        let general = [
            &mut state.rax,
            &mut state.rcx,
            &mut state.rdx,
            &mut state.rsp,
            &mut state.rbp,
            &mut state.rsi,
            &mut state.rdi,
            &mut state.r8,
            &mut state.r9,
            &mut state.r10,
            &mut state.r11,
            &mut state.r12,
            &mut state.r13,
            &mut state.r14,
            &mut state.r15,
        ];
        for (value, register) in (0x1111..).zip(general) {
            *register = value;
        }
        state.cr2 = 0x2222;
        state.fs = Segment {
            selector: 0x28,
            base: 0x7000,
            limit: 0xFFF,
            attributes: SegmentAttributes::new(0x4F3).unwrap(),
        };
        state.gdtr = DescriptorTable {
            base: 0x4000,
            limit: 0x2F,
        };
        state.idtr = DescriptorTable {
            base: 0x5000,
            limit: 0x7FF,
        };
        vcpu.set_entry(&state).unwrap();
        assert_eq!(vcpu.registers().unwrap().state, state);
    }
}
