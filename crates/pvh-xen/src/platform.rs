//! The Xen platform: one domain, the machine around it, and the threads that meet in it.
//!
//! The domain is behind one lock, held for one call of it at a time. What a call wants done is carried out after the lock is
//! given back, by the thread that made the call; what another vCPU's thread has to do is left on its [`VcpuRequests`].

use std::{
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use pvh_abi::DomId;
use pvh_domain::{
    Shutdown,
    domain::{Config, DomainError, Effect, Now},
    memory,
    time::TscScale,
    trace::{Recorder, TracedDomain},
};
use pvh_hypercall::{CpuidConfig, Stub, TscInfo};
use pvh_kvm::{
    ApicIds, CpuidLeaf, GuestRam, HypercallTransport, HypervisorLeaves, InterruptControllers, Vcpu,
    VcpuError, Vm, VmConfig,
};
use pvh_memory::PagingPolicy;

use crate::{
    clock::Clock,
    cpu::GuestCpu,
    effects::Backpressure,
    host::{Host, Notice},
    requests::VcpuRequests,
    timer::Timer,
};

/// A domain and all that serves it.
#[derive(Debug)]
pub struct XenPlatform {
    pub(crate) domain: Mutex<TracedDomain>,
    pub(crate) ram: Arc<GuestRam>,
    pub(crate) vm: Vm,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) clock: Clock,
    pub(crate) paging: PagingPolicy,
    pub(crate) stub: Stub,
    pub(crate) vcpu_requests: Vec<VcpuRequests>,
    pub(crate) timer: Timer,
    /// Some of what the guest printed is lost, which is told once.
    pub(crate) has_dropped_output: AtomicBool,
    /// When the last tick was, in system time.
    pub(crate) ticked_ns: AtomicU64,
}

/// Why there can be no domain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// KVM does not tell how fast time passes.
    #[error(
        "this host's KVM does not tell the rate of a guest's time-stamp counter (KVM_GET_TSC_KHZ)"
    )]
    NoTscRate,
    /// A vCPU cannot be set up for it.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// The domain cannot be made.
    #[error("the Xen platform cannot be set up")]
    Domain(#[from] DomainError),
}

/// What a domain is made of: see [`Parts::new`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Parts {
    /// The machine, made with [`vm_config`].
    pub vm: Vm,
    /// The program around it.
    pub host: Arc<dyn Host>,
    /// How hypercalls arrive: what [`vm_config`] was given.
    pub transport: HypercallTransport,
    /// What the guest is told about its memory.
    pub memory: memory::Config,
    /// The domain's UUID, as the guest reads it; all zero unless set.
    pub uuid: [u8; 16],
    /// The domain's name, as the guest reads it in xenstore; `guest` unless set.
    pub name: String,
    /// Where the domain's calls are recorded, if they are to be.
    pub recorder: Option<Recorder>,
}

impl Parts {
    /// The parts of a domain without a UUID, whose calls are not recorded.
    pub fn new(
        vm: Vm,
        host: Arc<dyn Host>,
        transport: HypercallTransport,
        memory: memory::Config,
    ) -> Self {
        Self {
            vm,
            host,
            transport,
            memory,
            uuid: [0; 16],
            name: NAME.to_owned(),
            recorder: None,
        }
    }
}

/// The configuration of a KVM machine for a Xen domain: local APICs in KVM and no other interrupt controller, even APIC ids,
/// hypercalls by `transport`. A Xen domain has at most 128 vCPUs, because an APIC id is twice the number of its vCPU, and a byte.
pub fn vm_config(vcpus: u32, transport: HypercallTransport) -> VmConfig {
    let mut config = VmConfig::new(vcpus);
    config.interrupt_controllers = InterruptControllers::LocalApics;
    config.apic_ids = ApicIds::TwiceIndex;
    // Each vCPU gets its own from the platform.
    config.hypervisor = HypervisorLeaves::Given(Vec::new());
    config.hypercalls = transport;
    config
}

