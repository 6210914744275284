//! What parse reads off valid frames: every field, both versions.

use smoltcp::wire::IpAddress;

use super::*;
use crate::pipeline::packet::{Arp, Fragment, L4, Nd, Quoted};

#[test]
fn an_arp_request_in_full_with_its_padding() {
    let mut frame = LINK.arp(true, (A, A4), (EthernetAddress::default(), B4));
    frame.resize(60, 0);
    let arp = Arp {
        request: true,
        sender_mac: A,
        sender: A4,
        target_mac: EthernetAddress::default(),
        target: B4,
    };
    assert_eq!(judge(&frame), Ok(Packet { dst: B, src: A, inner: Inner::Arp(arp) }));
    let reply = LINK.arp(false, (A, A4), (B, B4));
    assert!(matches!(
        judge(&reply).unwrap().inner,
        Inner::Arp(Arp { request: false, target_mac: B, .. })
    ));
}

#[test]
fn an_ipv4_packet_in_full_with_its_padding() {
    let mut frame = v4().hop_limit(7).udp(40_000, 53, b"hi");
    frame.resize(60, 0xee);
    let expected = Ip {
        src: A4.into(),
        dst: B4.into(),
        protocol: IpProtocol::Udp,
        hop_limit: 7,
        total_len: 30,
        keep_whole: true,
        has_stops: false,
        fragment: Fragment::Whole,
        l4_offset: 34,
        l4: L4::Udp { src_port: 40_000, dst_port: 53 },
    };
    assert_eq!(judge(&frame), Ok(Packet { dst: B, src: A, inner: Inner::Ip(expected) }));
    assert!(!ip(&v4().may_fragment().udp(1, 2, b"")).keep_whole);
}

#[test]
fn an_ipv6_packet_in_full() {
    let expected = Ip {
        src: A6.into(),
        dst: B6.into(),
        protocol: IpProtocol::Tcp,
        hop_limit: 9,
        total_len: 60,
        keep_whole: true,
        has_stops: false,
        fragment: Fragment::Whole,
        l4_offset: 54,
        l4: L4::Tcp { src_port: 1, dst_port: 2, flags: 0x12, header_len: 20 },
    };
    assert_eq!(ip(&v6().hop_limit(9).tcp((1, 2), flags::SYN | flags::ACK, 0, 0, b"")), expected);
}

