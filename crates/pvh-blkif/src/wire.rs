//! The bytes of requests and responses, in the two layouts that x86 guests use.

/// The layout of a ring's slots, from the front end's key `protocol`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "x86 has these two")]
pub enum Protocol {
    /// `x86_64-abi`: 64-bit fields at multiples of 8.
    X86_64,
    /// `x86_32-abi`: 64-bit fields at multiples of 4.
    X86_32,
}

impl Protocol {
    /// Reads the key `protocol`. A guest without it uses the 32-bit layout; `None` for any other
    /// text.
    #[must_use]
    pub fn of_key(value: Option<&str>) -> Option<Self> {
        match value {
            None | Some("x86_32-abi") => Some(Self::X86_32),
            Some("x86_64-abi") => Some(Self::X86_64),
            Some(_) => None,
        }
    }

    /// Returns the size of a slot in bytes: that of a request, which is larger than a response.
    #[must_use]
    pub const fn slot_bytes(self) -> u32 {
        match self {
            Self::X86_64 => 112,
            Self::X86_32 => 108,
        }
    }

    /// Where the fields behind the first four bytes begin: the 32-bit layout has no padding there.
    const fn base(self) -> usize {
        match self {
            Self::X86_64 => 8,
            Self::X86_32 => 4,
        }
    }

    /// The size of a response.
    const fn response_bytes(self) -> usize {
        match self {
            Self::X86_64 => 16,
            Self::X86_32 => 12,
        }
    }
}

/// `BLKIF_OP_*`, the first byte of a request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[doc(alias = "BLKIF_OP_READ")]
pub struct Operation(pub u8);

impl Operation {
    /// Reads sectors into the guest's pages.
    pub const READ: Self = Self(0);
    /// Writes sectors from the guest's pages.
    pub const WRITE: Self = Self(1);
    /// Writes with an order; not offered, and refused.
    pub const WRITE_BARRIER: Self = Self(2);
    /// Makes completed writes durable.
    pub const FLUSH_DISKCACHE: Self = Self(3);
    /// Gives sectors back.
    pub const DISCARD: Self = Self(5);
    /// A read or write whose segments stand in pages of their own.
    pub const INDIRECT: Self = Self(6);
}

/// A request as it was copied out of the ring; nothing of it has been checked.
#[derive(Clone, Copy)]
pub(crate) struct RawRequest {
    protocol: Protocol,
    bytes: [u8; SLOT_MAX],
}

impl RawRequest {
    pub(crate) const fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            bytes: [0; SLOT_MAX],
        }
    }

    /// The bytes to copy a slot into.
    pub(crate) const fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(crate) fn operation(&self) -> Operation {
        Operation(self.byte(0))
    }

    /// The operation of the response. That of an indirect request is the read or write that it holds:
    /// Linux's front end disables a disk that answers otherwise.
    pub(crate) fn answered_operation(&self) -> Operation {
        match self.operation() {
            Operation::INDIRECT => self.indirect_operation(),
            operation => operation,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.u64_at(self.protocol.base())
    }

    pub(crate) fn sector(&self) -> u64 {
        self.u64_at(self.protocol.base().saturating_add(8))
    }

    /// The number of segments that stand in the request itself.
    pub(crate) fn direct_count(&self) -> u8 {
        self.byte(1)
    }

    /// A segment of the request itself.
    pub(crate) fn direct_segment(&self, index: usize) -> RawSegment {
        let first = self.protocol.base().saturating_add(16);
        let at = index
            .checked_mul(SEGMENT_BYTES)
            .and_then(|offset| first.checked_add(offset));
        RawSegment::at(&self.bytes, at.unwrap_or(usize::MAX))
    }

    /// What an indirect request is: `BLKIF_OP_READ` or `BLKIF_OP_WRITE`, if it is right.
    pub(crate) fn indirect_operation(&self) -> Operation {
        Operation(self.byte(1))
    }

    pub(crate) fn indirect_count(&self) -> u16 {
        u16::from_le_bytes(self.array(2))
    }

    /// The reference of a page of segments; 8 of them, the first one 4 bytes behind `handle`.
    pub(crate) fn indirect_reference(&self, index: usize) -> u32 {
        let first = self.protocol.base().saturating_add(20);
        let at = index.checked_mul(4).and_then(|by| first.checked_add(by));
        u32::from_le_bytes(self.array(at.unwrap_or(usize::MAX)))
    }

    /// Whether a discard is to be secure.
    pub(crate) fn is_secure(&self) -> bool {
        self.byte(1) & DISCARD_SECURE != 0
    }

    pub(crate) fn discard_count(&self) -> u64 {
        self.u64_at(self.protocol.base().saturating_add(16))
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        array(&self.bytes, at)
    }
}

/// A segment as the guest wrote it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RawSegment {
    pub(crate) reference: u32,
    pub(crate) first: u8,
    pub(crate) last: u8,
}

impl RawSegment {
    /// Reads the segment that begins at `at`; zeros beyond the end.
    pub(crate) fn at(bytes: &[u8], at: usize) -> Self {
        let [first, last] = array(bytes, at.saturating_add(4));
        Self {
            reference: u32::from_le_bytes(array(bytes, at)),
            first,
            last,
        }
    }
}

/// A response with its padding cleared, so that a guest reads no byte of the host's (XSA-216).
#[derive(Clone, Copy)]
pub(crate) struct RawResponse {
    bytes: [u8; 16],
    len: usize,
}

impl RawResponse {
    pub(crate) fn new(protocol: Protocol, id: u64, operation: Operation, status: i16) -> Self {
        let mut bytes = [0; 16];
        let fields = id
            .to_le_bytes()
            .into_iter()
            .chain([operation.0, 0])
            .chain(status.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        Self {
            bytes,
            len: protocol.response_bytes(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    field.copied().unwrap_or([0; N])
}

/// The size of a segment in both layouts.
pub(crate) const SEGMENT_BYTES: usize = 8;
const SLOT_MAX: usize = 112;
const DISCARD_SECURE: u8 = 1;
