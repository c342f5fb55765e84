//! From what is to be run to a machine that is ready to run.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_kvm::{GuestRam, Kvm, Vm, VmConfig, ram_layout};
use pvh_loader::{
    Image,
    commit::{Method, commit_by},
    plan::{Boot, LoadPlan, ModuleSource, plan},
};
use pvh_memory::GuestMemory;
use pvh_start_info::Generation;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::error::{RunError, host};
use crate::{
    acpi::Acpi,
    config::RunConfig,
    console::Output,
    devices::COM1_GSI,
    host_memory,
    machine::{Board, VcpuPlace, draw},
    mapped::{Changed, changed},
};

/// The most vCPUs: an APIC id is a byte in the MADT's entries, and 255 addresses all.
pub(super) const MAX_CPUS: u32 = 255;

/// The APIC ids, by index.
pub(super) fn apic_ids(config: &RunConfig) -> Result<Vec<u8>, RunError> {
    let cpus = config.cpus;
    match u8::try_from(cpus) {
        Ok(count) if count > 0 => Ok((0..count).collect()),
        _ => Err(RunError::CpuCount { cpus }),
    }
}

/// The image, and what to call it.
pub(super) struct Kernel {
    image: Image,
    name: PathBuf,
}

impl Kernel {
    pub(super) fn open(config: &RunConfig) -> Result<Self, RunError> {
        let (image, name) = match &config.kernel {
            Some(path) => (Image::open(path), path.as_path()),
            None => {
                let demo = match config.generation {
                    Generation::Draft => pvh_conformance::draft_demo_image(),
                    _ => pvh_conformance::demo_image(),
                };
                (
                    Image::from_bytes(demo.to_vec()),
                    Path::new("the built-in demo guest"),
                )
            }
        };
        let kernel = name.to_owned();
        match image {
            Ok(image) => Ok(Self {
                image,
                name: kernel,
            }),
            Err(source) => Err(RunError::Image { kernel, source }),
        }
    }
}

/// Everything about a machine that does not change when it is built anew.
pub(super) struct Blueprint<'a> {
    config: &'a RunConfig,
    kernel: &'a Kernel,
    boot: Boot,
    plan: LoadPlan,
    acpi: Acpi,
    acpi_at: Gpa,
}

impl<'a> Blueprint<'a> {
    /// Decides everything; nothing is built.
    pub(super) fn draw(
        config: &'a RunConfig,
        kernel: &'a Kernel,
        apic_ids: &[u8],
        kvm: &Kvm,
    ) -> Result<Self, RunError> {
        let memory_bytes = config.memory_bytes;
        let ram = ram_layout(memory_bytes, kvm.capabilities().address_bits);
        let ram = ram.map_err(RunError::Ram)?;
        host_memory::check(memory_bytes)?;
        let acpi_bytes = Acpi::build(Gpa(0), apic_ids).bytes.len() as u64;
        let map = draw(&ram, acpi_bytes).ok_or(RunError::NoRoom { memory_bytes })?;
        let acpi = Acpi::build(map.acpi, apic_ids);
        let boot = Boot {
            generation: config.generation,
            cmdline: config.cmdline.clone(),
            modules: open_modules(config)?,
            memmap: map.ranges,
            rsdp: Some(acpi.rsdp),
            ..Boot::default()
        };
        let plan = plan(&kernel.image, &boot).map_err(|source| {
            let kernel = kernel.name.clone();
            RunError::Plan { kernel, source }
        })?;
        Ok(Self {
            config,
            kernel,
            boot,
            plan,
            acpi,
            acpi_at: map.acpi,
        })
    }

    /// Builds a machine that is ready to run.
    pub(super) fn build(&self, kvm: &Kvm, output: &Output) -> Result<Machine, RunError> {
        let bits = kvm.capabilities().address_bits;
        let ram = GuestRam::with_address_bits(self.config.memory_bytes, bits);
        let ram = Arc::new(ram.map_err(RunError::Ram)?);
        let entry = self.load(&ram)?;
        let vm = Vm::new(kvm, &VmConfig::new(self.config.cpus), ram).map_err(RunError::Vm)?;
        let com1 = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        let com1 = com1.map_err(host("no event descriptor for the serial port"))?;
        vm.register_irqfd(&com1, COM1_GSI).map_err(RunError::Vm)?;
        let board = Board::new(output.clone(), com1);
        let board = Arc::new(board.map_err(host("no event descriptors for the devices"))?);
        let mut vcpus = Vec::new();
        for index in 0..self.config.cpus {
            let mut vcpu = vm.create_vcpu(index).map_err(RunError::Vcpu)?;
            if index == 0 {
                vcpu.set_entry(&entry).map_err(RunError::Vcpu)?;
            }
            vcpus.push(VcpuPlace { index, vcpu });
        }
        Ok(Machine { board, vcpus })
    }

    /// Puts kernel, modules, start info and ACPI tables into fresh memory.
    fn load(&self, ram: &GuestRam) -> Result<EntryState, RunError> {
        let image = &self.kernel.image;
        let loaded = commit_by(self.config.load, &self.plan, image, &self.boot, ram);
        let loaded = loaded.map_err(|source| {
            let kernel = self.kernel.name.clone();
            RunError::Commit { kernel, source }
        })?;
        ram.write(self.acpi_at, &self.acpi.bytes)
            .map_err(RunError::Acpi)?;
        Ok(loaded.entry)
    }

    /// Finds the file that was changed under the guest's memory, after `since`.
    pub(super) fn changed_file(&self, since: SystemTime) -> Option<Changed> {
        if self.config.load != Method::Map {
            return None;
        }
        let kernel = (self.kernel.name.as_path(), &self.kernel.image);
        let modules = (&self.config.modules[..], &self.boot.modules[..]);
        changed(kernel, modules, since)
    }
}

/// A machine that is ready to run.
pub(super) struct Machine {
    pub(super) board: Arc<Board>,
    pub(super) vcpus: Vec<VcpuPlace>,
}

fn open_modules(config: &RunConfig) -> Result<Vec<ModuleSource>, RunError> {
    let open = |module: &crate::config::ModuleConfig| {
        let source = ModuleSource::open(&module.path);
        let mut source = source.map_err(|source| {
            let path = module.path.clone();
            RunError::Module { path, source }
        })?;
        source.cmdline.clone_from(&module.cmdline);
        Ok(source)
    };
    config.modules.iter().map(open).collect()
}
