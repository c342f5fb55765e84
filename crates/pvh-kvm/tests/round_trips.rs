//! What the way of a hypercall costs on this host's KVM, by each transport it has, beside a bare port write: printed, and judged
//! by nobody here, for a host may be emulated itself.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

mod kvm {
    use std::time::Instant;

    use pvh_kvm::{HypercallTransport, Kvm, Vcpu, Vm, VmConfig, VmEntry, VmExit};

    use crate::support::machine;

    /// A guest that leaves again and again, and how it is answered.
    struct Traveller {
        name: &'static str,
        vcpu: Vcpu,
        entry: VmEntry<'static>,
        times_us: Vec<f64>,
        _vm: Vm,
    }

    impl Traveller {
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

        /// Answers what the guest asked, if anything, and runs it to its next exit.
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

    /// The guests of this host: each is 17 (xen_version) in eax, and a way out for ever.
    fn travellers() -> Vec<Traveller> {
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
            // jmp back to the mov: it is 5 bytes long, the jump 2
            let back = 0_u8.wrapping_sub(u8::try_from(leave.len()).unwrap().wrapping_add(7));
            let code = [&CALL[..], leave, &[0xEB, back]].concat();
            Some(Traveller::new(name, transport, &code))
        });
        found.collect()
    }

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn a_hypercall_goes_there_and_back_by_every_transport_of_this_host() {
        let mut travellers = travellers();
        // In turn, so that what the host does besides hits all alike.
        for _ in 0..TRIPS {
            travellers.iter_mut().for_each(Traveller::trip);
        }
        let bare = travellers.first().unwrap().median_us();
        for traveller in &travellers {
            let (name, median) = (traveller.name, traveller.median_us());
            println!(
                "round trip: {name}: {median:.2} us, {:.2} x bare",
                median / bare
            );
            assert_eq!(traveller.times_us.len(), TRIPS);
        }
    }

    const TRIPS: usize = 2000;
}
