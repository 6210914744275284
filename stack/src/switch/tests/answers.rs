//! What the switch says itself: ARP, ND, echo, ICMP errors; what it quotes and when it keeps
//! silent.

use super::*;
use crate::wire::build::solicited_node_mac;
use crate::wire::checksum;

fn icmp4_ok(frame: &[u8]) {
    assert_eq!(checksum::fold(checksum::sum(&frame[14..34])), 0xffff, "IPv4 header");
    assert_eq!(checksum::fold(checksum::sum(&frame[34..])), 0xffff, "ICMP");
}

fn icmp6_ok(frame: &[u8]) {
    let address = |at: usize| -> IpAddress {
        let bytes: [u8; 16] = frame[at..at + 16].try_into().expect("sixteen bytes");
        Ipv6Address::from(bytes).into()
    };
    let body = &frame[54..];
    let len = u32::try_from(body.len()).expect("short");
    let pseudo = checksum::pseudo_header(address(22), address(38), 58, len);
    assert_eq!(checksum::fold(checksum::sum(body) + pseudo), 0xffff, "ICMPv6");
}

#[test]
fn arp_is_answered_with_the_owners_mac() {
    let mut bed = Bed::new();
    let all = between(2, EthernetAddress::BROADCAST);
    let nobody = EthernetAddress([0; 6]);
    for (target, owner) in [(v4(3), mac(3)), (v4(1), GATEWAY)] {
        let request = all.arp(true, (mac(2), v4(2)), (nobody, target));
        assert_eq!(bed.send(A, &request), Verdict::Answer(AnswerKind::Arp(owner)));
        let back = Link { src: owner, dst: mac(2) };
        assert_eq!(bed.only(), (A, back.arp(false, (owner, target), (mac(2), v4(2)))));
    }
    let probe = all.arp(true, (mac(2), Ipv4Address::UNSPECIFIED), (nobody, v4(3)));
    assert_eq!(bed.send(A, &probe), Verdict::Answer(AnswerKind::Arp(mac(3))), "it is taken");
    let announcement = all.arp(true, (mac(2), v4(2)), (nobody, v4(2)));
    assert_eq!(bed.send(A, &announcement), Verdict::Flood(2));
}

#[test]
fn neighbor_discovery_is_answered() {
    let mut bed = Bed::new();
    let own = crate::config::link_local(mac(2));
    let gateway_ll = NodeConfig::default().gateway_link_local();
    for (src, target, owner, flags) in [
        (v6(2), v6(3), mac(3), 0x60),
        (own, crate::config::link_local(mac(3)), mac(3), 0x60),
        (v6(2), v6(1), GATEWAY, 0xe0),
        (own, gateway_ll, GATEWAY, 0xe0),
    ] {
        let ask = between(2, solicited_node_mac(target)).neighbor_solicit(src, target);
        assert_eq!(bed.send(A, &ask), Verdict::Answer(AnswerKind::Neighbor(owner)));
        let (port, reply) = bed.only();
        assert_eq!(port, A);
        assert_eq!(reply[..12], [mac(2).0, owner.0].concat());
        assert_eq!(reply[58] & 0xe0, flags, "R, S, O");
        icmp6_ok(&reply);
    }
}

#[test]
fn duplicate_address_detection_sees_the_conflict() {
    let mut bed = Bed::new();
    let probe = |n| {
        let link = between(2, solicited_node_mac(v6(n)));
        link.neighbor_solicit(Ipv6Address::UNSPECIFIED, v6(n))
    };
    assert_eq!(bed.send(A, &probe(3)), Verdict::Answer(AnswerKind::Neighbor(mac(3))));
    let (_, reply) = bed.only();
    assert_eq!(reply[..6], [0x33, 0x33, 0, 0, 0, 1], "to all nodes");
    assert_eq!(reply[58] & 0xe0, 0x20, "not solicited");
    icmp6_ok(&reply);
    let free = Verdict::Drop(DropReason::NeighborUnknown);
    assert_eq!(bed.send(A, &probe(2)), free, "nobody else has it");
}

