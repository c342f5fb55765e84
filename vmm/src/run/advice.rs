//! The exit code of a failed run, and the line that says what is wrong and what to do.

use std::{error::Error, io::ErrorKind, path::Path};

use pvh_config::{
    DiskNamesError, KVM_DEVICE, NetworkError, RunConfig,
    exit::{ARGUMENTS, CRASHED, HOST, REFUSED},
};
use pvh_kvm::{KvmError, VmError};
use pvh_layout::RamSizeError;
use pvh_loader::{commit::CommitError, module::ModuleError, plan::PlanError};
use pvh_xen::{MAX_VCPUS, TransportError};

use super::{disks, error::RunError, networks};
use crate::{
    exit::sentence,
    platform::{Obstacle, Reason},
};

impl RunError {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::DiskNames(_)
            | Self::Networks(_)
            | Self::NeedsXen { .. }
            | Self::LogWord { .. }
            | Self::Overwrites { .. }
            | Self::NoFile { .. }
            | Self::Obstacle {
                source: Obstacle(TransportError::Cpus { .. }),
                ..
            } => ARGUMENTS,
            Self::Ram(RamSizeError::Empty | RamSizeError::NotWholePages { .. }) => ARGUMENTS,
            Self::Image { .. }
            | Self::Module { .. }
            | Self::LongModule { .. }
            | Self::Plan { .. }
            | Self::Commit { .. }
            | Self::Stubs { .. }
            | Self::Disk { .. }
            | Self::NoRoom { .. } => REFUSED,
            Self::LostMemory => CRASHED,
            _ => HOST,
        }
    }

    /// What the user can do.
    fn fix(&self) -> Option<String> {
        Some(match self {
            Self::Image { source, .. } => source.fix()?.to_owned(),
            Self::Module {
                option,
                path,
                source,
            } => module_fix(option, path, source)?,
            Self::Kvm(KvmError::Missing { path, .. }) if path != Path::new(KVM_DEVICE) => {
                format!("check its path, or leave --kvm-device out for {KVM_DEVICE}")
            }
            Self::Plan { source, .. } => source.fix()?.to_string(),
            Self::Disk { path, source } => disks::fix(path, source)?,
            Self::Network(refusal) => networks::fix(refusal)?,
            Self::Networks(NetworkError::SameAddress { .. }) => {
                "give one another mac=ADDRESS".to_owned()
            }
            Self::DiskNames(DiskNamesError::SameName { .. }) => {
                "give one another dev=NAME".to_owned()
            }
            Self::StuckDisk(_) => "start it anew".to_owned(),
            Self::Obstacle {
                source: Obstacle(TransportError::BareCalls { .. }),
                ..
            } => "use --patch-hypercalls or --platform none".to_owned(),
            Self::NeedsXen { option, reason } => needs_xen_fix(option, reason.as_ref()),
            Self::LogWord { .. } => LOG_NAMES.to_owned(),
            Self::Stubs { .. } => "leave --patch-hypercalls out".to_owned(),
            Self::Overwrites { option, .. } | Self::NoFile { option, .. } => {
                format!("choose another file for {option}")
            }
            Self::Console { .. } => "choose another file for --console".to_owned(),
            Self::Trace { .. } => "choose another file for --trace".to_owned(),
            Self::Record { .. } => "choose another file for --record".to_owned(),
            Self::Obstacle {
                source: Obstacle(TransportError::Cpus { .. }),
                ..
            } => format!("use --cpus {MAX_VCPUS} or fewer, or --platform none"),
            Self::Obstacle { .. } => "use --platform none".to_owned(),
            Self::Vm(VmError::VcpuCount { .. }) => "choose another --cpus".to_owned(),
            Self::Ram(RamSizeError::TooLarge { .. }) | Self::MapRam(_) | Self::HostMemory(_) => {
                "choose a smaller --memory".to_owned()
            }
            Self::Commit { .. } if self.module().is_some() => {
                "do not change the module while it is loaded".to_owned()
            }
            Self::LostMemory => {
                "do not change the files while the guest runs, or use --load copy".to_owned()
            }
            Self::Sandbox(_) => "use --sandbox off, if you trust the guest".to_owned(),
            Self::NoRoom { .. } | Self::LongModule { .. } => "choose a larger --memory".to_owned(),
            _ => return None,
        })
    }

    /// The number of the module at fault, if it is a module.
    fn module(&self) -> Option<usize> {
        match self {
            Self::Plan {
                source: PlanError::NoRoomForModule { index, .. },
                ..
            }
            | Self::Commit {
                source:
                    CommitError::ModuleChanged { index, .. }
                    | CommitError::Module { index, .. }
                    | CommitError::ReadModule { index, .. },
                ..
            } => Some(*index),
            _ => None,
        }
    }

    /// One line for the user: what is wrong, with which file, and what to do.
    pub(crate) fn line(&self, config: &RunConfig) -> String {
        let module = self.module();
        let file = module.and_then(|index| config.modules.get(index));
        let (Some(index), Some(file), Some(cause)) = (module, file, self.source()) else {
            return sentence(self, self.fix());
        };
        // The line names the module's file, not the kernel and not the module's number.
        let number = format!("module {index}");
        let what = sentence(cause, self.fix());
        let what = what.strip_prefix(&number).unwrap_or(&what);
        let what = what.trim_start_matches([':', ' ']);
        format!("{} {}: {what}", file.option, file.path.display())
    }
}

