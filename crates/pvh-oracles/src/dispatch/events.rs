//! The rest of the domain that notes what it is asked: scheduling, events, parameters.

use pvh_abi::{
    DomId, Errno,
    event_channel::{Port, PortStatus, Virq},
    hvm::HvmParam,
    sched::ShutdownReason,
};
use pvh_hypercall::group::{ControlBlock, EventChannels, Hvm, PortState, Ports, Sched};

use super::{recorder::Recorder, script::code};

impl Sched for Recorder {
    fn yield_now(&mut self) {
        self.script.tell("yield", &[]);
    }
    fn block(&mut self) {
        self.script.tell("block", &[]);
    }
    fn shutdown(&mut self, reason: ShutdownReason) {
        self.script.tell("shutdown", &[reason.0.into()]);
    }
    fn shutdown_code(&mut self, reason: ShutdownReason) {
        self.script.tell("shutdown_code", &[reason.0.into()]);
    }
    fn poll(&mut self, ports: &Ports<'_>, timeout_ns: u64) -> Result<(), Errno> {
        let count = ports.count();
        let get = |index| ports.get(index).map(|port| u64::from(port.0));
        assert_eq!(get(count), Err(Errno(22)));
        let (first, last) = (get(0), get(count.saturating_sub(1)));
        self.done("poll", &[count.into(), timeout_ns, code(first), code(last)])
    }
    fn remote_shutdown(&mut self, domain: DomId, reason: u32) -> Result<(), Errno> {
        self.done("remote_shutdown", &[domain.0.into(), reason.into()])
    }
    fn watchdog(&mut self, id: u32, timeout_s: u32) -> Result<u32, Errno> {
        self.word("watchdog", &[id.into(), timeout_s.into()])
    }
}

impl EventChannels for Recorder {
    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        self.port("bind_interdomain", &[remote.0.into(), remote_port.0.into()])
    }
    fn bind_virq(&mut self, virq: Virq, vcpu: u32) -> Result<Port, Errno> {
        self.port("bind_virq", &[virq.0.into(), vcpu.into()])
    }
    fn bind_pirq(&mut self, pirq: u32, flags: u32) -> Result<Port, Errno> {
        self.port("bind_pirq", &[pirq.into(), flags.into()])
    }
    fn close(&mut self, port: Port) -> Result<(), Errno> {
        self.done("close", &[port.0.into()])
    }
    fn send(&mut self, port: Port) -> Result<(), Errno> {
        self.done("send", &[port.0.into()])
    }
    fn status(&mut self, domain: DomId, port: Port) -> Result<PortState, Errno> {
        let first = self.word("status", &[domain.0.into(), port.0.into()])?;
        Ok(PortState {
            status: PortStatus(first),
            vcpu: first + 1,
            detail: first + 2,
            remote_port: Port(first + 3),
        })
    }
    fn alloc_unbound(&mut self, domain: DomId, remote: DomId) -> Result<Port, Errno> {
        self.port("alloc_unbound", &[domain.0.into(), remote.0.into()])
    }
    fn bind_ipi(&mut self, vcpu: u32) -> Result<Port, Errno> {
        self.port("bind_ipi", &[vcpu.into()])
    }
    fn bind_vcpu(&mut self, port: Port, vcpu: u32) -> Result<(), Errno> {
        self.done("bind_vcpu", &[port.0.into(), vcpu.into()])
    }
    fn unmask(&mut self, port: Port) -> Result<(), Errno> {
        self.done("unmask", &[port.0.into()])
    }
    fn reset(&mut self, domain: DomId) -> Result<(), Errno> {
        self.done("reset", &[domain.0.into()])
    }
    fn init_control(&mut self, block: &ControlBlock) -> Result<u8, Errno> {
        let (vcpu, offset) = (block.vcpu.into(), block.offset.into());
        let bits = self.ask("init_control", &[vcpu, block.gfn, offset])?;
        Ok(bits.to_le_bytes()[0])
    }
    fn expand_array(&mut self, gfn: u64) -> Result<(), Errno> {
        self.done("expand_array", &[gfn])
    }
    fn set_priority(&mut self, port: Port, priority: u32) -> Result<(), Errno> {
        self.done("set_priority", &[port.0.into(), priority.into()])
    }
}

impl Hvm for Recorder {
    fn set_param(&mut self, domain: DomId, param: HvmParam, value: u64) -> Result<(), Errno> {
        self.done("set_param", &[domain.0.into(), param.0.into(), value])
    }
    fn param(&mut self, domain: DomId, param: HvmParam) -> Result<u64, Errno> {
        self.ask("param", &[domain.0.into(), param.0.into()])
    }
    fn flush_tlbs(&mut self) {
        self.script.tell("flush_tlbs", &[]);
    }
    fn pagetable_dying(&mut self, domain: DomId, gpa: u64) -> Result<(), Errno> {
        self.done("pagetable_dying", &[domain.0.into(), gpa])
    }
    fn time_ns(&self) -> u64 {
        self.ask("time", &[]).unwrap_or(u64::MAX)
    }
    fn mem_type(&mut self, domain: DomId, gfn: u64) -> Result<u16, Errno> {
        let [low, high, ..] = self.ask("mem_type", &[domain.0.into(), gfn])?.to_le_bytes();
        Ok(u16::from_le_bytes([low, high]))
    }
    fn set_upcall_vector(&mut self, vcpu: u32, vector: u8) -> Result<(), Errno> {
        self.done("set_upcall_vector", &[vcpu.into(), vector.into()])
    }
}
