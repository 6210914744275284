//! Frames that go on: bridged, routed, flooded, delivered.

use super::*;
use crate::wire::checksum;

#[test]
fn bridged_between_pods_untouched() {
    let mut bed = Bed::new();
    for bytes in [
        between(2, mac(3)).ipv4(v4(2), v4(3)).udp(4_000, 53, b"question"),
        between(2, mac(3)).ipv6(v6(2), v6(3)).tcp((4_000, 80), 2, 1, 0, b""),
    ] {
        assert_eq!(bed.send(A, &bytes), Verdict::Forward(B));
        assert_eq!(bed.only(), (B, bytes), "hop limit and MACs stay");
    }
}

#[test]
fn the_walk_reads_as_a_story() {
    let mut bed = Bed::new();
    let bytes = between(2, GATEWAY).ipv4(v4(2), OUTSIDE4).udp(4_000, 53, b"question");
    bed.send(A, &bytes);
    let story = lines(&bed.out.walked[0], &bytes);
    assert_eq!(story.len(), 6, "{story:#?}");
    let parsed = "parse      ipv4 10.244.1.2:4000 > 198.51.100.7:53 udp";
    assert!(story[0].starts_with(parsed), "{}", story[0]);
    assert_eq!(story[1], "l2         destination MAC is the gateway's: routed");
    assert_eq!(story[2], "conntrack  new connection");
    assert_eq!(story[3], "l3         0.0.0.0/0 via port 1");
    assert_eq!(story[4], "policy     no policy selects it: may pass");
    assert_eq!(story[5], "egress     forward to port 1");
}

#[test]
fn routed_to_the_node_with_a_hop_less() {
    let mut bed = Bed::new();
    let bytes = between(2, GATEWAY).ipv4(v4(2), NODE4).udp(4_000, 53, b"x");
    assert_eq!(bed.send(A, &bytes), Verdict::Forward(HOST));
    let (port, sent) = bed.only();
    assert_eq!(port, HOST);
    assert_eq!(sent[..12], [mac(250).0, GATEWAY.0].concat());
    assert_eq!(sent[22], bytes[22] - 1, "TTL");
    assert_eq!(checksum::fold(checksum::sum(&sent[14..34])), 0xffff, "header checksum");
    assert_eq!(sent[26..], bytes[26..], "the rest stays");

    let bytes = between(2, GATEWAY).ipv6(v6(2), OUTSIDE6).udp(4_000, 53, b"x");
    assert_eq!(bed.send(A, &bytes), Verdict::Forward(HOST));
    let (_, sent) = bed.only();
    assert_eq!(sent[21], bytes[21] - 1, "hop limit");
    assert_eq!(sent[22..], bytes[22..]);
}

#[test]
fn what_the_node_serves_at_link_local_addresses_of_ipv4() {
    let mut bed = Bed::new();
    for service in [[169, 254, 20, 10], [169, 254, 169, 254]].map(Ipv4Address::from) {
        let ask = between(2, GATEWAY).ipv4(v4(2), service).udp(4_000, 53, b"x");
        assert_eq!(bed.send(A, &ask), Verdict::Forward(HOST));
        let answer = between(250, GATEWAY).ipv4(service, v4(2)).udp(53, 4_000, b"x");
        assert_eq!(bed.send(HOST, &answer), Verdict::Forward(A));
    }
}

#[test]
fn from_the_node_to_a_pod() {
    let mut bed = Bed::new();
    let bytes = between(250, GATEWAY).ipv4(OUTSIDE4, v4(3)).tcp((80, 4_000), 0x12, 1, 1, b"");
    assert_eq!(bed.send(HOST, &bytes), Verdict::Forward(B));
    let (_, sent) = bed.only();
    assert_eq!(sent[..12], [mac(3).0, GATEWAY.0].concat());
}

#[test]
fn broadcast_goes_to_the_other_pods_only() {
    let mut bed = Bed::new();
    let all = between(2, EthernetAddress::BROADCAST);
    let bytes = all.ipv4(v4(2), Ipv4Address::BROADCAST).udp(1, 2, b"x");
    assert_eq!(bed.send(A, &bytes), Verdict::Flood(2));
    assert_eq!(bed.sent(), [(B, bytes.clone()), (C, bytes)]);
}

#[test]
fn a_broadcast_goes_to_those_who_can_take_it() {
    let mut bed = Bed::new();
    let from_c = Link { src: mac(4), dst: EthernetAddress::BROADCAST };
    let large = from_c.ipv4(v4(4), Ipv4Address::BROADCAST).udp(1, 2, &[0; 4_000]);
    assert_eq!(bed.send(C, &large), Verdict::Drop(DropReason::MtuExceeded), "there are some");
    assert!(bed.change(Change::Port(pod(A, 2, 9_000))).is_empty());
    assert_eq!(bed.send(C, &large), Verdict::Flood(1));
    assert_eq!(bed.only(), (A, large));
}

