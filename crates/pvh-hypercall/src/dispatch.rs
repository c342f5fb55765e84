//! From a call to the method that serves it; multicalls.

use pvh_abi::{
    Errno,
    hypercall::HypercallNumber as Number,
    multicall::{MulticallEntry, MulticallEntryCompat},
};
use zerocopy::little_endian::{U32, U64};

use crate::{
    Availability, Budget, Call, Guest, GuestIo, Width, XenVersion, availability, budget,
    group::{
        self, Assist, Console, EventChannels, GrantTable, Hvm, Memory, Sched, Timer, Vcpus, Version,
    },
    refused::refusal,
};

/// A server of hypercalls: one accessor for each group, `None` by default.
///
/// A group that is not offered answers ENOSYS, the console EPERM.
pub trait Handler {
    /// The Xen whose answers the guest gets; 4.17 by default.
    fn xen(&self) -> XenVersion {
        XenVersion::V4_17
    }

    /// `xen_version`.
    fn version(&mut self) -> Option<&mut dyn Version> {
        None
    }

    /// `memory_op`.
    fn memory(&mut self) -> Option<&mut dyn Memory> {
        None
    }

    /// Serves `memory_op`, by default with [`memory`](Self::memory). A handler whose [`Memory`] is
    /// a view that it makes for each call overrides this, and hands the view to
    /// [`group::memory_op`].
    ///
    /// # Errors
    ///
    /// Those of [`group::memory_op`]; ENOSYS where the group is not offered.
    fn memory_op(&mut self, guest: Guest<'_>, call: Call) -> Result<Outcome, Errno> {
        offered(self.memory()).and_then(|memory| group::memory_op(memory, guest, call))
    }

    /// `set_timer_op`.
    fn timer(&mut self) -> Option<&mut dyn Timer> {
        None
    }

    /// `console_io`.
    fn console(&mut self) -> Option<&mut dyn Console> {
        None
    }

    /// `grant_table_op`.
    fn grants(&mut self) -> Option<&mut dyn GrantTable> {
        None
    }

    /// `vm_assist`.
    fn assist(&mut self) -> Option<&mut dyn Assist> {
        None
    }

    /// `vcpu_op`.
    fn vcpus(&mut self) -> Option<&mut dyn Vcpus> {
        None
    }

    /// `sched_op`.
    fn sched(&mut self) -> Option<&mut dyn Sched> {
        None
    }

    /// `event_channel_op`.
    fn events(&mut self) -> Option<&mut dyn EventChannels> {
        None
    }

    /// `hvm_op`.
    fn hvm(&mut self) -> Option<&mut dyn Hvm> {
        None
    }
}

/// The result of a hypercall.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "it is done, or it is not done yet")]
pub enum Outcome {
    /// The call is done; [`Width::result`] turns this value into rax.
    Return(i64),
    /// Some of it is done, or nothing yet, and this is the rest: dispatch it when it suits, the
    /// guest's registers untouched. The guest chooses how long its lists are, so one go does a part
    /// of them ([`Budget`]); and a call may depend on what has to be looked up first
    /// ([`Vcpus::knows_state`]).
    Again(Call),
}

impl From<Result<i64, Errno>> for Outcome {
    fn from(answer: Result<i64, Errno>) -> Self {
        Self::Return(answer.unwrap_or_else(Errno::as_result))
    }
}

impl From<Result<Self, Errno>> for Outcome {
    fn from(answer: Result<Self, Errno>) -> Self {
        answer.unwrap_or_else(|errno| Self::Return(errno.as_result()))
    }
}

/// Runs a hypercall, or a bounded part of it. It never fails: the guest always gets an answer.
///
/// `io` is guest memory as the calling vCPU maps it. A go costs [`Budget::GO`] at most, and one
/// element more.
pub fn dispatch<H: Handler + ?Sized>(handler: &mut H, io: &dyn GuestIo, call: Call) -> Outcome {
    dispatch_within(handler, io, call, &Budget::new(Budget::GO))
}

/// Runs a hypercall, or a part of it that `budget` pays for. The handler may charge the same
/// budget.
#[inline]
pub fn dispatch_within<H: Handler + ?Sized>(
    handler: &mut H,
    io: &dyn GuestIo,
    call: Call,
    budget: &Budget,
) -> Outcome {
    let guest = Guest::new(io, call.width, budget).of_version(handler.xen());
    if call.number == Number::MULTICALL {
        return multicall(handler, guest, call).into();
    }
    single(handler, guest, call)
}

