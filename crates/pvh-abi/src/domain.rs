//! Domain ids (xen/include/public/xen.h).

use crate::open_set::open_set;

open_set! {
    /// The id of a domain in hypercall arguments.
    #[doc(alias = "domid_t")]
    DomId: u16 {
        /// The calling domain.
        SELF = 0x7ff0,
        /// The owner of I/O pages.
        IO = 0x7ff1,
        /// The owner of Xen's own pages.
        XEN = 0x7ff2,
        /// The owner of shared pages.
        COW = 0x7ff3,
        /// No domain.
        INVALID = 0x7ff4,
        /// An idle domain.
        IDLE = 0x7fff,
    }
}
