//! Tests of the CPUID policy and topology.

use proptest::prelude::*;

use super::*;

fn leaf(function: u32, index: Option<u32>, registers: [u32; 4]) -> CpuidLeaf {
    let [eax, ebx, ecx, edx] = registers;
    CpuidLeaf {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
    }
}

const ALL: [u32; 4] = [u32::MAX; 4];

/// A host with every leaf, and every bit set.
fn host() -> Vec<CpuidLeaf> {
    let plain = [1, 2, 6, 0xA, 0x15, 0x8000_0001, 0x8000_0007, 0x8000_0008];
    let gone = [0x12, 0x14, 0x23, 0x8000_000A, 0x8000_001E, 0x8000_001F];
    let gone = gone.into_iter().chain([0x8000_0022, 0x8000_0026]);
    let mut leaves: Vec<_> = plain
        .into_iter()
        .chain(gone)
        .map(|function| leaf(function, None, ALL))
        .collect();
    leaves.push(leaf(0, None, [0x20, 0x756E_6547, 0x6C65_746E, 0x4965_6E69]));
    for function in [7, 0xB, 0x1F] {
        leaves.push(leaf(function, Some(0), ALL));
    }
    // L1 data, L1 code, L2, L3, end.
    for (index, eax) in (0..).zip([0xFC00_4121, 0xFC00_4122, 0xFC00_4143, 0xFC01_C163, 0]) {
        leaves.push(leaf(4, Some(index), [eax, 1, 1, 0]));
        leaves.push(leaf(0x8000_001D, Some(index), [eax, 1, 1, 0]));
    }
    leaves.push(leaf(0x4000_0000, None, [0x4000_0001, 0x4B4D_564B, 1, 1]));
    leaves.push(leaf(0x4000_0001, None, ALL));
    leaves.push(leaf(0x4000_0010, None, ALL));
    leaves
}

fn guest(vcpu: u32, policy: &CpuidPolicy) -> Vec<CpuidLeaf> {
    cpuid_for_vcpu(&host(), vcpu, policy)
}

/// Returns the only answer to (`function`, `index`).
fn find(leaves: &[CpuidLeaf], function: u32, index: u32) -> CpuidLeaf {
    let mut found = leaves
        .iter()
        .filter(|leaf| leaf.function == function && leaf.index.unwrap_or(index) == index);
    let first = found.next().copied();
    assert_eq!(found.next(), None, "{function:#x} is there twice");
    first.unwrap_or_default()
}

#[test]
fn leaf_1_holds_the_apic_id_and_the_number_of_ids() {
    let leaf = find(&guest(5, &CpuidPolicy::new(6)), 1, 0);
    assert_eq!(leaf.ebx, 0x0508_FFFF);
    assert_eq!(leaf.edx & 1 << 28, 1 << 28);
    let leaf = find(&guest(0, &CpuidPolicy::new(1)), 1, 0);
    assert_eq!(leaf.ebx, 0x0001_FFFF);
    assert_eq!(leaf.edx & 1 << 28, 0, "HTT of a single vCPU");
}

#[test]
fn the_hypervisor_bit_is_always_set() {
    let none = leaf(1, None, [0; 4]);
    let leaves = cpuid_for_vcpu(&[none], 0, &CpuidPolicy::new(1));
    assert_eq!(find(&leaves, 1, 0).ecx & 1 << 31, 1 << 31);
}

#[test]
fn tsc_deadline_mode_is_offered_if_kvm_and_machine_have_it() {
    let mut policy = CpuidPolicy::new(1);
    let deadline = |policy: &CpuidPolicy| find(&guest(0, policy), 1, 0).ecx & 1 << 24;
    assert_eq!(deadline(&policy), 0);
    policy.has_tsc_deadline = true;
    assert_eq!(deadline(&policy), 1 << 24);
    policy.has_local_apic = false;
    assert_eq!(deadline(&policy), 0);
}

#[test]
fn x2apic_mode_comes_with_the_local_apic() {
    let mut policy = CpuidPolicy::new(1);
    assert_eq!(find(&guest(0, &policy), 1, 0).ecx & 1 << 21, 1 << 21);
    policy.has_local_apic = false;
    assert_eq!(find(&guest(0, &policy), 1, 0).ecx & 1 << 21, 0);
}

