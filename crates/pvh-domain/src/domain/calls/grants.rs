//! `grant_table_op`.

use pvh_abi::{DomId, Errno, grant::GrantStatus};
use pvh_hypercall::{
    GuestArray, Word,
    group::{CopySide, GrantMapping, GrantTable, GrantTableSize, MappedGrant},
};

use super::super::session::Session;

impl GrantTable for Session<'_> {
    fn setup_table(
        &mut self,
        domain: DomId,
        count: u32,
        frames: &GuestArray<'_, Word>,
    ) -> GrantStatus {
        let listed = match self.domain.grants.setup_table(domain, count) {
            Ok(listed) => listed,
            Err(status) => return status,
        };
        for (index, gfn) in (0_u64..).zip(listed) {
            if frames.set_word(index, gfn).is_err() {
                return GrantStatus::BAD_VIRT_ADDR;
            }
        }
        GrantStatus::OKAY
    }

    fn query_size(&mut self, domain: DomId) -> Result<GrantTableSize, GrantStatus> {
        self.domain.grants.query_size(domain)
    }

    fn set_version(&mut self, version: u32) -> Result<u32, Errno> {
        self.domain.grants.set_version(version)
    }

    fn version(&mut self, domain: DomId) -> Result<u32, Errno> {
        self.domain.grants.version(domain)
    }

    fn map(&mut self, mapping: &GrantMapping) -> Result<MappedGrant, GrantStatus> {
        Err(self.domain.grants.map(mapping.flags, mapping.domain))
    }

    fn unmap(&mut self, _: u32, _: u64, _: u64) -> GrantStatus {
        self.domain.grants.unmap()
    }

    fn copy(&mut self, source: &CopySide, dest: &CopySide, len_bytes: u16) -> GrantStatus {
        let memory = self.env.memory;
        self.domain.grants.copy(memory, source, dest, len_bytes)
    }

    fn swap(&mut self, first: u32, second: u32) -> GrantStatus {
        self.domain.grants.swap(self.env.memory, first, second)
    }
}
