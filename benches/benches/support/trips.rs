//! Round trips of a hypercall and of a bare port write.

use std::{env, fs, sync::Arc};

use pvh_abi::Gpa;
use pvh_bench::{
    floor::{Floor, Plan},
    guest::write_once,
};
use pvh_entry::EntryState;
use pvh_hypercall::{Call, HYPERCALL_PORT, Outcome, dispatch};
use pvh_kvm::{
    GuestRam, HypercallTransport, InterruptControllers, Kvm, Vcpu, Vm, VmConfig, VmEntry, VmExit,
};
use pvh_memory::GuestMemory;

/// `out 0xE9, al; jmp back`.
const BARE: &[u8] = b"\xE6\xE9\xEB\xFC";

/// A guest that writes to a port in a loop, run with bare system calls.
pub(crate) fn bare() -> Floor {
    let dir = env::temp_dir().join("pvh-bench");
    fs::create_dir_all(&dir).expect("a folder");
    let image = dir.join("port-loop.elf");
    write_once(&image, BARE, 0x1000).expect("a guest");
    Floor::start(&Plan {
        devices: "none",
        len: 4 << 20,
        cpus: 1,
        image: &image,
        initrd: None,
    })
}

/// A guest that makes hypercalls in a loop; each call is decoded, dispatched and answered.
pub(crate) struct Caller {
    vcpu: Vcpu,
    entry: VmEntry<'static>,
    _vm: Vm,
}

impl Caller {
    /// A guest that calls by port I/O, as an entry of the hypercall page does: `out imm8, eax`.
    pub(crate) fn by_port() -> Self {
        let port = HypercallTransport::Port {
            port: u16::from(HYPERCALL_PORT),
        };
        Self::new(port, &[0xE7, HYPERCALL_PORT.to_le_bytes()[0], 0xEB, 0xFC])
    }

    /// A guest that calls by VMCALL, which KVM on AMD changes to VMMCALL; `None` if KVM does not
    /// intercept such calls.
    pub(crate) fn by_vmcall() -> Option<Self> {
        let transport = HypercallTransport::Intercept;
        let kvm = Kvm::open().expect("/dev/kvm");
        let is_there = kvm.capabilities().missing_for(transport).is_none();
        is_there.then(|| Self::new(transport, &[0x0F, 0x01, 0xC1, 0xEB, 0xFB]))
    }

    fn new(transport: HypercallTransport, code: &[u8]) -> Self {
        let kvm = Kvm::open().expect("/dev/kvm");
        let ram = Arc::new(GuestRam::new(4 << 20).expect("address space"));
        ram.write(Gpa(0x10_0000), code).expect("RAM");
        let mut config = VmConfig::new(1);
        config.interrupt_controllers = InterruptControllers::None;
        config.hypercalls = transport;
        let vm = Vm::new(&kvm, &config, ram).expect("a machine");
        let mut vcpu = vm.create_vcpu(0).expect("a vCPU");
        let entry = EntryState::pvh(0x10_0000, Gpa(0x1000)).expect("an entry");
        vcpu.set_entry(&entry).expect("an entry");
        Self {
            vcpu,
            entry: VmEntry::Resume,
            _vm: vm,
        }
    }

    /// Answers the last call, and runs to the next.
    pub(crate) fn trip(&mut self) {
        let exit = self.vcpu.run(self.entry).expect("an exit");
        let VmExit::Hypercall(state) = exit else {
            unreachable!("{exit:?}")
        };
        let call = Call::decode(&state.registers, &state.caller).expect("a call");
        let Outcome::Return(result) = dispatch(&mut Nothing, &NoMemory, call) else {
            unreachable!("nothing goes on")
        };
        self.entry = VmEntry::Hypercall(call.width.result(result));
    }
}

/// An empty domain: only decoding, dispatch and the round trip remain.
struct Nothing;

impl pvh_hypercall::Handler for Nothing {}

struct NoMemory;

impl pvh_hypercall::GuestIo for NoMemory {
    fn copy_from_guest(&self, _: u64, _: &mut [u8]) -> Result<(), pvh_hypercall::Fault> {
        Err(pvh_hypercall::Fault)
    }

    fn copy_to_guest(&self, _: u64, _: &[u8]) -> Result<(), pvh_hypercall::Fault> {
        Err(pvh_hypercall::Fault)
    }
}
