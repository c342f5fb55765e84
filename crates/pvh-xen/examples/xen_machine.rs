//! Boots the built-in demo guest with two vCPUs on the Xen platform, and prints what it says until
//! it switches off.
//!
//! Needs /dev/kvm. The README of pvh-xen shows this file.
#![expect(clippy::disallowed_methods, reason = "an example may start threads")]

use std::{
    error::Error,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::Duration,
};

use pvh_kvm::{GuestRam, HypercallTransport, Kvm, Vm};
use pvh_layout::{Layout, LayoutConfig, Platform, RsdpPlace};
use pvh_loader::{Boot, Image, Method};
use pvh_terminal::ConsoleQueue;
use pvh_xen::{
    EndReason, Host, NoDevices, Notice, Parts, VcpuEnd, XenPlatform, XenVcpu, memory_config,
    vm_config,
};

/// How the guest ended, or what a vCPU failed with.
type End = Result<EndReason, String>;

/// The host of the platform: text waits here until the main thread prints it.
#[derive(Debug)]
struct Terminal {
    text: ConsoleQueue,
    end: Sender<End>,
    is_stopping: AtomicBool,
}

impl Terminal {
    /// Prints until the guest ends or a vCPU fails.
    fn print(
        &self,
        end: &Receiver<End>,
        output: &mut impl Write,
    ) -> Result<EndReason, Box<dyn Error>> {
        loop {
            let end = end.recv_timeout(Duration::from_millis(5));
            output.write_all(&self.text.take(usize::MAX))?;
            if let Ok(end) = end {
                return Ok(end?);
            }
        }
    }
}

impl Host for Terminal {
    fn console_output(&self, bytes: &[u8]) -> bool {
        self.text.accept(bytes)
    }
    fn console_has_room(&self) -> bool {
        self.text.has_room()
    }
    fn wait_for_console_room(&self) {
        self.text.wait_for_room();
    }
    fn console_input_wanted(&self) {}
    fn guest_log(&self, line: &[u8]) {
        self.text.offer(&[line, b"\n"].concat());
    }
    fn notice(&self, notice: Notice) {
        self.text.offer(format!("{notice}\n").as_bytes());
    }
    fn end(&self, reason: EndReason) {
        let _ = self.end.send(Ok(reason));
    }
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(SeqCst)
    }
}

/// Boots the guest and writes what it says to `output`; returns how it ended.
pub(crate) fn run(output: &mut impl Write) -> Result<EndReason, Box<dyn Error>> {
    let kvm = Kvm::open()?;
    let image = Image::from_bytes(pvh_conformance::demo_image().to_vec())?;
    let xen = Platform::Xen(RsdpPlace::for_guest(image.notes()));
    let address_bits = kvm.capabilities().address_bits;
    let layout = Layout::new(&LayoutConfig {
        platform: xen,
        memory_bytes: 64 << 20,
        address_bits,
        apic_ids: &xen.apic_ids(2),
    })?;
    let ram = GuestRam::with_ranges(&layout.ram, &layout.pages, address_bits)?;
    let boot = Boot {
        memmap: layout.memory_map.clone(),
        rsdp: None, // Without it the guest looks for no ACPI devices; with it, write `layout.acpi`, too.
        ..Boot::default()
    };
    let loaded = image.plan(&boot)?.commit(Method::Copy, &ram)?;

    let transport = match kvm
        .capabilities()
        .missing_for(HypercallTransport::Intercept)
    {
        None => HypercallTransport::Intercept,
        Some(_) => HypercallTransport::Port { port: 0xE4 },
    };
    let vm = Vm::new(&kvm, &vm_config(2, transport), Arc::new(ram))?;
    let mut vcpus = [vm.create_vcpu(0)?, vm.create_vcpu(1)?];
    let (sender, end) = mpsc::channel();
    let terminal = Arc::new(Terminal {
        text: ConsoleQueue::default(),
        end: sender.clone(),
        is_stopping: AtomicBool::new(false),
    });
    let parts = Parts::new(vm, terminal.clone(), transport, memory_config(&layout));
    let platform = Arc::new(XenPlatform::new(parts, &mut vcpus)?);
    vcpus[0].set_entry(&loaded.entry)?; // Last: the platform has set the CPUID leaves.

    thread::scope(|scope| {
        scope.spawn(|| platform.keep_time());
        for (index, mut vcpu) in (0..).zip(vcpus) {
            let (xen, sender) = (XenVcpu::new(Arc::clone(&platform), index), sender.clone());
            scope.spawn(move || match xen.run_until_end(&mut vcpu, &mut NoDevices) {
                VcpuEnd::Over => Ok(()),
                end => sender.send(Err(format!("vCPU {index}: {end:?}"))),
            });
        }
        let end = terminal.print(&end, output);
        terminal.is_stopping.store(true, SeqCst);
        terminal.text.release();
        platform.stop();
        end
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("the guest ended: {:?}", run(&mut io::stdout())?);
    Ok(())
}
