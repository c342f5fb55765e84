//! Delivery, and the sub-operations that are no parameters.

use pvh_abi::{DomId, Errno, Gpa, hvm::HvmParam};
use pvh_domain::parts::hvm::{Callback, Change, HvmState};
use pvh_memory::VecMemory;

const ME: DomId = DomId(5);
const SELF: DomId = DomId(0x7ff0);

fn callback(state: &mut HvmState, value: u64) -> Vec<Change> {
    let mut changes = Vec::new();
    let set = state.set_param(SELF, HvmParam(0), value, &mut changes);
    assert_eq!(set, Ok(()), "{value:#x}");
    assert_eq!(state.param(SELF, HvmParam(0)), Ok(value), "kept as it is");
    changes
}

#[test]
fn bits_63_to_56_of_the_callback_say_how() {
    let device = |device, line| Callback::PciIntx { device, line };
    for (value, want) in [
        (0, Callback::Off),
        (1, Callback::Gsi(1)),
        (0x00ff_ffff_ffff_ff09, Callback::Gsi(9)),
        (0x0100_0000_0000_0000, device(0, 0)),
        // Domain 1, bus 2, device 3 and function 5 in 15:8, line 2.
        (0x0100_0001_0002_1d02, device(3, 2)),
        (0x0100_0000_0000_ffff, device(31, 3)),
        (0x0200_0000_0000_00f3, Callback::Vector(0xf3)),
        (0x0300_0000_0000_00f3, Callback::Off),
        (u64::MAX, Callback::Off),
    ] {
        assert_eq!(Callback::decode(value), want, "{value:#x}");
    }
}

#[test]
fn a_callback_vector_is_every_vcpus_and_latches_the_width() {
    let mut state = HvmState::new(ME, 2);
    assert_eq!(state.global_vector(), None);
    let changes = callback(&mut state, 0x0200_0000_0000_00f3);
    assert_eq!(changes, [Change::GlobalVector(0xf3), Change::LatchWidth]);
    assert_eq!(state.global_vector(), Some(0xf3));
}

#[test]
fn other_callbacks_are_kept_and_leave_the_vector_but_latch_the_width() {
    let mut state = HvmState::new(ME, 1);
    callback(&mut state, 0x0200_0000_0000_00f3);
    for value in [1, 0, 0x0100_0000_0000_0801, 0x0300_0000_0000_0001] {
        let changes = callback(&mut state, value);
        assert_eq!(changes, [Change::LatchWidth], "{value:#x}");
        assert_eq!(state.global_vector(), Some(0xf3), "{value:#x}");
    }
}

#[test]
fn a_callback_of_the_toolstack_does_not_latch_the_width() {
    let mut state = HvmState::new(ME, 1);
    let mut changes = Vec::new();
    let vector = 0x0200_0000_0000_0030;
    state.preset(HvmParam(0), vector, &mut changes).unwrap();
    assert_eq!(changes, [Change::GlobalVector(0x30)]);
}

#[test]
fn each_vcpu_may_have_a_vector_of_its_own() {
    let mut state = HvmState::new(ME, 2);
    let mut changes = Vec::new();
    state.set_upcall_vector(1, 0x10, &mut changes).unwrap();
    state.set_upcall_vector(0, 0xff, &mut changes).unwrap();
    let told = |vcpu, vector| Change::VcpuVector { vcpu, vector };
    assert_eq!(changes, [told(1, 0x10), told(0, 0xff)]);
    let vectors = [0, 1, 2].map(|vcpu| state.vcpu_vector(vcpu));
    assert_eq!(vectors, [Some(0xff), Some(0x10), None]);
}

#[test]
fn a_vector_below_0x10_is_einval_and_an_unknown_vcpu_enoent() {
    let mut state = HvmState::new(ME, 1);
    let mut changes = Vec::new();
    let mut set = |vcpu, vector| state.set_upcall_vector(vcpu, vector, &mut changes);
    assert_eq!(set(0, 0x0f), Err(Errno(22)));
    assert_eq!(set(9, 0x0f), Err(Errno(22)), "the vector comes first");
    assert_eq!(set(1, 0x10), Err(Errno(2)));
    assert_eq!(set(u32::MAX, 0xff), Err(Errno(2)));
    assert_eq!(changes, []);
    assert_eq!(state.vcpu_vector(0), None);
}

#[test]
fn flush_tlbs_flushes() {
    let mut changes = Vec::new();
    HvmState::new(ME, 1).flush_tlbs(&mut changes);
    assert_eq!(changes, [Change::FlushTlbs]);
}

#[test]
fn pagetable_dying_always_fails() {
    let state = HvmState::new(ME, 1);
    assert_eq!(state.pagetable_dying(SELF), Err(Errno(22)));
    assert_eq!(state.pagetable_dying(ME), Err(Errno(22)));
    assert_eq!(state.pagetable_dying(DomId(0)), Err(Errno(95)));
    assert_eq!(state.pagetable_dying(DomId(7)), Err(Errno(3)));
}

#[test]
fn a_frame_is_ram_or_mmio() {
    let state = HvmState::new(ME, 1);
    let memory = VecMemory::zeroed(&[(Gpa(0x1000), 0x1000)]).unwrap();
    let mem_type = |domain, gfn| state.mem_type(&memory, domain, gfn);
    assert_eq!(mem_type(SELF, 1), Ok(0));
    assert_eq!(mem_type(ME, 1), Ok(0));
    for gfn in [0, 2, 1 << 52, u64::MAX] {
        assert_eq!(mem_type(SELF, gfn), Ok(2), "{gfn:#x}");
    }
    assert_eq!(mem_type(DomId(0), 1), Err(Errno(1)));
    assert_eq!(mem_type(DomId(7), 1), Err(Errno(3)));
}