impl XenPlatform {
    /// Makes a domain of a machine whose memory is loaded and whose vCPUs, all of them, have not run.
    ///
    /// # Errors
    ///
    /// [`PlatformError`]: the host refuses, or memory is too small for the special pages.
    pub fn new(parts: Parts, vcpus: &mut [Vcpu]) -> Result<Self, PlatformError> {
        let (Some(boot), Ok(count)) = (vcpus.first(), u32::try_from(vcpus.len())) else {
            return Err(DomainError::Vcpus { vcpus: 0 }.into());
        };
        let leaves = boot.cpuid();
        let cpu = GuestCpu(&leaves);
        let tsc_khz = boot.tsc_khz().ok_or(PlatformError::NoTscRate)?;
        let tsc_hz = u64::from(tsc_khz).saturating_mul(1000);
        let tsc_hz = NonZeroU64::new(tsc_hz).ok_or(PlatformError::NoTscRate)?;
        let tsc = tsc_info(cpu, tsc_khz, tsc_hz);
        let clock = Clock::start(boot.clock()?, tsc_hz);
        for (index, vcpu) in (0..).zip(vcpus.iter_mut()) {
            let leaves = CpuidConfig::new(DOMAIN.0.into(), index, tsc);
            vcpu.set_hypervisor_leaves(hypervisor_leaves(&leaves))?;
        }
        let ram = Arc::clone(parts.vm.ram());
        let config = Config {
            domid: DOMAIN,
            uuid: parts.uuid,
            name: parts.name,
            vcpus: count,
            cpu: cpu.policy(),
            tsc_hz,
            is_tsc_stable: cpu.has_invariant_tsc(),
            memory_kib: ram.size_bytes() / 1024,
            memory: parts.memory,
            // As a release build of Xen has it.
            may_log: false,
        };
        let domain = TracedDomain::new(config, &*ram, clock.now(), parts.recorder)?;
        let vcpu_requests = vcpus
            .iter()
            .map(|vcpu| VcpuRequests::new(vcpu.kicker()))
            .collect();
        Ok(Self {
            domain: Mutex::new(domain),
            ram,
            vm: parts.vm,
            host: parts.host,
            clock,
            paging: cpu.paging(),
            stub: cpu.stub(parts.transport),
            vcpu_requests,
            timer: Timer::default(),
            has_dropped_output: AtomicBool::new(false),
            ticked_ns: AtomicU64::new(0),
        })
    }

