//! Tests of each rule for a `vcpu_hvm_context`.

use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::Register;

/// A guest whose CPUID shows what a plain 64-bit processor has.
const POLICY: CpuPolicy = CpuPolicy {
    cr4_bits: 0x2_07ff,
    efer_bits: 0x901,
    physical_address_bits: 39,
};

/// What XTF's xsa-472-3 passes: 32-bit flat, cr0 of the boot vCPU, the rest 0.
fn flat_32() -> VcpuHvmX86_32 {
    let mut regs = VcpuHvmX86_32::new_zeroed();
    regs.eip.set(0x10_0000);
    regs.cr0.set(0x11);
    for limit in [
        &mut regs.cs_limit,
        &mut regs.ds_limit,
        &mut regs.ss_limit,
        &mut regs.es_limit,
    ] {
        limit.set(0xffff_ffff);
    }
    regs.tr_limit.set(0x67);
    regs.cs_ar.set(0xc9b);
    for data in [&mut regs.ds_ar, &mut regs.ss_ar, &mut regs.es_ar] {
        data.set(0xc93);
    }
    regs.tr_ar.set(0x8b);
    regs
}

fn in_64() -> VcpuHvmX86_64 {
    let mut regs = VcpuHvmX86_64::new_zeroed();
    regs.rip.set(0xffff_ffff_8100_0000);
    regs.cr0.set(0x8000_0011);
    regs.cr3.set(0x12_3000);
    regs.cr4.set(0x20);
    regs.efer.set(0x100);
    regs
}

fn context(mode: u32, regs: &[u8]) -> VcpuHvmContext {
    let mut context = VcpuHvmContext::new_zeroed();
    context.mode.set(mode);
    context.cpu_regs[..regs.len()].copy_from_slice(regs);
    context
}

fn decode_32(change: impl FnOnce(&mut VcpuHvmX86_32)) -> Result<EntryState, ContextError> {
    let mut regs = flat_32();
    change(&mut regs);
    decode_context(&context(0, regs.as_bytes()), &POLICY)
}

fn decode_64(change: impl FnOnce(&mut VcpuHvmX86_64)) -> Result<EntryState, ContextError> {
    let mut regs = in_64();
    change(&mut regs);
    decode_context(&context(1, regs.as_bytes()), &POLICY)
}

/// Asserts that a change to the flat 32-bit context breaks the rule of that number.
fn breaks(rule: u8, change: impl FnOnce(&mut VcpuHvmX86_32)) -> ContextError {
    let refused = decode_32(change).expect_err("the context is refused");
    assert_eq!(refused.rule(), Some(rule), "{refused}");
    assert_eq!(refused.errno().0, 22);
    refused
}

fn breaks_64(rule: u8, change: impl FnOnce(&mut VcpuHvmX86_64)) {
    let refused = decode_64(change).expect_err("the context is refused");
    assert_eq!(refused.rule(), Some(rule), "{refused}");
}

#[test]
fn a_32_bit_protected_start_has_every_register_of_the_structure() {
    let state = decode_32(|regs| {
        regs.eax.set(1);
        regs.ecx.set(2);
        regs.edx.set(3);
        regs.ebx.set(4);
        regs.esp.set(5);
        regs.ebp.set(6);
        regs.esi.set(7);
        regs.edi.set(8);
        regs.cr3.set(0x9000);
        regs.ss_base.set(0x10);
        regs.es_base.set(0x20);
        regs.tr_base.set(0x30);
    })
    .unwrap();
    assert_eq!([state.rax, state.rcx, state.rdx, state.rbx], [1, 2, 3, 4]);
    assert_eq!([state.rsp, state.rbp, state.rsi, state.rdi], [5, 6, 7, 8]);
    assert_eq!((state.rip, state.cr0, state.cr3), (0x10_0000, 0x11, 0x9000));
    assert_eq!(state.cs, Segment::FLAT_CODE_32);
    assert_eq!(state.ds, Segment::FLAT_DATA_32);
    assert_eq!((state.ss.base, state.es.base), (0x10, 0x20));
    assert_eq!((state.tr.limit, state.tr.attributes.bits()), (0x67, 0x8b));
    assert_eq!(state.tr.base, 0x30);
}

