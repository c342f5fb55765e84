//! Plans a machine from its configuration, and builds it, once per reboot.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use pvh_abi::Gpa;
use pvh_backends::{Device, Disk, Network, attach_disk, attach_network};
use pvh_config::{BackingArgument, LoadArgument, RunConfig, input_name};
use pvh_entry::EntryState;
use pvh_gdb::Debuggee;
use pvh_hypercall::HYPERCALL_PORT;
use pvh_kvm::{
    CopyAhead, GuestRam, Halts, Kvm, LostPages, ReadyPlan, Vcpu, Vm, VmConfig, check_host_memory,
};
use pvh_layout::{Layout, ports::COM1_GSI};
use pvh_loader::{
    Image,
    changed::PlanFile,
    commit::Method,
    plan::{Boot, Plan},
    stubs::{HypercallPatch, StubError, StubPair},
};
use pvh_memory::GuestMemory;
use pvh_start_info::Generation;
use pvh_xen::{GuestKind, Parts, XenPlatform, memory_config, vm_config};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::{
    disks,
    error::{RunError, host},
    layout::lay_out,
    modules, networks,
    uuid::Uuids,
    wreck::Wreck,
};
use crate::{
    cache::{self, Keeping, Opened},
    exits,
    machine::{Board, End, GdbCommands, GuestUnderGdb, MachineHost, close_gate},
    outlets::Outlets,
    platform::Platform,
};

/// The name of the domain, as the guest reads it in xenstore.
const DOMAIN_NAME: &str = "pvh-vmm";

/// The kernel image and its name.
pub(super) struct Kernel {
    image: Image,
    name: PathBuf,
    patch: Option<HypercallPatch>,
    /// Keeps writing the cache entry until the run ends.
    _keeping: Keeping,
}

impl Kernel {
    /// Reads the image.
    ///
    /// # Errors
    ///
    /// [`RunError::Image`], and [`RunError::Stubs`] if its hypercalls cannot be patched as asked.
    pub(super) fn open(config: &RunConfig) -> Result<Self, RunError> {
        let (opened, name) = match &config.kernel {
            Some(path) => (cache::open_as(&config.cache, path), input_name(path)),
            None => {
                let demo = match config.generation {
                    Generation::Draft => pvh_conformance::draft_demo_image(),
                    _ => pvh_conformance::demo_image(),
                };
                (
                    Image::from_bytes(demo.to_vec()).map(Opened::from),
                    Path::new("the built-in demo guest"),
                )
            }
        };
        let name = name.to_owned();
        let Opened { image, keeping, .. } = opened.map_err(|source| RunError::Image {
            kernel: name.clone(),
            source,
        })?;
        let patch = config.patch_hypercalls.then(|| patch(&image));
        let patch = patch.transpose().map_err(|source| RunError::Stubs {
            kernel: name.clone(),
            source,
        })?;
        Ok(Self {
            image,
            name,
            patch,
            _keeping: keeping,
        })
    }
}

impl Kernel {
    /// The name in messages.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// How the kernel makes hypercalls.
    pub(super) fn kind(&self) -> GuestKind {
        match self.patch {
            Some(_) => GuestKind::Patched,
            None => GuestKind::of(self.image.notes()),
        }
    }
}

/// Everything about a machine that stays the same after a reboot.
pub(super) struct Blueprint<'a> {
    config: &'a RunConfig,
    kernel: &'a Kernel,
    platform: Platform,
    plan: Plan<'a>,
    layout: Layout,
    disks: Vec<Disk>,
    networks: Vec<Network>,
    /// For the domains of the Xen platform.
    uuids: Option<Uuids>,
}

impl<'a> Blueprint<'a> {
    /// Decides everything; builds nothing. `boot` keeps the boot, because the plan borrows it.
    ///
    /// # Errors
    ///
    /// [`RunError`]: the configuration is contradictory, or does not fit this host.
    pub(super) fn draw(
        config: &'a RunConfig,
        kernel: &'a Kernel,
        platform: Platform,
        kvm: &Kvm,
        boot: &'a mut Option<Boot>,
    ) -> Result<Self, RunError> {
        let memory_bytes = config.memory_bytes;
        let bits = kvm.capabilities().address_bits;
        let notes = kernel.image.notes();
        let layout = lay_out(platform, memory_bytes, bits, config.cpus, notes)?;
        check_host_memory(memory_bytes).map_err(RunError::HostMemory)?;
        let boot = boot.insert(Boot {
            generation: config.generation,
            cmdline: config.cmdline.clone(),
            modules: modules::open(config)?,
            memmap: layout.memory_map.clone(),
            rsdp: Some(layout.rsdp),
            stack_top: layout.stack_top,
            patch: kernel.patch,
            ..Boot::default()
        });
        let plan = kernel.image.plan(boot).map_err(|source| {
            let kernel = kernel.name.clone();
            RunError::Plan { kernel, source }
        })?;
        let disks = disks::open(&config.disks)?;
        let networks = networks::open(&config.networks)?;
        Ok(Self {
            config,
            kernel,
            platform,
            plan,
            layout,
            disks,
            networks,
            uuids: (platform != Platform::Plain).then(Uuids::open),
        })
    }

