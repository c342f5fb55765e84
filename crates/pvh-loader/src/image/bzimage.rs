//! The setup header of a Linux bzImage: it says where the packed kernel is.

use super::error::ImageError;

/// Where the packed kernel is in a bzImage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Payload {
    /// The boot protocol, major and minor version.
    pub(crate) protocol: (u8, u8),
    /// Where the payload begins in the file.
    pub(crate) offset: u64,
    /// Its length in bytes, the appended length of the content included.
    pub(crate) len_bytes: u64,
}

/// How many bytes of the file [`detect`] and [`payload`] need.
pub(crate) const HEAD_LEN: usize = 0x250;

/// Tells whether `head` has the setup header's magic number.
pub(crate) fn detect(head: &[u8]) -> bool {
    head.get(MARK_AT..)
        .is_some_and(|tail| tail.starts_with(b"HdrS"))
}

/// Finds the payload and checks that it lies inside a file of `file_bytes`.
///
/// Offsets and meanings are those of the x86 boot protocol; `payload_offset` counts from the
/// protected-mode code, which follows the boot sector and the setup sectors.
pub(crate) fn payload(head: &[u8], file_bytes: u64) -> Result<Payload, ImageError> {
    let truncated = ImageError::Truncated {
        what: "the setup header",
        len_bytes: file_bytes,
    };
    let Some(fields) = Fields::read(head) else {
        return Err(truncated);
    };
    let [minor, major] = fields.version;
    if (major, minor) < OLDEST {
        return Err(ImageError::OldBootProtocol { major, minor });
    }
    let setup_sectors = match fields.setup_sectors {
        0 => DEFAULT_SETUP_SECTORS,
        sectors => u64::from(sectors),
    };
    let code = setup_sectors.saturating_add(1).saturating_mul(SECTOR_BYTES);
    let offset = code.saturating_add(u64::from(fields.payload_offset));
    let len_bytes = u64::from(fields.payload_len);
    if len_bytes == 0 {
        return Err(ImageError::NoPayload);
    }
    if offset.saturating_add(len_bytes) > file_bytes {
        return Err(ImageError::PayloadOutside {
            offset,
            len_bytes,
            file_bytes,
        });
    }
    Ok(Payload {
        protocol: (major, minor),
        offset,
        len_bytes,
    })
}

struct Fields {
    setup_sectors: u8,
    version: [u8; 2],
    payload_offset: u32,
    payload_len: u32,
}

impl Fields {
    fn read(head: &[u8]) -> Option<Self> {
        Some(Self {
            setup_sectors: *head.get(0x1f1)?,
            version: *array(head, 0x206)?,
            payload_offset: u32::from_le_bytes(*array(head, 0x248)?),
            payload_len: u32::from_le_bytes(*array(head, 0x24c)?),
        })
    }
}

fn array<const N: usize>(head: &[u8], at: usize) -> Option<&[u8; N]> {
    head.get(at..)?.first_chunk()
}

/// Offset of the setup header's magic number.
const MARK_AT: usize = 0x202;

/// The first protocol with `payload_offset` and `payload_length`.
const OLDEST: (u8, u8) = (2, 8);

/// The number that 0 stands for in very old kernels.
const DEFAULT_SETUP_SECTORS: u64 = 4;

const SECTOR_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::{HEAD_LEN, Payload, payload};
    use crate::image::ImageError;

    fn head(sectors: u8, version: u16, offset: u32, len: u32) -> [u8; HEAD_LEN] {
        let mut head = [0; HEAD_LEN];
        head[0x1f1] = sectors;
        head[0x202..0x206].copy_from_slice(b"HdrS");
        head[0x206..0x208].copy_from_slice(&version.to_le_bytes());
        head[0x248..0x24c].copy_from_slice(&offset.to_le_bytes());
        head[0x24c..0x250].copy_from_slice(&len.to_le_bytes());
        head
    }

    #[test]
    fn the_payload_counts_from_the_protected_mode_code() {
        let found = payload(&head(27, 0x020f, 0x2cc, 1000), 1 << 20).unwrap();
        assert_eq!(
            found,
            Payload {
                protocol: (2, 15),
                offset: 28 * 512 + 0x2cc,
                len_bytes: 1000
            }
        );
    }

    #[test]
    fn no_setup_sectors_means_four() {
        let found = payload(&head(0, 0x0208, 0x10, 1), 1 << 20).unwrap();
        assert_eq!(found.offset, 5 * 512 + 0x10);
    }

    #[test]
    fn a_protocol_before_2_08_is_too_old() {
        let refused = payload(&head(4, 0x0207, 0, 1), 1 << 20).unwrap_err();
        assert!(matches!(
            refused,
            ImageError::OldBootProtocol { major: 2, minor: 7 }
        ));
        assert!(payload(&head(4, 0x0300, 0, 1), 1 << 20).is_ok());
    }

    #[test]
    fn a_payload_must_end_inside_the_file() {
        let head = head(1, 0x020f, 0, 10);
        assert!(payload(&head, 1034).is_ok());
        let refused = payload(&head, 1033).unwrap_err();
        assert!(matches!(
            refused,
            ImageError::PayloadOutside {
                offset: 1024,
                len_bytes: 10,
                file_bytes: 1033
            }
        ));
    }

    #[test]
    fn the_largest_numbers_do_not_wrap() {
        let refused = payload(&head(255, 0xffff, u32::MAX, u32::MAX), 1 << 20).unwrap_err();
        assert!(matches!(refused, ImageError::PayloadOutside { .. }));
    }

    #[test]
    fn a_bzimage_without_a_payload_is_refused() {
        let refused = payload(&head(4, 0x020f, 0x2cc, 0), 1 << 20).unwrap_err();
        assert!(matches!(refused, ImageError::NoPayload));
    }
}
