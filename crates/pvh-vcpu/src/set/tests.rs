//! Tests of the vCPUs of a domain.

use pvh_abi::{
    Errno,
    vcpu::{VcpuHvmContext, VcpuHvmMode},
};
use zerocopy::FromZeros;

use super::*;

const POLICY: CpuPolicy = CpuPolicy {
    cr4_bits: 0x7ff,
    efer_bits: 0xd01,
    physical_address_bits: 39,
};

/// The context of XTF's test: 32-bit flat, entered at 0x1234.
fn context() -> VcpuHvmContext {
    let mut context = VcpuHvmContext::new_zeroed();
    context.mode.set(VcpuHvmMode::MODE_32B.0);
    let mut put = |at: usize, bytes: &[u8]| {
        context.cpu_regs[at..][..bytes.len()].copy_from_slice(bytes);
    };
    put(32, &0x1234_u32.to_le_bytes());
    put(40, &1_u32.to_le_bytes());
    for limit in [84, 88, 92, 96] {
        put(limit, &u32::MAX.to_le_bytes());
    }
    put(100, &0x67_u32.to_le_bytes());
    put(104, &0xc9b_u16.to_le_bytes());
    for data in [106, 108, 110] {
        put(data, &0xc93_u16.to_le_bytes());
    }
    put(112, &0x8b_u16.to_le_bytes());
    context
}

fn set() -> VcpuSet<[Vcpu; 3]> {
    VcpuSet::new([Vcpu::RESET; 3])
}

#[test]
fn the_boot_vcpu_is_up_and_the_others_are_not() {
    let mut set = set();
    assert_eq!(
        [0, 1, 2].map(|vcpu| set.is_up(vcpu)),
        [Ok(true), Ok(false), Ok(false)]
    );
    assert_eq!(
        set.orders(0),
        Ok(Orders::Run(None)),
        "its registers are the loader's"
    );
    assert_eq!(set.orders(1), Ok(Orders::Park));
}

#[test]
fn an_absent_vcpu_is_enoent_for_every_call() {
    let mut set = set();
    for absent in [3, u32::MAX] {
        let refused = Err(VcpuError::NoSuchVcpu { vcpu: absent });
        assert_eq!(set.initialise(absent, &context(), &POLICY), refused);
        assert_eq!(set.up(absent), refused.map(|()| None));
        assert_eq!(set.down(absent), refused.map(|()| None));
        assert_eq!(set.is_up(absent), refused.map(|()| false));
        assert_eq!(set.init(absent), refused.map(|()| None));
        assert_eq!(set.sipi(absent, 1), refused.map(|()| None));
    }
    assert_eq!(VcpuError::NoSuchVcpu { vcpu: 3 }.errno(), Errno(2));
}

#[test]
fn initialise_leaves_the_vcpu_down_and_up_starts_it_with_its_registers() {
    let mut set = set();
    assert_eq!(set.initialise(1, &context(), &POLICY), Ok(()));
    assert_eq!(set.is_up(1), Ok(false));
    assert_eq!(set.orders(1), Ok(Orders::Park));
    assert_eq!(set.up(1), Ok(Some(Effect::Start(1))));
    assert_eq!(set.is_up(1), Ok(true));
    let Ok(Orders::Run(Some(state))) = set.orders(1) else {
        panic!("the vCPU has registers to start with");
    };
    assert_eq!((state.rip, state.cr0), (0x1234, 0x11));
    assert_eq!(
        set.orders(1),
        Ok(Orders::Run(None)),
        "they are handed out once"
    );
}

#[test]
fn up_of_a_vcpu_that_is_up_is_0_and_does_nothing() {
    let mut set = set();
    assert_eq!(set.up(0), Ok(None));
}

#[test]
fn a_second_initialise_is_eexist_before_its_context_is_judged() {
    let mut set = set();
    set.initialise(1, &context(), &POLICY).unwrap();
    let mut bad = context();
    bad.pad.set(1);
    for vcpu in [0, 1] {
        let refused = set.initialise(vcpu, &bad, &POLICY).unwrap_err();
        assert_eq!(refused.errno(), Errno(17));
    }
}

