//! What is translated is translated back, and no two connections share a port.

use smoltcp::wire::IpProtocol;

use super::*;
use crate::wire::checksum;

/// Whether the packet's own checksums are right: IPv4's header, and TCP's or UDP's.
pub(super) fn assert_sums(bytes: &[u8]) {
    let ip = read(bytes);
    let at = usize::from(ip.l4_offset);
    if matches!(ip.src, IpAddress::Ipv4(_)) {
        assert_eq!(checksum::fold(checksum::sum(&bytes[14..at])), 0xffff, "IPv4 header");
    }
    let upper = &bytes[at..];
    let len = u32::try_from(upper.len()).unwrap();
    // ICMP of IPv4 knows no addresses.
    let pseudo = if ip.protocol == IpProtocol::Icmp {
        0
    } else {
        checksum::pseudo_header(ip.src, ip.dst, ip.protocol.into(), len)
    };
    assert_eq!(checksum::fold(pseudo + checksum::sum(upper)), 0xffff, "upper header");
}

#[test]
fn a_pod_keeps_its_address_and_its_reply_is_bridged() {
    // SVC-02, and pitfall 2 of core.md.
    for family in families() {
        let backends = [backend(family.pods[1], true)];
        let mut bed = bed(vec![service(&family, ServiceProtocol::Tcp, &backends)]);
        let client = (family.pods[0], 40_000);
        assert_eq!(bed.tcp(A, client, (family.vip, 80), SYN), Verdict::Forward(B));
        let (_, asked) = bed.only();
        assert_eq!(seen(&asked), Seen { src: client, dst: (family.pods[1], 8_080) });
        assert_sums(&asked);
        // The backend answers the pod directly: the same segment, no gateway.
        let reply = ip(between(3, mac(2)), family.pods[1], client.0);
        let reply = reply.tcp((8_080, client.1), SYN | ACK, 5_000, 1_001, b"");
        assert_eq!(bed.send(B, &reply), Verdict::Forward(A));
        let (_, answered) = bed.only();
        assert_eq!(seen(&answered), Seen { src: (family.vip, 80), dst: client });
        assert_sums(&answered);
        assert_eq!(answered[..14], reply[..14], "the backend's own MAC");
        assert_eq!(read(&answered).hop_limit, read(&reply).hop_limit);
        assert_eq!(bed.connections(), 1);
    }
}

#[test]
fn the_walk_tells_the_translation() {
    let [family, _] = families();
    let mut bed =
        bed(vec![service(&family, ServiceProtocol::Tcp, &[backend(family.pods[1], true)])]);
    let frame = ip(from(A), family.pods[0], family.vip).tcp((40_000, 80), SYN, 1, 0, b"");
    bed.send(A, &frame);
    let story = lines(&bed.out.walked[0], &frame);
    assert_eq!(story[2], "conntrack  new connection");
    assert_eq!(story[3], "service    service 6 -> 10.244.1.3:8080 by random, of 1");
    assert_eq!(story[4], "l3         10.244.1.0/24 is attached: port 3");
    let ask = ip(from(A), family.pods[0], family.outside).udp(40_000, 53, b"");
    bed.send(A, &ask);
    let story = lines(&bed.out.walked[0], &ask);
    let masquerade = story.iter().find(|line| line.starts_with("nat")).unwrap();
    assert!(masquerade.starts_with("nat        source -> 192.0.2.10:6"), "{masquerade}");
    assert!(masquerade.ends_with(": leaves the cluster"), "{masquerade}");
}

#[test]
fn what_leaves_the_cluster_comes_back() {
    for family in families() {
        let mut bed = bed(vec![]);
        let client = (family.pods[0], 40_000);
        bed.udp(A, client, (family.outside, 53));
        let (_, asked) = bed.only();
        assert_sums(&asked);
        let outer = seen(&asked).src;
        bed.udp(HOST, (family.outside, 53), outer);
        let (egress, answered) = bed.only();
        assert_eq!(egress, A);
        assert_eq!(seen(&answered), Seen { src: (family.outside, 53), dst: client });
        assert_sums(&answered);
        // Only from there: endpoint-dependent (4787-8).
        let stranger = bed.udp(HOST, (family.outside, 54), outer);
        assert_eq!(stranger, Verdict::Forward(HOST), "the node's own business");
        assert_eq!(bed.left().1.dst, outer, "given back as it came");
    }
}

