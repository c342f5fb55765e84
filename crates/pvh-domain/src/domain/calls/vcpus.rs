//! `vcpu_op`.

use pvh_abi::{
    Errno,
    vcpu::{RegisterVcpuInfo, VcpuHvmContext, VcpuOp},
};
use pvh_hypercall::{
    Width,
    group::{Runstate, Vcpus},
};
use zerocopy::little_endian::{U32, U64};

use super::super::{Effect, session::Session};

impl Session<'_> {
    /// Notes a vCPU that has to wait for INIT from now on, if it is not the calling one.
    fn left_down(&mut self, vcpu: u32) {
        if vcpu != self.vcpu && !self.domain.parked.contains(&vcpu) {
            self.domain.parked.push(vcpu);
        }
    }
}

impl Vcpus for Session<'_> {
    fn exists(&self, vcpu: u32) -> bool {
        vcpu < self.domain.config.vcpus
    }

    fn caller(&self) -> u32 {
        self.vcpu
    }

    fn knows_state(&mut self, op: VcpuOp, vcpu: u32) -> bool {
        self.has_observed(op, vcpu)
    }

    fn may_initialise(&self, vcpu: u32) -> Result<(), Errno> {
        let is_usable = self.domain.vcpu_infos.is_usable(vcpu);
        is_usable.then_some(()).ok_or(Errno::EINVAL)
    }

    fn initialise(&mut self, vcpu: u32, context: &VcpuHvmContext) -> Result<(), Errno> {
        self.domain.initialise(vcpu, context)?;
        self.left_down(vcpu);
        Ok(())
    }

    fn up(&mut self, vcpu: u32) -> Result<(), Errno> {
        let changed = self.domain.set.up(vcpu);
        self.domain.lifecycle_changed(&mut self.env, changed);
        changed.map(|_| ()).map_err(|error| error.errno())
    }

    fn down(&mut self, vcpu: u32) -> Result<(), Errno> {
        let changed = self.domain.set.down(vcpu);
        self.domain.lifecycle_changed(&mut self.env, changed);
        self.left_down(vcpu);
        changed.map(|_| ()).map_err(|error| error.errno())
    }

    fn is_up(&self, vcpu: u32) -> bool {
        self.domain.set.is_up(vcpu).unwrap_or(false)
    }

    fn runstate(&self, vcpu: u32) -> Runstate {
        let Some(data) = self.domain.vcpus.get(vcpu as usize) else {
            return Runstate::default();
        };
        data.runstate.at(self.env.now.system_ns)
    }

    fn register_runstate_area(
        &mut self,
        vcpu: u32,
        linear: u64,
        width: Width,
    ) -> Result<(), Errno> {
        let how = (width, vcpu != self.vcpu);
        self.domain
            .register_runstate(&self.env, self.origin.io, (vcpu, linear), how);
        Ok(())
    }

    fn register_time_area(&mut self, vcpu: u32, linear: u64) -> Result<(), Errno> {
        self.domain
            .register_time(&self.env, self.origin.io, (vcpu, linear));
        Ok(())
    }

    fn register_physical_runstate(
        &mut self,
        vcpu: u32,
        gpa: u64,
        width: Width,
    ) -> Result<(), Errno> {
        let how = (width, vcpu == self.vcpu);
        self.domain
            .register_physical_runstate(self.env.memory, (vcpu, gpa), how)
    }

    fn register_physical_time(&mut self, vcpu: u32, gpa: u64) -> Result<(), Errno> {
        let is_caller = vcpu == self.vcpu;
        self.domain
            .register_physical_time(self.env.memory, (vcpu, gpa), is_caller)
    }

    fn set_periodic_timer(&mut self, vcpu: u32, period_ns: Option<u64>) {
        self.domain.set_periodic(&mut self.env, vcpu, period_ns);
    }

    fn set_singleshot_timer(&mut self, at_ns: u64, _: bool) -> Result<(), Errno> {
        self.domain.set_singleshot(&mut self.env, self.vcpu, at_ns);
        Ok(())
    }

    fn stop_singleshot_timer(&mut self) {
        self.domain.stop_singleshot(self.vcpu);
    }

    fn register_vcpu_info(&mut self, vcpu: u32, gfn: u64, offset: u32) -> Result<(), Errno> {
        self.expect_start(vcpu);
        let is_self_or_down = vcpu == self.vcpu || !self.is_up(vcpu);
        let request = RegisterVcpuInfo {
            mfn: U64::new(gfn),
            offset: U32::new(offset),
            rsvd: U32::ZERO,
        };
        let (domain, memory) = (&mut *self.domain, self.env.memory);
        let is_new = domain.vcpu_infos.register(
            memory,
            &domain.shared_info,
            vcpu,
            &request,
            is_self_or_down,
        )?;
        domain.write_time(memory, vcpu);
        if is_new {
            domain.upcall(&mut self.env, vcpu);
        }
        Ok(())
    }

    fn send_nmi(&mut self, vcpu: u32) {
        self.env.effects.push(Effect::Nmi(vcpu));
        self.domain.wake(&mut self.env, vcpu);
    }
}
