//! Builds bzImages in code: a setup header, valid or broken, around a payload.
//!
//! ```
//! let file = pvh_testkit::bzimage::bzimage(b"a packed kernel");
//! assert_eq!(&file[0x202..0x206], b"HdrS");
//! ```

/// The fields of a setup header.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct SetupHeader {
    /// The number of setup sectors after the boot sector; 0 means 4.
    pub setup_sectors: u8,
    /// The boot protocol, minor version first.
    pub version: [u8; 2],
    /// The offset of the payload from the end of the setup sectors.
    pub payload_offset: u32,
    /// How much longer the stated length is than the payload, in bytes. A stated length outside of
    /// 32 bits becomes the nearest one inside.
    pub payload_excess: i64,
}

/// Builds a bzImage of boot protocol 2.15 with one setup sector around `payload`.
#[must_use]
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    let header = SetupHeader {
        setup_sectors: 1,
        version: [15, 2],
        payload_offset: 0,
        payload_excess: 0,
    };
    headed(&header, payload)
}

/// Builds a bzImage with the fields of `header`, and `payload` at its place.
#[must_use]
pub fn headed(header: &SetupHeader, payload: &[u8]) -> Vec<u8> {
    let sectors = match header.setup_sectors {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let code = sectors.saturating_add(1).saturating_mul(512);
    let offset = usize::try_from(header.payload_offset).unwrap_or(usize::MAX);
    let mut file = vec![0; code.saturating_add(offset)];
    let len = i64::from(size(payload)).saturating_add(header.payload_excess);
    let len = u32::try_from(len.max(0)).unwrap_or(u32::MAX);
    for (at, bytes) in [
        (0x1f1, &[header.setup_sectors][..]),
        (0x1fe, &[0x55, 0xaa]),
        (0x202, b"HdrS"),
        (0x206, &header.version),
        (0x248, &header.payload_offset.to_le_bytes()),
        (0x24c, &len.to_le_bytes()),
    ] {
        let room = file.iter_mut().skip(at);
        room.zip(bytes).for_each(|(to, from)| *to = *from);
    }
    file.extend_from_slice(payload);
    file.extend([0xcc; 8]);
    file
}

fn size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