/// Every hypercall but a multicall.
fn single<H: Handler + ?Sized>(handler: &mut H, guest: Guest<'_>, call: Call) -> Outcome {
    guest.budget().charge(budget::CALL);
    if let Availability::Refused(errno) = availability(call.number) {
        return refusal(guest, call, errno).into();
    }
    let args = call.args;
    match call.number {
        Number::MEMORY_OP => handler.memory_op(guest, call).into(),
        Number::SET_TIMER_OP => offered(handler.timer())
            .map(|timer| group::set_timer_op(timer, call.width, args))
            .into(),
        Number::XEN_VERSION => offered(handler.version())
            .and_then(|version| group::xen_version(version, guest, args))
            .into(),
        Number::CONSOLE_IO => group::console_io(handler.console(), guest, call).into(),
        Number::GRANT_TABLE_OP => offered(handler.grants())
            .and_then(|grants| group::grant_table_op(grants, guest, call))
            .into(),
        Number::VM_ASSIST => offered(handler.assist())
            .and_then(|assist| group::vm_assist(assist, args))
            .into(),
        Number::VCPU_OP => offered(handler.vcpus())
            .and_then(|vcpus| group::vcpu_op(vcpus, guest, call))
            .into(),
        Number::SCHED_OP => offered(handler.sched())
            .and_then(|sched| group::sched_op(sched, guest, args))
            .into(),
        Number::EVENT_CHANNEL_OP => offered(handler.events())
            .and_then(|events| group::event_channel_op(events, guest, args))
            .into(),
        Number::HVM_OP => offered(handler.hvm())
            .and_then(|hvm| group::hvm_op(hvm, guest, args))
            .into(),
        _ => Outcome::Return(Errno::ENOSYS.as_result()),
    }
}

/// A group that is not offered answers ENOSYS.
fn offered<T: ?Sized>(group: Option<&mut T>) -> Result<&mut T, Errno> {
    group.ok_or(Errno::ENOSYS)
}

/// Runs some entries of a list. An entry that answers an error does not end the list, a fault does.
#[inline(never)]
fn multicall<H: Handler + ?Sized>(
    handler: &mut H,
    guest: Guest<'_>,
    call: Call,
) -> Result<Outcome, Errno> {
    let [list, count, c, d, e] = call.args;
    let mut left = u64::from(group::low_32(count));
    let mut at = list;
    for _ in 0..left.min(ENTRIES_PER_CALL) {
        let entry = read_entry(guest, at)?;
        let outcome = if entry.number == Number::MULTICALL {
            Outcome::Return(Errno::EINVAL.as_result())
        } else {
            single(handler, guest, entry)
        };
        match outcome {
            Outcome::Return(result) => write_result(guest, at, result)?,
            Outcome::Again(rest) => {
                // The entry becomes what is left of it, so that the list continues from there.
                if rest != entry {
                    write_entry(guest, at, rest)?;
                }
                return Ok(Outcome::Again(call.with_args([at, left, c, d, e])));
            }
        }
        let (entry_bytes, _) = entry_layout(guest.width());
        at = at.checked_add(entry_bytes).ok_or(Errno::EFAULT)?;
        left = left.saturating_sub(1);
        if guest.budget().is_spent() {
            break;
        }
    }
    if left == 0 {
        return Ok(Outcome::Return(0));
    }
    Ok(Outcome::Again(call.with_args([at, left, c, d, e])))
}

fn read_entry(guest: Guest<'_>, at: u64) -> Result<Call, Errno> {
    Ok(match guest.width() {
        Width::Native => {
            let entry: MulticallEntry = guest.read(at)?;
            let [a, b, c, d, e, _] = entry.args.map(U64::get);
            Call::new(Width::Native, entry.op.get(), [a, b, c, d, e])
        }
        Width::Compat => {
            let entry: MulticallEntryCompat = guest.read(at)?;
            let [a, b, c, d, e, _] = entry.args.map(|arg| u64::from(arg.get()));
            Call::new(Width::Compat, u64::from(entry.op.get()), [a, b, c, d, e])
        }
    })
}

/// The size of an entry, and where its result is.
const fn entry_layout(width: Width) -> (u64, u64) {
    match width {
        Width::Native => (64, 8),
        Width::Compat => (32, 4),
    }
}

fn write_result(guest: Guest<'_>, at: u64, result: i64) -> Result<(), Errno> {
    let (_, offset) = entry_layout(guest.width());
    let result = guest.width().result(result);
    guest
        .words(at.checked_add(offset).ok_or(Errno::EFAULT)?)
        .set_word(0, result)
}

/// Writes the number and the arguments that are left.
fn write_entry(guest: Guest<'_>, at: u64, rest: Call) -> Result<(), Errno> {
    let [a, b, c, d, e] = rest.args;
    match guest.width() {
        Width::Native => {
            let mut entry: MulticallEntry = guest.read(at)?;
            let [.., last] = entry.args;
            entry.args = [a, b, c, d, e, last.get()].map(U64::new);
            guest.write(at, &entry)
        }
        Width::Compat => {
            let mut entry: MulticallEntryCompat = guest.read(at)?;
            let [.., last] = entry.args;
            entry.args =
                [a, b, c, d, e, u64::from(last.get())].map(|arg| U32::new(group::low_32(arg)));
            guest.write(at, &entry)
        }
    }
}

const ENTRIES_PER_CALL: u64 = 32;
