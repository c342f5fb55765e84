//! The toolstack's keys: those that libxl writes for a PVH domain, and the shutdown request.

use pvh_abi::DomId;

use crate::{Access, Permission, Store, StoreError};

/// The values of the keys that libxl writes for a PVH domain.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data that the embedder fills in"
)]
pub struct DomainKeys<'a> {
    /// The domain's id.
    pub domid: DomId,
    /// Its name.
    pub name: &'a str,
    /// Its UUID as text. It also names the domain's directory in `/vm`.
    pub uuid: &'a str,
    /// How many vCPUs are online at boot.
    pub cpus: u32,
    /// How many vCPUs it has at most.
    pub max_cpus: u32,
    /// Its memory in KiB.
    pub memory_kib: u64,
    /// The store's own page and port.
    pub store: RingKeys,
    /// The console, if there is one.
    pub console: Option<ConsoleKeys<'a>>,
}

/// A page and a port through which the guest reaches a service.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data that the embedder fills in"
)]
pub struct RingKeys {
    /// Guest frame number.
    pub gfn: u64,
    /// Event channel port.
    pub port: u32,
}

/// The guest's console.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "plain data that the embedder fills in"
)]
pub struct ConsoleKeys<'a> {
    /// The page and port of its ring.
    pub ring: RingKeys,
    /// The kind of its host side, `pty` for example.
    pub output: &'a str,
}

/// What a shutdown request asks a domain to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the commands that guests know, all of them"
)]
pub enum Shutdown {
    /// Power off in an orderly way.
    PowerOff,
    /// Reboot.
    Reboot,
    /// Halt.
    Halt,
    /// Suspend.
    Suspend,
}

/// Writes a shutdown request to a domain's `control/shutdown`.
///
/// A guest that watches this key, as Linux does, gets a watch event. The event waits in the store
/// until the guest's connection takes it.
///
/// # Errors
///
/// None: the path is valid for every domain.
pub fn request_shutdown(
    store: &mut Store,
    domid: DomId,
    shutdown: Shutdown,
) -> Result<(), StoreError> {
    let value = match shutdown {
        Shutdown::PowerOff => "poweroff",
        Shutdown::Reboot => "reboot",
        Shutdown::Halt => "halt",
        Shutdown::Suspend => "suspend",
    };
    store.write(&shutdown_key(domid), value.as_bytes())
}

/// Returns the shutdown request that the guest has not taken yet.
///
/// A guest takes a request by writing an empty value to the key.
#[must_use]
pub fn pending_shutdown(store: &Store, domid: DomId) -> Option<&[u8]> {
    let value = store.read(&shutdown_key(domid))?;
    Some(value).filter(|value| !value.is_empty())
}

fn shutdown_key(DomId(id): DomId) -> String {
    format!("/local/domain/{id}/control/shutdown")
}

impl DomainKeys<'_> {
    /// Writes the domain's keys, and connects the domain first if it is not connected.
    ///
    /// # Errors
    ///
    /// EINVAL if [`DomainKeys::uuid`] cannot be part of a path.
    pub fn write(&self, store: &mut Store) -> Result<(), StoreError> {
        if store.usage(self.domid).is_none() {
            store.introduce(self.domid);
        }
        let home = format!("/local/domain/{}", self.domid.0);
        let vm = format!("/vm/{}", self.uuid);
        let mut keys = Keys {
            store,
            domid: self.domid,
        };
        keys.read_only(&home)?;
        keys.read_only(&vm)?;
        keys.text(&format!("{home}/vm"), &vm)?;
        keys.text(&format!("{home}/name"), self.name)?;
        for directory in ["cpu", "memory", "device", "control"] {
            keys.read_only(&format!("{home}/{directory}"))?;
        }
        for key in GUEST_KEYS {
            keys.owned(&format!("{home}/{key}"))?;
        }
        for key in ["multiprocessor-suspend", "xs_reset_watches"] {
            keys.text(&format!("{home}/control/platform-feature-{key}"), "1")?;
        }
        keys.text(&format!("{vm}/uuid"), self.uuid)?;
        keys.text(&format!("{vm}/name"), self.name)?;
        self.write_machine(&mut keys, &home)?;
        self.write_console(&mut keys, &home)
    }

    fn write_machine(&self, keys: &mut Keys<'_>, home: &str) -> Result<(), StoreError> {
        let kib = self.memory_kib.to_string();
        keys.text(&format!("{home}/memory/static-max"), &kib)?;
        keys.text(&format!("{home}/memory/target"), &kib)?;
        keys.text(&format!("{home}/memory/videoram"), "0")?;
        keys.text(&format!("{home}/domid"), &self.domid.0.to_string())?;
        keys.text(&format!("{home}/store/port"), &self.store.port.to_string())?;
        keys.text(
            &format!("{home}/store/ring-ref"),
            &self.store.gfn.to_string(),
        )?;
        for cpu in 0..self.max_cpus {
            let is_online = cpu < self.cpus;
            let value = if is_online { "online" } else { "offline" };
            keys.text(&format!("{home}/cpu/{cpu}/availability"), value)?;
        }
        Ok(())
    }

    fn write_console(&self, keys: &mut Keys<'_>, home: &str) -> Result<(), StoreError> {
        let Some(console) = self.console else {
            return Ok(());
        };
        let front = format!("{home}/console");
        let id = self.domid.0;
        let back = format!("/local/domain/0/backend/console/{id}/0");
        keys.read_only(&front)?;
        let port = console.ring.port.to_string();
        let gfn = console.ring.gfn.to_string();
        let pairs = [
            ("backend", back.as_str()),
            ("backend-id", "0"),
            ("limit", "1048576"),
            ("type", "xenconsoled"),
            ("output", console.output),
            ("tty", ""),
            ("port", &port),
            ("ring-ref", &gfn),
        ];
        for (key, value) in pairs {
            keys.text(&format!("{front}/{key}"), value)?;
        }
        keys.read_only(&back)?;
        let id = id.to_string();
        let pairs = [
            ("frontend", front.as_str()),
            ("frontend-id", &id),
            ("online", "1"),
            ("state", "1"),
            ("protocol", "vt100"),
        ];
        for (key, value) in pairs {
            keys.text(&format!("{back}/{key}"), value)?;
        }
        Ok(())
    }
}

/// The nodes below its home that the guest owns.
const GUEST_KEYS: [&str; 11] = [
    "device/suspend/event-channel",
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/sysrq",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
];

/// Writes keys and their permissions.
struct Keys<'a> {
    store: &'a mut Store,
    domid: DomId,
}

impl Keys<'_> {
    /// Writes a value with the permissions of the node above it.
    fn text(&mut self, path: &str, value: &str) -> Result<(), StoreError> {
        self.store.write(path, value.as_bytes())
    }

    /// Makes an empty node that the guest may read.
    fn read_only(&mut self, path: &str) -> Result<(), StoreError> {
        let toolstack = Permission::new(DomId(0), Access::None);
        let guest = Permission::new(self.domid, Access::Read);
        self.store.write(path, b"")?;
        self.store.set_permissions(path, &[toolstack, guest])
    }

    /// Makes an empty node that the guest owns.
    fn owned(&mut self, path: &str) -> Result<(), StoreError> {
        let guest = Permission::new(self.domid, Access::None);
        self.store.write(path, b"")?;
        self.store.set_permissions(path, &[guest])
    }
}
