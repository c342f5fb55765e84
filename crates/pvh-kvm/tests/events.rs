//! Interrupts, halts and time of vCPUs on /dev/kvm, with local APICs as the only controllers.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod kvm {
    use std::{thread, time::Duration};

    use pvh_abi::Gpa;
    use pvh_entry::{DescriptorTable, EntryState};
    use pvh_kvm::{
        Activity, ApicIds, CpuidLeaf, HypervisorLeaves, InterruptControllers, Vcpu, Vm, VmConfig,
        VmExit,
    };
    use pvh_memory::GuestMemory;

    use crate::support::{CODE, START_INFO, machine, out, resume, u32_at};

    const VECTOR: u8 = 0x40;

    /// Returns a guest with a GDT and with handlers for NMI (port 0xF2) and vector 0x40 (port
    /// 0xF4).
    fn guest(code: &[u8]) -> (Vm, Vcpu) {
        let mut config = VmConfig::new(2);
        config.interrupt_controllers = InterruptControllers::LocalApics;
        config.apic_ids = ApicIds::TwiceIndex;
        let (vm, mut vcpu) = machine(&config, 16 << 20, code);
        let put = |at, bytes: &[u8]| vm.ram().write(Gpa(at), bytes).unwrap();
        put(0x3008, &0x00CF_9B00_0000_FFFF_u64.to_le_bytes());
        put(0x3010, &0x00CF_9300_0000_FFFF_u64.to_le_bytes());
        // out 0xF4, al; pop ecx; add esp, 4; popfd; jmp ecx: in place of IRET, which some hosts
        // cannot emulate.
        put(
            0x4000,
            &[0xE6, 0xF4, 0x59, 0x83, 0xC4, 0x04, 0x9D, 0xFF, 0xE1],
        );
        put(0x4010, &[0xE6, 0xF2]);
        put(0x3100 + 2 * 8, &0x0000_8E00_0008_4010_u64.to_le_bytes());
        put(0x3100 + 0x40 * 8, &0x0000_8E00_0008_4000_u64.to_le_bytes());
        let mut state = EntryState::pvh(CODE, START_INFO).unwrap();
        let table = |base, limit| DescriptorTable { base, limit };
        (state.gdtr, state.idtr) = (table(0x3000, 0x17), table(0x3100, 0x41 * 8 - 1));
        state.cs.selector = 8;
        state.ss.selector = 0x10;
        state.rsp = 0x8000;
        vcpu.set_entry(&state).unwrap();
        (vm, vcpu)
    }

    /// Stops the vCPU between two instructions, so that KVM has nothing to finish.
    fn settle(vcpu: &mut Vcpu) {
        vcpu.kicker().kick().unwrap();
        assert_eq!(resume(vcpu), VmExit::Interrupted);
    }

    /// Runs the guest's loop at port 0xF3 until it is interrupted.
    fn until_interrupted(vcpu: &mut Vcpu) -> VmExit {
        // A host that emulates the guest may check for interrupts only now and then.
        (0..1000)
            .map(|_| resume(vcpu))
            .find(|exit| *exit != out(0xF3, 0))
            .unwrap()
    }

    /// Kicks the vCPU after 30 ms, when it is halted.
    fn kick_soon(vcpu: &Vcpu) -> thread::JoinHandle<()> {
        let kicker = vcpu.kicker();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            kicker.kick().unwrap();
        })
    }

    /// Writes to port 0xF0 with interrupts off, to 0xF1 before it enables them and halts, and to
    /// 0xF3 after each wake-up.
    #[rustfmt::skip]
    const SLEEPER: &[u8] = &[
        0xE6, 0xF0,                         // out 0xF0, al
        0xE6, 0xF1,                         // out 0xF1, al
        0xFB,                               // sti
        0xF4,                               // hlt
        0xE6, 0xF3,                         // out 0xF3, al
        0xEB, 0xFB,                         // jmp to the hlt
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_injected_interrupt_waits_for_rflags_if_and_wakes_a_halted_guest() {
        let (_vm, mut vcpu) = guest(SLEEPER);
        assert_eq!(resume(&mut vcpu), out(0xF0, 0));
        assert!(!vcpu.inject(VECTOR).unwrap(), "the OUT is not finished");
        settle(&mut vcpu);
        assert!(!vcpu.inject(VECTOR).unwrap(), "RFLAGS.IF is clear");
        assert_eq!(resume(&mut vcpu), out(0xF1, 0));
        let kick = kick_soon(&vcpu);
        assert_eq!(resume(&mut vcpu), VmExit::Interrupted);
        kick.join().unwrap();
        assert_eq!(vcpu.activity().unwrap(), Activity::Halted);
        assert!(vcpu.inject(VECTOR).unwrap());
        assert!(!vcpu.inject(VECTOR).unwrap(), "an interrupt is pending");
        assert_eq!(
            resume(&mut vcpu),
            out(0xF4, 0),
            "without a local APIC in use"
        );
        assert_eq!(resume(&mut vcpu), out(0xF3, 0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_nmi_is_taken_with_rflags_if_clear() {
        let (_vm, mut vcpu) = guest(SLEEPER);
        assert_eq!(resume(&mut vcpu), out(0xF0, 0));
        settle(&mut vcpu);
        vcpu.nmi().unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF2, 0));
    }

    /// Returns the CPU time of this thread.
    fn processor_time() -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let nanoseconds = text.split_whitespace().next().unwrap().parse().unwrap();
        Duration::from_nanos(nanoseconds)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_nmi_to_an_unstarted_vcpu_uses_little_cpu_time() {
        let (vm, _boot) = guest(SLEEPER);
        let mut vcpu = vm.create_vcpu(1).unwrap();
        vcpu.nmi().unwrap();
        let kicker = vcpu.kicker();
        let kick = thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            kicker.kick().unwrap();
        });
        let before = processor_time();
        assert_eq!(resume(&mut vcpu), VmExit::Interrupted);
        let busy = processor_time().saturating_sub(before);
        // A busy thread would use the whole second.
        assert!(busy < Duration::from_millis(500), "{busy:?}");
        kick.join().unwrap();
    }

    /// Enables its local APIC between ports 0xF0 and 0xF1, then writes to port 0xF3 with interrupts
    /// on.
    #[rustfmt::skip]
    const APIC_USER: &[u8] = &[
        0xE6, 0xF0,                         // out 0xF0, al
        0xBB, 0xF0, 0x00, 0xE0, 0xFE,       // mov ebx, 0xFEE000F0
        0xC7, 0x03, 0xFF, 0x01, 0, 0,       // mov dword [ebx], 0x1FF
        0xE6, 0xF1,                         // out 0xF1, al
        0xFB,                               // sti
        0x90,                               // nop
        0xE6, 0xF3,                         // out 0xF3, al
        0xEB, 0xFC,                         // jmp to the out
    ];

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn an_interrupt_goes_to_a_local_apic_and_not_to_a_disabled_one() {
        let (vm, mut vcpu) = guest(APIC_USER);
        assert_eq!(resume(&mut vcpu), out(0xF0, 0));
        assert!(
            !vm.send_interrupt(0, VECTOR).unwrap(),
            "disabled after reset"
        );
        assert_eq!(resume(&mut vcpu), out(0xF1, 0));
        assert!(vm.send_interrupt(0, VECTOR).unwrap());
        assert_eq!(until_interrupted(&mut vcpu), out(0xF4, 0));
        assert_eq!(resume(&mut vcpu), out(0xF3, 0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_set_to_halted_waits_for_an_interrupt_or_for_running() {
        let (vm, mut vcpu) = guest(APIC_USER);
        assert_eq!(resume(&mut vcpu), out(0xF0, 0));
        assert_eq!(resume(&mut vcpu), out(0xF1, 0));
        assert_eq!(resume(&mut vcpu), out(0xF3, 0));
        vcpu.set_activity(Activity::Halted).unwrap();
        let kick = kick_soon(&vcpu);
        assert_eq!(resume(&mut vcpu), VmExit::Interrupted);
        kick.join().unwrap();
        assert_eq!(
            vcpu.activity().unwrap(),
            Activity::Halted,
            "a kick wakes nobody"
        );
        vcpu.set_activity(Activity::Running).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF3, 0));
        vcpu.set_activity(Activity::Halted).unwrap();
        assert!(vm.send_interrupt(0, VECTOR).unwrap());
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
        assert_eq!(vcpu.activity().unwrap(), Activity::Running);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_that_was_never_started_waits_for_its_sipi() {
        let (vm, _vcpu) = guest(SLEEPER);
        let mut second = vm.create_vcpu(1).unwrap();
        assert_eq!(second.activity().unwrap(), Activity::WaitingForSipi);
        let kick = kick_soon(&second);
        assert_eq!(resume(&mut second), VmExit::Interrupted);
        kick.join().unwrap();
        assert!(!second.inject(VECTOR).unwrap());
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_tlb_flush_changes_no_register_and_loses_no_interrupt() {
        let (vm, mut vcpu) = guest(APIC_USER);
        assert_eq!(resume(&mut vcpu), out(0xF0, 0));
        assert_eq!(resume(&mut vcpu), out(0xF1, 0));
        settle(&mut vcpu);
        assert!(vm.send_interrupt(0, VECTOR).unwrap());
        let before = vcpu.registers().unwrap().state;
        vcpu.flush_tlb().unwrap();
        assert_eq!(vcpu.registers().unwrap().state, before);
        assert_eq!(until_interrupted(&mut vcpu), out(0xF4, 0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn the_clock_agrees_with_the_guest_s_rdtsc() {
        #[rustfmt::skip]
        let (vm, mut vcpu) = guest(&[
            0x0F, 0x31,                     // rdtsc
            0xA3, 0x00, 0x20, 0, 0,         // mov [0x2000], eax
            0x89, 0x15, 0x04, 0x20, 0, 0,   // mov [0x2004], edx
            0xB0, 0x00,                     // mov al, 0
            0xE6, 0xF4,                     // out 0xF4, al
        ]);
        let clock = vcpu.clock().unwrap();
        let before = clock.now();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
        let after = clock.now();
        let [low, high] = [0x2000, 0x2004].map(|at| u64::from(u32_at(&vm, at)));
        let read = high << 32 | low;
        // The error is at most half of a measurement: some thousand ticks if a call to the host is
        // slow.
        let error = 1_000_000;
        assert!(
            before < read + error && read < after + error,
            "{before} {read} {after}"
        );
        assert!(vcpu.tsc_khz().is_some_and(|khz| khz > 100_000));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn each_vcpu_can_have_different_hypervisor_leaves() {
        #[rustfmt::skip]
        let (_vm, mut vcpu) = guest(&[
            0xB8, 0x04, 0, 0, 0x40,         // mov eax, 0x40000004
            0x0F, 0xA2,                     // cpuid
            0x88, 0xD8,                     // mov al, bl
            0xE6, 0xF4,                     // out 0xF4, al
        ]);
        let leaf = CpuidLeaf {
            function: 0x4000_0004,
            eax: 8,
            ebx: 0x5A,
            ..CpuidLeaf::default()
        };
        vcpu.set_hypervisor_leaves(HypervisorLeaves::Given(vec![leaf]))
            .unwrap();
        let hypervisor = |leaf: &CpuidLeaf| leaf.function >> 16 == 0x4000;
        assert_eq!(
            vcpu.cpuid()
                .into_iter()
                .filter(hypervisor)
                .collect::<Vec<_>>(),
            [leaf]
        );
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x5A));
    }
}
