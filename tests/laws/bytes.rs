//! Laws about bytes: what a router may change, checksums, and what an error quotes.

use smoltcp::wire::{
    EthernetAddress, Icmpv4Packet, Icmpv6Packet, IpAddress, IpProtocol, Ipv4Packet, TcpPacket,
    UdpPacket,
};

use stack::input::{Checksum, Frame, GsoKind};
use stack::pipeline::packet::{Fragment, Inner, Ip, L4, Packet};
use stack::pipeline::parse::parse;
use stack::wire::checksum;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Bytes behind the Ethernet header of the largest frame that a driver makes of this one.
pub(super) fn carried(frame: &Frame) -> usize {
    let bytes = frame.bytes();
    let Some(gso) = frame.offload().gso else { return bytes.len() - ETHERNET };
    let Ok(Packet { inner: Inner::Ip(ip), .. }) =
        parse(frame.window(), bytes.len(), frame.offload())
    else {
        panic!("a super-frame that goes on is an IP packet")
    };
    let start = usize::from(ip.l4_offset);
    let l4 = if gso.kind == GsoKind::Udp { 8 } else { usize::from(bytes[start + 12] >> 4) * 4 };
    (start - ETHERNET + l4 + usize::from(gso.size)).min(unpadded(frame).len() - ETHERNET)
}

/// The frame without what pads it: its length is that of the IP header, or its own for ARP.
pub(super) fn unpadded(frame: &Frame) -> &[u8] {
    let bytes = frame.bytes();
    let field = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let len = match field(12) {
        0x0800 => field(ETHERNET + 2),
        0x86dd => 40 + field(ETHERNET + 4),
        _ => return bytes,
    };
    &bytes[..ETHERNET + len]
}

/// What left is what came with new MACs and the hop limit lowered by one.
pub(super) fn one_hop_less(given: &[u8], sent: &[u8], src: EthernetAddress, dst: EthernetAddress) {
    let mut expected = given.to_vec();
    expected[..6].copy_from_slice(&dst.0);
    expected[6..12].copy_from_slice(&src.0);
    let mut sent = sent.to_vec();
    if given[ETHERNET] >> 4 == 4 {
        expected[ETHERNET + 8] -= 1;
        // Zero has two forms, both valid; validity was just judged.
        expected[ETHERNET + 10..ETHERNET + 12].fill(0);
        sent[ETHERNET + 10..ETHERNET + 12].fill(0);
    } else {
        expected[ETHERNET + 7] -= 1;
    }
    assert_eq!(sent, expected, "a router changes MACs and hop limit, nothing else");
}

/// Whether the header checksum of an IPv4 packet is right; IPv6 has none.
pub(super) fn header_is_valid(frame: &Frame) -> bool {
    let packet = &frame.bytes()[ETHERNET..];
    packet[0] >> 4 != 4 || Ipv4Packet::new_unchecked(packet).verify_checksum()
}

/// A frame without what a translation changes: addresses, ports, an echo's identifier, and the
/// checksums that follow; of an ICMP error also the packet that it quotes, as far as it is read.
pub(super) fn without_ends(frame: &Frame) -> Vec<u8> {
    let mut bytes = frame.bytes().to_vec();
    let packet = parse(frame.window(), frame.len(), frame.offload());
    let Ok(Packet { inner: Inner::Ip(ip), .. }) = packet else {
        panic!("what is translated is an IP packet")
    };
    let (addresses, at) = if bytes[ETHERNET] >> 4 == 4 {
        bytes[ETHERNET + 10..ETHERNET + 12].fill(0);
        (ETHERNET + 12..ETHERNET + 20, usize::from(ip.l4_offset))
    } else {
        (ETHERNET + 8..ETHERNET + 40, usize::from(ip.l4_offset))
    };
    bytes[addresses].fill(0);
    // From where to where, counted from the upper header.
    let places: &[(usize, usize)] = match ip.l4 {
        L4::Tcp { .. } => &[(0, 4), (16, 18)],
        L4::Udp { .. } => &[(0, 4), (6, 8)],
        L4::Sctp { .. } => &[(0, 4), (8, 12)],
        L4::Icmp { quoted: None, .. } => &[(2, 6)],
        L4::Icmp { quoted: Some(_), .. } => &[(2, 4), (8, Frame::WINDOW)],
        L4::Nd(_) | L4::Opaque => &[],
    };
    let end = bytes.len();
    for (from, to) in places {
        bytes[(at + from).min(end)..(at + to).min(end)].fill(0);
    }
    bytes
}

