//! Decides which platform a guest gets, and why, before anything is built.

use std::{error::Error, fmt};

use pvh_config::PlatformArgument;
use pvh_hypercall::HYPERCALL_PORT;
use pvh_kvm::{Capabilities, HypercallTransport};
use pvh_loader::linux_cmdline::{Console, last_console};
use pvh_xen::{GuestKind, MAX_VCPUS, TransportError, choose_transport};

/// The properties of a guest that decide its platform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest<'a> {
    /// How it makes hypercalls.
    pub(crate) kind: GuestKind,
    /// Its command line.
    pub(crate) cmdline: &'a [u8],
    /// Number of vCPUs.
    pub(crate) cpus: u32,
}

/// A platform.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Platform {
    /// A plain PC.
    Plain,
    /// A Xen PVH domain, with this hypercall transport.
    Xen(HypercallTransport),
}

/// A decision, with its reason if `auto` decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Choice {
    /// The platform of the guest.
    pub(crate) platform: Platform,
    /// The reason for the user; `None` if the user chose the platform.
    pub(crate) reason: Option<Reason>,
    /// Why the Xen platform cannot be had; `None` if it can.
    pub(crate) obstacle: Option<Obstacle>,
}

/// Why `auto` decided so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// Host and image support the Xen platform.
    Served(HypercallTransport),
    /// They support it because the image's stubs are patched.
    Patched,
    /// They do not support it.
    Obstacle(Obstacle),
    /// The command line wants a serial console, which a Xen PVH domain does not have.
    SerialConsole,
}

/// Why an image cannot have the Xen platform on this host, in words of this program's options.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Obstacle(pub(crate) TransportError);

impl Error for Obstacle {}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TransportError::Host { capability } => write!(
                f,
                "this host's KVM lacks {capability}, so pvh-vmm cannot receive hypercalls"
            ),
            TransportError::Cpus { cpus } => {
                write!(f, "--cpus {cpus}: a Xen domain has 1 to {MAX_VCPUS} CPUs")
            }
            other => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served(HypercallTransport::Intercept) => {
                f.write_str("platform xen; KVM intercepts hypercalls")
            }
            Self::Served(_) => write!(
                f,
                "platform xen; hypercalls use I/O port {HYPERCALL_PORT:#x}: this KVM cannot intercept VMCALL"
            ),
            Self::Patched => write!(
                f,
                "platform xen; the kernel's two hypercall stubs are patched to use I/O port {HYPERCALL_PORT:#x}"
            ),
            Self::Obstacle(obstacle @ Obstacle(TransportError::BareCalls { .. })) => write!(
                f,
                "platform none: {obstacle}; use --patch-hypercalls for the Xen platform"
            ),
            Self::Obstacle(obstacle) => write!(f, "platform none: {obstacle}"),
            Self::SerialConsole => f.write_str(
                "platform none: the command line's last console= is a serial port; a Xen domain's is hvc0",
            ),
        }
    }
}

