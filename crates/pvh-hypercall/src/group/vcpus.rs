//! `vcpu_op` (xen/include/public/vcpu.h).

use pvh_abi::{
    Errno,
    vcpu::{
        RegisterArea, RegisterVcpuInfo, RunstateInfo, RunstateInfoCompat, SINGLESHOT_FUTURE,
        SetPeriodicTimer, SetSingleshotTimer, SetSingleshotTimerCompat, VcpuHvmContext, VcpuOp,
    },
};
use zerocopy::little_endian::{U32, U64};

use super::low_32;
use crate::{Call, Guest, Outcome, Width, budget::SIGNAL};

/// `vcpu_op`. Every method but the first two is called for a vCPU that exists.
pub trait Vcpus {
    /// Tells whether there is such a vCPU; if not, every sub-operation is ENOENT.
    fn exists(&self, vcpu: u32) -> bool;

    /// The vCPU that makes the call.
    fn caller(&self) -> u32;

    /// Tells whether the handler knows the state of the vCPUs that `op` depends on. Asked before
    /// INITIALISE, UP, DOWN and IS_UP touch anything, in a multicall too. If it does not, the call
    /// comes back whole as [`Outcome::Again`], so that the state can be looked up before the call
    /// is handed in again; the handler has to say yes then, or the call never ends.
    fn knows_state(&mut self, op: VcpuOp, vcpu: u32) -> bool {
        let _ = (op, vcpu);
        true
    }

    /// Asked before the context of `initialise` is copied: Xen up to 4.18 refuses, with EINVAL, a
    /// vCPU that has no `vcpu_info`.
    ///
    /// # Errors
    ///
    /// EINVAL.
    fn may_initialise(&self, vcpu: u32) -> Result<(), Errno> {
        let _ = vcpu;
        Ok(())
    }

    /// Gives a vCPU its first registers.
    ///
    /// # Errors
    ///
    /// EEXIST, EINVAL; see `pvh-vcpu`.
    fn initialise(&mut self, vcpu: u32, context: &VcpuHvmContext) -> Result<(), Errno>;

    /// Lets a vCPU run.
    ///
    /// # Errors
    ///
    /// EINVAL if it was never initialised.
    fn up(&mut self, vcpu: u32) -> Result<(), Errno>;

    /// Stops a vCPU; the last one stops the domain.
    ///
    /// # Errors
    ///
    /// None that the ABI names.
    fn down(&mut self, vcpu: u32) -> Result<(), Errno>;

    /// Tells whether a vCPU is up.
    fn is_up(&self, vcpu: u32) -> bool;

    /// How long a vCPU was in each state.
    fn runstate(&self, vcpu: u32) -> Runstate;

    /// Registers the runstate area at a linear address of the caller's, in its layout.
    ///
    /// # Errors
    ///
    /// None that the ABI names.
    fn register_runstate_area(&mut self, vcpu: u32, linear: u64, width: Width)
    -> Result<(), Errno>;

    /// Registers the secondary time area at a linear address of the caller's.
    ///
    /// # Errors
    ///
    /// None that the ABI names.
    fn register_time_area(&mut self, vcpu: u32, linear: u64) -> Result<(), Errno>;

    /// Registers the runstate area at a guest-physical address, in the layout of the caller; all
    /// ones takes the registration back. Asked only where the guest's Xen has the call.
    ///
    /// # Errors
    ///
    /// ENXIO for an address that is not aligned or an area that crosses a page, EINVAL for a frame
    /// that is not RAM.
    fn register_physical_runstate(
        &mut self,
        vcpu: u32,
        gpa: u64,
        width: Width,
    ) -> Result<(), Errno> {
        let _ = (vcpu, gpa, width);
        Err(Errno::ENOSYS)
    }

    /// Registers the secondary time area at a guest-physical address, as
    /// [`register_physical_runstate`](Self::register_physical_runstate) does.
    ///
    /// # Errors
    ///
    /// The same.
    fn register_physical_time(&mut self, vcpu: u32, gpa: u64) -> Result<(), Errno> {
        let _ = (vcpu, gpa);
        Err(Errno::ENOSYS)
    }

