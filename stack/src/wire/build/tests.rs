//! Built frames, read back by smoltcp.

use smoltcp::wire::{Icmpv4Packet, TcpControl, TcpRepr};

use super::*;

const LINK: Link =
    Link { src: EthernetAddress([2, 0, 0, 0, 0, 1]), dst: EthernetAddress([2, 0, 0, 0, 0, 2]) };
const A4: Ipv4Address = Ipv4Address::new(10, 1, 1, 5);
const B4: Ipv4Address = Ipv4Address::new(10, 1, 1, 6);
const A6: Ipv6Address = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 5);
const B6: Ipv6Address = Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 6);

#[test]
fn upper_checksums_hold_in_both_versions() {
    let pairs: [(IpAddress, IpAddress); 2] = [(A4.into(), B4.into()), (A6.into(), B6.into())];
    for (src, dst) in pairs {
        let upper = if matches!(src, IpAddress::Ipv4(_)) { 34 } else { 54 };
        let ip = || LINK.ip(src, dst).unwrap();
        let frame = ip().tcp((1, 2), flags::SYN, 7, 0, b"odd");
        let segment = TcpPacket::new_checked(&frame[upper..]).unwrap();
        let repr = TcpRepr::parse(&segment, &src, &dst, &ChecksumCapabilities::default()).unwrap();
        assert_eq!(
            (repr.control, repr.seq_number, repr.payload),
            (TcpControl::Syn, TcpSeqNumber(7), &b"odd"[..])
        );
        let frame = ip().udp(1, 2, b"odd");
        assert!(UdpPacket::new_checked(&frame[upper..]).unwrap().verify_checksum(&src, &dst));
    }
    let frame = LINK.ipv4(A4, B4).echo(true, 3, 4, b"odd");
    assert!(Icmpv4Packet::new_checked(&frame[34..]).unwrap().verify_checksum());
    for frame in
        [LINK.ipv6(A6, B6).echo(true, 3, 4, b"odd"), LINK.ipv6(A6, B6).icmp(1, 4, [0; 4], b"odd")]
    {
        assert!(Icmpv6Packet::new_checked(&frame[54..]).unwrap().verify_checksum(&A6, &B6));
    }
    assert_eq!(LINK.ip(A4.into(), B6.into()).map(|ip| ip.udp(1, 2, b"")), None);
}

#[test]
fn options_and_fragments_stand_in_the_ipv4_header() {
    let frame = LINK
        .ipv4(A4, B4)
        .options(&[1, 1, 1, 7, 3])
        .fragment(9, 16, true)
        .upper(IpProtocol::Udp, &[0; 8]);
    let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
    assert!(ip.verify_checksum() && ip.more_frags() && !ip.dont_frag());
    assert_eq!((ip.header_len(), ip.frag_offset(), ip.ident(), ip.total_len()), (28, 16, 9, 36));
}

#[test]
fn extension_headers_name_the_next() {
    let frame = LINK
        .ipv6(A6, B6)
        .extension(IpProtocol::HopByHop, &[])
        .fragment(9, 16, true)
        .upper(IpProtocol::Udp, &[0xaa; 8]);
    let ip = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    assert_eq!((ip.next_header(), ip.payload_len()), (IpProtocol::HopByHop, 24));
    assert_eq!(
        ip.payload(),
        [44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 17, 0, 0, 0, 9, 170, 170, 170, 170, 170, 170, 170, 170]
    );
}

#[test]
fn solicitations_go_to_the_solicited_node_group() {
    let group = Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 6);
    let frame = LINK.neighbor_solicit(A6, B6);
    let ip = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    assert_eq!((ip.dst_addr(), ip.hop_limit()), (group, 255));
    assert_eq!(frame.len(), 14 + 40 + 24 + 8, "with the link-layer address option");
    assert_eq!(LINK.neighbor_solicit(Ipv6Address::UNSPECIFIED, B6).len(), 14 + 40 + 24);
    assert_eq!(solicited_node_mac(B6), EthernetAddress([0x33, 0x33, 0xff, 0, 0, 6]));
}

#[test]
fn what_cannot_fit_is_cut() {
    let huge = vec![0; 70_000];
    assert_eq!(LINK.ipv4(A4, B4).udp(1, 2, &huge).len(), ETHERNET + IP_MAX);
    assert_eq!(LINK.ipv6(A6, B6).tcp((1, 2), flags::ACK, 0, 0, &huge).len(), ETHERNET + IP_MAX);
    assert_eq!(
        LINK.ipv6(A6, B6).fragment(1, 0, true).icmp(1, 0, [0; 4], &huge).len(),
        ETHERNET + IP_MAX
    );
}
