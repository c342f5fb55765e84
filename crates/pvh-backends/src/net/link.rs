//! The host's side of a network device: a tap, or a stream to another program.

use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use pvh_kvm::{Tap, TapOffloads};
use pvh_netif::{Checksum, Gso, GsoKind, MAX_PACKET_BYTES, Offloads};

use super::checksum::{blank, fill};

/// Where a guest's packets go to and come from. It stays open when the guest reboots.
///
/// It holds at most 192 KiB of packets to the other end and 128 KiB from there, whatever either end
/// does: if one end takes no more, the other end's packets wait in its own ring or socket.
#[derive(Debug)]
pub struct Link {
    side: Side,
    /// What messages call it.
    title: String,
    buffers: Mutex<Buffers>,
    told: [AtomicBool; 4],
}

#[derive(Debug)]
enum Side {
    Tap(Tap),
    /// Each packet follows its length, 4 bytes in network order.
    Stream(UnixStream),
}

/// What the user is told of, once in a run for each device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Topic {
    Lost,
    Refusal,
    Connection,
    Down,
}

/// Packets on their way. One thread has them at a time.
pub(super) struct Buffers {
    /// Packets for the other end, as they go into the file.
    out: Vec<u8>,
    /// How many bytes of `out` the file has taken.
    sent: usize,
    /// What came out of the file.
    inbox: Vec<u8>,
    /// The bytes of `inbox` that are not used yet.
    filled: Range<usize>,
    /// The first packet in `inbox`, until it is delivered.
    first: Option<Incoming>,
    /// The other end has gone.
    is_closed: bool,
}

/// A packet from the other end.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    place: Range<usize>,
    /// What is known of its checksum.
    pub(super) checksum: Checksum,
    /// Whether it is to be cut up, and how.
    pub(super) gso: Option<Gso>,
}

/// Why a link cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the other end has gone")]
    Gone,
    #[error("a packet of {len_bytes} bytes was announced: 1 to 65535 are allowed")]
    Length { len_bytes: u32 },
    #[error("the host refuses")]
    Host(#[source] io::Error),
}

/// Why a packet of the guest cannot be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum SendError {
    #[error("a large packet, which this network does not cut up")]
    Large,
    #[error("a blank checksum in a packet that is neither TCP nor UDP")]
    Blank,
}

impl Link {
    /// Uses a tap. It has to be up, and to be bridged or routed, by whoever made it.
    #[must_use]
    pub fn tap(tap: Tap, name: &str) -> Self {
        Self::new(Side::Tap(tap), format!("tap {name}"))
    }