#[test]
fn the_gateway_echoes() {
    let mut bed = Bed::new();
    let payload = vec![0x5a; 1_400];
    let back = Link { src: GATEWAY, dst: mac(2) };
    let ping = between(2, GATEWAY).ipv4(v4(2), v4(1)).echo(true, 7, 3, &payload);
    assert_eq!(bed.send(A, &ping), Verdict::Answer(AnswerKind::Echo));
    let expected = back.ipv4(v4(1), v4(2)).hop_limit(64).echo(false, 7, 3, &payload);
    assert_eq!(bed.only(), (A, expected));

    let ping = between(2, GATEWAY).ipv6(v6(2), v6(1)).echo(true, 7, 3, &payload);
    assert_eq!(bed.send(A, &ping), Verdict::Answer(AnswerKind::Echo));
    let expected = back.ipv6(v6(1), v6(2)).hop_limit(64).echo(false, 7, 3, &payload);
    assert_eq!(bed.only(), (A, expected));
}

fn error(bed: &mut Bed, port: PortId, bytes: &[u8]) -> (DropReason, u8, u8, u16) {
    let verdict = bed.send(port, bytes);
    let Verdict::Answer(AnswerKind::Error { reason, icmp_type, code, mtu }) = verdict else {
        panic!("no error but {verdict:?}")
    };
    (reason, icmp_type, code, mtu)
}

#[test]
fn errors_over_ipv4() {
    let mut bed = Bed::new();
    let to = |dst, hops| between(2, GATEWAY).ipv4(v4(2), dst).hop_limit(hops).udp(1, 2, b"probe");
    let nowhere = Ipv4Address::new(203, 0, 113, 9);
    for (bytes, reason, icmp_type, code) in [
        (to(OUTSIDE4, 1), DropReason::HopLimitExceeded, 11, 0),
        (to(v4(77), 64), DropReason::NeighborFailed, 3, 1),
        (to(nowhere, 64), DropReason::Blackhole, 3, 1),
    ] {
        assert_eq!(error(&mut bed, A, &bytes), (reason, icmp_type, code, 0));
        let (port, reply) = bed.only();
        assert_eq!(port, A);
        assert_eq!(reply[26..34], [10, 244, 1, 1, 10, 244, 1, 2], "from the gateway");
        assert_eq!(reply[15], 0xc0, "internetwork control");
        icmp4_ok(&reply);
        let quoted = &reply[42..];
        let lowered = u8::from(reason == DropReason::NeighborFailed);
        assert_eq!(quoted[8], bytes[22] - lowered, "TTL as Linux quotes it");
        assert_eq!(quoted[12..], bytes[26..], "the packet itself");
    }
}

#[test]
fn too_big_tells_the_mtu() {
    let mut bed = Bed::new();
    let from = between(4, GATEWAY);
    let bytes = from.ipv4(v4(4), OUTSIDE4).udp(1, 2, &[0; 3_000]);
    assert_eq!(error(&mut bed, C, &bytes), (DropReason::MtuExceeded, 3, 4, 1_500));
    let (_, reply) = bed.only();
    assert_eq!(reply[40..42], [0x05, 0xdc]);
    assert_eq!(reply.len(), 42 + Frame::WINDOW - 14, "as much as the window holds");
    icmp4_ok(&reply);
    let bytes = from.ipv6(v6(4), OUTSIDE6).udp(1, 2, &[0; 3_000]);
    assert_eq!(error(&mut bed, C, &bytes), (DropReason::MtuExceeded, 2, 0, 1_500));
    let (_, reply) = bed.only();
    assert_eq!(reply[58..62], [0, 0, 0x05, 0xdc]);
    icmp6_ok(&reply);
}

#[test]
fn a_quote_has_the_checksum_of_the_wire() {
    let mut bed = Bed::new();
    let bytes = between(2, GATEWAY).ipv4(v4(2), v4(77)).udp(1, 2, b"offloaded");
    let mut partial = bytes.clone();
    let pseudo = checksum::pseudo_header(v4(2).into(), v4(77).into(), 17, 17);
    partial[40..42].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let mut frame = Frame::from_bytes(&partial);
    let checksum = crate::Checksum::Partial { start: 34, offset: 6 };
    frame.set_offload(Offload { checksum, ..Offload::default() });
    assert!(matches!(bed.put(A, frame), Verdict::Answer(_)));
    let (_, reply) = bed.only();
    assert_eq!(reply[42 + 20..], bytes[34..], "as if the sender had finished it");
    icmp4_ok(&reply);
}

#[test]
fn a_quote_ends_with_its_packet() {
    let mut bed = Bed::new();
    for bytes in [
        between(2, GATEWAY).ipv4(v4(2), v4(77)).udp(1, 2, b"x"),
        between(2, GATEWAY).ipv6(v6(2), v6(77)).udp(1, 2, b"x"),
    ] {
        let mut padded = bytes.clone();
        padded.resize(100, 0xee);
        assert!(matches!(bed.send(A, &padded), Verdict::Answer(_)));
        let (_, reply) = bed.only();
        let outer = if bytes[12] == 8 { 20 } else { 40 };
        assert_eq!(reply.len() - outer - 8, bytes.len(), "what pads the frame is not quoted");
        assert_eq!(reply[reply.len() - 9..], bytes[bytes.len() - 9..], "the datagram is");
    }
}