#[test]
fn a_16_bit_protected_start_has_a_code_segment_with_d_clear() {
    let state = decode_32(|regs| {
        regs.eip.set(0xfff0);
        regs.cs_base.set(0x1_0000);
        regs.cs_limit.set(0xffff);
        regs.cs_ar.set(0x9b);
    })
    .unwrap();
    assert_eq!((state.cs.base, state.cs.limit), (0x1_0000, 0xffff));
    assert!(!state.cs.attributes.is_big() && !state.cs.attributes.is_granular());
    assert_eq!(state.cr0 & 1, 1);
}

#[test]
fn a_real_mode_start_is_a_32_bit_context_with_pe_clear() {
    let state = decode_32(|regs| {
        regs.cr0.set(0x10);
        regs.cs_base.set(0x9_0000);
        regs.eip.set(0x100);
        for limit in [&mut regs.cs_limit, &mut regs.ds_limit, &mut regs.ss_limit] {
            limit.set(0xffff);
        }
        regs.cs_ar.set(0x9b);
        regs.ds_ar.set(0x93);
        regs.ss_ar.set(0x93);
    })
    .unwrap();
    assert_eq!(
        (state.cr0, state.cs.base, state.rip),
        (0x10, 0x9_0000, 0x100)
    );
    assert_eq!(state.cs.selector, 0);
}

#[test]
fn a_pae_start_has_paging_without_long_mode() {
    let state = decode_32(|regs| {
        regs.cr0.set(0x8000_0011);
        regs.cr3.set(0x3000);
        regs.cr4.set(0x20);
    })
    .unwrap();
    assert_eq!((state.cr0, state.cr4, state.efer), (0x8000_0011, 0x20, 0));
}

#[test]
fn a_compatibility_mode_start_has_lma_set_for_it() {
    let state = decode_32(|regs| {
        regs.cr0.set(0x8000_0011);
        regs.cr4.set(0x20);
        regs.efer.set(0x100);
    })
    .unwrap();
    assert_eq!(state.efer, 0x500);
    assert_eq!(state.cs.attributes.bits(), 0xc9b);
}

#[test]
fn a_64_bit_start_has_every_register_of_the_structure() {
    let state = decode_64(|regs| {
        regs.rax.set(0x1_0000_0001);
        regs.rcx.set(0x1_0000_0002);
        regs.rdx.set(0x1_0000_0003);
        regs.rbx.set(0x1_0000_0004);
        regs.rsp.set(0x1_0000_0005);
        regs.rbp.set(0x1_0000_0006);
        regs.rsi.set(0x1_0000_0007);
        regs.rdi.set(0x1_0000_0008);
        regs.rflags.set(0x46);
    })
    .unwrap();
    let registers = [
        state.rax, state.rcx, state.rdx, state.rbx, state.rsp, state.rbp, state.rsi, state.rdi,
    ];
    let wanted = [1, 2, 3, 4, 5, 6, 7, 8].map(|number| 0x1_0000_0000 | number);
    assert_eq!(registers, wanted);
    assert_eq!((state.rip, state.rflags), (0xffff_ffff_8100_0000, 0x46));
    assert_eq!(
        (state.cr0, state.cr3, state.cr4),
        (0x8000_0011, 0x12_3000, 0x20)
    );
}

#[test]
fn a_64_bit_start_has_flat_segments_and_lma() {
    let state = decode_64(|regs| {
        regs.rax.set(0x1_0000_0001);
        regs.rsp.set(0xffff_8000_0000_0000);
    })
    .unwrap();
    assert_eq!(
        (state.rax, state.rsp),
        (0x1_0000_0001, 0xffff_8000_0000_0000)
    );
    assert_eq!(state.efer, 0x500, "LMA := 1 whenever LME is 1");
    assert_eq!(
        (state.cs.limit, state.cs.attributes.bits()),
        (u32::MAX, 0xa9b)
    );
    for data in [state.ds, state.ss, state.es] {
        assert_eq!(
            (data.base, data.limit, data.attributes.bits()),
            (0, u32::MAX, 0xc93)
        );
    }
    assert_eq!((state.tr.limit, state.tr.attributes.bits()), (0x67, 0x8b));
}