    /// Gives bytes to the guest's console; returns how many it took. The rest is wanted when the
    /// host is told so: [`Host::console_input_wanted`].
    pub fn console_input(&self, bytes: &[u8]) -> usize {
        self.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.console_input(memory, now, bytes, effects)
        })
    }

    /// Asks the guest to power off; `false` if it would not hear of it.
    pub fn request_power_off(&self) -> bool {
        self.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            let can_hear = domain.can_be_asked();
            if can_hear {
                domain.request_shutdown(memory, now, Shutdown::PowerOff, effects);
            }
            can_hear
        })
    }

    /// Ends the threads that serve the domain: the one that keeps the time, and those of the vCPUs, which look at
    /// [`Host::is_stopping`]. The host must answer `true` there before this is called.
    pub fn stop(&self) {
        self.timer.stop();
        for requests in &self.vcpu_requests {
            // A thread that stays out of the guest waits long.
            requests.reset_poll_interval();
            requests.kick();
        }
    }

    /// Calls the domain, sees to its next deadline, and carries out what it wants done.
    pub(crate) fn with_domain<T>(
        &self,
        backpressure: Backpressure,
        call: impl FnOnce(&mut TracedDomain, &GuestRam, Now, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let answer = self.call_domain(&mut effects, call);
        self.carry_out(&mut effects, backpressure);
        answer
    }

    /// The same without carrying out.
    pub(crate) fn call_domain<T>(
        &self,
        effects: &mut Vec<Effect>,
        call: impl FnOnce(&mut TracedDomain, &GuestRam, Now, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut domain = self.domain();
        // The time is taken under the lock, so that calls see it in their order.
        let answer = call(&mut domain, &self.ram, self.clock.now(), effects);
        // So is the deadline set, lest an older one follow a newer one.
        let until = domain.next_deadline_ns().map(|at| self.until(at));
        let at = until.and_then(|until| Instant::now().checked_add(until));
        self.timer.set_deadline(at);
        self.pass_on_text(effects);
        answer
    }

    /// How long it is until a deadline. One that is none, for a ring that the guest keeps filling, waits while nobody reads the
    /// console.
    fn until(&self, deadline_ns: u64) -> Duration {
        if deadline_ns == 0 && !self.host.console_has_room() {
            // From the last tick on: calls that come meanwhile put nothing off.
            let ticked_ns = self.ticked_ns.load(Ordering::Relaxed);
            return self
                .clock
                .until(ticked_ns.saturating_add(CONSOLE_FULL_BACKOFF_NS));
        }
        self.clock.until(deadline_ns)
    }

    /// Passes on what the guest said, in the order in which it said it: under the domain's lock, where nobody waits for
    /// room. What it wrote to its console leaves its effect behind, so that whoever may wait does so later.
    fn pass_on_text(&self, effects: &mut Vec<Effect>) {
        effects.retain_mut(|effect| match effect {
            Effect::Output(text) => {
                if !self.host.console_output(text)
                    && !self.has_dropped_output.swap(true, Ordering::Relaxed)
                {
                    self.host.notice(Notice::ConsoleOutputDropped);
                }
                text.clear();
                true
            }
            Effect::Log(line) => {
                self.host.guest_log(line);
                false
            }
            _ => true,
        });
    }

    pub(crate) fn domain(&self) -> MutexGuard<'_, TracedDomain> {
        self.domain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn requests_of(&self, vcpu: u32) -> Option<&VcpuRequests> {
        let index = usize::try_from(vcpu).ok()?;
        self.vcpu_requests.get(index)
    }
}

/// What leaf +3 says of the guest's time-stamp counter.
fn tsc_info(cpu: GuestCpu<'_>, khz: u32, hz: NonZeroU64) -> TscInfo {
    let scale = TscScale::of(hz);
    let flag = |is_set, bit: u32| if is_set { bit } else { 0 };
    TscInfo {
        flags: flag(cpu.has_invariant_tsc(), TSC_RELIABLE) | flag(cpu.has_rdtscp(), HAS_RDTSCP),
        mode: 0,
        guest_khz: khz,
        incarnation: 1,
        offset: 0,
        to_ns_mul: scale.multiplier,
        to_ns_shift: scale.shift,
        host_khz: khz,
    }
}

fn hypervisor_leaves(config: &CpuidConfig) -> HypervisorLeaves {
    let leaves = config.leaves().map(|(function, index, answer)| CpuidLeaf {
        function,
        // The others answer whatever ecx holds.
        index: (function >= config.base.saturating_add(FIRST_WITH_SUBLEAVES)).then_some(index),
        eax: answer.eax,
        ebx: answer.ebx,
        ecx: answer.ecx,
        edx: answer.edx,
    });
    HypervisorLeaves::Given(leaves.collect())
}

/// The first domain that is not the host.
const DOMAIN: DomId = DomId(1);
/// The domain's name, unless the embedder gives another one.
const NAME: &str = "guest";
/// Timers that are due meanwhile may be late by as much.
const CONSOLE_FULL_BACKOFF_NS: u64 = 1_000_000;
/// The leaves from this one on look at ecx.
const FIRST_WITH_SUBLEAVES: u32 = 3;
/// Leaf +3: the host's counters can be relied on.
const TSC_RELIABLE: u32 = 1 << 1;
/// Leaf +3: there is RDTSCP.
const HAS_RDTSCP: u32 = 1 << 2;