#[test]
fn no_guest_sees_57_bit_addresses() {
    let leaves = guest(0, &CpuidPolicy::new(1));
    assert_eq!(find(&leaves, 7, 0).ecx & 1 << 16, 0, "LA57");
    // The physical bits stay; the linear bits become 48.
    assert_eq!(find(&leaves, 0x8000_0008, 0).eax, 0xFFFF_30FF);
}

#[test]
fn neither_virtualisation_nor_enclaves_nor_counters_are_offered() {
    let leaves = guest(0, &CpuidPolicy::new(2));
    let features = find(&leaves, 1, 0).ecx;
    assert_eq!(
        features & (1 << 5 | 1 << 15 | 1 << 27),
        0,
        "VMX, PDCM, OSXSAVE"
    );
    let extended = find(&leaves, 7, 0);
    assert_eq!(extended.ebx & (1 << 2 | 1 << 25), 0, "SGX, processor trace");
    assert_eq!(extended.ecx & 1 << 30, 0, "SGX launch");
    let amd = find(&leaves, 0x8000_0001, 0).ecx;
    assert_eq!(
        amd & (1 << 2 | 1 << 23 | 1 << 24 | 1 << 28),
        0,
        "SVM, counters"
    );
    for gone in [0xA, 0x12, 0x14, 0x23, 0x8000_000A, 0x8000_001F, 0x8000_0022] {
        assert_eq!(find(&leaves, gone, 0), CpuidLeaf::default(), "{gone:#x}");
    }
}

#[test]
fn leaves_that_the_policy_does_not_name_are_the_hosts() {
    let leaves = guest(0, &CpuidPolicy::new(2));
    for same in [2, 6, 0x15, 0x8000_0007] {
        assert_eq!(find(&leaves, same, 0), leaf(same, None, ALL));
    }
    assert_eq!(
        find(&leaves, 0, 0),
        leaf(0, None, [0x20, 0x756E_6547, 0x6C65_746E, 0x4965_6E69])
    );
}

#[test]
fn only_the_last_level_cache_is_shared() {
    let leaves = guest(0, &CpuidPolicy::new(6));
    for function in [4, 0x8000_001D] {
        let sharing = |index| find(&leaves, function, index).eax >> 14 & 0xFFF;
        assert_eq!([0, 1, 2, 3].map(sharing), [0, 0, 0, 7], "{function:#x}");
    }
    let cores = |index| find(&leaves, 4, index).eax >> 26;
    assert_eq!([0, 1, 2, 3].map(cores), [7; 4]);
}

#[test]
fn the_levels_are_thread_core_and_end() {
    let leaves = guest(4, &CpuidPolicy::new(6));
    for function in [0xB, 0x1F] {
        let levels = [0, 1, 2].map(|index| find(&leaves, function, index));
        let registers = levels.map(|level| [level.eax, level.ebx, level.ecx, level.edx]);
        assert_eq!(
            registers,
            [[0, 1, 0x100, 4], [3, 6, 0x201, 4], [0, 0, 2, 4]]
        );
    }
}

#[test]
fn a_host_without_leaf_0x1f_gives_none() {
    let leaves = cpuid_for_vcpu(&[leaf(0, None, [0xD, 0, 0, 0])], 0, &CpuidPolicy::new(2));
    assert_eq!(find(&leaves, 0x1F, 0), CpuidLeaf::default());
    assert_eq!(find(&leaves, 0xB, 1).ebx, 2);
}

#[test]
fn leaf_0xb_is_within_the_limit() {
    let leaves = cpuid_for_vcpu(&[leaf(0, None, [4, 1, 0, 0])], 0, &CpuidPolicy::new(2));
    assert_eq!(find(&leaves, 0, 0).eax, 0xB);
}

#[test]
fn amd_leaves_describe_the_same_topology() {
    let leaves = guest(5, &CpuidPolicy::new(6));
    assert_eq!(
        find(&leaves, 0x8000_0001, 0).ecx & 1 << 1,
        1 << 1,
        "CmpLegacy"
    );
    assert_eq!(find(&leaves, 0x8000_0008, 0).ecx, 0xFFFF_3F05);
    assert_eq!(
        find(&leaves, 0x8000_001E, 0),
        leaf(0x8000_001E, None, [5, 5, 0, 0])
    );
    assert_eq!(find(&leaves, 0x8000_0026, 0), CpuidLeaf::default());
}