#[test]
fn what_is_not_in_the_structure_is_as_at_creation() {
    for state in [decode_32(|_| ()).unwrap(), decode_64(|_| ()).unwrap()] {
        for flat in [state.fs, state.gs] {
            assert_eq!((flat.selector, flat.base, flat.limit), (0, 0, u32::MAX));
            assert_eq!(flat.attributes.bits(), 0xc93);
        }
        assert_eq!((state.ldtr.limit, state.ldtr.attributes.bits()), (0, 0x82));
        assert_eq!((state.gdtr.base, state.gdtr.limit), (0, 0));
        assert_eq!((state.idtr.base, state.idtr.limit), (0, 0));
        assert_eq!([state.r8, state.r9, state.r14, state.r15], [0; 4]);
        assert_eq!(state.cr2, 0);
        assert_eq!((state.dr6, state.dr7), (0xffff_0ff0, 0x400));
        for segment in [state.cs, state.ds, state.ss, state.es, state.tr] {
            assert_eq!(segment.selector, 0);
        }
    }
}

#[test]
fn rule_1_pad_is_0() {
    let mut context = context(7, flat_32().as_bytes());
    context.pad.set(1);
    let refused = decode_context(&context, &POLICY).unwrap_err();
    assert_eq!(refused.rule(), Some(1), "before the mode is looked at");
}

#[test]
fn rule_2_mode_is_0_or_1() {
    for mode in [2, 3, u32::MAX] {
        let refused = decode_context(&context(mode, &[]), &POLICY);
        assert_eq!(refused, Err(ContextError::Mode { mode }));
        assert_eq!(refused.unwrap_err().rule(), Some(2));
    }
}

#[test]
fn rule_3_the_padding_of_the_32_bit_part_is_0() {
    breaks(3, |regs| regs.pad1.set(1));
    for index in 0..3 {
        breaks(3, |regs| regs.pad2[index].set(1));
    }
}

#[test]
fn rule_4_bits_12_to_15_are_0() {
    for bit in 12..16 {
        breaks(4, |regs| regs.cs_ar.set(0xc9b | 1 << bit));
        breaks(4, |regs| regs.es_ar.set(1 << bit));
    }
}

#[test]
fn rule_5_only_ds_and_es_may_be_null() {
    let state = decode_32(|regs| {
        regs.ds_ar.set(0);
        regs.es_ar.set(0);
    })
    .unwrap();
    assert!(!state.ds.attributes.is_present() && !state.es.attributes.is_present());
    breaks(5, |regs| regs.cs_ar.set(0));
    breaks(5, |regs| regs.ss_ar.set(0));
}

#[test]
fn rule_6_code_and_data_segments_have_s() {
    breaks(6, |regs| regs.cs_ar.set(0xc8b));
    breaks(6, |regs| regs.ds_ar.set(0xc83));
}

#[test]
fn rule_7_segments_are_present() {
    breaks(7, |regs| regs.cs_ar.set(0xc1b));
    breaks(7, |regs| regs.es_ar.set(0xc13));
}

#[test]
fn rule_8_cs_is_code_conforming_and_execute_only_included() {
    breaks(8, |regs| regs.cs_ar.set(0xc93));
    for code in [0xc99, 0xc9d, 0xc9f] {
        assert!(decode_32(|regs| regs.cs_ar.set(code)).is_ok());
    }
}

#[test]
fn rule_9_ss_is_writable_data() {
    breaks(9, |regs| regs.ss_ar.set(0xc91));
    breaks(9, |regs| regs.ss_ar.set(0xc9b));
}

#[test]
fn rule_10_ds_and_es_are_readable() {
    breaks(10, |regs| regs.ds_ar.set(0xc99));
    breaks(10, |regs| regs.es_ar.set(0xc99));
    assert!(decode_32(|regs| regs.ds_ar.set(0xc9b)).is_ok());
    assert!(
        decode_32(|regs| regs.ds_ar.set(0xc91)).is_ok(),
        "read-only data"
    );
}

#[test]
fn rule_11_tr_is_a_32_bit_tss_and_made_busy() {
    for tss in [0x89, 0x8b] {
        let state = decode_32(|regs| regs.tr_ar.set(tss)).unwrap();
        assert_eq!(state.tr.attributes.bits(), 0x8b);
    }
    for refused in [0, 0x81, 0x83, 0x0b, 0x09, 0x9b, 0x108b] {
        breaks(11, |regs| regs.tr_ar.set(refused));
    }
}

