//! The Xen platform of one machine: its domain, and what the threads of the machine share.
//!
//! One lock guards the domain; it is held for one call of the domain at a time. The thread that
//! made the call carries out its effects after it has released the lock. Effects on another vCPU go
//! to that vCPU's request mailbox, [`VcpuRequests`].

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use pvh_abi::{DomId, sched::ShutdownReason};
use pvh_domain::{Config, Domain, DomainError, Effect, Now, Shutdown, TscScale};
use pvh_hypercall::{CpuidConfig, Stub};
use pvh_kvm::{CpuidLeaf, GuestRam, HypervisorLeaves, Vcpu, VcpuError, Vm};
use pvh_memory::PagingPolicy;

use crate::{
    back_ends::BackEnds,
    clock::Clock,
    cpu::GuestCpu,
    effects::Backpressure,
    host::{Host, Notice},
    parts::Parts,
    requests::VcpuRequests,
    timer::Timer,
};

/// A Xen domain on a KVM machine.
///
/// Shared by all threads of the machine: one for each vCPU
/// ([`XenVcpu::run_until_end`](crate::XenVcpu::run_until_end)), one for the timers
/// ([`keep_time`](XenPlatform::keep_time)), and those that deliver console input.
#[derive(Debug)]
pub struct XenPlatform {
    /// Fair: a thread that takes the lock again and again leaves it to those that wait, about every
    /// millisecond. The standard library's lock is not.
    pub(crate) domain: Mutex<Domain>,
    pub(crate) ram: Arc<GuestRam>,
    pub(crate) vm: Vm,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) clock: Clock,
    pub(crate) paging: PagingPolicy,
    pub(crate) stub: Stub,
    pub(crate) vcpu_requests: Vec<VcpuRequests>,
    pub(crate) timer: Timer,
    pub(crate) back_ends: BackEnds,
    /// The host dropped console output; set once, so that the user is told once.
    pub(crate) has_dropped_output: AtomicBool,
    /// System time of the last tick, in nanoseconds.
    pub(crate) ticked_ns: AtomicU64,
}

/// Why a platform cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// KVM does not report the rate of the TSC.
    #[error("this host's KVM does not report the TSC rate (KVM_GET_TSC_KHZ)")]
    NoTscRate,
    /// KVM refused to set up a vCPU.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// The domain cannot be made: too many vCPUs, or no memory at the special pages.
    #[error("the Xen platform cannot be set up")]
    Domain(#[from] DomainError),
}

