//! `event_channel_op` (xen/include/public/event_channel.h).

use pvh_abi::{
    DomId, Errno,
    event_channel::{
        AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, EventChannelOp,
        EventChannelPort, EventChannelStatus, ExpandArray, InitControl, Port, PortStatus,
        ResetPorts, SetPriority, Virq,
    },
};
use zerocopy::little_endian::U32;

use super::low_32;
use crate::{Budget, Guest, budget::SIGNAL};

/// `event_channel_op`. The errors each method may answer are the ABI's.
#[expect(
    clippy::missing_errors_doc,
    reason = "the table of event_channel.h says them: xen/include/public/event_channel.h"
)]
pub trait EventChannels {
    /// Joins a port that a remote domain keeps for the caller; the new port is left pending.
    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno>;

    /// Makes a port of a virtual interrupt; its number is below 24.
    fn bind_virq(&mut self, virq: Virq, vcpu: u32) -> Result<Port, Errno>;

    /// Makes a port of a physical interrupt, of which a PVH domU has none.
    fn bind_pirq(&mut self, pirq: u32, flags: u32) -> Result<Port, Errno> {
        let _ = (pirq, flags);
        Err(Errno::EINVAL)
    }

    /// Frees a port.
    fn close(&mut self, port: Port) -> Result<(), Errno>;

    /// Raises the event of a port.
    fn send(&mut self, port: Port) -> Result<(), Errno>;

    /// Returns the state of a port.
    fn status(&mut self, domain: DomId, port: Port) -> Result<PortState, Errno>;

    /// Makes a port of `domain` that `remote` may join.
    fn alloc_unbound(&mut self, domain: DomId, remote: DomId) -> Result<Port, Errno>;

    /// Makes a port for signals to a vCPU.
    fn bind_ipi(&mut self, vcpu: u32) -> Result<Port, Errno>;

    /// Chooses the vCPU that a port notifies.
    fn bind_vcpu(&mut self, port: Port, vcpu: u32) -> Result<(), Errno>;

    /// Clears a port's mask and raises what was held back.
    fn unmask(&mut self, port: Port) -> Result<(), Errno>;

    /// Closes every port of a domain.
    fn reset(&mut self, domain: DomId) -> Result<(), Errno>;

    /// Registers a vCPU's control block and turns FIFO events on; returns how many bits a link has.
    fn init_control(&mut self, block: &ControlBlock) -> Result<u8, Errno>;

    /// Adds a page of event words.
    fn expand_array(&mut self, gfn: u64) -> Result<(), Errno>;

    /// Sets a port's priority.
    fn set_priority(&mut self, port: Port, priority: u32) -> Result<(), Errno>;
}

/// What `init_control` registers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ControlBlock {
    /// The vCPU it is for, which may not exist.
    pub vcpu: u32,
    /// Its frame.
    pub gfn: u64,
    /// Offset in the frame in bytes, unchecked.
    pub offset: u32,
}

/// The state of a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PortState {
    /// Which of the other fields count.
    pub status: PortStatus,
    /// The vCPU that the port notifies.
    pub vcpu: u32,
    /// The remote domain of an unbound or interdomain port, the number of a pirq or virq.
    pub detail: u32,
    /// The remote port of an interdomain port.
    pub remote_port: Port,
}

pub(crate) fn event_channel_op(
    events: &mut dyn EventChannels,
    guest: Guest<'_>,
    [op, arg, ..]: [u64; 5],
) -> Result<i64, Errno> {
    guest.budget().charge(SIGNAL);
    match EventChannelOp(low_32(op)) {
        // The one that guests call often.
        EventChannelOp::SEND => events.send(port(guest, arg)?)?,
        op => serve(events, guest, op, arg)?,
    }
    Ok(0)
}