    /// Uses a stream on which each packet follows its length in 4 bytes, network order first, as
    /// passt and QEMU have it. `title` is its name in messages.
    ///
    /// # Errors
    ///
    /// The host's: the socket cannot be made not to wait.
    pub fn stream(stream: UnixStream, title: impl Into<String>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::new(Side::Stream(stream), title.into()))
    }

    fn new(side: Side, title: String) -> Self {
        Self {
            side,
            title,
            buffers: Mutex::new(Buffers {
                out: Vec::new(),
                sent: 0,
                inbox: vec![0; INBOX_BYTES],
                filled: 0..0,
                first: None,
                is_closed: false,
            }),
            told: [const { AtomicBool::new(false) }; 4],
        }
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// Whether the other end is a tap: it cuts up large packets.
    pub(super) const fn is_tap(&self) -> bool {
        matches!(self.side, Side::Tap(_))
    }

    /// Takes the packets on their way, for the life of a thread.
    pub(super) fn lock(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the user has yet to be told, and that this happens now.
    pub(super) fn is_news(&self, topic: Topic) -> bool {
        let told = self.told.get(topic as usize);
        told.is_some_and(|told| !told.swap(true, SeqCst))
    }

    /// Says what the guest takes from the other end.
    ///
    /// # Errors
    ///
    /// The host's.
    pub(super) fn set_offloads(&self, offloads: Offloads) -> io::Result<()> {
        let Side::Tap(tap) = &self.side else {
            return Ok(());
        };
        let fills = offloads.fills_checksums;
        let has_large = offloads.has_scatter_gather;
        tap.set_offloads(TapOffloads {
            has_blank_checksums: fills.ipv4,
            has_tcp_v4: has_large && offloads.has_tcp_v4,
            has_tcp_v6: has_large && offloads.has_tcp_v6 && fills.ipv6,
        })
    }

    /// Puts a packet of the guest behind those on their way. `packet` may be changed.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the packet is dropped.
    pub(super) fn push(
        &self,
        buffers: &mut Buffers,
        packet: &mut [u8],
        checksum: Checksum,
        gso: Option<Gso>,
    ) -> Result<(), SendError> {
        match &self.side {
            Side::Tap(_) => {
                let header = tap_header(packet, checksum, gso)?;
                buffers.out.extend(header);
            }
            Side::Stream(_) => {
                if gso.is_some() {
                    return Err(SendError::Large);
                }
                if checksum == Checksum::Blank {
                    fill(packet).ok_or(SendError::Blank)?;
                }
                let len_bytes = u32::try_from(packet.len()).unwrap_or(0);
                buffers.out.extend(len_bytes.to_be_bytes());
            }
        }
        buffers.out.extend_from_slice(packet);
        Ok(())
    }

    /// Tells whether another packet may be put behind those on their way.
    pub(super) fn has_room(&self, buffers: &Buffers) -> bool {
        match &self.side {
            // One write is one packet.
            Side::Tap(_) => buffers.out.is_empty(),
            Side::Stream(_) => buffers.out.len() < OUT_BYTES,
        }
    }

    /// Writes packets that are on their way, as far as the file takes them without waiting. Returns
    /// whether a tap was down, so that its packet was dropped.
    ///
    /// # Errors
    ///
    /// [`LinkError`]: the link is closed.
    pub(super) fn flush(&self, buffers: &mut Buffers) -> Result<bool, LinkError> {
        while let Some(rest) = buffers
            .out
            .get(buffers.sent..)
            .filter(|rest| !rest.is_empty())
        {
            let written = match &self.side {
                Side::Tap(tap) => tap.file().write(rest),
                Side::Stream(stream) => (&*stream).write(rest),
            };
            match written {
                Ok(0) => return Err(LinkError::Gone),
                Ok(written) => buffers.sent = buffers.sent.saturating_add(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A packet that the tap does not take is lost, as on a wire that is not plugged in.
                Err(error) if self.is_tap() && error.raw_os_error() != Some(TAP_IS_GONE) => {
                    buffers.forget_out();
                    return Ok(true);
                }
                Err(error) if is_gone(&error) => return Err(LinkError::Gone),
                Err(error) => return Err(LinkError::Host(error)),
            }
        }
        buffers.forget_out();
        Ok(false)
    }

    /// Finds the first packet from the other end; `None` if none is there.
    ///
    /// # Errors
    ///
    /// [`LinkError`]: the link is closed.
    pub(super) fn first(&self, buffers: &mut Buffers) -> Result<Option<Incoming>, LinkError> {
        if buffers.is_closed {
            return Ok(None);
        }
        if buffers.first.is_none() {
            buffers.first = match &self.side {
                Side::Tap(tap) => buffers.read_tap(tap.file())?,
                Side::Stream(stream) => buffers.read_stream(stream)?,
            };
        }
        Ok(buffers.first.clone())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.side {
            Side::Tap(tap) => tap.as_fd(),
            Side::Stream(stream) => stream.as_fd(),
        }
    }
}

impl Buffers {
    /// Whether packets wait for the file to take more.
    pub(super) fn has_out(&self) -> bool {
        !self.out.is_empty()
    }

    pub(super) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The other end has gone: what is on its way is lost.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.first = None;
        self.forget_out();
    }

    /// The bytes of a packet from the other end.
    pub(super) fn bytes(&self, packet: &Incoming) -> &[u8] {
        self.inbox.get(packet.place.clone()).unwrap_or_default()
    }

    /// Computes the checksum of a packet from the other end; whether it has one.
    pub(super) fn fill_checksum(&mut self, packet: &Incoming) -> bool {
        let bytes = self.inbox.get_mut(packet.place.clone());
        fill(bytes.unwrap_or_default()).is_some()
    }

    /// Lets go of the first packet from the other end.
    pub(super) fn drop_first(&mut self) {
        if let Some(first) = self.first.take() {
            self.filled.start = first.place.end;
        }
    }

    fn forget_out(&mut self) {
        self.out.clear();
        self.sent = 0;
    }

    fn read_tap(&mut self, mut tap: &File) -> Result<Option<Incoming>, LinkError> {
        let len_bytes = match tap.read(&mut self.inbox) {
            Ok(len_bytes) => len_bytes,
            Err(error) if is_temporary(&error) => return Ok(None),
            Err(error) => return Err(LinkError::Host(error)),
        };
        let header = self.inbox.first_chunk().copied().unwrap_or_default();
        let (checksum, gso) = offloads_of(header);
        // The kernel gives no packet without a header.
        Ok(Some(Incoming {
            place: TAP_HEADER_BYTES.min(len_bytes)..len_bytes,
            checksum,
            gso,
        }))
    }

    fn read_stream(&mut self, mut stream: &UnixStream) -> Result<Option<Incoming>, LinkError> {
        loop {
            if let Some(place) = self.framed()? {
                return Ok(Some(Incoming {
                    place,
                    checksum: Checksum::Complete,
                    gso: None,
                }));
            }
            if self.filled.start > 0 {
                self.inbox.copy_within(self.filled.clone(), 0);
                self.filled = 0..self.filled.len();
            }
            // A packet is shorter than the buffer, so there is room.
            let room = self.inbox.get_mut(self.filled.end..).unwrap_or_default();
            match stream.read(room) {
                Ok(0) => return Err(LinkError::Gone),
                Ok(read) => self.filled.end = self.filled.end.saturating_add(read),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_temporary(&error) => return Ok(None),
                Err(error) if is_gone(&error) => return Err(LinkError::Gone),
                Err(error) => return Err(LinkError::Host(error)),
            }
        }
    }

    /// The place of the first whole packet in the bytes of a stream.
    fn framed(&self) -> Result<Option<Range<usize>>, LinkError> {
        let bytes = self.inbox.get(self.filled.clone()).unwrap_or_default();
        let Some((prefix, rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let len_bytes = u32::from_be_bytes(*prefix);
        let len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
        if !(1..=MAX_PACKET_BYTES).contains(&len) {
            return Err(LinkError::Length { len_bytes });
        }
        let start = self.filled.start.saturating_add(prefix.len());
        Ok((rest.len() >= len).then(|| start..start.saturating_add(len)))
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Buffers");
        let shown = shown.field("out_bytes", &self.out.len());
        shown
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected
    )
}

/// The `virtio_net_hdr` of a packet for a tap.
fn tap_header(
    packet: &mut [u8],
    checksum: Checksum,
    gso: Option<Gso>,
) -> Result<[u8; TAP_HEADER_BYTES], SendError> {
    let [mut flags, mut kind] = [0_u8; 2];
    let [mut header, mut segment, mut start, mut field] = [0_u16; 4];
    if checksum == Checksum::Validated {
        flags = DATA_VALID;
    }
    // Whoever cuts a packet up computes the checksums.
    if checksum == Checksum::Blank || gso.is_some() {
        let place = blank(packet).ok_or(SendError::Blank)?;
        let short = |offset: usize| u16::try_from(offset).unwrap_or(0);
        flags = NEEDS_CSUM;
        start = short(place.start);
        field = short(place.field);
        if let Some(gso) = gso {
            kind = match gso.kind {
                GsoKind::TcpV4 => GSO_TCPV4,
                GsoKind::TcpV6 => GSO_TCPV6,
            };
            header = short(place.header_end);
            segment = gso.segment_bytes;
        }
    }
    let mut bytes = [0; TAP_HEADER_BYTES];
    let fields = [header, segment, start, field].map(u16::to_le_bytes);
    let all = [flags, kind]
        .into_iter()
        .chain(fields.into_iter().flatten());
    bytes
        .iter_mut()
        .zip(all)
        .for_each(|(byte, value)| *byte = value);
    Ok(bytes)
}

/// What a `virtio_net_hdr` says of a packet from a tap.
fn offloads_of(header: [u8; TAP_HEADER_BYTES]) -> (Checksum, Option<Gso>) {
    let [flags, kind, _, _, segment @ .., _, _, _, _] = header;
    let checksum = match flags {
        flags if flags & NEEDS_CSUM != 0 => Checksum::Blank,
        flags if flags & DATA_VALID != 0 => Checksum::Validated,
        _ => Checksum::Complete,
    };
    let kind = match kind & !GSO_ECN {
        GSO_TCPV4 => Some(GsoKind::TcpV4),
        GSO_TCPV6 => Some(GsoKind::TcpV6),
        _ => None,
    };
    let gso = kind.map(|kind| Gso {
        kind,
        segment_bytes: u16::from_le_bytes(segment),
    });
    (checksum, gso)
}

/// EBADFD: the interface of a tap was removed.
const TAP_IS_GONE: i32 = 77;
/// virtio_net.h, the header without the count of buffers.
const TAP_HEADER_BYTES: usize = 10;
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;
/// Packets are put behind others up to here; the last one may be 64 KiB longer.
const OUT_BYTES: usize = 128 << 10;
/// Room for the longest packet with its header, and for others behind it.
const INBOX_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests;
