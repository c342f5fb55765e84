//! Kicks of a vCPU from other threads, on /dev/kvm.
#![expect(clippy::disallowed_methods, reason = "a test may start threads")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

mod kvm {
    use std::{
        sync::{
            atomic::{AtomicU64, Ordering::SeqCst},
            mpsc,
        },
        thread,
        time::Duration,
    };

    use pvh_kvm::{Vcpu, VmConfig, VmExit, kick_signal};
    use vmm_sys_util::signal::block_signal;

    use crate::support::{guest, machine, out, resume};

    const TIMES: u32 = 1000;

    /// Kicks a thousand times. The vCPU must stop after each kick before the next is sent.
    fn stops_after_each_kick(mut vcpu: Vcpu) {
        let kicker = vcpu.kicker();
        let (stopped, stops) = mpsc::channel();
        let runner = thread::spawn(move || {
            loop {
                match resume(&mut vcpu) {
                    VmExit::Interrupted if stopped.send(()).is_err() => return,
                    VmExit::Interrupted | VmExit::PortOut { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        });
        for kick in 0..TIMES {
            // A signal may arrive after the flag was seen. Then it stops the vCPU once more.
            while stops.try_recv().is_ok() {}
            kicker.kick().unwrap();
            let stop = stops.recv_timeout(Duration::from_secs(20));
            assert_eq!(stop, Ok(()), "kick {kick} was lost");
        }
        drop(stops);
        kicker.kick().unwrap();
        runner.join().unwrap();
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_that_spins_stops_at_each_of_a_thousand_kicks() {
        let (_vm, vcpu) = guest(&[0xEB, 0xFE]); // jmp $
        stops_after_each_kick(vcpu);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_that_exits_continuously_stops_at_each_of_a_thousand_kicks() {
        let (_vm, vcpu) = guest(&[0xE6, 0xF4, 0xEB, 0xFC]); // out 0xF4, al; jmp back
        stops_after_each_kick(vcpu);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_halted_vcpu_stops_at_each_of_a_thousand_kicks() {
        let (_vm, vcpu) = guest(&[0xF4, 0xEB, 0xFD]); // hlt; jmp back
        stops_after_each_kick(vcpu);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_that_waits_to_be_started_stops_at_each_of_a_thousand_kicks() {
        let (vm, _first) = machine(&VmConfig::new(2), 1 << 20, &[]);
        stops_after_each_kick(vm.create_vcpu(1).unwrap());
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_kick_before_the_run_stops_it_once() {
        let (_vm, mut vcpu) = guest(&[0xE6, 0xF4]);
        for _ in 0..3 {
            vcpu.kicker().kick().unwrap();
        }
        assert_eq!(resume(&mut vcpu), VmExit::Interrupted);
        assert_eq!(resume(&mut vcpu), out(0xF4, 0));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_kick_loses_no_answer_to_a_read() {
        use crate::support::answer;
        let (_vm, mut vcpu) = guest(&[0xE4, 0xF5, 0xE6, 0xF4]); // in al, 0xF5; out 0xF4, al
        assert!(matches!(resume(&mut vcpu), VmExit::PortIn { .. }));
        vcpu.kicker().kick().unwrap();
        assert_eq!(answer(&mut vcpu, &[7]), VmExit::Interrupted);
        assert_eq!(resume(&mut vcpu), out(0xF4, 7));
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_thread_that_blocks_every_signal_is_stopped_too() {
        let (_vm, mut vcpu) = guest(&[0xEB, 0xFE]);
        let kicker = vcpu.kicker();
        let runner = thread::spawn(move || {
            block_signal(kick_signal()).unwrap();
            resume(&mut vcpu)
        });
        thread::sleep(Duration::from_millis(50));
        kicker.kick().unwrap();
        assert_eq!(runner.join().unwrap(), VmExit::Interrupted);
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_kick_of_a_dropped_vcpu_does_nothing() {
        let (vm, vcpu) = guest(&[]);
        let kicker = vcpu.kicker();
        drop((vm, vcpu));
        kicker.kick().unwrap();
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_vcpu_moves_between_threads_and_many_kick_it() {
        static STOPS: AtomicU64 = AtomicU64::new(0);
        let (_vm, mut vcpu) = guest(&[0xEB, 0xFE]);
        let kicker = vcpu.kicker();
        let kickers = [0; 4].map(|_| {
            let kicker = kicker.clone();
            thread::spawn(move || {
                while STOPS.load(SeqCst) < 200 {
                    kicker.kick().unwrap();
                }
            })
        });
        while STOPS.load(SeqCst) < 200 {
            let runner = thread::spawn(move || {
                assert_eq!(resume(&mut vcpu), VmExit::Interrupted);
                STOPS.fetch_add(1, SeqCst);
                vcpu
            });
            vcpu = runner.join().unwrap();
        }
        for kicker in kickers {
            kicker.join().unwrap();
        }
    }
}