/// The operations but `send`.
#[inline(never)]
fn serve(
    events: &mut dyn EventChannels,
    guest: Guest<'_>,
    op: EventChannelOp,
    arg: u64,
) -> Result<(), Errno> {
    match op {
        EventChannelOp::BIND_INTERDOMAIN
        | EventChannelOp::BIND_VIRQ
        | EventChannelOp::BIND_PIRQ
        | EventChannelOp::ALLOC_UNBOUND
        | EventChannelOp::BIND_IPI => bind(events, guest, op, arg)?,
        EventChannelOp::CLOSE => events.close(port(guest, arg)?)?,
        EventChannelOp::UNMASK => events.unmask(port(guest, arg)?)?,
        EventChannelOp::STATUS => status(events, guest, arg)?,
        EventChannelOp::BIND_VCPU => {
            let bind: BindVcpu = guest.read(arg)?;
            events.bind_vcpu(Port(bind.port.get()), bind.vcpu.get())?;
        }
        EventChannelOp::RESET => {
            guest.budget().charge(PORTS);
            let reset: ResetPorts = guest.read(arg)?;
            events.reset(DomId(reset.dom.get()))?;
        }
        EventChannelOp::INIT_CONTROL => init_control(events, guest, arg)?,
        EventChannelOp::EXPAND_ARRAY => {
            guest.budget().charge(PORTS);
            let expand: ExpandArray = guest.read(arg)?;
            events.expand_array(expand.array_gfn.get())?;
        }
        EventChannelOp::SET_PRIORITY => {
            let set: SetPriority = guest.read(arg)?;
            events.set_priority(Port(set.port.get()), set.priority.get())?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(())
}

/// The calls that make a port: the structure is written back whole, with the port.
fn bind(
    events: &mut dyn EventChannels,
    guest: Guest<'_>,
    op: EventChannelOp,
    arg: u64,
) -> Result<(), Errno> {
    guest.budget().charge(PORTS);
    match op {
        EventChannelOp::BIND_INTERDOMAIN => {
            let mut bind: BindInterdomain = guest.read(arg)?;
            let remote_port = Port(bind.remote_port.get());
            let port = events.bind_interdomain(DomId(bind.remote_dom.get()), remote_port)?;
            bind.local_port = U32::new(port.0);
            guest.write(arg, &bind)
        }
        EventChannelOp::BIND_VIRQ => {
            let mut bind: BindVirq = guest.read(arg)?;
            if bind.virq.get() >= Virq::COUNT {
                return Err(Errno::EINVAL);
            }
            let port = events.bind_virq(Virq(bind.virq.get()), bind.vcpu.get())?;
            bind.port = U32::new(port.0);
            guest.write(arg, &bind)
        }
        EventChannelOp::BIND_PIRQ => {
            let mut bind: BindPirq = guest.read(arg)?;
            let port = events.bind_pirq(bind.pirq.get(), bind.flags.get())?;
            bind.port = U32::new(port.0);
            guest.write(arg, &bind)
        }
        EventChannelOp::ALLOC_UNBOUND => {
            let mut alloc: AllocUnbound = guest.read(arg)?;
            let (domain, remote) = (DomId(alloc.dom.get()), DomId(alloc.remote_dom.get()));
            alloc.port = U32::new(events.alloc_unbound(domain, remote)?.0);
            guest.write(arg, &alloc)
        }
        _ => {
            let mut bind: BindIpi = guest.read(arg)?;
            bind.port = U32::new(events.bind_ipi(bind.vcpu.get())?.0);
            guest.write(arg, &bind)
        }
    }
}

fn port(guest: Guest<'_>, arg: u64) -> Result<Port, Errno> {
    let argument: EventChannelPort = guest.read(arg)?;
    Ok(Port(argument.port.get()))
}

fn status(events: &mut dyn EventChannels, guest: Guest<'_>, arg: u64) -> Result<(), Errno> {
    let asked: EventChannelStatus = guest.read(arg)?;
    let state = events.status(DomId(asked.dom.get()), Port(asked.port.get()))?;
    let answer = EventChannelStatus {
        status: U32::new(state.status.0),
        vcpu: U32::new(state.vcpu),
        detail: U32::new(state.detail),
        remote_port: U32::new(state.remote_port.0),
        ..asked
    };
    guest.write(arg, &answer)
}

fn init_control(events: &mut dyn EventChannels, guest: Guest<'_>, arg: u64) -> Result<(), Errno> {
    guest.budget().charge(PORTS);
    let mut init: InitControl = guest.read(arg)?;
    init.link_bits = events.init_control(&ControlBlock {
        vcpu: init.vcpu.get(),
        gfn: init.control_gfn.get(),
        offset: init.offset.get(),
    })?;
    guest.write(arg, &init)
}

/// The cost of an operation that may look at every port, or change them all: it ends the go.
const PORTS: u32 = Budget::GO;
