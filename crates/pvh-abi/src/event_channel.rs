//! `event_channel_op`: sub-operations and structures (xen/include/public/event_channel.h, xen.h).
//!
//! Every structure has one layout for 64- and 32-bit callers.

use zerocopy::little_endian::{U16, U32, U64};

use crate::{open_set::open_set, wire::wire};

/// The number of an event channel's local end.
#[doc(alias = "evtchn_port_t")]
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Port(pub u32);

open_set! {
    /// The sub-operation of `event_channel_op`.
    #[doc(alias = "EVTCHNOP")]
    EventChannelOp: u32 {
        /// Joins a new port to a port that another domain has reserved for the caller.
        BIND_INTERDOMAIN = 0,
        /// Binds a virtual interrupt to a new port.
        BIND_VIRQ = 1,
        /// Binds a physical interrupt to a new port.
        BIND_PIRQ = 2,
        /// Frees a port.
        CLOSE = 3,
        /// Sends an event through a port.
        SEND = 4,
        /// Reads the state of a port.
        STATUS = 5,
        /// Allocates a port that another domain may join.
        ALLOC_UNBOUND = 6,
        /// Allocates a port for signals between vCPUs.
        BIND_IPI = 7,
        /// Chooses the vCPU that a port notifies.
        BIND_VCPU = 8,
        /// Clears a port's mask and raises a pending event.
        UNMASK = 9,
        /// Closes every port.
        RESET = 10,
        /// Registers a vCPU's control block and turns on FIFO events.
        INIT_CONTROL = 11,
        /// Adds a page of event words.
        EXPAND_ARRAY = 12,
        /// Sets a port's priority.
        SET_PRIORITY = 13,
    }
}

open_set! {
    /// A virtual interrupt.
    #[doc(alias = "VIRQ")]
    Virq: u32 {
        /// The vCPU's timer.
        TIMER = 0,
        /// A request for debug output.
        DEBUG = 1,
        /// Console input for the control domain.
        CONSOLE = 2,
        /// A domain has died.
        DOM_EXC = 3,
        /// Trace buffers need reading.
        TBUF = 4,
        /// A debugger event.
        DEBUGGER = 6,
        /// Profiling.
        XENOPROF = 7,
        /// The console ring has text.
        CON_RING = 8,
        /// A physical CPU changed its state.
        PCPU_STATE = 9,
        /// A memory event.
        MEM_EVENT = 10,
        /// An Argo message.
        ARGO = 11,
        /// The host is short of memory.
        ENOMEM = 12,
        /// Performance monitoring.
        XENPMU = 13,
    }
}

impl Virq {
    /// The number of virtual interrupts.
    #[doc(alias = "NR_VIRQS")]
    pub const COUNT: u32 = 24;
}

open_set! {
    /// The state of a port, as [`EventChannelStatus`] reports it.
    #[doc(alias = "EVTCHNSTAT")]
    PortStatus: u32 {
        /// Not in use.
        CLOSED = 0,
        /// Waits for a remote domain.
        UNBOUND = 1,
        /// Joined to a port of another domain.
        INTERDOMAIN = 2,
        /// A physical interrupt.
        PIRQ = 3,
        /// A virtual interrupt.
        VIRQ = 4,
        /// Signals between vCPUs.
        IPI = 5,
    }
}

wire! {
    /// The argument of `bind_interdomain`.
    #[doc(alias = "evtchn_bind_interdomain")]
    BindInterdomain: 12 {
        /// The other domain.
        pub remote_dom: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// Its port.
        pub remote_port: U32 = 4,
        /// Out: the caller's port.
        pub local_port: U32 = 8,
    }
}

wire! {
    /// The argument of `bind_virq`.
    #[doc(alias = "evtchn_bind_virq")]
    BindVirq: 12 {
        /// See [`Virq`].
        pub virq: U32 = 0,
        /// The vCPU it belongs to.
        pub vcpu: U32 = 4,
        /// Out: the port.
        pub port: U32 = 8,
    }
}

