//! Hypercalls on /dev/kvm with each transport of this host: MSR, page, registers.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

mod support;

mod kvm {
    use std::sync::Arc;

    use pvh_abi::Gpa;
    use pvh_entry::{DescriptorTable, EntryState, SegmentAttributes};
    use pvh_hypercall::{
        Call, HYPERCALL_PORT, MSR_READ, PageError, Stub, Width, decode_msr_write, hypercall_page,
    };
    use pvh_kvm::{
        CpuidLeaf, GuestRam, HypercallState, HypercallTransport, Kvm, Vcpu, VcpuError, Vm,
        VmConfig, VmEntry, VmError, VmExit,
    };
    use pvh_memory::GuestMemory;

    use crate::support::{CODE, START_INFO, machine, out, resume, u32_at};

    const MSR: u32 = 0x4000_0000;
    const PAGE: u64 = 0x5000;

    const PORT: HypercallTransport = HypercallTransport::Port {
        port: HYPERCALL_PORT as u16,
    };

    /// Returns the transports that this host supports.
    fn transports() -> impl Iterator<Item = HypercallTransport> {
        let kvm = Kvm::open().unwrap();
        let found = [PORT, HypercallTransport::Intercept]
            .map(|transport| (transport, kvm.capabilities().missing_for(transport)));
        found
            .into_iter()
            .filter_map(|(transport, missing)| match missing {
                None => Some(transport),
                Some(capability) => {
                    println!("{transport:?} is left out: this host lacks {capability}");
                    None
                }
            })
    }

    fn guest(transport: HypercallTransport, code: &[u8]) -> (Vm, Vcpu) {
        let mut config = VmConfig::new(1);
        config.hypercalls = transport;
        machine(&config, 16 << 20, code)
    }

    fn fill_page(vm: &Vm, vcpu: &Vcpu, transport: HypercallTransport) {
        let is_amd =
            |leaf: &CpuidLeaf| leaf.function == 0 && leaf.ecx == u32::from_le_bytes(*b"cAMD");
        let stub = match transport {
            HypercallTransport::Intercept if vcpu.cpuid().iter().any(is_amd) => Stub::Vmmcall,
            HypercallTransport::Intercept => Stub::Vmcall,
            _ => Stub::PortIo {
                port: HYPERCALL_PORT,
            },
        };
        vm.ram().write(Gpa(PAGE), &hypercall_page(stub)).unwrap();
    }