#[test]
fn rule_12_eip_is_inside_cs() {
    breaks(12, |regs| {
        regs.cs_limit.set(0xffff);
        regs.cs_ar.set(0x9b);
        regs.eip.set(0x1_0000);
    });
    let at_the_limit = decode_32(|regs| {
        regs.cs_limit.set(0xffff);
        regs.cs_ar.set(0x9b);
        regs.eip.set(0xffff);
    });
    assert!(at_the_limit.is_ok());
}

#[test]
fn rule_12_counts_the_limit_in_pages_when_g_is_given() {
    let state = decode_32(|regs| {
        regs.cs_limit.set(0x10);
        regs.eip.set(0x1_0fff);
    })
    .unwrap();
    assert_eq!(state.cs.limit, 0x10, "loaded as given, in bytes");
    assert!(!state.cs.attributes.is_granular(), "G is derived from it");
    breaks(12, |regs| {
        regs.cs_limit.set(0x10);
        regs.eip.set(0x1_1000);
    });
}

#[test]
fn rule_13_ss_and_cs_have_one_privilege_level() {
    let refused = breaks(13, |regs| regs.ss_ar.set(0xcf3));
    assert_eq!(refused, ContextError::StackPrivilege { ss: 3, cs: 0 });
}

#[test]
fn rule_14_ds_and_es_have_no_higher_level_than_cs() {
    breaks(14, |regs| regs.ds_ar.set(0xcf3));
    breaks(14, |regs| regs.es_ar.set(0xcb3));
    let below = decode_32(|regs| {
        regs.cs_ar.set(0xcfb);
        regs.ss_ar.set(0xcf3);
    });
    assert!(below.is_ok(), "level 3 throughout, data at 0: not refused");
}

#[test]
fn rule_15_lma_needs_lme() {
    breaks(15, |regs| regs.efer.set(0x400));
}

#[test]
fn rule_16_rip_is_canonical() {
    breaks_64(16, |regs| regs.rip.set(0x8000_0000_0000));
    breaks_64(16, |regs| regs.rip.set(0xffff_7fff_ffff_ffff));
    assert!(decode_64(|regs| regs.rip.set(0x7fff_ffff_ffff)).is_ok());
    assert!(decode_64(|regs| regs.rip.set(0xffff_8000_0000_0000)).is_ok());
}

#[test]
fn rules_17_to_19_64_bit_mode_needs_paging_pae_and_lme_in_that_order() {
    breaks_64(17, |regs| {
        regs.cr0.set(0x11);
        regs.cr4.set(0);
        regs.efer.set(0);
    });
    breaks_64(18, |regs| {
        regs.cr4.set(0);
        regs.efer.set(0);
    });
    breaks_64(19, |regs| regs.efer.set(0));
}

#[test]
fn rule_20_cr4_has_only_permitted_bits() {
    let refused = breaks(20, |regs| regs.cr4.set(0x1000));
    assert_eq!(
        refused,
        ContextError::Cr4Bits { bits: 0x1000 },
        "LA57 is hidden"
    );
    breaks_64(20, |regs| regs.cr4.set(0x1_0000_0020));
}

#[test]
fn rule_21_efer_has_only_permitted_bits() {
    breaks(21, |regs| regs.efer.set(0x1000));
    breaks_64(21, |regs| regs.efer.set(0x1100));
    let with_lma = CpuPolicy {
        efer_bits: 0xd01,
        ..POLICY
    };
    let mut regs = in_64();
    regs.efer.set(0x500);
    let taken = decode_context(&context(1, regs.as_bytes()), &with_lma);
    assert_eq!(taken.unwrap().efer, 0x500, "a policy may name LMA too");
    let without_long_mode = CpuPolicy {
        efer_bits: 0,
        ..POLICY
    };
    let refused = decode_context(&context(1, in_64().as_bytes()), &without_long_mode);
    assert_eq!(refused.unwrap_err(), ContextError::EferBits { bits: 0x100 });
    let refused = decode_context(&context(1, regs.as_bytes()), &without_long_mode);
    assert_eq!(refused.unwrap_err(), ContextError::EferBits { bits: 0x500 });
}

