//! `memory_op`.

use pvh_abi::Errno;
use pvh_hypercall::{Call, Guest, Outcome, group::memory_op};

use super::super::session::Session;
use crate::parts::memory::{Go, MemoryCalls};

impl Session<'_> {
    pub(in super::super) fn serve_memory_op(
        &mut self,
        guest: Guest<'_>,
        call: Call,
    ) -> Result<Outcome, Errno> {
        let domain = &mut *self.domain;
        let data = domain.vcpus.get_mut(self.vcpu as usize);
        let data = data.ok_or(Errno::ENOSYS)?;
        let go = Go {
            budget: guest.budget(),
            begun: &mut data.begun_extent,
        };
        let mut calls = MemoryCalls::new(
            &mut domain.memory_ops,
            self.env.memory,
            &mut domain.shared_info,
            &mut domain.grants,
            go,
        );
        memory_op(&mut calls, guest, call)
    }
}
