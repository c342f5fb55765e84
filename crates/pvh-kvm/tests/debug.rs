//! A guest under a debugger on /dev/kvm: steps, breakpoints, watchpoints, registers that are set.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod kvm {
    use pvh_kvm::{GuestDebug, VmExit};
    use pvh_memory::GuestMemory;

    use crate::support::{CODE, guest, out, resume, u32_at};

    const AT: u64 = CODE as u64;

    fn step() -> GuestDebug {
        GuestDebug {
            is_step: true,
            ..GuestDebug::default()
        }
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_step_executes_one_instruction() {
        // nop; mov al, 1; out 0xF4, al
        let (_vm, mut vcpu) = guest(&[0x90, 0xB0, 1, 0xE6, 0xF4]);
        vcpu.set_debug(&step()).unwrap();
        for next in [AT + 1, AT + 3] {
            let exit = resume(&mut vcpu);
            assert!(
                matches!(exit, VmExit::Debug { vector: 1, pc, .. } if pc == next),
                "{exit:?}"
            );
            assert_eq!(vcpu.registers().unwrap().state.rip, next);
        }
        vcpu.set_debug(&GuestDebug::default()).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 1));
    }

    /// Neither a KVM that emulates the guest nor the lab's emulated SVM intercepts INT3.
    #[test]
    #[ignore = "needs a processor's KVM"]
    fn int3_of_a_debugger_stops_before_it_with_debug_exits() {
        // nop; int3; mov al, 2; out 0xF4, al
        let (vm, mut vcpu) = guest(&[0x90, 0xCC, 0xB0, 2, 0xE6, 0xF4]);
        let debug = GuestDebug {
            takes_int3: true,
            ..GuestDebug::default()
        };
        vcpu.set_debug(&debug).unwrap();
        let exit = resume(&mut vcpu);
        assert!(
            matches!(exit, VmExit::Debug { vector: 3, pc, .. } if pc == AT + 1),
            "{exit:?}"
        );
        assert_eq!(vcpu.registers().unwrap().state.rip, AT + 1);
        vm.ram().write(pvh_abi::Gpa(AT + 1), &[0x90]).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 2));
    }

    /// The same holds for debug registers.
    #[test]
    #[ignore = "needs a processor's KVM"]
    fn a_debug_register_stops_an_instruction_and_a_write_with_debug_exits() {
        // mov al, 3; nop; mov [0x2000], eax; out 0xF4, al
        let code = [0xB0, 3, 0x90, 0xA3, 0, 0x20, 0, 0, 0xE6, 0xF4];
        let (_vm, mut vcpu) = guest(&code);
        let debug = GuestDebug {
            addresses: [AT + 2, 0x2000, 0, 0],
            // L0, G1; R/W1 is write, LEN1 4 bytes
            dr7: 0x400 | 2 | 8 | 0xD0_0000,
            ..GuestDebug::default()
        };
        vcpu.set_debug(&debug).unwrap();
        let exit = resume(&mut vcpu);
        let at_nop =
            matches!(exit, VmExit::Debug { vector: 1, pc, dr6 } if pc == AT + 2 && dr6 & 0xF == 1);
        assert!(at_nop, "{exit:?}");
        let only_write = GuestDebug {
            dr7: 0x400 | 8 | 0xD0_0000,
            ..debug
        };
        vcpu.set_debug(&only_write).unwrap();
        let exit = resume(&mut vcpu);
        let after_write =
            matches!(exit, VmExit::Debug { vector: 1, pc, dr6 } if pc == AT + 8 && dr6 & 0xF == 2);
        assert!(after_write, "{exit:?}");
        vcpu.set_debug(&GuestDebug::default()).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 3));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn registers_can_be_set_between_runs() {
        // mov [0x2000], eax; out 0xF4, al
        let (vm, mut vcpu) = guest(&[0x90, 0xA3, 0, 0x20, 0, 0, 0xE6, 0xF4]);
        let mut state = vcpu.registers().unwrap().state;
        state.rax = 0x1234_5678;
        state.rip = AT + 1;
        state.cr3 = 0x5000;
        vcpu.set_registers(&state).unwrap();
        assert_eq!(vcpu.registers().unwrap().state, state);
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x78));
        assert_eq!(u32_at(&vm, 0x2000), 0x1234_5678);
        state.cr4 = 1 << 31;
        assert!(
            vcpu.set_registers(&state).is_err(),
            "a bit that no processor has"
        );
    }
}