    /// Builds a machine that is ready to run.
    ///
    /// # Errors
    ///
    /// [`RunError`]: the host refuses, or a file has changed.
    pub(super) fn build(&self, kvm: &Kvm, outlets: &Outlets) -> Result<Machine, RunError> {
        let bits = kvm.capabilities().address_bits;
        let ram = self.make_ram(bits)?;
        let entry = pvh_timeline::step("load", || self.load(&ram))?;
        let is_mapped = self.method() == Method::Map;
        let lost = is_mapped.then(|| LostPages::watch(&ram)).transpose();
        let lost = lost.map_err(host("cannot watch for lost guest memory"))?;
        let plan = ReadyPlan {
            copies_files: self.config.load == LoadArgument::Auto && self.config.gdb.is_none(),
            wants_huge_ram: self.config.memory_backing == BackingArgument::Auto,
        };
        let ahead = CopyAhead::of(&ram, plan);
        let kept_ram = Arc::clone(&ram);
        let vm = pvh_timeline::step("machine", || Vm::new(kvm, &self.vm_config(), ram));
        let vm = vm.map_err(RunError::Vm)?;
        let board = self.make_board(&vm, outlets)?;
        if let Some(lost) = lost {
            board.watch(lost);
        }
        let mut vcpus = pvh_timeline::step("vCPUs", || self.make_vcpus(&vm))?;
        exits::watch(&vcpus);
        let (mut platform, mut devices) = (None, Vec::new());
        if let Platform::Xen(transport) = self.platform {
            let host = Arc::new(MachineHost::new(Arc::clone(&board), outlets.log.clone()));
            let memory = memory_config(&self.layout);
            let mut parts = Parts::new(vm, host.clone(), transport, memory);
            parts.xen = self.config.xen_version;
            parts.recorder = outlets.recorder.clone();
            let (domain, attached) = self.build_domain(parts, &mut vcpus, &host)?;
            (platform, devices) = (Some(domain), attached);
        } else {
            board.watch_halts(Halts::of(&vcpus));
        }
        // Last: this sets the CPUID leaves too, and a domain adds some.
        if let Some(boot) = vcpus.first_mut() {
            let set = pvh_timeline::step("entry state", || boot.set_entry(&entry));
            set.map_err(RunError::Vcpu)?;
        }
        let wreck = Wreck {
            ram: kept_ram,
            board: Arc::clone(&board),
            address_bits: bits,
        };
        let debuggee = outlets.gdb.as_ref().map(|_| {
            let start_info = Gpa(entry.rbx);
            debuggee(&wreck, platform.as_ref(), &vcpus, start_info)
        });
        let debuggee = debuggee.transpose()?;
        Ok(Machine {
            wreck,
            debuggee,
            board,
            vcpus,
            platform,
            devices,
            ahead,
        })
    }

    fn make_vcpus(&self, vm: &Vm) -> Result<Vec<Vcpu>, RunError> {
        let vcpus = (0..self.config.cpus).map(|index| vm.create_vcpu(index));
        vcpus.collect::<Result<_, _>>().map_err(RunError::Vcpu)
    }

    fn make_ram(&self, address_bits: u8) -> Result<Arc<GuestRam>, RunError> {
        let layout = &self.layout;
        let ram = pvh_timeline::step("guest RAM", || {
            GuestRam::with_ranges(&layout.ram, &layout.pages, address_bits)
        });
        let ram = Arc::new(ram.map_err(RunError::MapRam)?);
        if self.config.memory_backing == BackingArgument::Huge {
            let advised = ram.prefer_huge_pages();
            advised.map_err(host("this host has no huge pages"))?;
        }
        Ok(ram)
    }

    /// Makes the devices, and has the vCPUs keep what a report of their crash needs.
    fn make_board(&self, vm: &Vm, outlets: &Outlets) -> Result<Arc<Board>, RunError> {
        let mut com1 = None;
        if self.platform == Platform::Plain {
            let line = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
            let line = line.map_err(host("cannot create an eventfd for COM1"))?;
            vm.register_irqfd(&line, COM1_GSI).map_err(RunError::Vm)?;
            com1 = Some(line);
        }
        let board = Board::new(outlets.console.clone(), com1);
        let board = board.map_err(host("cannot create device eventfds"))?;
        if self.config.debug_faults {
            board.step();
        }
        if self.config.dump_on_crash.is_some() {
            board.want_registers();
        }
        Ok(Arc::new(board))
    }

