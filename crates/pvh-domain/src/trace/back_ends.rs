//! Conversions of what back ends do.

use pvh_abi::{DomId, event_channel::Port};
use pvh_xenbus::Change;
use pvh_xenstore::{Access, Permission};

use super::wire::{WireChange, WireInput};
use crate::{
    HostPort,
    domain::{BackEndInput as Call, Input},
};

impl WireInput {
    /// The changes of the store; none for any other input.
    pub(super) fn changes(&self) -> Vec<Change> {
        match self {
            Self::ChangeStore { changes, .. } => changes.iter().map(Into::into).collect(),
            _ => Vec::new(),
        }
    }

    /// The input of a back end, if it is one.
    pub(super) fn back_end_input<'a>(&self, changes: &'a [Change]) -> Option<Input<'a>> {
        Some(Input::BackEnd(match *self {
            Self::ChangeStore { now, .. } => Call::ChangeStore {
                changes,
                now: now.into(),
            },
            Self::BindPort { port } => Call::BindPort { port: Port(port) },
            Self::NotifyPort { end, now } => Call::NotifyPort {
                end: HostPort(end),
                now: now.into(),
            },
            Self::UnbindPort { end } => Call::UnbindPort { end: HostPort(end) },
            _ => return None,
        }))
    }
}

impl From<Call<'_>> for WireInput {
    fn from(input: Call<'_>) -> Self {
        match input {
            Call::ChangeStore { changes, now } => Self::ChangeStore {
                changes: changes.iter().map(Into::into).collect(),
                now: now.into(),
            },
            Call::BindPort { port } => Self::BindPort { port: port.0 },
            Call::NotifyPort { end, now } => Self::NotifyPort {
                end: end.0,
                now: now.into(),
            },
            Call::UnbindPort { end } => Self::UnbindPort { end: end.0 },
        }
    }
}

impl From<&Change> for WireChange {
    fn from(change: &Change) -> Self {
        match change {
            Change::Write { path, value } => Self::Write {
                path: path.clone(),
                value: value.clone(),
            },
            Change::Permit { path, permissions } => Self::Permit {
                path: path.clone(),
                permissions: permissions.iter().map(|entry| bits(*entry)).collect(),
            },
            Change::Remove { path } => Self::Remove { path: path.clone() },
        }
    }
}

impl From<&WireChange> for Change {
    fn from(change: &WireChange) -> Self {
        match change {
            WireChange::Write { path, value } => Self::Write {
                path: path.clone(),
                value: value.clone(),
            },
            WireChange::Permit { path, permissions } => Self::Permit {
                path: path.clone(),
                permissions: permissions.iter().map(|entry| entry_of(*entry)).collect(),
            },
            WireChange::Remove { path } => Self::Remove { path: path.clone() },
        }
    }
}

fn bits(entry: Permission) -> (u16, u8) {
    let access = match entry.access() {
        Access::None => 0,
        Access::Read => READ,
        Access::Write => WRITE,
        Access::Both => READ | WRITE,
    };
    // The host names domains by ids of 16 bits.
    (u16::try_from(entry.domid()).unwrap_or(u16::MAX), access)
}

fn entry_of((domid, access): (u16, u8)) -> Permission {
    let access = match (access & READ != 0, access & WRITE != 0) {
        (false, false) => Access::None,
        (true, false) => Access::Read,
        (false, true) => Access::Write,
        (true, true) => Access::Both,
    };
    Permission::new(DomId(domid), access)
}

const READ: u8 = 1;
const WRITE: u8 = 2;
