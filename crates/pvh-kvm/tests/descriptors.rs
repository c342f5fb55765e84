//! Checks that no public type of this crate hands out a descriptor.

use std::{
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd},
};

use pvh_kvm::{GuestClock, GuestRam, Kicker, Kvm, LostPages, Vcpu, Vm, WriteAhead};

/// Looks up which traits `T` implements.
struct Type<T>(PhantomData<T>);

/// The answers for a type without the trait. An inherent constant takes precedence over these.
trait Otherwise {
    const LENDS: bool = false;
    const NAMES: bool = false;
    const GIVES_UP: bool = false;
    const BECOMES: bool = false;
}

impl<T> Otherwise for Type<T> {}

impl<T: AsFd> Type<T> {
    const LENDS: bool = true;
}

impl<T: AsRawFd> Type<T> {
    const NAMES: bool = true;
}

impl<T: IntoRawFd> Type<T> {
    const GIVES_UP: bool = true;
}

impl<T: Into<OwnedFd>> Type<T> {
    const BECOMES: bool = true;
}

/// Lists, for each type, whether it implements `AsFd`, `AsRawFd`, `IntoRawFd` and `Into<OwnedFd>`.
macro_rules! traits {
    ($($name:ty),*) => {
        [$((
            stringify!($name),
            [
                <Type<$name>>::LENDS,
                <Type<$name>>::NAMES,
                <Type<$name>>::GIVES_UP,
                <Type<$name>>::BECOMES,
            ],
        )),*]
    };
}

/// With the descriptor of a vCPU, safe code could map its `kvm_run` page and write to it while this
/// crate reads it.
#[test]
fn no_type_hands_out_its_descriptor() {
    let types = traits![
        Kvm, Vm, Vcpu, Kicker, GuestRam, GuestClock, LostPages, WriteAhead
    ];
    for (name, found) in types {
        assert_eq!(found, [false; 4], "{name}");
    }
    assert_eq!(traits![std::fs::File], [("std::fs::File", [true; 4])]);
}
