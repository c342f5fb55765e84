//! The functions over a caller's own descriptors, on /dev/kvm.

use kvm_ioctls::{Cap, Kvm};
use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_kvm::fds;

#[test]
#[ignore = "needs /dev/kvm"]
fn an_entry_state_is_read_back_from_a_vcpu_of_another_program() {
    let vm = Kvm::new().unwrap().create_vm().unwrap();
    let vcpu = vm.create_vcpu(0).unwrap();
    let mut state = EntryState::pvh(0x10_0000, Gpa(0x9000)).unwrap();
    state.r15 = 0x1234_5678_9ABC_DEF0;
    fds::set_entry(&vcpu, &state).unwrap();
    let registers = fds::registers(&vcpu).unwrap();
    assert_eq!(registers.state, state);
    assert_eq!(
        (registers.state.rip, registers.state.rbx),
        (0x10_0000, 0x9000)
    );
}

#[test]
#[ignore = "needs /dev/kvm"]
fn hypercalls_and_their_msr_exit_where_kvm_can() {
    let kvm = Kvm::new().unwrap();
    let vm = kvm.create_vm().unwrap();
    fds::filter_hypercall_msr(&vm).unwrap();
    let xen = kvm.check_extension_int(Cap::XenHvm);
    let can_intercept = xen & 2 != 0; // KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL
    assert_eq!(
        fds::intercept_hypercalls(&vm).is_ok(),
        can_intercept,
        "{xen:#x}"
    );
}