#[test]
fn segments_are_judged_before_eip_and_eip_before_efer() {
    breaks(9, |regs| {
        regs.ss_ar.set(0xc91);
        regs.eip.set(u32::MAX);
        regs.cs_limit.set(1);
        regs.efer.set(0x400);
    });
    breaks(12, |regs| {
        regs.cs_limit.set(1);
        regs.cs_ar.set(0x49b);
        regs.ss_ar.set(0xcf3);
        regs.efer.set(0x400);
    });
}

#[test]
fn lme_without_paging_is_not_refused_and_lma_stays_clear() {
    assert_eq!(decode_32(|regs| regs.efer.set(0x500)).unwrap().efer, 0x100);
}

#[test]
fn eflags_keeps_architectural_bits_and_bit_1() {
    let state = decode_32(|regs| regs.eflags.set(0xfffd_ffff)).unwrap();
    assert_eq!(state.rflags, 0x3d_7fd7);
    assert_eq!(decode_64(|_| ()).unwrap().rflags, 2);
}

/// Asserts that a change is refused although Xen would store it.
fn beyond(change: impl FnOnce(&mut VcpuHvmX86_32)) -> ContextError {
    let refused = decode_32(change).expect_err("no processor enters it");
    assert_eq!((refused.rule(), refused.errno().0), (None, 22), "{refused}");
    refused
}

#[test]
fn a_cr0_that_no_processor_takes_is_refused_after_xens_rules() {
    for cr0 in [0x8000_0010, 0x2000_0011] {
        let refused = beyond(|regs| regs.cr0.set(cr0));
        assert_eq!(refused, ContextError::Cr0 { cr0: cr0.into() });
    }
    breaks(20, |regs| {
        regs.cr0.set(0x8000_0010);
        regs.cr4.set(0x1000);
    });
    let high = decode_64(|regs| regs.cr0.set(0x1_8000_0011)).unwrap_err();
    assert!(decode_64(|regs| regs.cr0.set(0xffff_ffff)).is_ok());
    assert_eq!(high, ContextError::Cr0 { cr0: 0x1_8000_0011 });
}

#[test]
fn reserved_bits_of_cr0_read_as_hardware_reads_them() {
    assert_eq!(
        decode_32(|regs| regs.cr0.set(0x1ff9_ffc1)).unwrap().cr0,
        0x0001_0011
    );
}

#[test]
fn long_mode_without_pae_is_refused() {
    let refused = beyond(|regs| {
        regs.cr0.set(0x8000_0011);
        regs.efer.set(0x100);
    });
    assert_eq!(refused, ContextError::LongModeWithoutPae { cr4: 0 });
}

#[test]
fn pcide_outside_of_long_mode_is_refused() {
    let refused = beyond(|regs| regs.cr4.set(0x2_0000));
    assert_eq!(refused, ContextError::PcidOutsideLongMode { cr4: 0x2_0000 });
    assert!(decode_64(|regs| regs.cr4.set(0x2_0020)).is_ok());
}

#[test]
fn a_cr3_above_the_guests_addresses_is_refused() {
    let cr3 = 1 << 39;
    let refused = decode_64(|regs| regs.cr3.set(cr3)).unwrap_err();
    assert_eq!(refused, ContextError::Cr3 { cr3 });
    assert!(decode_64(|regs| regs.cr3.set(cr3 - 0x1000)).is_ok());
}

#[test]
fn virtual_8086_mode_is_refused() {
    beyond(|regs| regs.eflags.set(1 << 17));
}

#[test]
fn the_l_bit_of_cs_counts_in_long_mode_only() {
    let ignored = decode_32(|regs| regs.cs_ar.set(0xa9b)).unwrap();
    assert!(!ignored.cs.attributes.is_long());
    let long = |regs: &mut VcpuHvmX86_32, cs: u16| {
        regs.cr0.set(0x8000_0011);
        regs.cr4.set(0x20);
        regs.efer.set(0x100);
        regs.cs_ar.set(cs);
    };
    assert!(
        decode_32(|regs| long(regs, 0xa9b))
            .unwrap()
            .cs
            .attributes
            .is_long()
    );
    assert_eq!(beyond(|regs| long(regs, 0xe9b)), ContextError::LongAndBig);
}