#[test]
fn pings_leave_by_identifier_and_come_back() {
    for family in families() {
        let mut bed = bed(vec![]);
        // Two pods with one identifier.
        let mut identifiers = vec![];
        for (port, pod) in [(A, family.pods[0]), (B, family.pods[1])] {
            let ping = ip(from(port), pod, family.outside).echo(true, 9, 1, b"ping");
            assert_eq!(bed.send(port, &ping), Verdict::Forward(HOST));
            let (_, out) = bed.left();
            assert_eq!(out.src.0, family.node);
            identifiers.push(out.src.1);
            let pong = ip(from(HOST), family.outside, family.node);
            assert_eq!(bed.send(HOST, &pong.echo(false, out.src.1, 1, b"ping")), {
                Verdict::Forward(port)
            });
            let (_, back) = bed.left();
            assert_eq!((back.dst.0, back.dst.1), (pod, 9), "the identifier it asked with");
        }
        assert_ne!(identifiers[0], identifiers[1]);
        // An answer that nobody here waits for is a copy of the node's own.
        let pong = ip(from(HOST), family.outside, family.node).echo(false, 1, 1, b"ping");
        assert_eq!(bed.send(HOST, &pong), Verdict::Drop(DropReason::RelatedUnknown));
    }
}

#[test]
fn a_port_within_the_range_is_kept_where_it_is_free() {
    // 4787-3: never two connections to one destination from one port.
    for family in families() {
        let mut bed = bed(vec![]);
        let there = (family.outside, 53);
        let outer = |bed: &Bed| bed.left().1.src.1;
        bed.udp(A, (family.pods[0], 62_000), there);
        assert_eq!(outer(&bed), 62_000);
        bed.udp(B, (family.pods[1], 62_000), there);
        let other = outer(&bed);
        assert!(other != 62_000 && (61_000..=65_534).contains(&other));
        // Another destination may have the same one: endpoint-dependent.
        bed.udp(B, (family.pods[1], 62_000), (family.outside, 54));
        assert_eq!(outer(&bed), 62_000);
    }
}

#[test]
pub(super) fn when_every_port_is_taken_the_next_is_refused() {
    let [family, _] = families();
    let mut config = bed(vec![]).switch.config();
    config.node.snat_ports = crate::PortRange { first: 61_000, last: 61_009 };
    let mut bed = Bed::with(config);
    let mut outer = BTreeSet::new();
    for port in 40_000..40_010 {
        assert_eq!(
            bed.udp(A, (family.pods[0], port), (family.outside, 53)),
            Verdict::Forward(HOST)
        );
        outer.insert(bed.left().1.src.1);
    }
    assert_eq!(outer, (61_000..=61_009).collect());
    let next = bed.udp(A, (family.pods[0], 40_010), (family.outside, 53));
    assert_eq!(next, Verdict::Drop(DropReason::SnatExhausted));
    assert_eq!(bed.connections(), 10, "a dropped frame creates nothing");
    let elsewhere = bed.udp(A, (family.pods[0], 40_010), (family.outside, 54));
    assert_eq!(elsewhere, Verdict::Forward(HOST));
    // A port is free again once its connection is past its deadline.
    bed.wait(Duration::from_secs(31));
    let again = bed.udp(B, (family.pods[1], 40_000), (family.outside, 53));
    assert_eq!(again, Verdict::Forward(HOST));
}

