//! The topology a guest sees: one package, one thread a core, one core a vCPU.

use super::{ApicIds, CpuidLeaf, CpuidPolicy};

/// Where one vCPU is in the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its APIC id.
    pub(super) apic_id: u32,
    /// Its number among the cores.
    core: u32,
    /// How many cores there are.
    pub(super) cores: u32,
    /// Bits of an APIC id below those that number the cores.
    thread_bits: u32,
    /// Bits of an APIC id below those that number the packages.
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

    /// How many APIC ids a package takes up.
    fn package_ids(&self) -> u32 {
        1_u32.checked_shl(self.package_bits).unwrap_or(u32::MAX)
    }

    /// Leaf 1: APIC id and the size of a package in ebx, HTT in edx.
    pub(super) fn patch_features(&self, leaf: &mut CpuidLeaf) {
        let ids = self.package_ids().min(0xFF);
        let apic_id = self.apic_id & 0xFF;
        leaf.ebx = (leaf.ebx & 0xFFFF) | (ids << 16) | (apic_id << 24);
        set(&mut leaf.edx, HTT, self.cores > 1);
    }

    /// Leaf 4: how many cores there are, and which of them share the cache.
    pub(super) fn patch_intel_cache(&self, leaf: &mut CpuidLeaf) {
        if leaf.eax & CACHE_TYPE == 0 {
            return;
        }
        let cores = last_id(self.package_ids() >> self.thread_bits, 0x3F);
        leaf.eax = (leaf.eax & !(0x3F << 26)) | (cores << 26);
        self.patch_sharing(leaf);
    }

    /// Leaves 4 and 0x8000_001D: a cache of level 3 serves the package, any other one core.
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

    /// Leaf 0x8000_0008 ecx: how many cores, and how many bits number them.
    pub(super) fn patch_amd_sizes(&self, leaf: &mut CpuidLeaf) {
        let cores = last_id(self.cores, 0xFF);
        leaf.ecx = (leaf.ecx & !0xF0FF) | cores | (self.package_bits.min(0xF) << 12);
    }

    /// Leaf 0x8000_001E: APIC id, core number, one thread a core, one node.
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

    /// The three subleaves of leaf 0xB or 0x1F: threads, cores, end.
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

/// The number of the last of `count` things, as a field of which `mask` is the largest value holds it.
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

/// A cache leaf describes a cache unless this field is 0.
const CACHE_TYPE: u32 = 0x1F;

/// Leaf 1 edx: ebx bits 16 to 23 hold a number of APIC ids.
const HTT: u32 = 1 << 28;

const LEVEL_END: u32 = 0;
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;
