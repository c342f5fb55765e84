//! The guest's CPU topology: one package; each vCPU is a core with one thread.

use super::{ApicIds, CpuidLeaf, CpuidPolicy};

/// The position of one vCPU in the topology.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its APIC id.
    pub(super) apic_id: u32,
    /// The number of its core.
    core: u32,
    /// The number of cores.
    pub(super) cores: u32,
    /// The low bits of an APIC id that number the threads of a core.
    thread_bits: u32,
    /// The low bits of an APIC id that number threads and cores of a package.
    package_bits: u32,
}

impl Place {
    pub(super) fn new(vcpu: u32, policy: &CpuidPolicy) -> Self {
        let cores = policy.vcpus.max(1);
        let core_bits = cores
            .checked_next_power_of_two()
            .map_or(u32::BITS, u32::trailing_zeros);
        let thread_bits = ApicIds::thread_bits(policy.apic_ids);
        Self {
            apic_id: policy.apic_ids.apic_id(vcpu).unwrap_or(u32::MAX),
            core: vcpu,
            cores,
            thread_bits,
            package_bits: core_bits.saturating_add(thread_bits),
        }
    }

    /// Returns how many APIC ids belong to a package.
    fn package_ids(&self) -> u32 {
        1_u32.checked_shl(self.package_bits).unwrap_or(u32::MAX)
    }

    /// Sets in leaf 1 the APIC id and the APIC ids of a package (ebx), and HTT (edx).
    pub(super) fn patch_features(&self, leaf: &mut CpuidLeaf) {
        let ids = self.package_ids().min(0xFF);
        let apic_id = self.apic_id & 0xFF;
        leaf.ebx = (leaf.ebx & 0xFFFF) | (ids << 16) | (apic_id << 24);
        set(&mut leaf.edx, HTT, self.cores > 1);
    }

    /// Sets in leaf 4 the number of cores, and how many of them share the cache.
    pub(super) fn patch_intel_cache(&self, leaf: &mut CpuidLeaf) {
        if leaf.eax & CACHE_TYPE == 0 {
            return;
        }
        let cores = last_id(self.package_ids() >> self.thread_bits, 0x3F);
        leaf.eax = (leaf.eax & !(0x3F << 26)) | (cores << 26);
        self.patch_sharing(leaf);
    }

    /// Sets in leaves 4 and 0x8000_001D who shares a cache: all cores of the package share one of
    /// level 3; any other belongs to one core.
    pub(super) fn patch_sharing(&self, leaf: &mut CpuidLeaf) {
        if leaf.eax & CACHE_TYPE == 0 {
            return;
        }
        let level = (leaf.eax >> 5) & 7;
        let ids = if level >= 3 {
            self.package_ids()
        } else {
            1 << self.thread_bits
        };
        leaf.eax = (leaf.eax & !(0xFFF << 14)) | (last_id(ids, 0xFFF) << 14);
    }

    /// Sets in leaf 0x8000_0008 ecx the number of cores, and how many bits number them.
    pub(super) fn patch_amd_sizes(&self, leaf: &mut CpuidLeaf) {
        let cores = last_id(self.cores, 0xFF);
        leaf.ecx = (leaf.ecx & !0xF0FF) | cores | (self.package_bits.min(0xF) << 12);
    }

    /// Returns leaf 0x8000_001E: APIC id, core number, one thread for each core, one node.
    pub(super) fn amd_topology(&self) -> CpuidLeaf {
        CpuidLeaf {
            function: 0x8000_001E,
            index: None,
            eax: self.apic_id,
            ebx: self.core & 0xFF,
            ecx: 0,
            edx: 0,
        }
    }

    /// Returns the three subleaves of leaf 0xB or 0x1F: threads, cores, end.
    pub(super) fn levels(&self, function: u32) -> [CpuidLeaf; 3] {
        let level = |index: u32, shift: u32, count: u32, kind: u32| CpuidLeaf {
            function,
            index: Some(index),
            eax: shift,
            ebx: count.min(0xFFFF),
            ecx: index | (kind << 8),
            edx: self.apic_id,
        };
        [
            level(0, self.thread_bits, 1, LEVEL_THREAD),
            level(1, self.package_bits, self.cores, LEVEL_CORE),
            level(2, 0, 0, LEVEL_END),
        ]
    }
}

/// Returns `count - 1`, limited to `mask`, the largest value of its field.
fn last_id(count: u32, mask: u32) -> u32 {
    count.saturating_sub(1).min(mask)
}

/// Sets or clears bits.
pub(super) fn set(register: &mut u32, bits: u32, on: bool) {
    *register = if on {
        *register | bits
    } else {
        *register & !bits
    };
}

/// The cache type in a cache leaf; 0 if the leaf describes no cache.
const CACHE_TYPE: u32 = 0x1F;

/// Leaf 1 edx: bits 16 to 23 of ebx are valid.
const HTT: u32 = 1 << 28;

const LEVEL_END: u32 = 0;
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;
