//! `event_channel_op`.

use pvh_abi::{
    DomId, Errno,
    event_channel::{Port, Virq},
};
use pvh_hypercall::{
    Budget,
    group::{ControlBlock, EventChannels, PortState},
};

use super::super::session::Session;
use crate::parts::event;

impl Session<'_> {
    fn act<T>(
        &mut self,
        act: impl FnOnce(&mut event::EventChannels, &mut event::Delivery<'_>) -> T,
    ) -> T {
        self.domain.with_events(&mut self.env, act)
    }
}

impl EventChannels for Session<'_> {
    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        self.act(|events, delivery| events.bind_interdomain(delivery, remote, remote_port))
    }

    fn bind_virq(&mut self, virq: Virq, vcpu: u32) -> Result<Port, Errno> {
        self.expect_start(vcpu);
        self.act(|events, delivery| events.bind_virq(delivery, virq, vcpu))
    }

    fn bind_pirq(&mut self, pirq: u32, _: u32) -> Result<Port, Errno> {
        self.act(|events, delivery| events.bind_pirq(delivery, pirq))
    }

    fn close(&mut self, port: Port) -> Result<(), Errno> {
        self.act(|events, delivery| events.close(delivery, port))
    }

    fn send(&mut self, port: Port) -> Result<(), Errno> {
        // A service does what waits in its ring, up to 64 requests to the store.
        if self.domain.is_service_port(port) {
            self.budget.charge(Budget::GO);
        }
        self.act(|events, delivery| events.send(delivery, port))
    }

    fn status(&mut self, domain: DomId, port: Port) -> Result<PortState, Errno> {
        self.domain.events.status(domain, port)
    }

    fn alloc_unbound(&mut self, domain: DomId, remote: DomId) -> Result<Port, Errno> {
        self.act(|events, delivery| events.alloc_unbound(delivery, domain, remote))
    }

    fn bind_ipi(&mut self, vcpu: u32) -> Result<Port, Errno> {
        self.expect_start(vcpu);
        self.act(|events, delivery| events.bind_ipi(delivery, vcpu))
    }

    fn bind_vcpu(&mut self, port: Port, vcpu: u32) -> Result<(), Errno> {
        self.expect_start(vcpu);
        self.domain.events.bind_vcpu(port, vcpu)
    }

    fn unmask(&mut self, port: Port) -> Result<(), Errno> {
        self.act(|events, delivery| events.unmask(delivery, port))
    }

    fn reset(&mut self, domain: DomId) -> Result<(), Errno> {
        self.act(|events, delivery| events.reset(delivery, domain))
    }

    fn init_control(&mut self, block: &ControlBlock) -> Result<u8, Errno> {
        self.act(|events, delivery| events.init_control(delivery, block))
    }

    fn expand_array(&mut self, gfn: u64) -> Result<(), Errno> {
        self.act(|events, delivery| events.expand_array(delivery, gfn))
    }

    fn set_priority(&mut self, port: Port, priority: u32) -> Result<(), Errno> {
        self.domain.events.set_priority(port, priority)
    }
}