    fn hypercall(exit: VmExit) -> HypercallState {
        match exit {
            VmExit::Hypercall(state) => state,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the arguments of a call, which must have this width and number.
    fn arguments(state: &HypercallState, width: Width, number: u64) -> [u64; 5] {
        let call = Call::decode(&state.registers, &state.caller).unwrap();
        assert_eq!((call.width, call.number.0), (width, number));
        call.args
    }

    /// Writes the MSR, calls entry 18, stores each register, calls it again.
    #[rustfmt::skip]
    const CALL_32: &[u8] = &[
        0xB9, 0x00, 0x00, 0x00, 0x40,       // mov ecx, 0x40000000
        0xB8, 0x00, 0x50, 0, 0,             // mov eax, 0x5000
        0x31, 0xD2,                         // xor edx, edx
        0x0F, 0x30,                         // wrmsr
        0xBC, 0x00, 0x80, 0, 0,             // mov esp, 0x8000
        0xBB, 0x01, 0, 0, 0x80,             // mov ebx, 0x80000001
        0xB9, 0x02, 0, 0, 0,                // mov ecx, 2
        0xBA, 0x03, 0, 0, 0,                // mov edx, 3
        0xBE, 0x04, 0, 0, 0,                // mov esi, 4
        0xBF, 0x05, 0, 0, 0,                // mov edi, 5
        0xBD, 0x06, 0, 0, 0,                // mov ebp, 6
        0xB8, 0x40, 0x52, 0, 0,             // mov eax, 0x5240 (entry 18)
        0xF9,                               // stc
        0xFF, 0xD0,                         // call eax
        0xA3, 0x00, 0x20, 0, 0,             // mov [0x2000], eax
        0x9C,                               // pushfd
        0x8F, 0x05, 0x04, 0x20, 0, 0,       // pop dword [0x2004]
        0x89, 0x1D, 0x08, 0x20, 0, 0,       // mov [0x2008], ebx
        0x89, 0x0D, 0x0C, 0x20, 0, 0,       // mov [0x200C], ecx
        0x89, 0x15, 0x10, 0x20, 0, 0,       // mov [0x2010], edx
        0x89, 0x35, 0x14, 0x20, 0, 0,       // mov [0x2014], esi
        0x89, 0x3D, 0x18, 0x20, 0, 0,       // mov [0x2018], edi
        0x89, 0x2D, 0x1C, 0x20, 0, 0,       // mov [0x201C], ebp
        0x89, 0x25, 0x20, 0x20, 0, 0,       // mov [0x2020], esp
        0xB8, 0x40, 0x52, 0, 0,             // mov eax, 0x5240
        0xFF, 0xD0,                         // call eax
        0xE6, 0xF4,                         // out 0xF4, al
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_32_bit_guest_gets_the_result_in_eax_and_keeps_the_rest() {
        transports().for_each(call_from_32_bit);
    }

    fn call_from_32_bit(transport: HypercallTransport) {
        let (vm, mut vcpu) = guest(transport, CALL_32);
        let write = VmExit::MsrWrite {
            index: MSR,
            value: PAGE,
        };
        assert_eq!(resume(&mut vcpu), write);
        fill_page(&vm, &vcpu, transport);
        let state = hypercall(resume(&mut vcpu));
        assert_eq!(
            arguments(&state, Width::Compat, 18),
            [0x8000_0001, 2, 3, 4, 5]
        );
        let paging = state.paging;
        assert_eq!((paging.cr0, paging.cr3, paging.cr4), (0x11, 0, 0));
        let caller = state.caller;
        assert_eq!((caller.efer, caller.rflags & 0x2_0001), (0, 1));
        assert_eq!(
            (caller.cs_long, caller.cs_big, caller.cpl),
            (false, true, 0)
        );
        assert_eq!(vcpu.caller(), Some(caller));
        // The OUT is the second instruction of the entry and 2 bytes long.
        let rip = vcpu.registers().unwrap().state.rip;
        assert!(matches!(rip, 0x5245 | 0x5247), "{rip:#x}");
        let next = hypercall(vcpu.run(VmEntry::Hypercall(0xFFFF_FFDA)).unwrap());
        assert_eq!(
            arguments(&next, Width::Compat, 18),
            [0x8000_0001, 2, 3, 4, 5]
        );
        let words: Vec<_> = (0..9).map(|n| u32_at(&vm, 0x2000 + n * 4)).collect();
        assert_eq!(words[0], 0xFFFF_FFDA, "the result");
        assert_eq!(words[1] & 1, 1, "the carry flag");
        assert_eq!(words[2..], [0x8000_0001, 2, 3, 4, 5, 6, 0x8000]);
        let end = vcpu.run(VmEntry::Hypercall(0x77)).unwrap();
        assert_eq!(end, out(0xF4, 0x77));
    }

    /// Calls entry 18 from 64-bit code.
    #[rustfmt::skip]
    const CALL_64: &[u8] = &[
        0xFF, 0xD0,                         // call rax
        0x48, 0x89, 0x04, 0x25, 0, 0x20, 0, 0, // mov [0x2000], rax
        0xB8, 0x60, 0x52, 0, 0,             // mov eax, 0x5260 (entry 19)
        0xFF, 0xD0,                         // call rax
    ];

    /// Returns the state of 64-bit code in one 2 MiB page. Register n holds 0x1111_0000_0000_0000 +
    /// n.
    fn long_mode(ram: &GuestRam) -> EntryState {
        for (at, entry) in [(0x6000, 0x7003_u64), (0x7000, 0x8003), (0x8000, 0x83)] {
            ram.write(Gpa(at), &entry.to_le_bytes()).unwrap();
        }
        let mut state = EntryState::pvh(CODE, START_INFO).unwrap();
        (state.cr0, state.cr3, state.cr4, state.efer) = (0x8000_0011, 0x6000, 0x20, 0x500);
        state.cs.attributes = SegmentAttributes::new(0xA9B).unwrap();
        let mark = |n: u64| 0x1111_0000_0000_0000 | n;
        state.rax = 0x5240;
        (state.rcx, state.rdx, state.rbx) = (mark(1), mark(2), mark(3));
        (state.rbp, state.rsi, state.rdi) = (mark(5), mark(6), mark(7));
        (state.r8, state.r9, state.r10, state.r11) = (mark(8), mark(9), mark(10), mark(11));
        (state.r12, state.r13, state.r14, state.r15) = (mark(12), mark(13), mark(14), mark(15));
        state.rsp = 0x4000;
        state
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_64_bit_guest_gets_the_result_in_rax_and_keeps_the_rest() {
        transports().for_each(call_from_64_bit);
    }

    fn call_from_64_bit(transport: HypercallTransport) {
        let (vm, mut vcpu) = guest(transport, CALL_64);
        fill_page(&vm, &vcpu, transport);
        let state = long_mode(vm.ram());
        vcpu.set_entry(&state).unwrap();
        let marked = [7, 6, 2, 10, 8].map(|n| 0x1111_0000_0000_0000 | n);
        let call = hypercall(resume(&mut vcpu));
        assert_eq!(arguments(&call, Width::Native, 18), marked);
        assert!(call.caller.cs_long && !call.caller.cs_big);
        let paging = call.paging;
        assert_eq!((paging.cr3, paging.cr4, paging.efer), (0x6000, 0x20, 0x500));
        let next = hypercall(vcpu.run(VmEntry::Hypercall(0xFFFF_FFFF_FFFF_FFDA)).unwrap());
        assert_eq!(arguments(&next, Width::Native, 19), marked);
        let mut rax = [0; 8];
        vm.ram().read(Gpa(0x2000), &mut rax).unwrap();
        assert_eq!(u64::from_le_bytes(rax), 0xFFFF_FFFF_FFFF_FFDA);
        let now = vcpu.registers().unwrap().state;
        let kept = |s: &EntryState| {
            [s.rbx, s.rcx, s.rdx, s.rsi, s.rdi, s.rbp, s.r8, s.r9]
                .into_iter()
                .chain([s.r10, s.r11, s.r12, s.r13, s.r14, s.r15])
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(&now), kept(&state));
        assert_eq!(now.rsp, state.rsp - 8, "the return address");
    }

    /// Writes and reads the MSR. The handler of #GP writes to port 0xF5.
    #[rustfmt::skip]
    const MSR_ACCESS: &[u8] = &[
        0xB9, 0x00, 0x00, 0x00, 0x40,       // mov ecx, 0x40000000
        0xB8, 0x01, 0x50, 0, 0,             // mov eax, 0x5001
        0xBA, 0xEE, 0, 0, 0,                // mov edx, 0xEE
        0xF6, 0xC3, 0x01,                   // test bl, 1
        0x74, 0x04,                         // jz +4
        0x0F, 0x30,                         // wrmsr
        0xE6, 0xF4,                         // out 0xF4, al
        0x0F, 0x32,                         // rdmsr
        0xA3, 0x00, 0x20, 0, 0,             // mov [0x2000], eax
        0x89, 0x15, 0x04, 0x20, 0, 0,       // mov [0x2004], edx
        0xE6, 0xF6,                         // out 0xF6, al
    ];

    /// Stores the address of the instruction that caused #GP: the return address, after the error
    /// code.
    #[rustfmt::skip]
    const ON_GP: &[u8] = &[
        0x58,                               // pop eax
        0xA3, 0x08, 0x20, 0, 0,             // mov [0x2008], eax
        0x58,                               // pop eax
        0xA3, 0x0C, 0x20, 0, 0,             // mov [0x200C], eax
        0xE6, 0xF5,                         // out 0xF5, al
    ];

    /// Returns a guest with a GDT and a handler of #GP. It writes the MSR first if `writes`.
    fn with_handler(transport: HypercallTransport, writes: bool) -> (Vm, Vcpu) {
        let (vm, mut vcpu) = guest(transport, MSR_ACCESS);
        let put = |at, bytes: &[u8]| vm.ram().write(Gpa(at), bytes).unwrap();
        put(0x3008, &0x00CF_9B00_0000_FFFF_u64.to_le_bytes());
        put(0x3010, &0x00CF_9300_0000_FFFF_u64.to_le_bytes());
        put(0x4000, ON_GP);
        // Vector 13: an interrupt gate to 8:0x4000.
        put(0x3100 + 13 * 8, &0x0000_8E00_0008_4000_u64.to_le_bytes());
        let mut state = EntryState::pvh(CODE, START_INFO).unwrap();
        let table = |base, limit| DescriptorTable { base, limit };
        (state.gdtr, state.idtr) = (table(0x3000, 0x17), table(0x3100, 14 * 8 - 1));
        state.cs.selector = 8;
        state.ss.selector = 0x10;
        (state.rsp, state.rbx) = (0x8000, writes.into());
        vcpu.set_entry(&state).unwrap();
        (vm, vcpu)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn page_index_1_is_gp_at_the_wrmsr() {
        for transport in transports() {
            let (vm, mut vcpu) = with_handler(transport, true);
            let VmExit::MsrWrite { index: MSR, value } = resume(&mut vcpu) else {
                panic!("not a write to the MSR");
            };
            assert_eq!(value, 0xEE_0000_5001);
            assert_eq!(decode_msr_write(value), Err(PageError::Index { index: 1 }));
            let exit = vcpu.run(VmEntry::GeneralProtection).unwrap();
            assert!(
                matches!(exit, VmExit::PortOut { port: 0xF5, .. }),
                "{exit:?}"
            );
            assert_eq!(u32_at(&vm, 0x2008), 0, "error code");
            assert_eq!(u32_at(&vm, 0x200C), CODE + 20, "the WRMSR");
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn after_an_accepted_write_the_guest_continues_after_the_wrmsr() {
        for transport in transports() {
            let (_vm, mut vcpu) = with_handler(transport, true);
            assert!(matches!(resume(&mut vcpu), VmExit::MsrWrite { .. }));
            assert_eq!(resume(&mut vcpu), out(0xF4, 1));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_read_of_the_msr_returns_the_answer() {
        for transport in transports() {
            for value in [MSR_READ, 0x1234_5678_9ABC_DEF0] {
                let (vm, mut vcpu) = with_handler(transport, false);
                assert_eq!(resume(&mut vcpu), VmExit::MsrRead { index: MSR });
                let exit = vcpu.run(VmEntry::Msr(value)).unwrap();
                assert!(matches!(exit, VmExit::PortOut { port: 0xF6, .. }));
                let [low, high] = [0x2000, 0x2004].map(|at| u64::from(u32_at(&vm, at)));
                assert_eq!(high << 32 | low, value);
            }
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_read_of_the_msr_can_be_refused() {
        for transport in transports() {
            let (vm, mut vcpu) = with_handler(transport, false);
            assert_eq!(resume(&mut vcpu), VmExit::MsrRead { index: MSR });
            let exit = vcpu.run(VmEntry::GeneralProtection).unwrap();
            assert!(matches!(exit, VmExit::PortOut { port: 0xF5, .. }));
            assert_eq!(u32_at(&vm, 0x200C), CODE + 24, "the RDMSR");
        }
    }

    /// Calls entry 18 and writes the result to port 0xF4. The OUT to port 0xF5 is another entry
    /// point.
    #[rustfmt::skip]
    const CALL_ONCE: &[u8] = &[
        0xBC, 0x00, 0x80, 0, 0,             // mov esp, 0x8000
        0xB8, 0x40, 0x52, 0, 0,             // mov eax, 0x5240
        0xFF, 0xD0,                         // call eax
        0xE6, 0xF4,                         // out 0xF4, al
        0xE6, 0xF5,                         // out 0xF5, al
    ];

    /// Returns a guest that has just made its call.
    fn calling(transport: HypercallTransport) -> (Vm, Vcpu) {
        let (vm, mut vcpu) = guest(transport, CALL_ONCE);
        fill_page(&vm, &vcpu, transport);
        let exit = resume(&mut vcpu);
        assert_eq!(hypercall(exit).registers.rax, 18);
        (vm, vcpu)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_hypercall_accepts_only_its_result() {
        for transport in transports() {
            let (_vm, mut vcpu) = calling(transport);
            for entry in [VmEntry::Resume, VmEntry::Msr(0), VmEntry::GeneralProtection] {
                let error = vcpu.run(entry).unwrap_err();
                assert!(matches!(error, VcpuError::AnswerKind { .. }), "{error}");
            }
            let exit = vcpu.run(VmEntry::Hypercall(3)).unwrap();
            assert_eq!(exit, out(0xF4, 3));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_kick_does_not_lose_the_result() {
        for transport in transports() {
            let (_vm, mut vcpu) = calling(transport);
            vcpu.kicker().kick().unwrap();
            let exit = vcpu.run(VmEntry::Hypercall(3)).unwrap();
            assert_eq!(exit, VmExit::Interrupted);
            assert_eq!(resume(&mut vcpu), out(0xF4, 3));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_with_a_new_entry_state_needs_no_result() {
        for transport in transports() {
            let (_vm, mut vcpu) = calling(transport);
            let mut state = EntryState::pvh(CODE + 14, START_INFO).unwrap();
            state.rax = 9;
            vcpu.set_entry(&state).unwrap();
            assert_eq!(resume(&mut vcpu), out(0xF5, 9));
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn without_hypercalls_the_port_is_an_ordinary_port() {
        let (_vm, mut vcpu) = machine(&VmConfig::new(1), 16 << 20, &[0xE6, 0xE4, 0xE6, 0xF4]);
        assert_eq!(resume(&mut vcpu), out(0xE4, 0));
        assert_eq!(vcpu.caller(), None);
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn this_host_has_what_the_port_needs() {
        let kvm = Kvm::open().unwrap();
        assert_eq!(kvm.capabilities().missing_for(PORT), None);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_intercept_on_a_host_without_it_is_refused_with_the_capability() {
        let kvm = Kvm::open().unwrap();
        let mut config = VmConfig::new(1);
        config.hypercalls = HypercallTransport::Intercept;
        let vm = Vm::new(&kvm, &config, Arc::new(GuestRam::new(1 << 20).unwrap()));
        match kvm.capabilities().missing_for(config.hypercalls) {
            None => drop(vm.unwrap()),
            Some(missing) => assert!(
                matches!(vm, Err(VmError::Capability { capability }) if capability == missing)
            ),
        }
    }
}