#[test]
fn one_port_to_a_service_and_to_its_backend_is_told_apart() {
    // DESIGN 8, pitfall 1 of core.md.
    for family in families() {
        let backends = [backend(family.pods[1], true)];
        let mut bed = bed(vec![service(&family, ServiceProtocol::Udp, &backends)]);
        let client = (family.pods[0], 40_000);
        bed.udp(A, client, (family.vip, 80));
        assert_eq!(bed.left().1.src, client);
        let direct = ip(between(2, mac(3)), client.0, family.pods[1]).udp(client.1, 8_080, b"x");
        bed.send(A, &direct);
        let (_, left) = bed.left();
        assert_eq!(left.src.0, client.0);
        assert_ne!(left.src.1, client.1, "the later one has another port");
        let answer =
            |to_port| ip(between(3, mac(2)), family.pods[1], client.0).udp(8_080, to_port, b"y");
        bed.send(B, &answer(left.src.1));
        assert_eq!(bed.left().1, Seen { src: (family.pods[1], 8_080), dst: client });
        bed.send(B, &answer(client.1));
        assert_eq!(bed.left().1, Seen { src: (family.vip, 80), dst: client });
    }
}

#[test]
fn a_host_network_backend_is_reached_at_the_node() {
    // SVC-18: the node's own listener; clients that are no pods are masqueraded into the range.
    for family in families() {
        let backends = [backend(family.node, true)];
        let mut bed = bed(vec![service(&family, ServiceProtocol::Tcp, &backends)]);
        bed.tcp(A, (family.pods[0], 40_000), (family.vip, 80), SYN);
        let wanted = Seen { src: (family.pods[0], 40_000), dst: (family.node, 8_080) };
        assert_eq!(bed.left(), (HOST, wanted));
        bed.tcp(HOST, (family.node, 40_000), (family.vip, 80), SYN);
        let (_, left) = bed.left();
        assert_eq!((left.src.0, left.dst), (family.node, (family.node, 8_080)));
        assert!((61_000..=65_534).contains(&left.src.1));
        let reply = ip(from(HOST), family.node, family.node);
        bed.send(HOST, &reply.tcp((8_080, left.src.1), SYN | ACK, 1, 1_001, b""));
        let wanted = Seen { src: (family.vip, 80), dst: (family.node, 40_000) };
        assert_eq!(bed.left(), (HOST, wanted));
    }
}

#[test]
fn a_listener_of_the_node_in_the_diverted_range_keeps_answering() {
    for family in families() {
        let mut bed = bed(vec![]);
        let ask = ip(from(HOST), family.outside, family.node).hop_limit(1);
        let frame = ask.tcp((5_000, 31_000), SYN, 1, 0, b"");
        assert_eq!(bed.send(HOST, &frame), Verdict::Forward(HOST));
        let (_, back) = bed.only();
        assert_eq!(back[14..], frame[14..], "its hop limit as well");
        assert_eq!(back[..12], [mac(250).0, GATEWAY.0].concat());
        assert_eq!(bed.connections(), 0, "untracked");
    }
}

#[test]
pub(super) fn what_makes_no_sense_is_never_translated() {
    // SVC-11.
    for family in families() {
        let backends = [backend(family.pods[1], true)];
        let mut bed = bed(vec![service(&family, ServiceProtocol::Tcp, &backends)]);
        let client = (family.pods[0], 40_000);
        bed.tcp(A, client, (family.vip, 80), SYN);
        // SYN and FIN at once.
        let invalid = Verdict::Drop(DropReason::ConntrackInvalid);
        assert_eq!(bed.tcp(A, client, (family.vip, 80), 3), invalid);
        // A SYN/ACK to the outside that answers nobody.
        assert_eq!(bed.tcp(A, client, (family.outside, 80), SYN | ACK), invalid);
        // Between pods nothing is translated, so it passes.
        let direct = ip(between(2, mac(3)), client.0, family.pods[1]);
        let direct = direct.tcp((9, 10), SYN | ACK, 1, 1, b"");
        assert_eq!(bed.send(A, &direct), Verdict::Forward(B));
        assert_eq!(bed.only().1, direct);
        assert_eq!(bed.connections(), 1);
    }
}
