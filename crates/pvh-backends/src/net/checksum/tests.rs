//! Tests of checksums, on packets whose numbers are worked out by hand.

use super::*;

/// An Ethernet header for this type.
fn ethernet(kind: u16) -> Vec<u8> {
    let mut packet = vec![0x02; 12];
    packet.extend(kind.to_be_bytes());
    packet
}

/// A UDP packet over IPv4 from 10.0.0.1:1 to 10.0.0.2:2 with the data "hi", and padding behind.
fn udp4() -> Vec<u8> {
    let mut packet = ethernet(0x0800);
    packet.extend([0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend([0, 1, 0, 2, 0, 10, 0xAA, 0xAA]);
    packet.extend(b"hi");
    packet.resize(60, 0x55);
    packet
}

#[test]
fn a_udp_packet_over_ipv4() {
    let mut packet = udp4();
    fill(&mut packet).unwrap();
    // 0a00+0001+0a00+0002 + 0011+000a + 0001+0002+000a + 6869 = 7ca4... its complement is sent.
    let sum: u32 = 0x0A00 + 1 + 0x0A00 + 2 + 0x11 + 0xA + 1 + 2 + 0xA + 0x6869;
    let expected = !u16::try_from(sum).unwrap();
    assert_eq!(packet[40..42], expected.to_be_bytes());
    assert_eq!(packet[42..44], *b"hi");
    assert_eq!(packet[44..], [0x55; 16], "padding is not touched");
    // The sum over all of it is 0xFFFF, as a receiver checks it.
    let place = find(&packet).unwrap();
    let all = u64::from(place.pseudo) + super::sum(&packet[34..44]);
    assert_eq!(fold(all), 0xFFFF);
}

#[test]
fn a_sum_of_zero_is_sent_as_all_ones() {
    let mut packet = udp4();
    fill(&mut packet).unwrap();
    let checksum = u16::from_be_bytes([packet[40], packet[41]]);
    // Data that is larger by the complement of the checksum makes the sum 0.
    let data = 0x6869 + u32::from(checksum);
    let data = u16::try_from((data & 0xFFFF) + (data >> 16)).unwrap();
    packet[42..44].copy_from_slice(&data.to_be_bytes());
    fill(&mut packet).unwrap();
    assert_eq!(packet[40..42], [0xFF, 0xFF]);
}

#[test]
fn a_tcp_packet_over_ipv6_behind_a_vlan_tag_and_options() {
    let mut packet = vec![0x02; 12];
    packet.extend([0x81, 0, 0, 7, 0x86, 0xDD]);
    packet.extend([0x60, 0, 0, 0, 0, 29, 0, 64]);
    packet.extend([[0xFD; 16], [0xFE; 16]].concat());
    packet.extend([6, 0, 1, 4, 0, 0, 0, 0]); // hop-by-hop options, padding
    packet.extend([
        0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0xAA, 0xAA, 0, 0,
    ]);
    packet.push(b'x');
    let place = blank(&mut packet).unwrap();
    assert_eq!((place.start, place.field, place.header_end), (66, 16, 86));
    let addresses = 8 * 0xFDFD_u64 + 8 * 0xFEFE;
    let pseudo = fold(addresses + 6 + 21);
    assert_eq!(packet[82..84], pseudo.to_be_bytes());
    fill(&mut packet).unwrap();
    let all = u64::from(pseudo) + super::sum(&packet[66..]);
    assert_eq!(fold(all), 0xFFFF);
}

#[test]
fn what_has_no_checksum_is_left_alone() {
    let change = |at: usize, value: u8| {
        let mut packet = udp4();
        packet[at] = value;
        packet
    };
    for (what, mut packet) in [
        ("nothing", Vec::new()),
        ("ARP", ethernet(0x0806)),
        ("a header alone", ethernet(0x0800)),
        ("another version", change(14, 0x65)),
        ("a short header", change(14, 0x44)),
        ("a fragment", change(21, 1)),
        ("more fragments", change(20, 0x20)),
        ("ICMP", change(23, 1)),
        ("longer than the packet", change(16, 1)),
        ("shorter than its header", change(17, 27)),
    ] {
        let before = packet.clone();
        assert_eq!(fill(&mut packet), None, "{what}");
        assert_eq!(packet, before, "{what}");
    }
}

/// Every packet that is cut short, and every byte changed: no panic.
#[test]
fn any_packet_is_survived() {
    for packet in [udp4(), vec![0x86; 200]] {
        for len in 0..packet.len() {
            let _ = fill(&mut packet[..len].to_vec());
        }
        for at in 0..packet.len() {
            for value in [0, 1, 0x45, 0x60, 0x86, 0xDD, 0xFF] {
                let mut changed = packet.clone();
                changed[at] = value;
                let _ = blank(&mut changed);
            }
        }
    }
}
