//! Error numbers as a guest sees them (xen/include/public/errno.h).

use crate::open_set::open_set;

open_set! {
    /// A positive error number; a hypercall returns it negated.
    #[doc(alias = "XEN_ERRNO")]
    Errno: u16 {
        /// Not permitted.
        EPERM = 1,
        /// No such entry.
        ENOENT = 2,
        /// No such domain.
        ESRCH = 3,
        /// Input or output failed.
        EIO = 5,
        /// No such device or address.
        ENXIO = 6,
        /// Too long.
        E2BIG = 7,
        /// Try again.
        EAGAIN = 11,
        /// Out of memory.
        ENOMEM = 12,
        /// Access denied.
        EACCES = 13,
        /// A guest pointer is invalid.
        EFAULT = 14,
        /// In use.
        EBUSY = 16,
        /// Already exists.
        EEXIST = 17,
        /// A link between different devices.
        EXDEV = 18,
        /// No such device.
        ENODEV = 19,
        /// Is a directory.
        EISDIR = 21,
        /// An argument is not valid.
        EINVAL = 22,
        /// No space left.
        ENOSPC = 28,
        /// Read only.
        EROFS = 30,
        /// Outside the domain of the operation.
        EDOM = 33,
        /// Out of range.
        ERANGE = 34,
        /// No such operation.
        ENOSYS = 38,
        /// Not empty.
        ENOTEMPTY = 39,
        /// No data.
        ENODATA = 61,
        /// The time has passed.
        ETIME = 62,
        /// A number is too large for its type.
        EOVERFLOW = 75,
        /// An illegal byte sequence.
        EILSEQ = 84,
        /// Not supported.
        EOPNOTSUPP = 95,
        /// The buffer is too small.
        ENOBUFS = 105,
        /// Already connected.
        EISCONN = 106,
        /// Timed out.
        ETIMEDOUT = 110,
    }
}

impl Errno {
    /// Returns the result of a hypercall that fails with this error: the negated number.
    #[must_use]
    pub fn as_result(self) -> i64 {
        i64::from(self.0).saturating_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn a_guest_reads_the_negated_number() {
        assert_eq!(Errno::ENOSYS.as_result(), -38);
        assert_eq!(Errno::EFAULT.as_result(), -14);
        assert_eq!(Errno::EOPNOTSUPP.as_result(), -95);
        assert_eq!(Errno(u16::MAX).as_result(), -65535);
        assert_eq!(Errno::EINVAL.name(), Some("EINVAL"));
        assert_eq!(Errno(4).name(), None);
    }
}