#[test]
fn a_refused_context_leaves_the_vcpu_uninitialised() {
    let mut set = set();
    let mut bad = context();
    bad.mode.set(2);
    let refused = set.initialise(1, &bad, &POLICY).unwrap_err();
    assert_eq!(
        refused,
        VcpuError::Context(crate::ContextError::Mode { mode: 2 })
    );
    assert_eq!(refused.errno(), Errno(22));
    assert_eq!(set.up(1), Err(VcpuError::NotInitialised));
    assert_eq!(
        set.initialise(1, &context(), &POLICY),
        Ok(()),
        "a good one may follow"
    );
}

#[test]
fn down_then_up_resumes_the_registers_it_had() {
    let mut set = set();
    set.initialise(1, &context(), &POLICY).unwrap();
    set.up(1).unwrap();
    set.orders(1).unwrap();
    assert_eq!(set.down(1), Ok(Some(Effect::Stop(1))));
    assert_eq!(set.orders(1), Ok(Orders::Park));
    assert_eq!(set.down(1), Ok(None), "down again is 0");
    assert_eq!(set.up(1), Ok(Some(Effect::Resume(1))));
    assert_eq!(set.orders(1), Ok(Orders::Run(None)));
}

#[test]
fn a_start_overtaken_by_a_stop_keeps_its_registers() {
    let mut set = set();
    set.initialise(1, &context(), &POLICY).unwrap();
    set.up(1).unwrap();
    set.down(1).unwrap();
    assert_eq!(set.up(1), Ok(Some(Effect::Start(1))));
    assert!(matches!(set.orders(1), Ok(Orders::Run(Some(_)))));
}

#[test]
fn the_last_vcpu_going_down_powers_off_once() {
    let mut set = set();
    set.sipi(1, 8).unwrap();
    assert_eq!(set.down(0), Ok(Some(Effect::Stop(0))));
    assert_eq!(set.down(1), Ok(Some(Effect::PowerOff)));
    assert_eq!(set.down(1), Ok(None));
    assert_eq!(
        [0, 1, 2].map(|vcpu| set.orders(vcpu).unwrap()),
        [Orders::End; 3]
    );
}

#[test]
fn init_of_the_last_vcpu_powers_off_too() {
    assert_eq!(set().init(0), Ok(Some(Effect::PowerOff)));
}

#[test]
fn init_takes_the_registers_so_that_new_ones_can_be_given() {
    let mut set = set();
    set.initialise(1, &context(), &POLICY).unwrap();
    set.up(1).unwrap();
    assert_eq!(set.init(1), Ok(Some(Effect::Stop(1))));
    assert_eq!(set.state(1), Ok(State::Reset));
    assert_eq!(set.up(1), Err(VcpuError::NotInitialised));
    assert_eq!(set.initialise(1, &context(), &POLICY), Ok(()));
    assert_eq!(set.init(2), Ok(None), "a vCPU in reset stays there");
}

#[test]
fn a_sipi_starts_a_vcpu_in_reset_and_no_other() {
    let mut set = set();
    assert_eq!(set.sipi(1, 0x9a), Ok(Some(Effect::Start(1))));
    let Ok(Orders::Run(Some(state))) = set.orders(1) else {
        panic!("the vCPU has registers to start with");
    };
    assert_eq!(state.cs.base, 0x9_a000);
    assert_eq!(set.sipi(1, 1), Ok(None));
    assert_eq!(set.down(1), Ok(Some(Effect::Stop(1))));
    assert_eq!(set.sipi(1, 1), Ok(None), "down is not reset");
    assert_eq!(
        set.initialise(1, &context(), &POLICY),
        Err(VcpuError::AlreadyInitialised)
    );
}

#[test]
fn an_ended_domain_orders_every_vcpu_to_end_and_powers_off_no_more() {
    let mut set = set();
    set.end();
    assert_eq!(set.orders(2), Ok(Orders::End));
    assert_eq!(set.down(0), Ok(None));
}

#[test]
fn a_set_of_no_vcpus_has_none() {
    let mut set: VcpuSet<[Vcpu; 0]> = VcpuSet::new([]);
    assert_eq!((set.count(), self::set().count()), (0, 3));
    assert_eq!(set.orders(0), Err(VcpuError::NoSuchVcpu { vcpu: 0 }));
}