    /// Starts the periodic timer, of 1 ms or more, or stops it.
    fn set_periodic_timer(&mut self, vcpu: u32, period_ns: Option<u64>);

    /// Starts the caller's one-shot timer; a time that is past fires at once.
    ///
    /// # Errors
    ///
    /// ETIME for a time that is past if `fail_if_past`; newer Xen ignores that flag.
    fn set_singleshot_timer(&mut self, at_ns: u64, fail_if_past: bool) -> Result<(), Errno>;

    /// Stops the caller's one-shot timer.
    fn stop_singleshot_timer(&mut self);

    /// Places a vCPU's `vcpu_info`.
    ///
    /// # Errors
    ///
    /// EINVAL, ENXIO; see the ABI.
    fn register_vcpu_info(&mut self, vcpu: u32, gfn: u64, offset: u32) -> Result<(), Errno>;

    /// Sends an NMI; does nothing if one is pending already.
    fn send_nmi(&mut self, vcpu: u32);
}

/// How long a vCPU was in each state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Runstate {
    /// 0 running, 1 runnable, 2 blocked, 3 offline.
    pub state: u32,
    /// When that state began, in ns of system time.
    pub since_ns: u64,
    /// Time in each state, in ns.
    pub time_ns: [u64; 4],
}

impl Runstate {
    /// Returns the structure of 64-bit callers.
    #[must_use]
    pub const fn to_info(&self) -> RunstateInfo {
        let [a, b, c, d] = self.time_ns;
        RunstateInfo {
            state: U32::new(self.state),
            pad: U32::ZERO,
            state_entry_time: U64::new(self.since_ns),
            time: [U64::new(a), U64::new(b), U64::new(c), U64::new(d)],
        }
    }

    /// Returns the structure of 32-bit callers.
    #[must_use]
    pub const fn to_info_compat(&self) -> RunstateInfoCompat {
        let info = self.to_info();
        RunstateInfoCompat {
            state: info.state,
            state_entry_time: info.state_entry_time,
            time: info.time,
        }
    }
}

pub(crate) fn vcpu_op(
    vcpus: &mut dyn Vcpus,
    guest: Guest<'_>,
    call: Call,
) -> Result<Outcome, Errno> {
    let [op, vcpu, arg, ..] = call.args;
    let (op, vcpu) = (VcpuOp(low_32(op)), low_32(vcpu));
    if !vcpus.exists(vcpu) {
        return Err(Errno::ENOENT);
    }
    let depends_on_state = matches!(
        op,
        VcpuOp::INITIALISE | VcpuOp::UP | VcpuOp::DOWN | VcpuOp::IS_UP
    );
    if depends_on_state && !vcpus.knows_state(op, vcpu) {
        return Ok(Outcome::Again(call));
    }
    guest.budget().charge(SIGNAL);
    serve(vcpus, guest, (op, vcpu), arg).map(Outcome::Return)
}

