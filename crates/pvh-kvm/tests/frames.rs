//! Frames that are added and removed while a guest runs, on /dev/kvm.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod kvm {
    use std::{sync::Arc, thread};

    use pvh_abi::{Gpa, GuestRange};
    use pvh_entry::EntryState;
    use pvh_kvm::{GuestRam, Kvm, MAX_ADDED_FRAMES, Vcpu, Vm, VmConfig, VmExit};
    use pvh_memory::{FrameError, Frames, GuestMemory};

    use crate::support::{CODE, START_INFO, answer, guest, kick_after_a_minute, out, resume};

    /// A frame in a hole, and the address of its byte 0x10.
    const HOLE: u64 = 0xF_0000;

    /// Writes the byte at 0xF000_0010 to a port, repeatedly.
    #[rustfmt::skip]
    const REPORT_THE_HOLE: &[u8] = &[
        0xA0, 0x10, 0, 0, 0xF0, // mov al, [0xF0000010]
        0xE6, 0xF4,             // out 0xF4, al
        0xEB, 0xF7,             // and again
    ];

    /// Writes 0x42 to 0xF000_0010, reads it back and writes it to a port.
    #[rustfmt::skip]
    const WRITE_THE_HOLE: &[u8] = &[
        0xC6, 0x05, 0x10, 0, 0, 0xF0, 0x42, // mov byte [0xF0000010], 0x42
        0xA0, 0x10, 0, 0, 0xF0,             // mov al, [0xF0000010]
        0xE6, 0xF4,                         // out 0xF4, al
    ];

    /// Waits for a byte other than 0 at 0x2000, then writes the byte at 0xF000_0010 to a port.
    #[rustfmt::skip]
    const WAIT_THEN_REPORT_THE_HOLE: &[u8] = &[
        0xA0, 0x00, 0x20, 0, 0, // mov al, [0x2000]
        0x84, 0xC0,             // test al, al
        0x74, 0xF7,             // jz back
        0xA0, 0x10, 0, 0, 0xF0, // mov al, [0xF0000010]
        0xE6, 0xF4,             // out 0xF4, al
    ];

    fn is_read_of_the_hole(exit: &VmExit) -> bool {
        matches!(
            exit,
            VmExit::MmioRead {
                at: Gpa(0xF000_0010),
                len_bytes: 1
            }
        )
    }

    fn byte(vm: &Vm, at: u64) -> u8 {
        let mut byte = [0];
        vm.ram().read(Gpa(at), &mut byte).unwrap();
        let [byte] = byte;
        byte
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_hole_is_mmio_until_a_frame_is_added_and_after_it_is_removed() {
        let (vm, mut vcpu) = guest(REPORT_THE_HOLE);
        assert!(is_read_of_the_hole(&resume(&mut vcpu)));
        assert_eq!(answer(&mut vcpu, &[0xFF]), out(0xF4, 0xFF));
        vm.ram().add_frame(HOLE).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
        vm.ram().write(Gpa(0xF000_0010), &[0x55]).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x55));
        vm.ram().remove_frame(HOLE).unwrap();
        assert!(is_read_of_the_hole(&resume(&mut vcpu)));
        assert_eq!(answer(&mut vcpu, &[0xFF]), out(0xF4, 0xFF));
        vm.ram().add_frame(HOLE).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0), "nothing of it is left");
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_guests_writes_to_an_added_frame_are_in_guest_memory() {
        let (vm, mut vcpu) = guest(WRITE_THE_HOLE);
        vm.ram().add_frame(HOLE).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x42));
        assert_eq!(byte(&vm, 0xF000_0010), 0x42);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn frames_are_added_and_removed_while_the_guest_runs() {
        let (vm, mut vcpu) = guest(WAIT_THEN_REPORT_THE_HOLE);
        thread::scope(|threads| {
            threads.spawn(|| {
                for round in 0..20 {
                    vm.ram().add_frames(HOLE..HOLE + 2).unwrap();
                    vm.ram().write(Gpa(0xF000_0010), &[0x60 + round]).unwrap();
                    vm.ram().remove_frames(HOLE..HOLE + 2).unwrap();
                }
                vm.ram().add_frame(HOLE).unwrap();
                vm.ram().write(Gpa(0xF000_0010), &[0x77]).unwrap();
                vm.ram().write(Gpa(0x2000), &[1]).unwrap();
            });
            assert_eq!(resume(&mut vcpu), out(0xF4, 0x77));
        });
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn every_added_frame_has_a_slot() {
        let (vm, mut vcpu) = guest(REPORT_THE_HOLE);
        let limit = u64::from(MAX_ADDED_FRAMES);
        let first = HOLE + 1 - limit;
        vm.ram().add_frames(first..HOLE + 1).unwrap();
        vm.ram().write(Gpa(0xF000_0010), &[0x33]).unwrap();
        assert_eq!(
            vm.ram().add_frame(HOLE + 1),
            Err(FrameError::Exhausted { limit })
        );
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x33));
        vm.ram().remove_frames(first..HOLE + 1).unwrap();
        assert!(is_read_of_the_hole(&resume(&mut vcpu)));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_removed_page_of_ram_reads_zeros_in_the_guest() {
        let (vm, mut vcpu) = guest(&[
            0xA0, 0x10, 0x40, 0, 0, // mov al, [0x4010]
            0xE6, 0xF4, // out 0xF4, al
            0xEB, 0xF7, // and again
        ]);
        vm.ram().write(Gpa(0x4010), &[0x44]).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x44));
        vm.ram().remove_frame(4).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
        vm.ram().add_frame(4).unwrap();
        vm.ram().write(Gpa(0x4010), &[0x45]).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x45));
    }

    /// Returns a machine with pages at 0xFEFF_8000 and a frame added before it was created.
    fn machine_with_pages(code: &[u8]) -> (Vm, Vcpu) {
        let ram = GuestRange::new(Gpa(0), 16 << 20);
        let pages = GuestRange::new(Gpa(0xFEFF_8000), 0x8000);
        let kvm = Kvm::open().unwrap();
        let bits = kvm.capabilities().address_bits;
        let ram = Arc::new(GuestRam::with_ranges(&[ram], &[pages], bits).unwrap());
        ram.add_frame(HOLE).unwrap();
        ram.write(Gpa(0xF000_0010), &[0x66]).unwrap();
        ram.write(Gpa(CODE.into()), code).unwrap();
        let vm = Vm::new(&kvm, &VmConfig::new(1), ram).unwrap();
        let mut vcpu = vm.create_vcpu(0).unwrap();
        let entry = EntryState::pvh(CODE, START_INFO).unwrap();
        vcpu.set_entry(&entry).unwrap();
        kick_after_a_minute(&vcpu);
        (vm, vcpu)
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_machine_has_the_frames_added_before_it_was_created() {
        let (_vm, mut vcpu) = machine_with_pages(REPORT_THE_HOLE);
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x66));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn pages_beside_ram_are_memory_to_the_guest() {
        let (vm, mut vcpu) = machine_with_pages(&[
            0xA0, 0x10, 0xF0, 0xFF, 0xFE, // mov al, [0xFEFFF010]
            0xE6, 0xF4, // out 0xF4, al
            0xC6, 0x05, 0x10, 0x80, 0xFF, 0xFE, 0x21, // mov byte [0xFEFF8010], 0x21
            0xE6, 0xF5, // out 0xF5, al
        ]);
        vm.ram().write(Gpa(0xFEFF_F010), &[0x12]).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0x12));
        assert_eq!(resume(&mut vcpu), out(0xF5, 0x12));
        assert_eq!(byte(&vm, 0xFEFF_8010), 0x21);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_frame_that_the_host_cannot_map_is_refused_and_stays_a_hole() {
        let (vm, mut vcpu) = guest(REPORT_THE_HOLE);
        let beyond = 1 << 51 >> 12;
        let refused = vm.ram().add_frames(beyond..beyond + 1);
        assert_eq!(refused, Err(FrameError::OutOfReach { gfn: beyond }));
        vm.ram().add_frame(HOLE).unwrap();
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
    }
}