/// If the L4 checksum was right it still is.
pub(super) fn still_valid(given: &Frame, sent: &Frame) {
    if l4_valid(given) == Some(true) {
        assert_eq!(l4_valid(sent), Some(true), "L4 checksum");
    }
}

/// What the switch made itself has right checksums.
pub(super) fn valid(frame: &Frame) {
    if frame.bytes()[ETHERNET] >> 4 == 4 {
        assert!(Ipv4Packet::new_unchecked(&frame.bytes()[ETHERNET..]).verify_checksum());
    }
    assert_eq!(l4_valid(frame), Some(true), "L4 checksum of an answer");
}

/// Whether the L4 checksum is right; `None` where none can be judged. A partial one is completed
/// first.
pub(crate) fn l4_valid(frame: &Frame) -> Option<bool> {
    let packet = parse(frame.window(), frame.len(), frame.offload()).ok()?;
    let Inner::Ip(ip) = packet.inner else { return None };
    if ip.fragment != Fragment::Whole {
        return None;
    }
    let mut bytes = frame.bytes().to_vec();
    bytes.truncate(ETHERNET + usize::try_from(ip.total_len).unwrap());
    if let Checksum::Partial { start, offset } = frame.offload().checksum {
        let (start, offset) = (usize::from(start), usize::from(offset));
        let value = !checksum::fold(checksum::sum(bytes.get(start..)?));
        bytes.get_mut(start + offset..start + offset + 2)?.copy_from_slice(&value.to_be_bytes());
    }
    judge(&ip, bytes.get(usize::from(ip.l4_offset)..)?)
}

fn judge(ip: &Ip, l4: &[u8]) -> Option<bool> {
    let (src, dst) = (&ip.src, &ip.dst);
    match (ip.protocol, src, dst) {
        (IpProtocol::Tcp, ..) => Some(TcpPacket::new_checked(l4).ok()?.verify_checksum(src, dst)),
        (IpProtocol::Udp, ..) => Some(UdpPacket::new_checked(l4).ok()?.verify_checksum(src, dst)),
        (IpProtocol::Icmp, ..) => Some(Icmpv4Packet::new_checked(l4).ok()?.verify_checksum()),
        (IpProtocol::Icmpv6, IpAddress::Ipv6(src), IpAddress::Ipv6(dst)) => {
            Some(Icmpv6Packet::new_checked(l4).ok()?.verify_checksum(src, dst))
        }
        _ => None,
    }
}

/// An error quotes the packet as it came, its hop limit lowered if it fell on the way out.
pub(super) fn quotes(given: &Frame, answer: &[u8]) {
    let original = wire(given).split_off(ETHERNET);
    let v4 = original[0] >> 4 == 4;
    let (limit, header) = if v4 { (8, 20) } else { (7, 40) };
    let quote = &answer[ETHERNET + header + 8..];
    let wanted = original.len().min(Frame::WINDOW - ETHERNET);
    assert_eq!(quote.len(), wanted, "as much as the window holds");
    assert!(original[limit] - quote[limit] <= 1, "the hop limit falls by one at most");
    let mut expected = original[..wanted].to_vec();
    let mut quote = quote.to_vec();
    expected[limit] = quote[limit];
    if v4 {
        expected[10..12].fill(0);
        quote[10..12].fill(0);
    }
    assert_eq!(quote, expected, "the packet itself is quoted");
}

/// The frame without padding, and as a wire would carry it: a checksum that its sender left to be
/// completed is, when all that it covers is in the window.
fn wire(given: &Frame) -> Vec<u8> {
    let mut bytes = unpadded(given).to_vec();
    if let Checksum::Partial { start, offset } = given.offload().checksum
        && bytes.len() <= Frame::WINDOW
    {
        let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
        let value = match !checksum::fold(checksum::sum(&bytes[start..])) {
            0 => 0xffff,
            value => value,
        };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
    bytes
}