fn serve(
    vcpus: &mut dyn Vcpus,
    guest: Guest<'_>,
    (op, vcpu): (VcpuOp, u32),
    arg: u64,
) -> Result<i64, Errno> {
    match op {
        VcpuOp::INITIALISE => {
            if guest.answers().initialise_needs_vcpu_info {
                vcpus.may_initialise(vcpu)?;
            }
            let context: VcpuHvmContext = guest.read(arg)?;
            vcpus.initialise(vcpu, &context)?;
        }
        VcpuOp::UP => vcpus.up(vcpu)?,
        VcpuOp::DOWN => vcpus.down(vcpu)?,
        VcpuOp::IS_UP => return Ok(i64::from(vcpus.is_up(vcpu))),
        VcpuOp::GET_RUNSTATE_INFO => write_runstate(guest, arg, vcpus.runstate(vcpu))?,
        VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA => {
            vcpus.register_runstate_area(vcpu, area(guest, arg)?, guest.width())?;
        }
        VcpuOp::REGISTER_VCPU_TIME_MEMORY_AREA => {
            vcpus.register_time_area(vcpu, area(guest, arg)?)?;
        }
        VcpuOp::SET_PERIODIC_TIMER => {
            vcpus.set_periodic_timer(vcpu, Some(period(guest, arg)?));
        }
        VcpuOp::STOP_PERIODIC_TIMER => vcpus.set_periodic_timer(vcpu, None),
        VcpuOp::SET_SINGLESHOT_TIMER => set_singleshot(vcpus, guest, vcpu, arg)?,
        VcpuOp::STOP_SINGLESHOT_TIMER if vcpu == vcpus.caller() => vcpus.stop_singleshot_timer(),
        VcpuOp::REGISTER_VCPU_INFO => {
            let info: RegisterVcpuInfo = guest.read(arg)?;
            vcpus.register_vcpu_info(vcpu, info.mfn.get(), info.offset.get())?;
        }
        VcpuOp::REGISTER_RUNSTATE_PHYS_AREA if guest.answers().has_physical_areas => {
            let area: RegisterArea = guest.read(arg)?;
            vcpus.register_physical_runstate(vcpu, area.addr.get(), guest.width())?;
        }
        VcpuOp::REGISTER_VCPU_TIME_PHYS_AREA if guest.answers().has_physical_areas => {
            let area: RegisterArea = guest.read(arg)?;
            vcpus.register_physical_time(vcpu, area.addr.get())?;
        }
        VcpuOp::SEND_NMI if arg == 0 => vcpus.send_nmi(vcpu),
        // Only a pinned hardware domain can ask for physical ids.
        VcpuOp::STOP_SINGLESHOT_TIMER | VcpuOp::SEND_NMI | VcpuOp::GET_PHYSID => {
            return Err(Errno::EINVAL);
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// The address of an area; a 32-bit caller's has to fit 32 bits.
fn area(guest: Guest<'_>, arg: u64) -> Result<u64, Errno> {
    let area: RegisterArea = guest.read(arg)?;
    let linear = area.addr.get();
    if guest.width().mask(linear) != linear {
        return Err(Errno::EFAULT);
    }
    Ok(linear)
}

/// A period of 1 ms to 2^62 ns.
fn period(guest: Guest<'_>, arg: u64) -> Result<u64, Errno> {
    let set: SetPeriodicTimer = guest.read(arg)?;
    let period_ns = set.period_ns.get();
    if !(MIN_PERIOD_NS..=MAX_PERIOD_NS).contains(&period_ns) {
        return Err(Errno::EINVAL);
    }
    Ok(period_ns)
}

fn set_singleshot(
    vcpus: &mut dyn Vcpus,
    guest: Guest<'_>,
    vcpu: u32,
    arg: u64,
) -> Result<(), Errno> {
    let is_caller = vcpu == vcpus.caller();
    // A 64-bit caller's id is looked at first, a 32-bit caller's structure.
    if guest.width() == Width::Native && !is_caller {
        return Err(Errno::EINVAL);
    }
    let set: Singleshot =
        guest.read_either::<SetSingleshotTimer, SetSingleshotTimerCompat, _>(arg)?;
    if !is_caller {
        return Err(Errno::EINVAL);
    }
    vcpus.set_singleshot_timer(set.at_ns, set.flags & SINGLESHOT_FUTURE != 0)
}

fn write_runstate(guest: Guest<'_>, arg: u64, runstate: Runstate) -> Result<(), Errno> {
    match guest.width() {
        Width::Native => guest.write(arg, &runstate.to_info()),
        Width::Compat => guest.write(arg, &runstate.to_info_compat()),
    }
}

/// The argument of `set_singleshot_timer`, from either layout.
struct Singleshot {
    at_ns: u64,
    flags: u32,
}

impl From<SetSingleshotTimer> for Singleshot {
    fn from(set: SetSingleshotTimer) -> Self {
        Self {
            at_ns: set.timeout_abs_ns.get(),
            flags: set.flags.get(),
        }
    }
}

impl From<SetSingleshotTimerCompat> for Singleshot {
    fn from(set: SetSingleshotTimerCompat) -> Self {
        Self {
            at_ns: set.timeout_abs_ns.get(),
            flags: set.flags.get(),
        }
    }
}

const MIN_PERIOD_NS: u64 = 1_000_000;
const MAX_PERIOD_NS: u64 = u64::MAX >> 2;
