//! Guests of a few bytes on /dev/kvm: their registers at entry, and their exits.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod kvm {
    use pvh_abi::Gpa;
    use pvh_kvm::{InterruptControllers, VcpuError, VmConfig, VmEntry, VmExit};
    use pvh_memory::GuestMemory;

    use crate::support::{CODE, answer, guest, machine, out, resume, u32_at};

    /// Stores every register that the ABI names, from eax at 0x2000 on.
    #[rustfmt::skip]
    const STORE_REGISTERS: &[u8] = &[
        0xA3, 0x00, 0x20, 0, 0,             // mov [0x2000], eax
        0x89, 0x1D, 0x04, 0x20, 0, 0,       // mov [0x2004], ebx
        0x89, 0x0D, 0x08, 0x20, 0, 0,       // mov [0x2008], ecx
        0x89, 0x15, 0x0C, 0x20, 0, 0,       // mov [0x200C], edx
        0x89, 0x25, 0x10, 0x20, 0, 0,       // mov [0x2010], esp
        0x89, 0x2D, 0x14, 0x20, 0, 0,       // mov [0x2014], ebp
        0x89, 0x35, 0x18, 0x20, 0, 0,       // mov [0x2018], esi
        0x89, 0x3D, 0x1C, 0x20, 0, 0,       // mov [0x201C], edi
        0xBC, 0x00, 0x80, 0, 0,             // mov esp, 0x8000
        0x9C,                               // pushfd
        0x8F, 0x05, 0x20, 0x20, 0, 0,       // pop dword [0x2020]
        0x0F, 0x20, 0xC0,                   // mov eax, cr0
        0xA3, 0x24, 0x20, 0, 0,             // mov [0x2024], eax
        0x0F, 0x20, 0xE0,                   // mov eax, cr4
        0xA3, 0x28, 0x20, 0, 0,             // mov [0x2028], eax
        0x0F, 0x20, 0xD8,                   // mov eax, cr3
        0xA3, 0x2C, 0x20, 0, 0,             // mov [0x202C], eax
        0x0F, 0x00, 0xC8,                   // str eax
        0xA3, 0x30, 0x20, 0, 0,             // mov [0x2030], eax
        0x0F, 0x01, 0x05, 0x34, 0x20, 0, 0, // sgdt [0x2034]
        0x0F, 0x01, 0x0D, 0x3C, 0x20, 0, 0, // sidt [0x203C]
        0xB9, 0x80, 0, 0, 0xC0,             // mov ecx, 0xC0000080 (EFER)
        0x0F, 0x32,                         // rdmsr
        0xA3, 0x44, 0x20, 0, 0,             // mov [0x2044], eax
        0xB9, 0xFF, 0x02, 0, 0,             // mov ecx, 0x2FF (IA32_MTRR_DEF_TYPE)
        0x0F, 0x32,                         // rdmsr
        0xA3, 0x48, 0x20, 0, 0,             // mov [0x2048], eax
        0xB9, 0x1B, 0, 0, 0,                // mov ecx, 0x1B (IA32_APIC_BASE)
        0x0F, 0x32,                         // rdmsr
        0xA3, 0x4C, 0x20, 0, 0,             // mov [0x204C], eax
        0xE6, 0xF4,                         // out 0xF4, al
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_has_the_registers_of_the_abi_at_entry() {
        let (vm, mut vcpu) = guest(STORE_REGISTERS);
        vm.ram().write(Gpa(0x2000), &[0xEE; 0x100]).unwrap();
        assert!(matches!(
            resume(&mut vcpu),
            VmExit::PortOut { port: 0xF4, .. }
        ));
        let at = |offset: u64| u32_at(&vm, 0x2000 | offset);
        assert_eq!(at(0x04), 0x9000, "ebx is the start info address");
        for other in [0x00, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x1C] {
            assert_eq!(at(other), 0, "general register at {other:#x}");
        }
        assert_eq!(at(0x20), 2, "eflags");
        assert_eq!(at(0x24), 0x11, "cr0: PE and ET");
        assert_eq!(at(0x28), 0, "cr4");
        assert_eq!(at(0x2C), 0, "cr3");
        assert_eq!(at(0x30), 0, "tr's selector");
        assert_eq!((at(0x34), at(0x38) & 0xFFFF), (0, 0), "gdtr");
        assert_eq!((at(0x3C), at(0x40) & 0xFFFF), (0, 0), "idtr");
        assert_eq!(at(0x44), 0, "efer");
        assert_eq!(at(0x48), 0x806, "MTRRs on, write-back");
        assert_eq!(at(0x4C), 0xFEE0_0900, "local APIC on, boot processor");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_hidden_parts_of_the_segments_are_those_of_the_abi() {
        let (_vm, mut vcpu) = guest(&[0xE6, 0xF4]);
        resume(&mut vcpu);
        let state = vcpu.registers().unwrap().state;
        let parts =
            |segment: pvh_entry::Segment| (segment.base, segment.limit, segment.attributes.bits());
        assert_eq!(parts(state.cs), (0, 0xFFFF_FFFF, 0xC9B));
        for data in [state.ds, state.es, state.ss] {
            // Loading a segment sets its accessed bit.
            assert_eq!(parts(data), (0, 0xFFFF_FFFF, 0xC93));
        }
        assert_eq!(parts(state.tr), (0, 0x67, 0x8B));
        assert_eq!((state.dr6, state.dr7), (0xFFFF_0FF0, 0x400));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_writes_to_ports_in_each_size() {
        #[rustfmt::skip]
        let (_vm, mut vcpu) = guest(&[
            0xB8, 0x78, 0x56, 0x34, 0x12, // mov eax, 0x12345678
            0x66, 0xBA, 0xF8, 0x03,       // mov dx, 0x3F8
            0xEE,                         // out dx, al
            0x66, 0xEF,                   // out dx, ax
            0xEF,                         // out dx, eax
        ]);
        for want in [&[0x78][..], &[0x78, 0x56], &[0x78, 0x56, 0x34, 0x12]] {
            let want = VmExit::PortOut {
                port: 0x3F8,
                size_bytes: u8::try_from(want.len()).unwrap(),
                data: want.into(),
            };
            assert_eq!(resume(&mut vcpu), want);
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_reads_from_ports_in_each_size() {
        #[rustfmt::skip]
        let (vm, mut vcpu) = guest(&[
            0xB8, 0xFF, 0xFF, 0xFF, 0xFF, // mov eax, 0xFFFFFFFF
            0x66, 0xBA, 0xF8, 0x03,       // mov dx, 0x3F8
            0xEC,                         // in al, dx
            0xA3, 0x00, 0x20, 0, 0,       // mov [0x2000], eax
            0x66, 0xED,                   // in ax, dx
            0xA3, 0x04, 0x20, 0, 0,       // mov [0x2004], eax
            0xED,                         // in eax, dx
            0xA3, 0x08, 0x20, 0, 0,       // mov [0x2008], eax
            0xE6, 0xF4,                   // out 0xF4, al
        ]);
        let read = |size_bytes| VmExit::PortIn {
            port: 0x3F8,
            size_bytes,
            count: 1,
        };
        assert_eq!(resume(&mut vcpu), read(1));
        assert_eq!(answer(&mut vcpu, &[0x11]), read(2));
        assert_eq!(answer(&mut vcpu, &[0x22, 0x33]), read(4));
        assert_eq!(
            answer(&mut vcpu, &[0x44, 0x55, 0x66, 0x77]),
            out(0xF4, 0x44)
        );
        let words = [0x2000, 0x2004, 0x2008].map(|at| u32_at(&vm, at));
        assert_eq!(words, [0xFFFF_FF11, 0xFFFF_3322, 0x7766_5544]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_string_read_is_answered_in_as_many_parts_as_it_asks_for() {
        #[rustfmt::skip]
        let (vm, mut vcpu) = guest(&[
            0xBF, 0x00, 0x20, 0, 0, // mov edi, 0x2000
            0xB9, 0x05, 0, 0, 0,    // mov ecx, 5
            0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
            0x66, 0xF3, 0x6D,       // rep insw
            0xE6, 0xF4,             // out 0xF4, al
        ]);
        let bytes: Vec<u8> = (1..=10).collect();
        let mut rest = &bytes[..];
        let mut exit = resume(&mut vcpu);
        while let VmExit::PortIn {
            port: 0x3F8,
            size_bytes: 2,
            count,
        } = exit
        {
            let (now, later) = rest.split_at(usize::try_from(count * 2).unwrap());
            rest = later;
            exit = answer(&mut vcpu, now);
        }
        assert_eq!(exit, out(0xF4, 0));
        assert_eq!(rest, []);
        let mut stored = [0; 11];
        vm.ram().read(Gpa(0x2000), &mut stored).unwrap();
        assert_eq!(stored, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0]);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_string_write_brings_every_byte_in_order() {
        #[rustfmt::skip]
        let (vm, mut vcpu) = guest(&[
            0xBE, 0x00, 0x20, 0, 0, // mov esi, 0x2000
            0xB9, 0x20, 0, 0, 0,    // mov ecx, 32
            0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
            0xF3, 0x6E,             // rep outsb
            0xE6, 0xF4,             // out 0xF4, al
        ]);
        let sent: Vec<u8> = (100..132).collect();
        vm.ram().write(Gpa(0x2000), &sent).unwrap();
        let mut seen = Vec::new();
        let mut exit = resume(&mut vcpu);
        while let VmExit::PortOut {
            port: 0x3F8,
            size_bytes: 1,
            data,
        } = &exit
        {
            seen.extend_from_slice(data);
            exit = resume(&mut vcpu);
        }
        assert_eq!(exit, out(0xF4, 0));
        assert_eq!(seen, sent);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guest_reads_and_writes_where_there_is_no_ram() {
        #[rustfmt::skip]
        let (_vm, mut vcpu) = guest(&[
            0xA1, 0x00, 0x00, 0x00, 0xF0,       // mov eax, [0xF0000000]
            0xA3, 0xFC, 0xFF, 0xFF, 0xFF,       // mov [0xFFFFFFFC], eax
            0x8A, 0x1D, 0xFF, 0xFF, 0xFF, 0xFF, // mov bl, [0xFFFFFFFF], the last byte of the segment
            0x88, 0xD8,                         // mov al, bl
            0xE6, 0xF4,                         // out 0xF4, al
        ]);
        let read = |at, len_bytes| VmExit::MmioRead {
            at: Gpa(at),
            len_bytes,
        };
        assert_eq!(resume(&mut vcpu), read(0xF000_0000, 4));
        let write = VmExit::MmioWrite {
            at: Gpa(0xFFFF_FFFC),
            data: [1, 2, 3, 4][..].into(),
        };
        assert_eq!(answer(&mut vcpu, &[1, 2, 3, 4]), write);
        assert_eq!(resume(&mut vcpu), read(0xFFFF_FFFF, 1));
        assert_eq!(answer(&mut vcpu, &[0x5A]), out(0xF4, 0x5A));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_entry_that_does_not_fit_is_refused_and_the_right_one_accepted() {
        let (_vm, mut vcpu) = guest(&[0xE4, 0xF5, 0xE6, 0xF4]); // in al, 0xF5; out 0xF4, al
        let refused = |result: Result<VmExit, VcpuError>, want: usize, have: usize| {
            let Err(VcpuError::Answer {
                expected, given, ..
            }) = result
            else {
                panic!("{result:?}");
            };
            assert_eq!((expected, given), (want, have));
        };
        refused(vcpu.run(VmEntry::Read(&[1])), 0, 1);
        assert!(matches!(
            resume(&mut vcpu),
            VmExit::PortIn { port: 0xF5, .. }
        ));
        refused(vcpu.run(VmEntry::Resume), 1, 0);
        refused(vcpu.run(VmEntry::Read(&[1, 2])), 1, 2);
        assert_eq!(answer(&mut vcpu, &[7]), out(0xF4, 7));
        refused(vcpu.run(VmEntry::Read(&[7])), 0, 1);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_triple_fault_is_a_shutdown() {
        let (_vm, mut vcpu) = guest(&[0x90, 0x0F, 0x0B]); // nop; ud2, without an IDT
        assert_eq!(resume(&mut vcpu), VmExit::Shutdown);
        let registers = vcpu.registers().unwrap();
        // An AMD host has lost the registers.
        let is_at_fault = registers.state.rip == u64::from(CODE) + 1;
        assert!(is_at_fault || registers.are_after_init(), "{registers}");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn code_where_there_is_no_ram_is_an_internal_error() {
        #[rustfmt::skip]
        let (_vm, mut vcpu) = guest(&[
            0xB8, 0x00, 0x00, 0x00, 0xF0, // mov eax, 0xF0000000
            0xFF, 0xE0,                   // jmp eax
        ]);
        let exit = resume(&mut vcpu);
        assert!(
            matches!(exit, VmExit::InternalError(ref error) if error.suberror == 1),
            "{exit:?}"
        );
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_halt_exits_without_interrupt_controllers() {
        let mut config = VmConfig::new(1);
        config.interrupt_controllers = InterruptControllers::None;
        let (vm, mut vcpu) = machine(&config, 16 << 20, &[0xF4, 0xE6, 0xF4]); // hlt; out 0xF4, al
        assert_eq!(resume(&mut vcpu), VmExit::Halt);
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
        assert!(vm.set_irq_line(4, true).is_err());
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_timer_exists_if_it_was_asked_for() {
        let code = [0xE4, 0x40, 0xE6, 0xF4]; // in al, 0x40; out 0xF4, al
        let (_vm, mut vcpu) = guest(&code);
        assert!(matches!(
            resume(&mut vcpu),
            VmExit::PortOut { port: 0xF4, .. }
        ));
        let mut config = VmConfig::new(1);
        config.interrupt_controllers = InterruptControllers::Kernel;
        let (_vm, mut vcpu) = machine(&config, 16 << 20, &code);
        assert!(matches!(
            resume(&mut vcpu),
            VmExit::PortIn { port: 0x40, .. }
        ));
    }
}
