//! Permissions of nodes: who may read, write and own them.

use pvh_abi::{DomId, Errno};

use crate::text::whole_number;

/// What a permission entry lets its domain do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has four letters")]
pub enum Access {
    /// `n`: nothing.
    None,
    /// `r`: read.
    Read,
    /// `w`: write.
    Write,
    /// `b`: both.
    Both,
}

/// One entry of a node's permissions.
///
/// The first entry of a node names its owner, and its access holds for all domains without an
/// entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permission {
    /// A guest may send any number.
    domid: u32,
    access: Access,
    /// The domain was not connected when the entry was made. The entry grants nothing, also if such
    /// a domain is connected later.
    is_void: bool,
}

/// Rights as bits: those that a request needs, or that a domain has.
pub(crate) const READ: u8 = 1;
pub(crate) const WRITE: u8 = 2;
pub(crate) const OWNER: u8 = 4;

impl Permission {
    /// Makes an entry.
    #[must_use]
    pub fn new(domid: DomId, access: Access) -> Self {
        Self {
            domid: u32::from(domid.0),
            access,
            is_void: false,
        }
    }

    /// Reads an entry as text, `r5` for example.
    pub(crate) fn parse(string: &[u8]) -> Result<Self, Errno> {
        let (letter, number) = string.split_first().ok_or(Errno::EINVAL)?;
        let access = match letter {
            b'n' => Access::None,
            b'r' => Access::Read,
            b'w' => Access::Write,
            b'b' => Access::Both,
            _ => return Err(Errno::EINVAL),
        };
        Ok(Self {
            domid: whole_number(number).ok_or(Errno::EINVAL)?,
            access,
            is_void: false,
        })
    }

    /// Appends the entry as text, with its NUL.
    pub(crate) fn print(self, text: &mut Vec<u8>) {
        let letter = match self.access {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        };
        let domid = self.domid.cast_signed();
        text.extend_from_slice(format!("{letter}{domid}\0").as_bytes());
    }

    /// Returns the number of the domain that it names.
    ///
    /// A guest may write any number, also one that no domain can have.
    #[must_use]
    pub const fn domid(self) -> u32 {
        self.domid
    }

    /// Returns what the domain may do. The owner may do everything.
    #[must_use]
    pub const fn access(self) -> Access {
        self.access
    }

    /// Returns the same access for another domain.
    pub(crate) fn given_to(self, domid: DomId) -> Self {
        Self {
            domid: u32::from(domid.0),
            is_void: false,
            ..self
        }
    }

    /// Whether the entry grants nothing, because its domain was not connected.
    pub(crate) fn is_void(self) -> bool {
        self.is_void
    }

    /// Marks an entry whose domain is not connected.
    pub(crate) fn make_void(&mut self) {
        self.is_void = true;
    }

    fn bits(self) -> u8 {
        match self.access {
            Access::None => 0,
            Access::Read => READ,
            Access::Write => WRITE,
            Access::Both => READ | WRITE,
        }
    }
}

/// Whether permissions and limits do not hold for a domain.
pub(crate) fn is_privileged(domid: DomId) -> bool {
    domid.0 == 0
}

/// Returns the rights of `domid` on a node with these permissions.
pub(crate) fn allowed(permissions: &[Permission], domid: DomId) -> u8 {
    let Some((owner, others)) = permissions.split_first() else {
        return 0;
    };
    let id = u32::from(domid.0);
    if is_privileged(domid) || owner.domid == id {
        return READ | WRITE | OWNER;
    }
    let own = others
        .iter()
        .find(|entry| !entry.is_void && entry.domid == id);
    own.unwrap_or(owner).bits()
}

#[cfg(test)]
mod tests {
    use super::{Access, DomId, Errno, OWNER, Permission, READ, WRITE, allowed};

    #[test]
    fn the_four_letters_are_read_and_printed() {
        let mut text = Vec::new();
        for entry in ["n0", "r1", "w2", "b65535", "n-1"] {
            Permission::parse(entry.as_bytes())
                .unwrap()
                .print(&mut text);
        }
        assert_eq!(text, b"n0\0r1\0w2\0b65535\0n-1\0");
        for bad in ["", "n", "x1", "r1 ", "rr", "1"] {
            assert_eq!(
                Permission::parse(bad.as_bytes()),
                Err(Errno::EINVAL),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_first_entry_names_the_owner_and_the_default() {
        let entry = |id, access| Permission::new(DomId(id), access);
        let node = [
            entry(3, Access::Read),
            entry(4, Access::Write),
            entry(5, Access::None),
        ];
        assert_eq!(allowed(&node, DomId(3)), READ | WRITE | OWNER);
        assert_eq!(allowed(&node, DomId(0)), READ | WRITE | OWNER);
        assert_eq!(allowed(&node, DomId(4)), WRITE);
        assert_eq!(allowed(&node, DomId(5)), 0);
        assert_eq!(allowed(&node, DomId(6)), READ);
        assert_eq!(allowed(&[], DomId(6)), 0);
    }

    #[test]
    fn a_void_entry_grants_nothing() {
        let mut void = Permission::new(DomId(4), Access::Both);
        void.make_void();
        let node = [Permission::new(DomId(3), Access::None), void];
        assert_eq!(allowed(&node, DomId(4)), 0);
    }
}
