//! `hvm_op`.

use pvh_abi::{DomId, Errno, hvm::HvmParam};
use pvh_hypercall::group::Hvm;

use super::super::session::Session;
use crate::parts::hvm;

impl Session<'_> {
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut hvm::HvmState, &mut Vec<hvm::Change>) -> T,
    ) -> T {
        let mut changed = Vec::new();
        let answer = change(&mut self.domain.hvm, &mut changed);
        self.domain.hvm_changed(&mut self.env, self.width, changed);
        answer
    }
}

impl Hvm for Session<'_> {
    fn set_param(&mut self, domain: DomId, param: HvmParam, value: u64) -> Result<(), Errno> {
        self.change(|hvm, changed| hvm.set_param(domain, param, value, changed))
    }

    fn param(&mut self, domain: DomId, param: HvmParam) -> Result<u64, Errno> {
        self.domain.hvm.param(domain, param)
    }

    fn flush_tlbs(&mut self) {
        self.change(|hvm, changed| hvm.flush_tlbs(changed));
    }

    fn pagetable_dying(&mut self, domain: DomId, _: u64) -> Result<(), Errno> {
        self.domain.hvm.pagetable_dying(domain)
    }

    fn time_ns(&self) -> u64 {
        self.env.now.system_ns
    }

    fn mem_type(&mut self, domain: DomId, gfn: u64) -> Result<u16, Errno> {
        self.domain.hvm.mem_type(self.env.memory, domain, gfn)
    }

    fn set_upcall_vector(&mut self, vcpu: u32, vector: u8) -> Result<(), Errno> {
        self.change(|hvm, changed| hvm.set_upcall_vector(vcpu, vector, changed))
    }
}