#[test]
fn a_limit_that_no_g_bit_can_say_is_refused() {
    extern crate std;
    let refused = beyond(|regs| regs.es_limit.set(0x12_3456));
    let (register, limit) = (Register::Es, 0x12_3456);
    assert_eq!(refused, ContextError::Limit { register, limit });
    let shown = "es: limit 0x123456 is above 1 MiB and does not end a page";
    assert_eq!(std::format!("{refused}"), shown);
    assert!(decode_32(|regs| regs.es_limit.set(0x12_3fff)).is_ok());
    let null = decode_32(|regs| {
        regs.es_limit.set(0x12_3456);
        regs.es_ar.set(0);
    });
    assert!(null.is_ok(), "a null segment has no limit");
}

#[test]
fn real_mode_at_another_level_than_0_is_refused() {
    let refused = beyond(|regs| {
        regs.cr0.set(0x10);
        regs.cs_ar.set(0xcfb);
        regs.ss_ar.set(0xcf3);
    });
    assert_eq!(refused, ContextError::RealModePrivilege { dpl: 3 });
}

proptest! {
    /// What passes can be entered: the invariants that KVM and the processors test.
    #[test]
    fn whatever_passes_can_be_entered(
        mode in 0_u32..3,
        bytes in proptest::collection::vec(any::<u8>(), 120),
        keep in proptest::collection::vec(any::<bool>(), 120),
    ) {
        let base = if mode == 1 { in_64().as_bytes().to_vec() } else { flat_32().as_bytes().to_vec() };
        let mut regs = [0; 120];
        regs[..base.len()].copy_from_slice(&base);
        // Mostly a good context, so that many cases get past the first rules.
        for ((reg, keep), (gate, byte)) in
            regs.iter_mut().zip(&keep).zip(bytes.iter().zip(bytes.iter().rev()))
        {
            if !keep && *gate < 64 {
                *reg = *byte;
            }
        }
        let Ok(state) = decode_context(&context(mode, &regs), &POLICY) else { return Ok(()) };
        let long = state.efer & 0x400 != 0;
        prop_assert_eq!(long, state.efer & 0x100 != 0 && state.cr0 >> 31 & 1 == 1);
        prop_assert!(!long || state.cr4 & 0x20 != 0);
        prop_assert!(state.cr0 >> 31 & 1 == 0 || state.cr0 & 1 == 1);
        prop_assert_eq!(state.rflags & 2, 2);
        prop_assert_eq!(state.tr.attributes.bits() & 0x9f, 0x8b);
        for segment in [state.cs, state.ss, state.tr] {
            prop_assert!(segment.attributes.is_present());
            prop_assert!(segment.descriptor().is_ok());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 128), policy: (u64, u64, u8)) {
        let context = VcpuHvmContext::read_from_bytes(&bytes).unwrap();
        let policy = CpuPolicy { cr4_bits: policy.0, efer_bits: policy.1, physical_address_bits: policy.2 };
        let _ = decode_context(&context, &policy);
    }
}

#[test]
fn a_policy_read_out_of_cpuid_has_the_bits_of_the_features_that_are_shown() {
    let policy = CpuPolicy::from_cpuid(|leaf| match leaf {
        1 => [0, 0, 1 << 17 | 1 << 26, 0x0300_20de],
        7 => [0, 1 | 1 << 7 | 1 << 20, 1 << 2 | 1 << 3, 0],
        0x8000_0001 => [0, 0, 0, 1 << 11 | 1 << 20 | 1 << 29],
        0x8000_0008 => [0x3028, 0, 0, 0],
        _ => [0; 4],
    });
    assert_eq!(policy.cr4_bits, 0x77_0fff);
    assert_eq!(policy.efer_bits, 0xd01);
    assert_eq!(policy.physical_address_bits, 40);
    let bare = CpuPolicy::from_cpuid(|_| [0; 4]);
    assert_eq!((bare.cr4_bits, bare.efer_bits), (0x100, 0), "PCE alone");
    assert_eq!(bare.physical_address_bits, 36);
}