/// What the user can do about an option that needs the Xen platform.
fn needs_xen_fix(option: &str, reason: Option<&Reason>) -> String {
    match reason {
        Some(Reason::Obstacle(Obstacle(TransportError::BareCalls { .. }))) => {
            format!("leave {option} out, or add --patch-hypercalls")
        }
        Some(Reason::Obstacle(Obstacle(TransportError::Cpus { .. }))) => {
            format!("leave {option} out, or use --cpus {MAX_VCPUS} or fewer")
        }
        Some(Reason::Obstacle(Obstacle(TransportError::Host { .. }))) => {
            format!("leave {option} out")
        }
        _ => format!("leave {option} out, or use --platform xen"),
    }
}

/// What the user can do about a module that cannot be opened.
fn module_fix(option: &str, path: &Path, why: &ModuleError) -> Option<String> {
    match why {
        ModuleError::Open(source) if source.kind() == ErrorKind::NotFound => {
            Some(match path == Path::new("-") {
                true => format!("give standard input as {option} /dev/stdin"),
                false => format!("check the path after {option}"),
            })
        }
        ModuleError::NotRegular => Some("give a file or a pipe".to_owned()),
        _ => None,
    }
}

/// What the user can write after `--log hypercalls=`.
pub(crate) const LOG_NAMES: &str = "use hypercall, store, console, event, vcpu, time or domain, a call (sched_op) or a sub-operation (poll)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_memory_that_cannot_be_says_whose_fault_it_is() {
        assert_eq!(RunError::Ram(RamSizeError::Empty).exit_code(), 2);
        let too_large = RamSizeError::TooLarge {
            size_bytes: 1 << 60,
            limit_bytes: 1 << 48,
            address_bits: 48,
        };
        assert_eq!(RunError::Ram(too_large).exit_code(), 4);
        assert_eq!(RunError::NoRoom { memory_bytes: 4096 }.exit_code(), 3);
    }

    #[test]
    fn memory_with_too_large_tables_is_told_with_sizes_as_the_user_writes_them() {
        let refused = RunError::HostMemory(pvh_kvm::TablesTooLarge {
            memory_bytes: 64 << 40,
            tables_bytes: (64 << 40) / 384,
            available_bytes: 20 << 30,
        });
        assert_eq!(
            sentence(&refused, refused.fix()),
            "--memory 64T is too large: KVM may need 170.6 GiB for its own tables, and the host has 20 GiB available; \
             choose a smaller --memory"
        );
    }
}
