//! Runs a machine: reads what it needs, builds it, and builds it anew when the guest reboots.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_kvm::{GuestRam, Kvm, KvmError, RamError, VcpuError, Vm, VmConfig, VmError, ram_layout};
use pvh_loader::{
    Image, ImageError,
    commit::{CommitError, Method, commit_by},
    plan::{Boot, LoadPlan, ModuleError, ModuleSource, PlanError, plan},
};
use pvh_memory::{GuestMemory, MemoryError};
use pvh_start_info::Generation;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::{
    acpi::Acpi,
    config::{OnReboot, RunConfig},
    console::{Output, Writer},
    devices::{COM1_GSI, Request},
    events::{self, User},
    exit::complain,
    host_memory,
    machine::{Board, Crash, End, Threads, VcpuPlace, draw},
    mapped::{Changed, changed},
};

/// How a run ended that could begin.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The guest switched off.
    PoweredOff,
    /// The guest asked to reboot, and the machine was not to be built anew.
    RebootRequested,
    /// The guest cannot go on.
    Crashed(Box<Crash>),
    /// The user ended it at the terminal.
    Quit,
    /// A signal with this number ended it.
    Signal(i32),
}

/// Why a machine could not be built or not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The kernel is not one.
    #[error("{}", kernel.display())]
    Image {
        /// The file.
        kernel: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ImageError,
    },
    /// A module cannot be used.
    #[error("{}", path.display())]
    Module {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ModuleError,
    },
    /// Kernel and modules do not fit this machine.
    #[error("{}", kernel.display())]
    Plan {
        /// The kernel.
        kernel: PathBuf,
        /// What does not fit.
        #[source]
        source: PlanError,
    },
    /// Kernel and modules could not be put into memory.
    #[error("{}", kernel.display())]
    Commit {
        /// The kernel.
        kernel: PathBuf,
        /// Why.
        #[source]
        source: CommitError,
    },
    /// More vCPUs, or fewer, than a machine can have.
    #[error("{cpus} CPUs: a machine has 1 to {MAX_CPUS}")]
    CpuCount {
        /// How many were asked for.
        cpus: u32,
    },
    /// There is no memory of that size.
    #[error(transparent)]
    Ram(RamError),
    /// So much memory that KVM's tables do not fit into the host.
    #[error(transparent)]
    HostMemory(#[from] host_memory::TooLarge),
    /// So little memory that nothing is left beside the ACPI tables.
    #[error("{memory_bytes} bytes of memory leave no room beside the ACPI tables")]
    NoRoom {
        /// Size of guest RAM.
        memory_bytes: u64,
    },
    /// The tables could not be written.
    #[error("the ACPI tables cannot be written")]
    Acpi(#[source] MemoryError),
    /// There is no usable KVM.
    #[error(transparent)]
    Kvm(KvmError),
    /// KVM cannot build the machine.
    #[error(transparent)]
    Vm(VmError),
    /// KVM cannot build a vCPU.
    #[error(transparent)]
    Vcpu(VcpuError),
    /// The host refuses something else.
    #[error("{what}")]
    Host {
        /// What it refuses.
        what: &'static str,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// The event loop failed.
    #[error("the event loop failed")]
    Events(#[source] event_manager::Error),
    /// A thread of this program panicked, which it said when it did.
    #[error("a vCPU thread has panicked: this is a fault of pvh-vmm")]
    Panicked,
}

/// The most vCPUs: an APIC id is a byte in the MADT's entries, and 255 addresses all.
const MAX_CPUS: u32 = 255;

/// Runs the machine to its end.
///
/// # Errors
///
/// [`RunError`]; what the guest does is an [`Outcome`].
pub(crate) fn run(config: &RunConfig) -> Result<Outcome, RunError> {
    let apic_ids = apic_ids(config)?;
    let kernel = Kernel::open(config)?;
    let kvm = Kvm::open_at(&config.kvm_device).map_err(RunError::Kvm)?;
    let blueprint = Blueprint::draw(config, &kernel, &apic_ids, &kvm)?;
    let output = Output::default();
    let mut session = None;
    loop {
        let started = SystemTime::now();
        let machine = blueprint.build(&kvm, &output);
        let machine = machine.inspect_err(|_| finish_session(&mut session))?;
        let (user, writer) = match session.take() {
            Some(session) => session,
            None => begin(&output).map_err(host("the console cannot be set up"))?,
        };
        let threads = Threads::start(&machine.board, machine.vcpus);
        let threads = match threads {
            Ok(threads) => threads,
            Err(source) => {
                finish_session(&mut Some((user, writer)));
                return Err(host("a vCPU thread cannot be started")(source));
            }
        };
        let (end, mut user) = events::run(user, &machine.board).map_err(RunError::Events)?;
        drop(threads);
        if matches!(end, End::Crash(_))
            && let Some(changed) = blueprint.changed_file(started)
        {
            complain(&changed.to_string());
        }
        if let (End::Request(Request::Reboot), OnReboot::Rebuild) = (&end, config.on_reboot) {
            session = Some((user, writer));
            continue;
        }
        let patience = match end {
            End::Quit | End::Signal(_) => 4,
            _ => u32::MAX,
        };
        finish_output(patience, &mut user, &writer);
        return outcome(end);
    }
}

/// Takes what belongs to the user, and starts writing to standard output.
fn begin(output: &Output) -> io::Result<(User, Writer)> {
    // The signals first: threads inherit their mask.
    let user = User::take()?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let writer = Writer::start(output.clone(), std::fs::File::from(stdout))?;
    Ok((user, writer))
}

/// Lets the console's reader have all that the guest printed before it could not be built anew.
fn finish_session(session: &mut Option<(User, Writer)>) {
    if let Some((mut user, writer)) = session.take() {
        finish_output(u32::MAX, &mut user, &writer);
    }
}

/// Waits for the reader of the console: so often, but not against the user's will, whose keys make signals again.
fn finish_output(mut patience: u32, user: &mut User, writer: &Writer) {
    user.leave_terminal();
    writer.drain(|| {
        patience = patience.saturating_sub(1);
        patience == 0 || user.ending_signal().is_some()
    });
}

fn outcome(end: End) -> Result<Outcome, RunError> {
    Ok(match end {
        End::Request(Request::PowerOff) => Outcome::PoweredOff,
        End::Request(Request::Reboot) => Outcome::RebootRequested,
        End::Crash(crash) => Outcome::Crashed(crash),
        End::Quit => Outcome::Quit,
        End::Signal(number) => Outcome::Signal(number),
        End::Panic => return Err(RunError::Panicked),
    })
}

fn apic_ids(config: &RunConfig) -> Result<Vec<u8>, RunError> {
    let cpus = config.cpus;
    match u8::try_from(cpus) {
        Ok(count) if count > 0 => Ok((0..count).collect()),
        _ => Err(RunError::CpuCount { cpus }),
    }
}

/// The image, and what to call it.
struct Kernel {
    image: Image,
    name: PathBuf,
}

impl Kernel {
    fn open(config: &RunConfig) -> Result<Self, RunError> {
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
struct Blueprint<'a> {
    config: &'a RunConfig,
    kernel: &'a Kernel,
    boot: Boot,
    plan: LoadPlan,
    acpi: Acpi,
    acpi_at: Gpa,
}

impl<'a> Blueprint<'a> {
    /// Decides everything; nothing is built.
    fn draw(
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
    fn build(&self, kvm: &Kvm, output: &Output) -> Result<Machine, RunError> {
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
    fn changed_file(&self, since: SystemTime) -> Option<Changed> {
        if self.config.load != Method::Map {
            return None;
        }
        let kernel = (self.kernel.name.as_path(), &self.kernel.image);
        let modules = (&self.config.modules[..], &self.boot.modules[..]);
        changed(kernel, modules, since)
    }
}

/// A machine that is ready to run.
struct Machine {
    board: Arc<Board>,
    vcpus: Vec<VcpuPlace>,
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

/// Says what the host refuses.
fn host(what: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Host { what, source }
}
