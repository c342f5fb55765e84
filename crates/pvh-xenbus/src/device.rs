//! A device: its folders in the store, and the nodes that libxl writes into them.

use pvh_abi::DomId;
use pvh_xenstore::{Access, Permission};

use crate::{Change, State};

/// A device of a guest whose back end is in domain 0.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a device has these three names")]
pub struct Device {
    /// The guest.
    pub guest: DomId,
    /// The kind of device in paths, `vbd` or `vif` for example.
    pub class: &'static str,
    /// The number of the device among the guest's devices of this class.
    pub id: u32,
}

impl Device {
    /// Returns the front end's folder. The guest owns it.
    #[must_use]
    pub fn front_path(&self) -> String {
        let Self { guest, class, id } = self;
        format!("/local/domain/{}/device/{class}/{id}", guest.0)
    }

    /// Returns the back end's folder. The guest may read it.
    #[must_use]
    pub fn back_path(&self) -> String {
        let Self { guest, class, id } = self;
        format!("/local/domain/0/backend/{class}/{}/{id}", guest.0)
    }

    /// Returns the toolstack's own folder for the device. The guest may not read it.
    #[must_use]
    pub fn libxl_path(&self) -> String {
        let Self { guest, class, id } = self;
        format!("/libxl/{}/device/{class}/{id}", guest.0)
    }

    /// Makes the device as libxl does, both ends in [`State::Initialising`]. `front` and `back` are
    /// the keys of its class: `virtual-device` or `mac`, `mode` or `params`.
    ///
    /// Apply the changes in one transaction: a guest that watches its devices then sees a device
    /// with all of its nodes. It works the same at boot and for a running guest.
    #[must_use]
    pub fn create(&self, front: &[(&str, &str)], back: &[(&str, &str)]) -> Vec<Change> {
        let (front_path, back_path) = (self.front_path(), self.back_path());
        let libxl_path = self.libxl_path();
        let guest = self.guest.0.to_string();
        let host = Permission::new(DomId(0), Access::None);
        let initialising = State::Initialising.as_str();
        let front_keys = [
            ("backend", back_path.as_str()),
            ("backend-id", "0"),
            ("state", initialising),
        ];
        let back_keys = [
            ("frontend", front_path.as_str()),
            ("frontend-id", &guest),
            ("online", "1"),
            ("state", initialising),
        ];
        let both = [
            ("frontend", front_path.as_str()),
            ("backend", back_path.as_str()),
        ];
        let front_permissions = vec![
            Permission::new(self.guest, Access::None),
            Permission::new(DomId(0), Access::Read),
        ];
        let back_permissions = vec![host, Permission::new(self.guest, Access::Read)];
        let mut changes = Vec::new();
        folder(&mut changes, &libxl_path, vec![host], &[&both, back]);
        folder(
            &mut changes,
            &back_path,
            back_permissions,
            &[&back_keys, back],
        );
        folder(
            &mut changes,
            &front_path,
            front_permissions,
            &[&front_keys, front],
        );
        changes
    }

    /// Removes the device's three folders.
    #[must_use]
    pub fn remove(&self) -> Vec<Change> {
        let paths = [self.front_path(), self.back_path(), self.libxl_path()];
        paths.map(|path| Change::Remove { path }).into()
    }
}

/// Makes a folder anew, with permissions that its nodes inherit.
fn folder(
    changes: &mut Vec<Change>,
    path: &str,
    permissions: Vec<Permission>,
    keys: &[&[(&str, &str)]],
) {
    changes.extend([
        Change::Remove { path: path.into() },
        Change::write(path.into(), ""),
        Change::Permit {
            path: path.into(),
            permissions,
        },
    ]);
    let keys = keys.iter().copied().flatten();
    changes.extend(keys.map(|(key, value)| Change::write(format!("{path}/{key}"), *value)));
}