/// Decides on the platform of a guest.
///
/// # Errors
///
/// [`Obstacle`]: the user asked for the Xen platform, and it is not available.
pub(crate) fn choose(
    asked: PlatformArgument,
    guest: &Guest<'_>,
    host: &Capabilities,
) -> Result<Choice, Obstacle> {
    let served = choose_transport(guest.kind, guest.cpus, host).map_err(Obstacle);
    let choice = |platform, reason| Choice {
        platform,
        reason,
        obstacle: served.err(),
    };
    if asked == PlatformArgument::None {
        return Ok(choice(Platform::Plain, None));
    }
    let is_auto = asked == PlatformArgument::Auto;
    if is_auto && last_console(guest.cmdline) == Some(Console::Serial) {
        return Ok(choice(Platform::Plain, Some(Reason::SerialConsole)));
    }
    match served {
        Ok(transport) => {
            let reason = match guest.kind {
                GuestKind::Patched => Reason::Patched,
                _ => Reason::Served(transport),
            };
            let reason = is_auto.then_some(reason);
            Ok(choice(Platform::Xen(transport), reason))
        }
        Err(obstacle) if is_auto => {
            let reason = Reason::Obstacle(obstacle);
            Ok(choice(Platform::Plain, Some(reason)))
        }
        Err(obstacle) => Err(obstacle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest with one vCPU.
    fn guest(kind: GuestKind, cmdline: &[u8]) -> Guest<'_> {
        Guest {
            kind,
            cmdline,
            cpus: 1,
        }
    }

    const PORT: HypercallTransport = HypercallTransport::Port { port: 0xE4 };

    /// A host whose KVM has these.
    fn host(xen_features: u32, has_msr_exits: bool) -> Capabilities {
        let mut host = Capabilities::default();
        host.xen_features = xen_features;
        host.has_msr_exits = has_msr_exits;
        host.sync_registers = 7;
        host
    }

    fn chosen(asked: PlatformArgument, kind: GuestKind, host: &Capabilities) -> Platform {
        choose(asked, &guest(kind, b""), host).unwrap().platform
    }

    #[test]
    fn none_is_none_on_every_host_and_knows_whether_xen_could_be_had() {
        let choose = |host| {
            let guest = guest(GuestKind::CallsBare, b"");
            choose(PlatformArgument::None, &guest, &host).unwrap()
        };
        for host in [host(0, false), host(0x1FF, true)] {
            let choice = choose(host);
            assert_eq!((choice.platform, choice.reason), (Platform::Plain, None));
        }
        let obstacle = |host| choose(host).obstacle;
        assert_eq!(obstacle(host(0x1FF, true)), None);
        let bare = obstacle(host(0, true));
        assert!(matches!(
            bare,
            Some(Obstacle(TransportError::BareCalls { .. }))
        ));
    }

    #[test]
    fn an_intercept_serves_every_guest_and_the_port_those_that_use_the_page() {
        use GuestKind::{CallsBare, UsesThePage};
        for asked in [PlatformArgument::Auto, PlatformArgument::Xen] {
            let with = host(0x1FF, true);
            let intercept = Platform::Xen(HypercallTransport::Intercept);
            assert_eq!(chosen(asked, UsesThePage, &with), intercept);
            assert_eq!(chosen(asked, CallsBare, &with), intercept);
            let without = host(0, true);
            assert_eq!(chosen(asked, UsesThePage, &without), Platform::Xen(PORT));
        }
    }

    #[test]
    fn patched_stubs_leave_by_the_port_whatever_the_host_can_catch() {
        for asked in [PlatformArgument::Auto, PlatformArgument::Xen] {
            for features in [0, 0x1FF] {
                let platform = chosen(asked, GuestKind::Patched, &host(features, true));
                assert_eq!(platform, Platform::Xen(PORT));
            }
        }
        let guest = guest(GuestKind::Patched, b"");
        let choice = choose(PlatformArgument::Auto, &guest, &host(0, true)).unwrap();
        assert_eq!(choice.reason, Some(Reason::Patched));
        assert!(choice.reason.unwrap().to_string().contains("port 0xe4"));
    }

    #[test]
    fn what_cannot_be_served_is_refused_if_asked_for_and_explained_if_not() {
        let without = host(0, true);
        let refused = choose(
            PlatformArgument::Xen,
            &guest(GuestKind::CallsBare, b""),
            &without,
        );
        let Err(obstacle @ Obstacle(TransportError::BareCalls { .. })) = refused else {
            panic!("{refused:?}");
        };
        let text = obstacle.to_string();
        assert!(
            text.contains("KVM_CAP_XEN_HVM") && text.contains("HYPERCALL_PAGE"),
            "{text}"
        );
        let auto = choose(
            PlatformArgument::Auto,
            &guest(GuestKind::CallsBare, b""),
            &without,
        )
        .unwrap();
        assert_eq!(auto.platform, Platform::Plain);
        assert_eq!(auto.reason, Some(Reason::Obstacle(obstacle)));
        let told = auto.reason.unwrap().to_string();
        assert!(
            told.starts_with(&format!("platform none: {text}; use --patch-hypercalls ")),
            "{told}"
        );
    }

    #[test]
    fn the_last_console_of_the_command_line_decides() {
        let with = host(0x1FF, true);
        let auto = |cmdline: &[u8]| {
            let choice = choose(
                PlatformArgument::Auto,
                &guest(GuestKind::CallsBare, cmdline),
                &with,
            );
            choice.unwrap()
        };
        for cmdline in ["quiet console=ttyS0,115200", "console=hvc0 console=ttyS0"] {
            let serial = auto(cmdline.as_bytes());
            assert_eq!(serial.platform, Platform::Plain, "{cmdline}");
            assert_eq!(serial.reason, Some(Reason::SerialConsole));
        }
        for cmdline in [
            "",
            "console=hvc0",
            "console=ttyS0 console=hvc0",
            "xconsole=ttyS0",
        ] {
            let choice = auto(cmdline.as_bytes());
            assert_ne!(choice.platform, Platform::Plain, "{cmdline}");
        }
        let asked = choose(
            PlatformArgument::Xen,
            &guest(GuestKind::CallsBare, b"console=ttyS0"),
            &with,
        );
        assert_ne!(asked.unwrap().platform, Platform::Plain);
    }

    #[test]
    fn a_xen_domain_has_at_most_128_vcpus() {
        let with = host(0x1FF, true);
        let many = |asked, cpus| {
            let guest = Guest {
                cpus,
                ..guest(GuestKind::UsesThePage, b"")
            };
            choose(asked, &guest, &with)
        };
        assert!(many(PlatformArgument::Xen, 128).is_ok());
        let refused = many(PlatformArgument::Xen, 129).unwrap_err();
        let text = "--cpus 129: a Xen domain has 1 to 128 CPUs";
        assert_eq!(refused.to_string(), text);
        let auto = many(PlatformArgument::Auto, 129).unwrap();
        assert_eq!(auto.platform, Platform::Plain);
    }
}