impl XenPlatform {
    /// Makes a domain on a machine whose memory is loaded. `vcpus` are all vCPUs of the machine,
    /// none of which has run; their order is their numbering. Sets their CPUID leaves, so set the
    /// entry state of vCPU 0 afterwards.
    ///
    /// # Errors
    ///
    /// [`PlatformError`]: KVM refuses, or guest memory lacks the special pages.
    pub fn new(parts: Parts, vcpus: &mut [Vcpu]) -> Result<Self, PlatformError> {
        let (Some(boot), Ok(count)) = (vcpus.first(), u32::try_from(vcpus.len())) else {
            return Err(DomainError::Vcpus { vcpus: 0 }.into());
        };
        let leaves = boot.cpuid();
        let cpu = GuestCpu(&leaves);
        let tsc_khz = boot.tsc_khz().ok_or(PlatformError::NoTscRate)?;
        let tsc_hz = u64::from(tsc_khz).saturating_mul(1000);
        let tsc_hz = NonZeroU64::new(tsc_hz).ok_or(PlatformError::NoTscRate)?;
        let tsc = cpu.tsc(tsc_khz, TscScale::of(tsc_hz));
        let clock = Clock::start(boot.clock()?, tsc_hz);
        for (index, vcpu) in (0..).zip(vcpus.iter_mut()) {
            let mut leaves = CpuidConfig::new(DOMAIN.0.into(), index, tsc);
            leaves.version = parts.xen.answers().release;
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
            // A release build of Xen refuses console writes of a guest, too.
            may_log: false,
            xen: parts.xen,
        };
        let domain = Domain::recorded(config, &*ram, clock.now(), parts.recorder)?;
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
            back_ends: BackEnds::default(),
            has_dropped_output: AtomicBool::new(false),
            ticked_ns: AtomicU64::new(0),
        })
    }

    /// Gives bytes to the guest's console; returns how many it took. The platform asks for the rest
    /// by [`Host::console_input_wanted`].
    ///
    /// Returns within 10 ms, even while hypercalls keep the domain locked: then it takes
    /// nothing.
    pub fn console_input(&self, bytes: &[u8]) -> usize {
        let Some(domain) = self.domain_within(INPUT_LOCK_TIMEOUT) else {
            self.timer.ask_for_input_in(INPUT_LOCK_TIMEOUT);
            return 0;
        };
        self.with_locked(domain, |domain, memory, now, effects| {
            domain.console_input(memory, now, bytes, effects)
        })
    }

    /// Asks the guest to power off. Returns `false` if the guest was not asked: it does not watch
    /// for the request in xenstore, or its hypercalls keep the domain locked for more than 100 ms.
    pub fn request_power_off(&self) -> bool {
        let Some(domain) = self.domain_within(POWER_OFF_LOCK_TIMEOUT) else {
            return false;
        };
        self.with_locked(domain, |domain, memory, now, effects| {
            let is_watching = domain.can_be_asked();
            if is_watching {
                domain.request_shutdown(memory, now, Shutdown::PowerOff, effects);
            }
            is_watching
        })
    }

    /// Returns what a triple fault does to the domain: `HVM_PARAM_TRIPLE_FAULT_REASON`, which is a
    /// reboot unless the guest changed it.
    pub fn triple_fault_reason(&self) -> ShutdownReason {
        self.domain().triple_fault_reason()
    }

    /// Returns the state of the domain in lines of text, for people who debug a guest; the domain is
    /// locked meanwhile.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        // A String accepts everything.
        let _ = self.domain().describe(&mut text);
        text
    }

    /// Ends the domain for a reason of the embedder, such as a crash of a vCPU, unless it is over
    /// already. In both cases, text in the console's ring goes to [`Host::console_output`].
    pub fn end(&self, reason: ShutdownReason) {
        self.with_domain(Backpressure::Ignore, |domain, memory, now, effects| {
            domain.end(memory, reason, now, effects);
        });
    }

    /// Makes all threads of the platform return: the one in [`keep_time`](XenPlatform::keep_time),
    /// and those of the vCPUs, which look at [`Host::is_stopping`]. The host must answer `true`
    /// there before it calls this.
    pub fn stop(&self) {
        self.timer.stop();
        self.vcpu_requests.iter().for_each(VcpuRequests::stop);
    }

    /// Calls the domain, sets its next deadline, and carries out the effects.
    pub(crate) fn with_domain<T>(
        &self,
        backpressure: Backpressure,
        call: impl FnOnce(&mut Domain, &GuestRam, Now, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let answer = self.call_domain(&mut effects, call);
        self.carry_out(&mut effects, backpressure);
        answer
    }

    /// Calls the domain, which is locked, as [`with_domain`](Self::with_domain) does.
    fn with_locked<T>(
        &self,
        domain: MutexGuard<'_, Domain>,
        call: impl FnOnce(&mut Domain, &GuestRam, Now, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut effects = Vec::new();
        let answer = self.call_locked(domain, &mut effects, call);
        self.carry_out(&mut effects, Backpressure::Ignore);
        answer
    }

    /// Calls the domain and sets its next deadline; the effects are left to the caller.
    pub(crate) fn call_domain<T>(
        &self,
        effects: &mut Vec<Effect>,
        call: impl FnOnce(&mut Domain, &GuestRam, Now, &mut Vec<Effect>) -> T,
    ) -> T {
        self.call_locked(self.domain(), effects, call)
    }

    fn call_locked<T>(
        &self,
        mut domain: MutexGuard<'_, Domain>,
        effects: &mut Vec<Effect>,
        call: impl FnOnce(&mut Domain, &GuestRam, Now, &mut Vec<Effect>) -> T,
    ) -> T {
        // Taken under the lock, so that the domain never sees time go back.
        let answer = call(&mut domain, &self.ram, self.clock.now(), effects);
        self.ring_for_store(&mut domain);
        // Set under the lock, so that an older deadline never replaces a newer one.
        let deadline_ns = domain.next_deadline_ns();
        let until = deadline_ns.map(|at| self.until(at));
        let at = until.and_then(|until| Instant::now().checked_add(until));
        self.timer.set_deadline(deadline_ns, at);
        self.pass_on_text(effects);
        answer
    }

    /// Returns the time until a deadline. Deadline 0 means "at once": the guest has filled the
    /// console's ring. It is put off by [`CONSOLE_FULL_BACKOFF_NS`] while the host has no room for
    /// console output.
    fn until(&self, deadline_ns: u64) -> Duration {
        if deadline_ns == 0 && !self.host.console_has_room() {
            // Counted from the last tick, so that calls of the guest cannot put it off again and
            // again.
            let ticked_ns = self.ticked_ns.load(Ordering::Relaxed);
            return self
                .clock
                .until(ticked_ns.saturating_add(CONSOLE_FULL_BACKOFF_NS));
        }
        self.clock.until(deadline_ns)
    }

    /// Passes console output and log lines to the host, under the domain's lock, so that they
    /// arrive in order. Leaves the (empty) effect of console output, so that the caller knows to
    /// wait for room after it has released the lock.
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

    pub(crate) fn domain(&self) -> MutexGuard<'_, Domain> {
        self.domain.lock()
    }

    /// Locks the domain, unless others keep it locked for longer than `limit`.
    fn domain_within(&self, limit: Duration) -> Option<MutexGuard<'_, Domain>> {
        self.domain.try_lock_for(limit)
    }

    pub(crate) fn requests_of(&self, vcpu: u32) -> Option<&VcpuRequests> {
        let index = usize::try_from(vcpu).ok()?;
        self.vcpu_requests.get(index)
    }
}

fn hypervisor_leaves(config: &CpuidConfig) -> HypervisorLeaves {
    let leaves = config.leaves().map(|(function, index, answer)| CpuidLeaf {
        function,
        // The other leaves ignore ECX.
        index: (function >= config.base.saturating_add(FIRST_WITH_SUBLEAVES)).then_some(index),
        eax: answer.eax,
        ebx: answer.ebx,
        ecx: answer.ecx,
        edx: answer.edx,
    });
    HypervisorLeaves::Given(leaves.collect())
}

/// The id of the first guest domain; 0 is the host.
pub(crate) const DOMAIN: DomId = DomId(1);
/// How long the console's ring is left full while the host has no room: 1 ms. Timers fire at most
/// this late.
const CONSOLE_FULL_BACKOFF_NS: u64 = 1_000_000;
/// How long console input waits for the domain's lock. A guest's call may hold it for longer; the
/// user's keys must still be read.
const INPUT_LOCK_TIMEOUT: Duration = Duration::from_millis(10);
/// How long a request to power off waits for the domain's lock. Longer than input does, because a
/// busy guest is asked rather than ended.
const POWER_OFF_LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// The first Xen leaf that has subleaves, which ECX selects.
const FIRST_WITH_SUBLEAVES: u32 = 3;

#[cfg(test)]
mod tests;