#[test]
fn headers_in_between_move_the_upper_one() {
    assert_eq!(ip(&v4().options(&[1; 40]).udp(1, 2, b"")).l4_offset, 14 + 60);
    let chained = v6()
        .extension(IpProtocol::HopByHop, &[])
        .extension(IpProtocol::Ipv6Route, &[3, 0])
        .extension(IpProtocol::Ipv6Opts, &[1, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .udp(1, 2, b"");
    let packet = ip(&chained);
    assert_eq!((packet.l4_offset, packet.protocol), (14 + 40 + 8 + 8 + 24, IpProtocol::Udp));
    assert_eq!(packet.ports(), Some((1, 2)));
}

#[test]
fn fragments_have_their_place() {
    let first4 = ip(&v4().fragment(1, 0, true).tcp((1, 2), 0, 0, 0, b"1234"));
    let first6 = ip(&v6().fragment(1, 0, true).tcp((1, 2), 0, 0, 0, b"1234"));
    for first in [first4, first6] {
        assert_eq!((first.fragment, first.ports()), (Fragment::First, Some((1, 2))));
    }
    // What follows in a later fragment looks like ports, and is none.
    let later4 = ip(&v4().fragment(1, 24, true).upper(IpProtocol::Tcp, &[0xff; 24]));
    let later6 = ip(&v6().fragment(1, 24, true).upper(IpProtocol::Tcp, &[0xff; 24]));
    for later in [later4, later6] {
        assert_eq!(
            (later.fragment, later.l4, later.protocol),
            (Fragment::Later, L4::Opaque, IpProtocol::Tcp)
        );
    }
    let last = v6().fragment(1, 65_520, false).upper(IpProtocol::Udp, &[0; 15]);
    assert_eq!(ip(&last).fragment, Fragment::Later, "ends at 65,535 exactly");
    let last = v4().fragment(1, 65_512, false).upper(IpProtocol::Udp, &[0; 3]);
    assert_eq!(ip(&last).fragment, Fragment::Later, "ends at 65,535 exactly, header included");
    let atomic = ip(&v6().fragment(1, 0, false).udp(1, 2, b"odd"));
    assert_eq!(
        (atomic.fragment, atomic.ports(), atomic.l4_offset),
        (Fragment::Whole, Some((1, 2)), 62)
    );
}

#[test]
fn a_divided_datagram_has_the_whole_ones_length() {
    let first = with(v4().fragment(1, 0, true).udp(1, 2, &[0; 8]), 38, &[0xff, 0xff]);
    assert_eq!(ip(&first).ports(), Some((1, 2)));
    let first = with(v6().fragment(1, 0, true).udp(1, 2, &[0; 8]), 66, &[0xff, 0xff]);
    assert_eq!(ip(&first).ports(), Some((1, 2)));
}

#[test]
fn super_frames_and_the_longest_packets_pass() {
    for frame in [v4().udp(1, 2, &[0; 70_000]), v6().tcp((1, 2), 0, 0, 0, &[0; 70_000])] {
        assert_eq!((frame.len(), ip(&frame).total_len), (14 + 65_535, 65_535));
    }
}

#[test]
fn an_icmp_errors_quotation_is_read_as_far_as_it_goes() {
    let quoted = v4().options(&[1, 1, 1, 1]).tcp((40_000, 80), flags::SYN, 1, 0, b"");
    let about = |bytes: &[u8]| {
        let packet = ip(&v4().icmp(3, 3, [1, 1, 0, 0], bytes));
        let L4::Icmp { icmp_type: 3, code: 3, ident: 0, quoted } = packet.l4 else {
            panic!("{packet:?}");
        };
        assert!(packet.is_icmp_error());
        quoted
    };
    let whole = Quoted {
        src: A4.into(),
        dst: B4.into(),
        protocol: IpProtocol::Tcp,
        offset: 14 + 20 + 8,
        l4_offset: 14 + 20 + 8 + 24,
        ports: Some((40_000, 80)),
    };
    assert_eq!(about(&quoted[IP..]), Some(whole));
    assert_eq!(about(&quoted[IP..IP + 28]), Some(whole), "8 bytes of the upper header suffice");
    assert_eq!(about(&quoted[IP..IP + 27]), Some(Quoted { ports: None, ..whole }));
    assert_eq!(about(&quoted[IP..IP + 24]), Some(Quoted { ports: None, ..whole }));
    for broken in [&quoted[IP..IP + 23], &quoted[IP..IP + 19], b"", &[0x65; 40], &[0x41; 40]] {
        assert_eq!(about(broken), None, "{broken:x?}");
    }
    let bad_sum = with(quoted, IP + 10, &[0xba, 0xad]);
    assert_eq!(about(&bad_sum[IP..]), Some(whole), "its checksum is not judged");
    let later = v4().fragment(1, 24, false).upper(IpProtocol::Udp, &[0; 8]);
    assert_eq!(about(&later[IP..]).unwrap().ports, None);
    let echo = v4().echo(true, 77, 1, b"");
    assert_eq!(about(&echo[IP..]).unwrap().ports, Some((77, 77)));
}

#[test]
fn an_icmpv6_errors_quotation_is_read_behind_extension_headers() {
    let about = |bytes: &[u8]| {
        let packet = ip(&v6().icmp(1, 4, [0; 4], bytes));
        let L4::Icmp { icmp_type: 1, code: 4, ident: 0, quoted } = packet.l4 else {
            panic!("{packet:?}");
        };
        assert!(packet.is_icmp_error());
        quoted
    };
    let quoted = v6().extension(IpProtocol::HopByHop, &[]).fragment(1, 0, true).udp(5, 6, &[0; 8]);
    let whole = Quoted {
        src: IpAddress::Ipv6(A6),
        dst: IpAddress::Ipv6(B6),
        protocol: IpProtocol::Udp,
        offset: 14 + 40 + 8,
        l4_offset: 14 + 40 + 8 + 40 + 16,
        ports: Some((5, 6)),
    };
    assert_eq!(about(&quoted[IP..]), Some(whole));
    assert_eq!(about(&quoted[IP..IP + 56]), Some(Quoted { ports: None, ..whole }));
    for broken in
        [&quoted[IP..IP + 55], &quoted[IP..IP + 41], &quoted[IP..IP + 39], b"", &[0x45; 60]]
    {
        assert_eq!(about(broken), None, "{broken:x?}");
    }
    let later = v6().fragment(1, 8, false).upper(IpProtocol::Udp, &[0; 8]);
    assert_eq!(about(&later[IP..]).unwrap().ports, None);
    let echo = v6().echo(false, 77, 1, b"");
    assert_eq!(about(&echo[IP..]).unwrap().ports, Some((77, 77)));
}

#[test]
fn echoes_have_their_identifier() {
    for (request, type4, type6) in [(true, 8, 128), (false, 0, 129)] {
        let icmp4 = L4::Icmp { icmp_type: type4, code: 0, ident: 300, quoted: None };
        assert_eq!(ip(&v4().echo(request, 300, 1, b"")).l4, icmp4);
        let icmp6 = L4::Icmp { icmp_type: type6, code: 0, ident: 300, quoted: None };
        assert_eq!(ip(&v6().echo(request, 300, 1, b"")).l4, icmp6);
    }
    let timestamp = L4::Icmp { icmp_type: 13, code: 0, ident: 0, quoted: None };
    assert_eq!(ip(&v4().icmp(13, 0, [1, 2, 0, 1], &[0; 12])).l4, timestamp);
}

#[test]
fn each_version_knows_its_own_icmp_only() {
    let foreign4 = ip(&v4().upper(IpProtocol::Icmpv6, &[135; 8]));
    let foreign6 = ip(&v6().upper(IpProtocol::Icmp, &[8; 8]));
    for (packet, protocol) in [(foreign4, IpProtocol::Icmpv6), (foreign6, IpProtocol::Icmp)] {
        assert_eq!((packet.l4, packet.protocol), (L4::Opaque, protocol));
    }
}

#[test]
fn other_protocols_are_opaque() {
    for number in [2, 4, 41, 47, 50, 51, 59, 89, 255] {
        let protocol = IpProtocol::from(number);
        for frame in [v4().upper(protocol, b""), v6().upper(protocol, b"x")] {
            assert_eq!((ip(&frame).l4, ip(&frame).protocol), (L4::Opaque, protocol));
        }
    }
}

#[test]
fn neighbor_messages_have_target_and_link() {
    let solicit = L4::Nd(Nd::NeighborSolicit { target: B6, link: Some(A) });
    assert_eq!(ip(&LINK.neighbor_solicit(A6, B6)).l4, solicit);
    let probe = L4::Nd(Nd::NeighborSolicit { target: B6, link: None });
    assert_eq!(ip(&LINK.neighbor_solicit(Ipv6Address::UNSPECIFIED, B6)).l4, probe);
    let advert = L4::Nd(Nd::NeighborAdvert { target: A6, link: Some(B) });
    assert_eq!(ip(&LINK.neighbor_advert(A6, B6, A6, B, NdiscNeighborFlags::SOLICITED)).l4, advert);
}
