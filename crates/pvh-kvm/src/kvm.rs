//! Opens KVM and reads its capabilities.

use std::{
    ffi::CString,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL};
use kvm_ioctls::{Cap, Error as Errno, Kvm as KvmFd};

use crate::{CpuidLeaf, HypercallTransport, host_cpu, vcpu::sync_registers::SYNC_FIELDS};

/// KVM, opened and checked for what every machine needs.
#[derive(Debug)]
pub struct Kvm {
    host: Arc<Host>,
    capabilities: Capabilities,
}

/// The part of [`Kvm`] that its machines keep alive.
#[derive(Debug)]
pub(crate) struct Host {
    fd: KvmFd,
    cpuid: OnceLock<Result<Vec<CpuidLeaf>, Errno>>,
}

impl Host {
    /// Returns the CPUID leaves that this host and its KVM can offer a guest. KVM lists them on the
    /// first call.
    pub(crate) fn cpuid(&self) -> Result<&[CpuidLeaf], Errno> {
        let listed = self.cpuid.get_or_init(|| {
            let leaves = self.fd.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
            Ok(leaves.as_slice().iter().map(CpuidLeaf::from).collect())
        });
        listed.as_deref().map_err(|error| *error)
    }
}

/// The capabilities of a host's KVM.
///
/// The default is a host without any.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The largest number of vCPUs of a machine.
    pub max_vcpus: u32,
    /// The highest APIC id of a vCPU, plus one.
    pub max_apic_ids: u32,
    /// The largest number of memory slots of a machine.
    pub max_memory_slots: u32,
    /// The width of this host's physical addresses in bits. KVM may allow a guest fewer bits;
    /// [`Vm::create_vcpu`](crate::Vm::create_vcpu) checks that.
    pub address_bits: u8,
    /// Whether the timer of the local APIC has TSC deadline mode.
    pub has_tsc_deadline: bool,
    /// KVM's support for Xen guests: `KVM_XEN_HVM_CONFIG_*` bits; 0 without support.
    pub xen_features: u32,
    /// Whether KVM can exit to the VMM on accesses to chosen MSRs.
    pub has_msr_exits: bool,
    /// Which registers KVM can copy to the VMM at each exit: `KVM_SYNC_X86_*` bits.
    pub sync_registers: u32,
}

impl Capabilities {
    /// Returns KVM's name of the capability that is missing for `transport`; `None` if nothing is.
    #[must_use]
    pub const fn missing_for(&self, transport: HypercallTransport) -> Option<&'static str> {
        if matches!(transport, HypercallTransport::None) {
            return None;
        }
        if !self.has_msr_exits {
            return Some("KVM_CAP_X86_USER_SPACE_MSR with KVM_CAP_X86_MSR_FILTER");
        }
        if self.sync_registers & SYNC_FIELDS != SYNC_FIELDS {
            return Some("KVM_CAP_SYNC_REGS");
        }
        let can_intercept = self.xen_features & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL != 0;
        if matches!(transport, HypercallTransport::Intercept) && !can_intercept {
            return Some("KVM_CAP_XEN_HVM with KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL");
        }
        None
    }
}

/// What can be done about a device that does not exist. Only the usual one comes with a module.
fn missing_fix(path: &Path) -> &'static str {
    match path == Path::new(KVM_DEVICE) {
        true => ": load kvm_intel or kvm_amd, or enable virtualisation",
        false => "",
    }
}

/// The usual KVM device.
const KVM_DEVICE: &str = "/dev/kvm";

