//! Chooses how the hypercalls of a guest arrive on a host.

use pvh_elfnote::XenNotes;
use pvh_hypercall::HYPERCALL_PORT;
use pvh_kvm::{Capabilities, HypercallTransport};

/// The most vCPUs of a Xen domain: an APIC id is twice the vCPU's number, and one byte.
pub const MAX_VCPUS: u32 = 128;

/// How an image makes hypercalls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum GuestKind {
    /// Through the hypercall page, or not at all.
    UsesThePage,
    /// By VMCALL or VMMCALL in its own code: a Linux without a HYPERCALL_PAGE note.
    CallsBare,
    /// Through I/O port 0xE4: its stubs are patched, as with `pvh_loader::Boot::patch`.
    Patched,
}

impl GuestKind {
    /// Finds out from the notes of an image whose stubs are not patched.
    #[must_use]
    pub fn of(notes: &XenNotes) -> Self {
        let os = notes.guest_os.as_ref().map(|name| name.as_bytes());
        if os == Some(b"linux") && notes.hypercall_page.is_none() {
            Self::CallsBare
        } else {
            Self::UsesThePage
        }
    }
}

/// Why a guest cannot be a Xen domain on a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The host's KVM lacks a capability that every transport needs.
    #[error("this host's KVM lacks {capability}, so no hypercall can be received")]
    Host {
        /// KVM's name for it.
        capability: &'static str,
    },
    /// A Xen domain cannot have so many vCPUs.
    #[error("{cpus} vCPUs: a Xen domain has 1 to {MAX_VCPUS}")]
    Cpus {
        /// How many were asked for.
        cpus: u32,
    },
    /// The guest executes VMCALL or VMMCALL itself, and the host cannot intercept that.
    #[error(
        "the kernel executes VMCALL or VMMCALL itself (a Linux without a HYPERCALL_PAGE note), and this host's KVM cannot \
         intercept them: it lacks {capability}"
    )]
    BareCalls {
        /// KVM's name for what it lacks.
        capability: &'static str,
    },
}

/// Chooses the best hypercall transport for a guest of `cpus` vCPUs: KVM intercepts its calls where
/// the host can and the stubs are not patched; otherwise they use I/O port 0xE4.
///
/// # Errors
///
/// [`TransportError`]: more than [`MAX_VCPUS`], or the host has no transport for this guest.
pub fn choose_transport(
    guest: GuestKind,
    cpus: u32,
    host: &Capabilities,
) -> Result<HypercallTransport, TransportError> {
    const PORT: HypercallTransport = HypercallTransport::Port {
        port: HYPERCALL_PORT as u16,
    };
    if cpus > MAX_VCPUS {
        return Err(TransportError::Cpus { cpus });
    }
    if let Some(capability) = host.missing_for(PORT) {
        return Err(TransportError::Host { capability });
    }
    match (guest, host.missing_for(HypercallTransport::Intercept)) {
        (GuestKind::Patched, _) => Ok(PORT),
        (_, None) => Ok(HypercallTransport::Intercept),
        (GuestKind::CallsBare, Some(capability)) => Err(TransportError::BareCalls { capability }),
        (GuestKind::UsesThePage, Some(_)) => Ok(PORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: HypercallTransport = HypercallTransport::Port { port: 0xE4 };

    /// A host whose KVM has these.
    fn host(xen_features: u32, has_msr_exits: bool) -> Capabilities {
        let mut host = Capabilities::default();
        host.xen_features = xen_features;
        host.has_msr_exits = has_msr_exits;
        host.sync_registers = 7;
        host
    }

    #[test]
    fn an_intercept_serves_every_guest_and_the_port_those_that_use_the_page() {
        use GuestKind::{CallsBare, UsesThePage};
        let with = host(0x1FF, true);
        for guest in [UsesThePage, CallsBare] {
            let chosen = choose_transport(guest, 1, &with);
            assert_eq!(chosen, Ok(HypercallTransport::Intercept));
        }
        let without = host(0, true);
        assert_eq!(choose_transport(UsesThePage, 1, &without), Ok(PORT));
        let refused = choose_transport(CallsBare, 1, &without).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("KVM_CAP_XEN_HVM") && text.contains("HYPERCALL_PAGE"),
            "{text}"
        );
    }

    #[test]
    fn patched_stubs_leave_by_the_port_whatever_the_host_can_catch() {
        for features in [0, 0x1FF] {
            let chosen = choose_transport(GuestKind::Patched, 1, &host(features, true));
            assert_eq!(chosen, Ok(PORT));
        }
    }

    #[test]
    fn a_host_without_msr_exits_serves_nobody() {
        let refused = choose_transport(GuestKind::UsesThePage, 1, &host(0x1FF, false));
        assert!(
            matches!(refused, Err(TransportError::Host { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn a_xen_domain_has_at_most_128_vcpus() {
        let with = host(0x1FF, true);
        let many = |cpus| choose_transport(GuestKind::UsesThePage, cpus, &with);
        assert!(many(128).is_ok());
        assert_eq!(many(129), Err(TransportError::Cpus { cpus: 129 }));
    }
}
