//! A virtual CPU: set up, entered, left.

use std::{
    io,
    sync::Arc,
    thread::{self, ThreadId},
    time::Duration,
};

use kvm_ioctls::VcpuFd;
use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_memory::GuestMemory;

use crate::{CpuidLeaf, HypervisorLeaves, cpuid_for_vcpu, vm::VmShared};
use decode::{
    Decoded, EXIT_REASON_AT, PORT_DATA_MAX, PortAccess, RECORD_AT, RECORD_LEN, Record, decode,
};
use hypercall::{SYNC_AT, SYNC_FIELDS, SYNC_LEN, SYNC_VALID_AT, SyncArea};
use kick::KickTarget;
use pending::{Answer, Pending};
use run_page::RunPage;

mod clock;
mod crash;
mod decode;
mod events;
mod exit;
pub(crate) mod hypercall;
pub(crate) mod kick;
mod pending;
mod registers;
mod run_page;
mod setup;

pub use clock::GuestClock;
pub use crash::{Crash, Failure};
pub use events::Activity;
pub use exit::{ExitData, InternalError, SystemEventKind, VmEntry, VmExit};
pub use hypercall::{Caller, HypercallTransport};
pub use kick::{KickError, Kicker, kick_signal};
pub use registers::Registers;

/// A virtual CPU. One thread runs it at a time; it may move between threads.
///
/// It hands out no descriptor: only this crate maps the `kvm_run` page and makes ioctls on the vCPU.
#[derive(Debug)]
pub struct Vcpu {
    // The descriptor goes before the machine: see `VmWithRam`.
    fd: VcpuFd,
    page: RunPage,
    kick: Arc<KickTarget>,
    vm: Arc<VmShared>,
    index: u32,
    apic_id: u32,
    pending: Pending,
    /// The last run left nothing for KVM to finish.
    is_settled: bool,
    /// It has what its machine gives it.
    is_prepared: bool,
    /// The CPUID leaves from 0x4000_0000 on, if they are not the machine's.
    hypervisor: Option<HypervisorLeaves>,
    /// The last thread that ran it, whose signal mask has been seen to.
    thread: Option<ThreadId>,
}