/// Why KVM cannot be used on this host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvmError {
    /// There is no such device: the kernel has no KVM, its module is not loaded, or the CPU has no
    /// virtualisation.
    #[error("{} does not exist{}", path.display(), missing_fix(path))]
    Missing {
        /// The device.
        path: PathBuf,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// The user may not open the device.
    #[error("no permission to open {}: join the group that owns it (often kvm)", path.display())]
    Permission {
        /// The device.
        path: PathBuf,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// The device cannot be opened for another reason.
    #[error("cannot open {}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// The host's reason.
        #[source]
        source: io::Error,
    },
    /// The file is not KVM.
    #[error("{} is not a KVM device", path.display())]
    NotKvm {
        /// The file.
        path: PathBuf,
    },
    /// KVM has an unknown version of its API.
    #[error("{} has KVM API version {found}, not {KVM_API_VERSION}", path.display())]
    Version {
        /// The device.
        path: PathBuf,
        /// The version it reported.
        found: i32,
    },
    /// The host's KVM lacks a capability that every machine needs.
    #[error("this host's KVM lacks {capability}")]
    Capability {
        /// KVM's name of the capability.
        capability: &'static str,
    },
    /// KVM did not list the CPUID leaves it supports.
    #[error("KVM cannot list the CPUID leaves it supports")]
    Cpuid {
        /// The host's reason.
        #[source]
        source: io::Error,
    },
}

impl Kvm {
    /// Opens /dev/kvm.
    ///
    /// # Errors
    ///
    /// [`KvmError`]; each variant names one cause.
    pub fn open() -> Result<Self, KvmError> {
        Self::open_at(Path::new(KVM_DEVICE))
    }

    /// Opens KVM at another path.
    ///
    /// # Errors
    ///
    /// As [`Kvm::open`].
    pub fn open_at(path: &Path) -> Result<Self, KvmError> {
        let fd = open(path)?;
        let found = fd.get_api_version();
        let path = path.to_owned();
        match u32::try_from(found) {
            Ok(KVM_API_VERSION) => {}
            Ok(_) => return Err(KvmError::Version { path, found }),
            Err(_) => return Err(KvmError::NotKvm { path }),
        }
        let missing = REQUIRED
            .into_iter()
            .find(|(cap, _)| !fd.check_extension(*cap));
        if let Some((_, capability)) = missing {
            return Err(KvmError::Capability { capability });
        }
        let capabilities = capabilities(&fd);
        let cpuid = OnceLock::new();
        let host = Arc::new(Host { fd, cpuid });
        Ok(Self { host, capabilities })
    }

    /// Returns the capabilities of this KVM.
    #[must_use]
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Returns the CPUID leaves that this host and its KVM can offer a guest.
    ///
    /// KVM lists them on the first call, or when the first vCPU is created, whichever comes first.
    /// That takes 0.4 ms on a host that is a guest itself. To save this time, call this method on
    /// another thread while the machine is built.
    ///
    /// # Errors
    ///
    /// [`KvmError::Cpuid`].
    pub fn supported_cpuid(&self) -> Result<&[CpuidLeaf], KvmError> {
        self.host.cpuid().map_err(|error| KvmError::Cpuid {
            source: error.into(),
        })
    }

    pub(crate) fn fd(&self) -> &KvmFd {
        &self.host.fd
    }

    pub(crate) const fn host(&self) -> &Arc<Host> {
        &self.host
    }
}

fn open(path: &Path) -> Result<KvmFd, KvmError> {
    let opened = CString::new(path.as_os_str().as_bytes())
        .map_err(io::Error::from)
        .and_then(|c_path| KvmFd::new_with_path(c_path).map_err(io::Error::from));
    opened.map_err(|source| not_opened(path, source))
}

/// Returns the error for a `path` that cannot be opened.
fn not_opened(path: &Path, source: io::Error) -> KvmError {
    let path = path.to_owned();
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => KvmError::Missing { path, source },
        Some(libc::EACCES | libc::EPERM) => KvmError::Permission { path, source },
        _ => KvmError::Open { path, source },
    }
}

fn capabilities(fd: &KvmFd) -> Capabilities {
    let number = |cap| u32::try_from(fd.check_extension_int(cap)).unwrap_or(0);
    let max_vcpus = match number(Cap::MaxVcpus) {
        0 => number(Cap::NrVcpus).max(1),
        count => count,
    };
    Capabilities {
        max_vcpus,
        max_apic_ids: number(Cap::MaxVcpuId).max(max_vcpus),
        max_memory_slots: number(Cap::NrMemslots).max(MEMORY_SLOTS_BEFORE_THE_CAPABILITY),
        address_bits: host_cpu::address_bits(),
        has_tsc_deadline: fd.check_extension(Cap::TscDeadlineTimer),
        xen_features: number(Cap::XenHvm),
        has_msr_exits: fd.check_extension(Cap::X86UserSpaceMsr)
            && fd.check_extension(Cap::X86MsrFilter),
        sync_registers: number(Cap::SyncRegs),
    }
}

