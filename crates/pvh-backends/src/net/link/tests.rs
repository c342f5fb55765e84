//! Tests of the frames on a stream, and of the headers of a tap.

use super::*;

fn pair() -> (Link, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Link::stream(ours, "test").unwrap(), theirs)
}

fn received(link: &Link, buffers: &mut Buffers) -> Option<Vec<u8>> {
    let first = link.first(buffers).unwrap()?;
    let bytes = buffers.bytes(&first).to_vec();
    buffers.drop_first();
    Some(bytes)
}

#[test]
fn each_packet_follows_its_length_in_network_order() {
    let (link, mut other) = pair();
    let mut buffers = link.lock();
    for mut packet in [vec![7; 3], vec![8; 60]] {
        let pushed = link.push(&mut buffers, &mut packet, Checksum::Complete, None);
        assert_eq!(pushed, Ok(()));
    }
    assert!(!link.flush(&mut buffers).unwrap() && !buffers.has_out());
    let mut bytes = [0; 71];
    other.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..7], [0, 0, 0, 3, 7, 7, 7]);
    assert_eq!(bytes[7..12], [0, 0, 0, 60, 8]);
}

#[test]
fn packets_arrive_whatever_pieces_the_stream_comes_in() {
    let (link, mut other) = pair();
    let mut buffers = link.lock();
    let bytes = [0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 3];
    let mut packets = Vec::new();
    for byte in bytes {
        other.write_all(&[byte]).unwrap();
        packets.extend(received(&link, &mut buffers));
    }
    assert_eq!(packets, [vec![1, 2], vec![3]]);
    assert!(link.first(&mut buffers).unwrap().is_none());
    // The longest packets fill the buffer, and its end is used again.
    for round in 0..5 {
        let mut long = vec![0, 0, 0xFF, 0xFF];
        long.resize(4 + 0xFFFF, round);
        other.set_nonblocking(true).unwrap();
        let mut rest = &long[..];
        let packet = loop {
            rest = &rest[other.write(rest).unwrap_or(0)..];
            if let Some(packet) = received(&link, &mut buffers) {
                break packet;
            }
        };
        assert_eq!(packet, long[4..]);
    }
}

#[test]
fn lengths_that_no_packet_has_and_an_end_close_the_link() {
    for len in [0_u32, 0x1_0000, u32::MAX] {
        let (link, mut other) = pair();
        other.write_all(&len.to_be_bytes()).unwrap();
        let error = link.first(&mut link.lock()).unwrap_err();
        assert!(matches!(error, LinkError::Length { len_bytes } if len_bytes == len));
    }
    let (link, other) = pair();
    drop(other);
    let mut buffers = link.lock();
    assert!(matches!(link.first(&mut buffers), Err(LinkError::Gone)));
    let pushed = link.push(&mut buffers, &mut [1; 60], Checksum::Complete, None);
    assert_eq!(pushed, Ok(()));
    assert!(matches!(link.flush(&mut buffers), Err(LinkError::Gone)));
    buffers.close();
    assert!(!buffers.has_out() && link.first(&mut buffers).unwrap().is_none());
}

#[test]
fn an_end_that_does_not_read_stops_the_packets_and_loses_none() {
    let (link, mut other) = pair();
    let mut buffers = link.lock();
    let mut pushed = 0_u32;
    for _ in 0..100_000 {
        if !link.has_room(&buffers) {
            link.flush(&mut buffers).unwrap();
            if !link.has_room(&buffers) {
                break;
            }
        }
        let mut packet = [0; 1500];
        packet[..4].copy_from_slice(&pushed.to_be_bytes());
        let done = link.push(&mut buffers, &mut packet, Checksum::Complete, None);
        assert_eq!(done, Ok(()));
        pushed += 1;
    }
    assert!(!link.has_room(&buffers), "the buffers are bounded");
    assert!(buffers.out.len() <= OUT_BYTES + 0xFFFF + 4);
    for number in 0..pushed {
        link.flush(&mut buffers).unwrap();
        let mut bytes = [0; 1504];
        other.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes[4..8], number.to_be_bytes());
    }
}

#[test]
fn a_stream_takes_no_large_packets_and_no_blank_checksums() {
    let (link, _other) = pair();
    let mut buffers = link.lock();
    let gso = Gso {
        kind: GsoKind::TcpV4,
        segment_bytes: 1448,
    };
    let large = link.push(&mut buffers, &mut [0; 60], Checksum::Blank, Some(gso));
    assert_eq!(large, Err(SendError::Large));
    let blank = link.push(&mut buffers, &mut [0; 60], Checksum::Blank, None);
    assert_eq!(blank, Err(SendError::Blank));
    assert!(!buffers.has_out());
}

/// The literals are those of virtio_net.h.
#[test]
fn the_header_of_a_tap_says_how_to_finish_a_packet() {
    let mut packet = vec![0; 14 + 20 + 20 + 3000];
    packet[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    packet[16..18].copy_from_slice(&3040_u16.to_be_bytes());
    packet[23] = 6;
    packet[46] = 0x50;
    let gso = Gso {
        kind: GsoKind::TcpV4,
        segment_bytes: 1448,
    };
    let header = tap_header(&mut packet, Checksum::Blank, Some(gso)).unwrap();
    let [low, high] = 1448_u16.to_le_bytes();
    assert_eq!(header, [1, 1, 54, 0, low, high, 34, 0, 16, 0]);
    assert_eq!(
        packet[50..52],
        (6 + 3020_u16).to_be_bytes(),
        "the pseudo-header"
    );
    assert_eq!(offloads_of(header), (Checksum::Blank, Some(gso)));
    let plain = tap_header(&mut [0; 60], Checksum::Complete, None);
    assert_eq!(plain, Ok([0; 10]));
    let known = tap_header(&mut [0; 60], Checksum::Validated, None).unwrap();
    assert_eq!(offloads_of(known), (Checksum::Validated, None));
    assert_eq!(
        offloads_of([0, 0x84, 0, 0, 5, 0, 0, 0, 0, 0])
            .1
            .unwrap()
            .kind,
        GsoKind::TcpV6
    );
}
