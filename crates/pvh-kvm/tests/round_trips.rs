//! Prints the round-trip time of a hypercall with each transport of this host, next to a plain port
//! write. It asserts no time, because the host may be emulated.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod kvm {
    use std::time::Instant;

    use pvh_kvm::{HypercallTransport, Kvm, Vcpu, Vm, VmConfig, VmEntry, VmExit};

    use crate::support::machine;

    /// A guest that exits repeatedly, and the answer to its last exit.
    struct Caller {
        name: &'static str,
        vcpu: Vcpu,
        entry: VmEntry<'static>,
        times_us: Vec<f64>,
        _vm: Vm,
    }

    impl Caller {
        fn new(name: &'static str, hypercalls: HypercallTransport, code: &[u8]) -> Self {
            let mut config = VmConfig::new(1);
            config.hypercalls = hypercalls;
            let (vm, vcpu) = machine(&config, 4 << 20, code);
            Self {
                name,
                vcpu,
                entry: VmEntry::Resume,
                times_us: Vec::new(),
                _vm: vm,
            }
        }

        /// Answers the last exit, if it needs an answer, and runs the guest to its next one.
        fn trip(&mut self) {
            let start = Instant::now();
            let exit = self.vcpu.run(self.entry).unwrap();
            let us = start.elapsed().as_secs_f64() * 1e6;
            self.times_us.push(us);
            self.entry = match exit {
                VmExit::PortOut { port: 0xE9, .. } => VmEntry::Resume,
                VmExit::Hypercall(call) if call.registers.rax == 17 => VmEntry::Hypercall(17),
                other => unreachable!("{}: {other:?}", self.name),
            };
        }

        fn median_us(&self) -> f64 {
            let mut times = self.times_us.clone();
            times.sort_by(f64::total_cmp);
            *times.get(times.len() / 2).unwrap()
        }
    }

    /// Returns one guest for each transport of this host. It sets eax to 17 (xen_version) and
    /// exits, in a loop.
    fn callers() -> Vec<Caller> {
        const CALL: [u8; 5] = [0xB8, 17, 0, 0, 0]; // mov eax, 17
        let port = HypercallTransport::Port { port: 0xE4 };
        let intercept = HypercallTransport::Intercept;
        let ways: [(_, _, &[u8]); 4] = [
            ("bare port write", HypercallTransport::None, &[0xE6, 0xE9]), // out 0xE9, al
            ("hypercall by port", port, &[0xE7, 0xE4]),                   // out 0xE4, eax
            ("hypercall by VMCALL", intercept, &[0x0F, 0x01, 0xC1]),
            ("hypercall by VMMCALL", intercept, &[0x0F, 0x01, 0xD9]),
        ];
        let capabilities = *Kvm::open().unwrap().capabilities();
        let found = ways.into_iter().filter_map(|(name, transport, leave)| {
            if let Some(missing) = capabilities.missing_for(transport) {
                println!("{name} is left out: this host lacks {missing}");
                return None;
            }
            // jmp back to the mov, which is 5 bytes long; the jump is 2 bytes long
            let back = 0_u8.wrapping_sub(u8::try_from(leave.len()).unwrap().wrapping_add(7));
            let code = [&CALL[..], leave, &[0xEB, back]].concat();
            Some(Caller::new(name, transport, &code))
        });
        found.collect()
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn every_transport_of_this_host_serves_hypercalls() {
        let mut callers = callers();
        // In turn, so that other load on the host affects all alike.
        for _ in 0..TRIPS {
            callers.iter_mut().for_each(Caller::trip);
        }
        let bare = callers.first().unwrap().median_us();
        for caller in &callers {
            let (name, median) = (caller.name, caller.median_us());
            println!(
                "round trip: {name}: {median:.2} us, {:.2} x bare",
                median / bare
            );
            assert_eq!(caller.times_us.len(), TRIPS);
        }
    }

    const TRIPS: usize = 2000;
}
