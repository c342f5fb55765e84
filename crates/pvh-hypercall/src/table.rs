//! Which hypercall numbers a PVH domain has.

use pvh_abi::{Errno, hypercall::HypercallNumber as Number};

use crate::refused::PAGING_DOMCTL_CONT;

/// The answer to a hypercall number in a PVH domain without privileges.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "served or refused")]
pub enum Availability {
    /// The hypercall is served.
    Served,
    /// The hypercall answers this error, unless Xen checks an argument first.
    Refused(Errno),
}

/// Looks a number up: the column "HVM" of Xen 4.17's table, for a domU.
///
/// Calls of the toolstack, of device models and for PV page tables answer EPERM, the performance
/// counters EOPNOTSUPP as for every domain with a local APIC, and physical devices ENOSYS for all
/// sub-operations, as a domain without pirqs has it. What is PV's alone, not built in by default,
/// or not a number at all is ENOSYS.
#[must_use]
pub const fn availability(number: Number) -> Availability {
    match number {
        Number::MEMORY_OP
        | Number::MULTICALL
        | Number::SET_TIMER_OP
        | Number::XEN_VERSION
        | Number::CONSOLE_IO
        | Number::GRANT_TABLE_OP
        | Number::VM_ASSIST
        | Number::VCPU_OP
        | Number::SCHED_OP
        | Number::EVENT_CHANNEL_OP
        | Number::HVM_OP => Availability::Served,
        Number::PLATFORM_OP
        | Number::SYSCTL
        | Number::DOMCTL
        | Number::MMUEXT_OP
        | Number::DM_OP
        | Number::HYPFS_OP => Availability::Refused(Errno::EPERM),
        Number::XENPMU_OP | PAGING_DOMCTL_CONT => Availability::Refused(Errno::EOPNOTSUPP),
        _ => Availability::Refused(Errno::ENOSYS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_as_drawn() {
        // By tens: s served, p EPERM, o EOPNOTSUPP, - ENOSYS.
        let drawn = [
            "-------p--",
            "--ss-s-ss-",
            "ss--s-p--s",
            "--s-spp---",
            "opp------o",
        ];
        let letters = drawn.into_iter().flat_map(str::chars);
        for (number, want) in (0_u64..).zip(letters) {
            let got = match availability(Number(number)) {
                Availability::Served => 's',
                Availability::Refused(Errno::EPERM) => 'p',
                Availability::Refused(Errno::EOPNOTSUPP) => 'o',
                Availability::Refused(_) => '-',
            };
            assert_eq!(got, want, "hypercall {number}");
        }
    }

    #[test]
    fn a_number_of_no_hypercall_is_enosys() {
        let none = Availability::Refused(Errno(38));
        for number in [11, 48, 55, 127, 128, 0x8000_000c, 0x1_0000_000c, u64::MAX] {
            assert_eq!(availability(Number(number)), none, "{number:#x}");
        }
    }
}