/// Why a vCPU cannot be made, set up or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VcpuError {
    /// The machine was not built for so many vCPUs.
    #[error("there is no vCPU {index} in a machine of {vcpus}")]
    NoSuchVcpu {
        /// The index asked for.
        index: u32,
        /// How many vCPUs the machine has.
        vcpus: u32,
    },
    /// The RAM reaches beyond what this host's KVM lets a guest address.
    #[error(
        "vCPU {index}: guest memory ends at {end}, beyond the {address_bits} bits of a guest-physical address"
    )]
    RamTooHigh {
        /// The vCPU.
        index: u32,
        /// First address after the RAM.
        end: Gpa,
        /// Width of a guest-physical address.
        address_bits: u8,
    },
    /// A model-specific register could not be set.
    #[error("vCPU {index}: KVM refuses {value:#x} in MSR {msr:#x}")]
    Msr {
        /// The vCPU.
        index: u32,
        /// The register.
        msr: u32,
        /// The value.
        value: u64,
    },
    /// The entry does not answer the last exit: the wrong number of bytes, or none asked for.
    #[error("vCPU {index}: the last exit asked for {expected} bytes, the entry brings {given}")]
    Answer {
        /// The vCPU.
        index: u32,
        /// How many bytes the exit asked for.
        expected: usize,
        /// How many the entry brings.
        given: usize,
    },
    /// The entry does not answer the last exit: it is of another kind.
    #[error("vCPU {index}: the last exit asked for {expected}, the entry brings {given}")]
    AnswerKind {
        /// The vCPU.
        index: u32,
        /// What the exit asked for.
        expected: &'static str,
        /// What the entry brings.
        given: &'static str,
    },
    /// KVM's record of an exit names bytes outside the page it shares with us.
    #[error("vCPU {index}: KVM names {len} bytes at {offset:#x}, outside its page")]
    RunPage {
        /// The vCPU.
        index: u32,
        /// Where the bytes would be.
        offset: usize,
        /// How many.
        len: usize,
    },
    /// KVM could not reach a page of RAM: most often the file that is mapped there has become shorter.
    #[error("vCPU {index}: the guest's memory at {at} is lost")]
    LostRam {
        /// The vCPU.
        index: u32,
        /// Where the guest reads or writes.
        at: Gpa,
    },
    /// A call to the host failed.
    #[error("vCPU {index}: {step} failed")]
    Host {
        /// The vCPU.
        index: u32,
        /// Which call.
        step: &'static str,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

impl Vcpu {
    pub(crate) fn new(vm: &Arc<VmShared>, index: u32) -> Result<Self, VcpuError> {
        let vcpus = vm.policy.vcpus;
        let apic_id = vm.policy.apic_ids.apic_id(index);
        let (true, Some(apic_id)) = (index < vcpus, apic_id) else {
            return Err(VcpuError::NoSuchVcpu { index, vcpus });
        };
        let fd = vm.vm.fd().create_vcpu(u64::from(apic_id));
        let fd = fd.map_err(host(index, "KVM_CREATE_VCPU"))?;
        let page = RunPage::map(&fd, vm.run_len);
        let page = page.map_err(host(index, "mapping kvm_run"))?;
        let kick = KickTarget::new(&fd);
        let kick = kick.map_err(host(index, "mapping kvm_run"))?;
        let mut vcpu = Self {
            fd,
            page,
            kick,
            vm: Arc::clone(vm),
            index,
            apic_id,
            pending: Pending::Nothing,
            is_settled: false,
            is_prepared: false,
            hypervisor: None,
            thread: None,
        };
        vcpu.keep_registers()?;
        vcpu.check_address_bits()?;
        let taken = vcpu.vm.take_msr();
        taken.map_err(vcpu.host("handing over the hypercall MSR"))?;
        Ok(vcpu)
    }

    /// Returns the number of the vCPU in its machine.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Returns the id of its local APIC.
    #[must_use]
    pub const fn apic_id(&self) -> u32 {
        self.apic_id
    }

    /// Returns the CPUID leaves the vCPU sees.
    #[must_use]
    pub fn cpuid(&self) -> Vec<CpuidLeaf> {
        let mut policy = self.vm.policy.clone();
        if let Some(hypervisor) = &self.hypervisor {
            policy.hypervisor = hypervisor.clone();
        }
        // Listed when the vCPU was made.
        let supported = self.vm.host.cpuid().unwrap_or_default();
        cpuid_for_vcpu(supported, self.index, &policy)
    }

    /// Gives this vCPU hypervisor leaves of its own, in place of its machine's; before it first runs.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses them, as it does once the vCPU has run.
    pub fn set_hypervisor_leaves(&mut self, leaves: HypervisorLeaves) -> Result<(), VcpuError> {
        self.hypervisor = Some(leaves);
        match self.is_prepared {
            true => self.set_cpuid(),
            // With the others.
            false => Ok(()),
        }
    }

    /// Returns a handle by which other threads stop this vCPU.
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        self.kick.kicker()
    }

    /// Sets the registers to `state` and makes the vCPU ready to run.
    ///
    /// What the state does not name stays: FPU and MTRRs as they were made, the local APIC enabled at
    /// 0xFEE0_0000. A hypercall that was not answered ends without a result.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM refuses a register.
    pub fn set_entry(&mut self, state: &EntryState) -> Result<(), VcpuError> {
        self.prepare()?;
        self.pending = self.pending.after_new_registers();
        let base = self.fd.get_sregs();
        let base = base.map_err(self.host("KVM_GET_SREGS"))?;
        let sregs = self.fd.set_sregs(&state.to_kvm_sregs(&base));
        sregs.map_err(self.host("KVM_SET_SREGS"))?;
        let regs = self.fd.set_regs(&state.to_kvm_regs());
        regs.map_err(self.host("KVM_SET_REGS"))?;
        let debug = self.fd.set_debug_regs(&state.to_kvm_debugregs());
        debug.map_err(self.host("KVM_SET_DEBUGREGS"))?;
        self.set_activity(Activity::Running)
    }

    /// Returns the registers, for the report on a crash.
    ///
    /// # Errors
    ///
    /// [`VcpuError::Host`] if KVM does not tell.
    pub fn registers(&self) -> Result<Registers, VcpuError> {
        let regs = self.fd.get_regs();
        let regs = regs.map_err(self.host("KVM_GET_REGS"))?;
        let sregs = self.fd.get_sregs();
        let sregs = sregs.map_err(self.host("KVM_GET_SREGS"))?;
        let debug = self.fd.get_debug_regs();
        let debug = debug.map_err(self.host("KVM_GET_DEBUGREGS"))?;
        Ok(Registers::new(&regs, &sregs, &debug))
    }

    /// Returns what KVM left at the last exit of the registers that decide what a hypercall means, without a
    /// call to the host; `None` with [`HypercallTransport::None`].
    pub fn caller(&mut self) -> Option<Caller> {
        if self.vm.hypercalls == HypercallTransport::None {
            return None;
        }
        self.sync_area().ok().map(|area| area.caller())
    }

    /// Runs guest code on this thread until something comes up.
    ///
    /// After [`VmExit::PortIn`] and [`VmExit::MmioRead`] the next entry brings the bytes; MSR accesses and
    /// hypercalls say what answers them; after any other exit it is [`VmEntry::Resume`].
    ///
    /// # Errors
    ///
    /// [`VcpuError::Answer`] or [`VcpuError::AnswerKind`] if `entry` does not fit the last exit: nothing has been
    /// run, and the right entry can still be given. [`VcpuError::Host`] if KVM_RUN fails,
    /// [`VcpuError::RunPage`] if KVM contradicts itself, [`VcpuError::LostRam`] if it cannot reach RAM.
    pub fn run(&mut self, entry: VmEntry<'_>) -> Result<VmExit, VcpuError> {
        self.answer(entry)?;
        self.prepare()?;
        self.unblock_kicks()?;
        self.is_settled = false;
        loop {
            let running = self.kick.enter();
            let ran = self.fd.run().map(|_| ());
            drop(running);
            return match ran.map_err(|error| error.errno()) {
                Ok(()) => self.exit(),
                Err(libc::EINTR) => {
                    self.kick.acknowledge();
                    self.is_settled = true;
                    Ok(VmExit::Interrupted)
                }
                // A vCPU that waited for its INIT or SIPI has got it, as a rule.
                Err(libc::EAGAIN) => {
                    self.pause_if_waiting();
                    continue;
                }
                Err(errno) => Err(self.host("KVM_RUN")(io::Error::from_raw_os_error(errno))),
            };
        }
    }

    /// Pauses if the vCPU has not been started yet. KVM does not let it sleep with an NMI on its way that it cannot take before
    /// its start-up interrupt: without a pause, a guest that has halted could have its processors spin here.
    fn pause_if_waiting(&self) {
        // If KVM does not tell, the next run does.
        if matches!(self.activity(), Ok(Activity::WaitingForSipi)) {
            thread::sleep(PAUSE);
        }
    }

    /// Puts the answer of `entry` where the last exit wants it.
    fn answer(&mut self, entry: VmEntry<'_>) -> Result<(), VcpuError> {
        let answer = self.pending.answer(self.index, entry)?;
        self.pending = Pending::Nothing;
        match answer {
            Answer::Nothing => Ok(()),
            Answer::Bytes(offset, bytes) => self.copy_in(offset, bytes),
            Answer::Word(offset, word) => self.copy_in(offset, &word.to_le_bytes()),
            Answer::TwoWords(words) => words
                .into_iter()
                .try_for_each(|(offset, word)| self.copy_in(offset, &word.to_le_bytes())),
        }
    }

    /// Reads from the run page why KVM_RUN returned.
    fn exit(&mut self) -> Result<VmExit, VcpuError> {
        let mut reason = [0; 4];
        let mut record: Record = [0; RECORD_LEN];
        self.copy_out(EXIT_REASON_AT, &mut reason)?;
        self.copy_out(RECORD_AT, &mut record)?;
        match decode(u32::from_le_bytes(reason), &record) {
            Decoded::Port(access) => self.port(access),
            Decoded::Exit(exit) => {
                self.check_ram(&exit)?;
                self.pending = Pending::after(&exit);
                Ok(exit)
            }
        }
    }

    /// Refuses an access to RAM that comes out as one to a device: KVM could not make it, and asks us.
    fn check_ram(&self, exit: &VmExit) -> Result<(), VcpuError> {
        let (at, len_bytes) = match exit {
            VmExit::MmioRead { at, len_bytes } => (*at, u64::from(*len_bytes)),
            VmExit::MmioWrite { at, data } => (*at, data.len() as u64),
            _ => return Ok(()),
        };
        if self.vm.vm.ram().is_ram(at, len_bytes) {
            let index = self.index;
            return Err(VcpuError::LostRam { index, at });
        }
        Ok(())
    }

    fn port(&mut self, access: PortAccess) -> Result<VmExit, VcpuError> {
        let (offset, len) = (access.data_offset, access.data_len);
        if !access.is_out {
            self.pending = Pending::Bytes { offset, len };
            return Ok(VmExit::PortIn {
                port: access.port,
                size_bytes: access.size_bytes,
                count: access.count,
            });
        }
        let hypercalls = HypercallTransport::Port { port: access.port };
        if self.vm.hypercalls == hypercalls {
            let exit = self.sync_area()?.hypercall();
            self.pending = Pending::Rax;
            return Ok(exit);
        }
        let mut data = [0; PORT_DATA_MAX];
        let data = data.get_mut(..len).unwrap_or_default();
        self.copy_out(offset, data)?;
        Ok(VmExit::PortOut {
            port: access.port,
            size_bytes: access.size_bytes,
            data: ExitData::from(&*data),
        })
    }

    fn sync_area(&mut self) -> Result<SyncArea, VcpuError> {
        let mut area = [0; SYNC_LEN];
        self.copy_out(SYNC_AT, &mut area)?;
        Ok(SyncArea(area))
    }

    /// Makes KVM leave registers in the run page at each exit, if there are hypercalls.
    fn keep_registers(&mut self) -> Result<(), VcpuError> {
        if self.vm.hypercalls == HypercallTransport::None {
            return Ok(());
        }
        self.copy_in(SYNC_VALID_AT, &u64::from(SYNC_FIELDS).to_le_bytes())
    }

    fn copy_in(&mut self, offset: usize, bytes: &[u8]) -> Result<(), VcpuError> {
        let copied = self.page.copy_in(offset, bytes);
        copied.ok_or(self.outside(offset, bytes.len()))
    }

    fn copy_out(&mut self, offset: usize, buf: &mut [u8]) -> Result<(), VcpuError> {
        let copied = self.page.copy_out(offset, buf);
        copied.ok_or(self.outside(offset, buf.len()))
    }

    /// Sees to it, once a thread, that kicks can interrupt this thread.
    fn unblock_kicks(&mut self) -> Result<(), VcpuError> {
        let thread = thread::current().id();
        if self.thread != Some(thread) {
            kick::unblock().map_err(self.host("unblocking the kick signal"))?;
            self.thread = Some(thread);
        }
        Ok(())
    }

    const fn outside(&self, offset: usize, len: usize) -> VcpuError {
        VcpuError::RunPage {
            index: self.index,
            offset,
            len,
        }
    }

    fn host<E: Into<io::Error>>(&self, step: &'static str) -> impl FnOnce(E) -> VcpuError + use<E> {
        host(self.index, step)
    }
}

/// Names the call that failed.
fn host<E: Into<io::Error>>(index: u32, step: &'static str) -> impl FnOnce(E) -> VcpuError {
    move |error| VcpuError::Host {
        index,
        step,
        source: error.into(),
    }
}

/// Short for a start-up interrupt that has to wait for it, long for a processor that has nothing to do.
const PAUSE: Duration = Duration::from_millis(1);