#[test]
fn a_super_frame_is_flooded_to_those_who_take_its_segments() {
    let mut bed = Bed::new();
    assert!(bed.change(Change::Port(pod(A, 2, 9_000))).is_empty());
    let from_c = Link { src: mac(4), dst: EthernetAddress::BROADCAST };
    let bytes = from_c.ipv4(v4(4), Ipv4Address::BROADCAST).udp(1, 2, &[0; 30_000]);
    let mut of = |size| {
        let mut frame = Frame::from_bytes(&bytes);
        let gso = Some(Gso { kind: GsoKind::Udp, size, ecn: false });
        let checksum = crate::Checksum::Partial { start: 34, offset: 6 };
        frame.set_offload(Offload { checksum, gso, fragment_mtu: None });
        bed.put(C, frame)
    };
    assert_eq!(of(1_472), Verdict::Flood(2), "1,500 bytes each");
    assert_eq!(of(1_473), Verdict::Flood(1), "too much for b");
    assert_eq!(of(8_973), Verdict::Drop(DropReason::MtuExceeded), "too much for both");
}

#[test]
fn padding_is_not_routed() {
    let mut bed = Bed::new();
    let bytes = between(2, GATEWAY).ipv4(v4(2), OUTSIDE4).udp(4_000, 53, b"x");
    let mut padded = bytes.clone();
    padded.resize(1_600, 0xee);
    assert_eq!(bed.send(A, &padded), Verdict::Forward(HOST), "the packet itself is small");
    let (_, sent) = bed.only();
    assert_eq!((sent.len(), &sent[26..]), (bytes.len(), &bytes[26..]), "as long as the packet");
}

#[test]
fn a_super_frame_passes_whole() {
    let mut bed = Bed::new();
    let payload = vec![7; 60_000];
    let bytes = between(2, mac(3)).ipv4(v4(2), v4(3)).tcp((4_000, 80), 0x10, 1, 1, &payload);
    let mut frame = Frame::from_bytes(&bytes);
    let offload = Offload {
        checksum: crate::Checksum::Partial { start: 34, offset: 16 },
        gso: Some(Gso { kind: GsoKind::Tcp4, size: 1_448, ecn: false }),
        fragment_mtu: None,
    };
    frame.set_offload(offload);
    assert_eq!(bed.put(A, frame), Verdict::Forward(B));
    assert_eq!(bed.out.transmits[0].frame.offload(), &offload);
    assert_eq!(bed.only(), (B, bytes));
}

#[test]
fn a_large_packet_without_df_is_fragmented_by_the_driver() {
    let mut bed = Bed::new();
    let link = between(4, GATEWAY);
    let bytes = link.ipv4(v4(4), OUTSIDE4).may_fragment().udp(1, 2, &[0; 4_000]);
    assert_eq!(bed.send(C, &bytes), Verdict::Forward(HOST));
    assert_eq!(bed.out.transmits[0].frame.offload().fragment_mtu, Some(1_500));
}

fn deliver(bed: &mut Bed, port: PortId, bytes: &[u8]) -> (PortId, Vec<u8>) {
    assert_eq!(bed.send(port, bytes), Verdict::Deliver(EndpointId(0)));
    let (endpoint, frame) = bed.out.deliveries.remove(0);
    bed.out.clear();
    bed.switch.input(bed.now, Input::Deliver { endpoint, frame }, &mut bed.out);
    bed.only()
}

#[test]
fn what_the_gateway_hears_is_answered_as_a_host_does() {
    let mut bed = Bed::new();
    let syn = between(2, GATEWAY).ipv4(v4(2), v4(1)).tcp((4_000, 22), 2, 9, 0, b"");
    let (port, reply) = deliver(&mut bed, A, &syn);
    assert_eq!(port, A);
    assert_eq!(reply[47], 0x14, "RST and ACK");
    assert_eq!(reply[..12], [mac(2).0, GATEWAY.0].concat());
    assert_eq!(bed.switch.counters().imbalances(), []);
    assert_eq!(bed.switch.counters().port(ENDPOINT).map(|c| c.forwarded), Some(1));

    let from_node = between(250, GATEWAY).ipv4(NODE4, v4(1)).tcp((4_000, 22), 2, 9, 0, b"");
    let (port, reply) = deliver(&mut bed, HOST, &from_node);
    assert_eq!((port, reply[47]), (HOST, 0x14), "the node is refused as well, not left waiting");

    let datagram = between(2, GATEWAY).ipv6(v6(2), v6(1)).udp(4_000, 33_434, b"probe");
    let (_, reply) = deliver(&mut bed, A, &datagram);
    assert_eq!(reply[54..56], [1, 4], "port unreachable");
}

#[test]
fn an_annotated_prefix_opens_the_guard() {
    let mut config = config();
    config.ports[2].allowed = vec![IpCidr::new(Ipv4Address::new(10, 9, 0, 0).into(), 16)];
    let mut bed = Bed::with(config);
    let bytes = between(2, mac(3)).ipv4(Ipv4Address::new(10, 9, 1, 1), v4(3)).udp(1, 2, b"");
    assert_eq!(bed.send(A, &bytes), Verdict::Forward(B));
}