#[test]
fn errors_over_ipv6() {
    let bare = Config { routes: config().routes.into_iter().take(2).collect(), ..config() };
    let mut bed = Bed::with(bare);
    let nowhere = between(2, GATEWAY).ipv4(v4(2), OUTSIDE4).udp(1, 2, b"x");
    assert_eq!(error(&mut bed, A, &nowhere), (DropReason::NoRoute, 3, 0, 0), "IPv4 as well");
    let to = |dst, hops| between(2, GATEWAY).ipv6(v6(2), dst).hop_limit(hops).udp(1, 2, b"x");
    for (bytes, reason, icmp_type, code) in [
        (to(OUTSIDE6, 64), DropReason::NoRoute, 1, 0),
        (to(v6(77), 64), DropReason::NeighborFailed, 1, 3),
        (to(v6(3), 1), DropReason::HopLimitExceeded, 3, 0),
    ] {
        assert_eq!(error(&mut bed, A, &bytes), (reason, icmp_type, code, 0));
        let (_, reply) = bed.only();
        assert_eq!(reply[22..38], v6(1).octets(), "from the gateway");
        icmp6_ok(&reply);
    }
}

#[test]
fn beyond_the_scope_of_its_source() {
    let mut bed = Bed::new();
    let own = crate::config::link_local(mac(2));
    let to = |dst, hops| between(2, GATEWAY).ipv6(own, dst).hop_limit(hops).udp(1, 2, b"x");
    for dst in [OUTSIDE6, NODE6, v6(3)] {
        assert_eq!(error(&mut bed, A, &to(dst, 64)), (DropReason::LinkScope, 1, 2, 0));
        let (_, reply) = bed.only();
        let gateway = NodeConfig::default().gateway_link_local();
        assert_eq!(reply[22..38], gateway.octets(), "in the scope of the sender");
        assert_eq!(reply[62..], to(dst, 64)[14..], "its hop limit is not lowered yet");
        icmp6_ok(&reply);
    }
    assert_eq!(error(&mut bed, A, &to(OUTSIDE6, 1)).0, DropReason::HopLimitExceeded, "first");
}

#[test]
fn a_port_has_its_share_of_errors() {
    let mut bed = Bed::new();
    let bytes = between(2, GATEWAY).ipv4(v4(2), v4(77)).udp(1, 2, b"");
    for _ in 0..Limits::default().errors_burst {
        error(&mut bed, A, &bytes);
    }
    assert_eq!(bed.send(A, &bytes), Verdict::Drop(DropReason::NeighborFailed), "silence");
    let story = lines(&bed.out.walked[0], &bytes);
    assert!(story.iter().any(|line| line.contains("share is used up")), "{story:#?}");
    let other = between(3, GATEWAY).ipv4(v4(3), v4(77)).udp(1, 2, b"");
    error(&mut bed, B, &other);
    bed.now = bed.now + Duration(Limits::default().errors_interval.0);
    error(&mut bed, A, &bytes);
}

#[test]
fn refused_changes_change_nothing() {
    let mut bed = Bed::new();
    // Time is state, and moves with every input.
    bed.switch.input(bed.now, Input::Tick, &mut bed.out);
    let before = bed.switch.dump();
    let fresh = pod(PortId(9), 9, 1_500);
    let twin = PortConfig { addresses: vec![v4(2).into()], ..fresh.clone() };
    for change in [
        Change::Port(twin.clone()),
        Change::Port(PortConfig { mac: mac(2), ..fresh.clone() }),
        Change::Port(PortConfig { mac: GATEWAY, ..fresh.clone() }),
        Change::Port(PortConfig { mac: EthernetAddress([1; 6]), ..fresh }),
        Change::PortRemoved(PortId(77)),
        Change::All(vec![Change::Complete(false), Change::Port(twin)]),
        Change::Routes(vec![config().routes[0], config().routes[0]]),
    ] {
        let events = bed.change(change.clone());
        let refused = matches!(&events[..], [Event::Rejected(e)] if !e.to_string().is_empty());
        assert!(refused, "{change:?}");
        assert_eq!(bed.switch.dump(), before, "{change:?}");
    }
}