wire! {
    /// The argument of `bind_pirq`.
    #[doc(alias = "evtchn_bind_pirq")]
    BindPirq: 12 {
        /// The physical interrupt.
        pub pirq: U32 = 0,
        /// Bit 0: it may be shared.
        pub flags: U32 = 4,
        /// Out: the port.
        pub port: U32 = 8,
    }
}

wire! {
    /// The argument of `close`, `send` and `unmask`.
    #[doc(alias = "evtchn_close")]
    #[doc(alias = "evtchn_send")]
    #[doc(alias = "evtchn_unmask")]
    EventChannelPort: 4 {
        /// The port.
        pub port: U32 = 0,
    }
}

wire! {
    /// The argument of `status`.
    #[doc(alias = "evtchn_status")]
    EventChannelStatus: 24 {
        /// The domain that owns the port.
        pub dom: U16 = 0,
        /// Padding.
        pub pad: U16 = 2,
        /// The port.
        pub port: U32 = 4,
        /// Out: see [`PortStatus`].
        pub status: U32 = 8,
        /// Out: the vCPU that is notified.
        pub vcpu: U32 = 12,
        /// Out: a domain id in the low half, a pirq or a virq, by `status`.
        pub detail: U32 = 16,
        /// Out: the remote port of an interdomain port.
        pub remote_port: U32 = 20,
    }
}

wire! {
    /// The argument of `alloc_unbound`.
    #[doc(alias = "evtchn_alloc_unbound")]
    AllocUnbound: 8 {
        /// The domain that will own the port.
        pub dom: U16 = 0,
        /// The domain that may join the port.
        pub remote_dom: U16 = 2,
        /// Out: the port.
        pub port: U32 = 4,
    }
}

wire! {
    /// The argument of `bind_ipi`.
    #[doc(alias = "evtchn_bind_ipi")]
    BindIpi: 8 {
        /// The vCPU that is notified.
        pub vcpu: U32 = 0,
        /// Out: the port.
        pub port: U32 = 4,
    }
}

wire! {
    /// The argument of `bind_vcpu`.
    #[doc(alias = "evtchn_bind_vcpu")]
    BindVcpu: 8 {
        /// The port.
        pub port: U32 = 0,
        /// The vCPU that is notified from now on.
        pub vcpu: U32 = 4,
    }
}

wire! {
    /// The argument of `reset`.
    #[doc(alias = "evtchn_reset")]
    ResetPorts: 2 {
        /// The domain that owns the ports.
        pub dom: U16 = 0,
    }
}

wire! {
    /// The argument of `init_control`.
    #[doc(alias = "evtchn_init_control")]
    InitControl: 24 {
        /// The frame of the control block.
        pub control_gfn: U64 = 0,
        /// Its offset in the frame, in bytes.
        pub offset: U32 = 8,
        /// The vCPU it is for.
        pub vcpu: U32 = 12,
        /// Out: how many bits a link has, 17.
        pub link_bits: u8 = 16,
        /// Padding.
        pub pad: [u8; 7] = 17,
    }
}

wire! {
    /// The argument of `expand_array`.
    #[doc(alias = "evtchn_expand_array")]
    ExpandArray: 8 {
        /// The frame of the next 1024 event words.
        pub array_gfn: U64 = 0,
    }
}

wire! {
    /// The argument of `set_priority`.
    #[doc(alias = "evtchn_set_priority")]
    SetPriority: 8 {
        /// The port.
        pub port: U32 = 0,
        /// The priority, from 0 (highest) to 15.
        pub priority: U32 = 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_event_channel_h() {
        assert_eq!(EventChannelOp(6).name(), Some("ALLOC_UNBOUND"));
        assert_eq!(EventChannelOp(11).name(), Some("INIT_CONTROL"));
        assert_eq!(EventChannelOp(14).name(), None, "internal to Xen");
        assert_eq!(Virq(13).name(), Some("XENPMU"));
        assert_eq!(Virq::COUNT, 24);
        assert_eq!(PortStatus::IPI.0, 5);
    }
}
