//! Which domain the id in an argument names.

use pvh_abi::DomId;

/// A domain that exists, as far as a guest can tell: its own, or the host's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// The guest's own domain.
    Own,
    /// Domain 0, which is the embedder.
    Host,
}

/// Domain 0.
pub(crate) const HOST: DomId = DomId(0);

impl Target {
    /// Resolves the id in a call of domain `own`, where `DOMID_SELF` names the caller; `None` if no
    /// such domain exists.
    pub(crate) const fn of(own: DomId, id: DomId) -> Option<Self> {
        match id {
            DomId::SELF => Some(Self::Own),
            id => Self::of_number(own, id),
        }
    }

    /// The same for the calls that do not know `DOMID_SELF`.
    pub(crate) const fn of_number(own: DomId, id: DomId) -> Option<Self> {
        match id {
            DomId(id) if id == own.0 => Some(Self::Own),
            HOST => Some(Self::Host),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_the_own_domain_the_host_or_none() {
        let own = DomId(5);
        for (id, of, of_number) in [
            (5, Some(Target::Own), Some(Target::Own)),
            (0, Some(Target::Host), Some(Target::Host)),
            (0x7ff0, Some(Target::Own), None),
            (6, None, None),
            (0x7ff1, None, None),
        ] {
            assert_eq!(Target::of(own, DomId(id)), of, "{id:#x}");
            assert_eq!(Target::of_number(own, DomId(id)), of_number, "{id:#x}");
        }
    }
}
