//! `pvh-vmm`: boots PVH guests on KVM.

fn main() {}
