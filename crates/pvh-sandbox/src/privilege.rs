//! What a thread gives up besides system calls: files, privileges, resources.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs},
};

use crate::SandboxError;

/// The files that a thread may still open.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Files<'a> {
    /// None.
    None,
    /// Those in this folder, to read, write, name and remove.
    Folder(&'a Path),
}

/// How much of Landlock this kernel has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum LandlockSupport {
    /// None: the kernel has no Landlock, or it is not turned on, or a container refuses it.
    None,
    /// This version of its interface, the rights of which are all in force that this crate knows.
    Version(u32),
}

/// The most of each resource that the process may have from now on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Open descriptors; the limit in force stays if that is lower.
    pub open_files: u64,
}

impl Limits {
    /// At most this many open descriptors.
    #[must_use]
    pub const fn new(open_files: u64) -> Self {
        Self { open_files }
    }
}

/// Gives up the capabilities of the calling thread, for good.
pub(crate) fn drop_capabilities() -> Result<(), SandboxError> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_no_new_privs(true).map_err(|source| SandboxError::NoNewPrivileges(source.into()))?;
    set_capabilities(None, sets).map_err(|source| SandboxError::Capabilities(source.into()))
}

/// Restricts the calling thread to `files`, and to no network.
pub(crate) fn restrict(files: Files<'_>) -> Result<LandlockSupport, SandboxError> {
    let status =
        restrict_by_landlock(files).map_err(|why| SandboxError::Landlock(Box::new(why)))?;
    Ok(match (status.landlock, status.ruleset) {
        (_, RulesetStatus::NotEnforced) => LandlockSupport::None,
        (LandlockStatus::Available { effective_abi, .. }, _) => {
            LandlockSupport::Version(effective_abi as u32)
        }
        _ => LandlockSupport::None,
    })
}

fn restrict_by_landlock(files: Files<'_>) -> Result<RestrictionStatus, RulesetError> {
    let rights = AccessFs::from_all(ABI_KNOWN);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(rights)?
        .handle_access(AccessNet::from_all(ABI_KNOWN))?
        // Signals are the filters' part: Linux 6.12 would refuse those between our own threads.
        .scope(Scope::AbstractUnixSocket)?
        .create()?;
    let ruleset = match files {
        Files::None => ruleset,
        Files::Folder(path) => match PathFd::new(path) {
            Ok(folder) => ruleset.add_rule(PathBeneath::new(folder, folder_rights()))?,
            // A folder that is gone holds nothing to protect or to write.
            Err(_) => ruleset,
        },
    };
    ruleset.restrict_self()
}

/// What a thread may do in a folder of its own: everything with regular files, and nothing else.
fn folder_rights() -> landlock::BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate
}

/// Lowers the limits of the process. A limit that cannot be lowered stays.
pub(crate) fn lower(limits: Limits) {
    let lowered = [
        (Resource::Nofile, limits.open_files),
        // A core file would hold the guest's memory.
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
    ];
    for (resource, limit) in lowered {
        let found = getrlimit(resource);
        let lowest = |in_force: Option<u64>| Some(in_force.map_or(limit, |old| old.min(limit)));
        // Lowering is always allowed.
        let _ = setrlimit(
            resource,
            Rlimit {
                current: lowest(found.current),
                maximum: lowest(found.maximum),
            },
        );
    }
}

/// The newest version of Landlock's interface whose rights this crate has been tried with. On an
/// older kernel the rights that it has are in force.
const ABI_KNOWN: ABI = ABI::V6;