#[test]
fn twice_the_index_leaves_the_lowest_bit_of_an_apic_id_to_threads() {
    let mut policy = CpuidPolicy::new(4);
    policy.apic_ids = ApicIds::TwiceIndex;
    let leaves = guest(3, &policy);
    assert_eq!(find(&leaves, 1, 0).ebx, 0x0608_FFFF);
    let levels = [0, 1].map(|index| find(&leaves, 0xB, index));
    let registers = levels.map(|level| [level.eax, level.ebx, level.edx]);
    assert_eq!(registers, [[1, 1, 6], [3, 4, 6]]);
    assert_eq!(find(&leaves, 4, 3).eax >> 14, 3 << 12 | 7);
    assert_eq!(find(&leaves, 4, 0).eax >> 14 & 0xFFF, 1);
}

#[test]
fn kvm_leaves_offer_only_features_without_hypercalls() {
    let leaves = guest(0, &CpuidPolicy::new(1));
    assert_eq!(
        find(&leaves, 0x4000_0000, 0),
        leaf(0x4000_0000, None, [0x4000_0001, 0x4B4D_564B, 1, 1])
    );
    // Clock source, no I/O delay, new clock source, steal time, PV EOI, stable clock source.
    assert_eq!(
        find(&leaves, 0x4000_0001, 0),
        leaf(0x4000_0001, None, [0x0100_006B, u32::MAX, u32::MAX, 0])
    );
    assert_eq!(find(&leaves, 0x4000_0010, 0), CpuidLeaf::default());
}

#[test]
fn given_hypervisor_leaves_replace_kvms() {
    let mut policy = CpuidPolicy::new(1);
    policy.hypervisor = HypervisorLeaves::Given(vec![leaf(0x4000_0000, None, ALL)]);
    let leaves = guest(0, &policy);
    assert_eq!(find(&leaves, 0x4000_0000, 0), leaf(0x4000_0000, None, ALL));
    assert_eq!(find(&leaves, 0x4000_0001, 0), CpuidLeaf::default());
}

#[test]
fn a_leaf_converted_for_kvm_and_back_is_unchanged() {
    for leaf in [leaf(1, None, ALL), leaf(4, Some(3), [1, 2, 3, 4])] {
        assert_eq!(CpuidLeaf::from(&leaf.to_kvm()), leaf);
    }
}

fn any_leaf() -> impl Strategy<Value = CpuidLeaf> {
    let function = prop_oneof![
        0_u32..0x30,
        0x4000_0000_u32..0x4000_0020,
        0x8000_0000_u32..0x8000_0030
    ];
    let index = proptest::option::of(0_u32..4);
    (function, index, any::<[u32; 4]>())
        .prop_map(|(function, index, registers)| leaf(function, index, registers))
}

proptest! {
    #[test]
    fn any_host_and_any_policy_give_a_bounded_list(
        host in proptest::collection::vec(any_leaf(), 0..100),
        vcpu: u32,
        vcpus: u32,
        is_twice: bool,
    ) {
        let mut policy = CpuidPolicy::new(vcpus);
        policy.apic_ids = if is_twice { ApicIds::TwiceIndex } else { ApicIds::Index };
        let leaves = cpuid_for_vcpu(&host, vcpu, &policy);
        prop_assert!(leaves.len() <= host.len() + 7);
        for leaf in leaves.iter().filter(|leaf| leaf.function == 1) {
            prop_assert_eq!(leaf.ecx & 1 << 31, 1 << 31);
        }
    }

    /// A guest finds its core number from its APIC id and the topology leaves.
    #[test]
    fn every_vcpu_finds_itself_in_one_package(vcpus in 1_u32..300, is_twice: bool) {
        let mut policy = CpuidPolicy::new(vcpus);
        policy.apic_ids = if is_twice { ApicIds::TwiceIndex } else { ApicIds::Index };
        for vcpu in [0, vcpus / 2, vcpus - 1] {
            let leaves = guest(vcpu, &policy);
            let [thread, core] = [0, 1].map(|index| find(&leaves, 0xB, index));
            prop_assert_eq!(core.edx >> core.eax, 0, "package");
            prop_assert_eq!(core.edx >> thread.eax, vcpu, "core");
            prop_assert_eq!(core.edx & ((1 << thread.eax) - 1), 0, "thread");
            prop_assert_eq!(core.ebx, vcpus);
        }
    }
}