    /// Makes the domain, and gives it its disks and networks before it runs.
    fn build_domain(
        &self,
        mut parts: Parts,
        vcpus: &mut [Vcpu],
        host: &Arc<MachineHost>,
    ) -> Result<(Arc<XenPlatform>, Vec<Device>), RunError> {
        parts.uuid = self.uuids.as_ref().map_or([0; 16], Uuids::next);
        parts.name = DOMAIN_NAME.to_owned();
        let domain = Arc::new(pvh_timeline::step("domain", || {
            XenPlatform::new(parts, vcpus)
        })?);
        let disks = self.disks.iter();
        let disks = disks.map(|disk| attach_disk(Arc::clone(&domain), disk, host.clone()));
        let networks = self.networks.iter();
        let networks =
            networks.map(|network| attach_network(Arc::clone(&domain), network, host.clone()));
        let devices = disks.chain(networks).collect::<Result<_, _>>();
        let devices = devices.map_err(RunError::AttachDevice)?;
        Ok((domain, devices))
    }

    fn vm_config(&self) -> VmConfig {
        let cpus = self.config.cpus;
        match self.platform {
            Platform::Plain => VmConfig::new(cpus),
            Platform::Xen(transport) => vm_config(cpus, transport),
        }
    }

    /// How files get into guest memory before the guest starts.
    const fn method(&self) -> Method {
        match self.config.load {
            LoadArgument::Auto | LoadArgument::Map => Method::Map,
            LoadArgument::Copy => Method::Copy,
        }
    }

    /// Loads kernel, modules, start info and ACPI tables into new memory.
    fn load(&self, ram: &GuestRam) -> Result<EntryState, RunError> {
        let loaded = self.plan.commit(self.method(), ram);
        let loaded = loaded.map_err(|source| {
            let kernel = self.kernel.name.clone();
            RunError::Commit { kernel, source }
        })?;
        for block in self.layout.acpi.iter().chain(&self.layout.reset_code) {
            ram.write(block.at, &block.bytes).map_err(RunError::Acpi)?;
        }
        Ok(loaded.entry)
    }

    /// Explains a crash and writes the core that is wanted.
    pub(super) fn examine(&self, wreck: &Wreck, end: &mut End, outlets: &Outlets) {
        let core = self.config.dump_on_crash.as_deref();
        wreck.examine(end, &self.kernel.image, core, &outlets.log);
    }

    /// Says which file was changed after `since` under guest memory that is mapped from it, if one
    /// was.
    pub(super) fn changed_file(&self, since: SystemTime) -> Option<String> {
        if self.method() != Method::Map {
            return None;
        }
        let changed = self.plan.changed_file(since)?;
        let path = match changed.file {
            PlanFile::Module { index } => &self.config.modules.get(index)?.path,
            _ => &self.kernel.name,
        };
        let path = path.display();
        Some(format!(
            "{path} {changed}, but guest memory is mapped from it: do not change it, or use --load copy"
        ))
    }
}

/// A machine that is ready to run.
pub(super) struct Machine {
    pub(super) board: Arc<Board>,
    pub(super) vcpus: Vec<Vcpu>,
    pub(super) platform: Option<Arc<XenPlatform>>,
    /// The back ends of its disks and networks.
    pub(super) devices: Vec<Device>,
    /// What is looked at if it crashes.
    pub(super) wreck: Wreck,
    /// What gdb is given, with `--gdb`.
    pub(super) debuggee: Option<GuestUnderGdb>,
    /// Copies pages for the guest while it starts, if files are mapped that are large.
    pub(super) ahead: Option<CopyAhead>,
}

/// Makes the vCPUs stop for gdb, and gives it the machine.
fn debuggee(
    machine: &Wreck,
    platform: Option<&Arc<XenPlatform>>,
    vcpus: &[Vcpu],
    start_info: Gpa,
) -> Result<GuestUnderGdb, RunError> {
    let gate = close_gate(&machine.board, vcpus);
    Ok(Debuggee {
        gate: gate.map_err(host("cannot create an eventfd for gdb"))?,
        memory: Arc::clone(&machine.ram),
        address_bits: machine.address_bits,
        start_info: Some(start_info),
        commands: GdbCommands {
            board: Arc::clone(&machine.board),
            platform: platform.cloned(),
        },
    })
}

/// Patches both hypercall stubs of a kernel to use the I/O port.
fn patch(image: &Image) -> Result<HypercallPatch, StubError> {
    Ok(HypercallPatch {
        stubs: StubPair::find(image)?,
        port: HYPERCALL_PORT,
    })
}
