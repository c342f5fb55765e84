//! How a back end reaches the pages that a guest has granted to it.

use pvh_abi::Gpa;

/// What a back end does with a granted page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a grant knows these two")]
pub enum Access {
    /// The back end reads the page; a read-only grant suffices.
    Read,
    /// The back end writes the page; a read-only grant is refused.
    Write,
}

/// The grant table of one guest, as its back ends see it.
///
/// A back end takes a page before it uses it and drops it as soon as the request is answered.
/// Taking marks the grant as in use, and dropping takes the mark back, on every way out.
pub trait Grants {
    /// The proof that a granted page is in use. Dropping it ends the use.
    type Page: GrantedPage;
    /// Why a reference is refused.
    type Error: core::error::Error;

    /// Takes the page that `reference` grants.
    ///
    /// # Errors
    ///
    /// When the entry does not grant this access, or its frame is not RAM.
    fn take(&self, reference: u32, access: Access) -> Result<Self::Page, Self::Error>;
}

/// A granted page in use.
pub trait GrantedPage {
    /// Returns the address of the page, a multiple of 4096.
    fn gpa(&self) -> Gpa;
}

/// A page that needs no mark, for tests and for guests whose grants are checked elsewhere.
impl GrantedPage for Gpa {
    fn gpa(&self) -> Gpa {
        *self
    }
}

/// A reference to a grant table is a grant table too.
impl<G: Grants + ?Sized> Grants for &G {
    type Page = G::Page;
    type Error = G::Error;

    fn take(&self, reference: u32, access: Access) -> Result<Self::Page, Self::Error> {
        (**self).take(reference, access)
    }
}
