//! The argument of VCPUOP_initialise.

/// `vcpu_hvm_context` of flat 32-bit code at `entry`, without paging.
pub(crate) fn context(entry: u32) -> Vec<u8> {
    let words = [
        (40, entry),
        (48, 1),
        (92, 0xFFFF_FFFF),
        (96, 0xFFFF_FFFF),
        (100, 0xFFFF_FFFF),
        (104, 0xFFFF_FFFF),
        (108, 0x67),
        (112, 0x0C93_0C9B),
        (116, 0x0C93_0C93),
        (120, 0x8B),
    ];
    let mut context = vec![0; 128];
    for (at, word) in words {
        let place = context.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
        if let Some(place) = place {
            *place = u32::to_le_bytes(word);
        }
    }
    context
}