/// The capabilities that every machine needs.
const REQUIRED: [(Cap, &str); 6] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// The number that KVM's api.rst gives for a KVM without the capability.
const MEMORY_SLOTS_BEFORE_THE_CAPABILITY: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn named(errno: i32) -> KvmError {
        not_opened(Path::new("/dev/kvm"), io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn each_reason_not_to_open_has_its_own_error() {
        for errno in [libc::ENOENT, libc::ENODEV, libc::ENXIO] {
            assert!(matches!(named(errno), KvmError::Missing { .. }));
        }
        for errno in [libc::EACCES, libc::EPERM] {
            assert!(matches!(named(errno), KvmError::Permission { .. }));
        }
        assert!(matches!(named(libc::EMFILE), KvmError::Open { .. }));
    }

    #[test]
    fn an_error_names_the_device_and_what_to_do() {
        assert_eq!(
            named(libc::ENOENT).to_string(),
            "/dev/kvm does not exist: load kvm_intel or kvm_amd, or enable virtualisation"
        );
        assert_eq!(
            named(libc::EACCES).to_string(),
            "no permission to open /dev/kvm: join the group that owns it (often kvm)"
        );
        let other = not_opened(
            Path::new("/nope"),
            io::Error::from_raw_os_error(libc::ENOENT),
        );
        assert_eq!(other.to_string(), "/nope does not exist");
    }

    /// A host without any capability that a hypercall transport needs.
    const BARE: Capabilities = Capabilities {
        max_vcpus: 1,
        max_apic_ids: 1,
        max_memory_slots: 32,
        address_bits: 36,
        has_tsc_deadline: false,
        xen_features: 0,
        has_msr_exits: false,
        sync_registers: 0,
    };

    #[test]
    fn a_capability_missing_for_the_port_is_named() {
        let port = HypercallTransport::Port { port: 0xE4 };
        let mut host = BARE;
        assert_eq!(host.missing_for(HypercallTransport::None), None);
        assert_eq!(
            host.missing_for(port),
            Some("KVM_CAP_X86_USER_SPACE_MSR with KVM_CAP_X86_MSR_FILTER")
        );
        host.has_msr_exits = true;
        for sync_registers in 0..3 {
            host.sync_registers = sync_registers;
            assert_eq!(host.missing_for(port), Some("KVM_CAP_SYNC_REGS"));
        }
        host.sync_registers = 7;
        assert_eq!(host.missing_for(port), None);
    }

    #[test]
    fn the_intercept_also_needs_bit_1_of_the_xen_features() {
        let intercept = HypercallTransport::Intercept;
        let mut host = Capabilities {
            xen_features: 0x1FF,
            ..BARE
        };
        assert!(host.missing_for(intercept).is_some());
        host.has_msr_exits = true;
        assert_eq!(host.missing_for(intercept), Some("KVM_CAP_SYNC_REGS"));
        host.sync_registers = 3;
        assert_eq!(host.missing_for(intercept), None);
        host.xen_features = 0x1FD;
        assert_eq!(
            host.missing_for(intercept),
            Some("KVM_CAP_XEN_HVM with KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL")
        );
    }

    #[test]
    fn a_path_that_does_not_exist_is_missing() {
        let error = Kvm::open_at(Path::new("/nonexistent/kvm")).unwrap_err();
        assert!(matches!(error, KvmError::Missing { .. }));
    }

    #[test]
    fn a_device_that_is_not_kvm_is_refused() {
        let error = Kvm::open_at(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.to_string(), "/dev/null is not a KVM device");
    }

    #[test]
    fn a_path_with_a_nul_byte_is_refused() {
        let error = Kvm::open_at(Path::new("/dev/kvm\0")).unwrap_err();
        assert!(matches!(error, KvmError::Open { .. }));
    }
}
