//! Pods' `hostPort`s: at the node's addresses and its loopback address, and nowhere else
//! (conformance.md 3.3, SEC-33, SEC-37).

use super::matrix::{init, init_ack};
use super::*;
use crate::wire::build;

pub(super) const HOST_PORT: u16 = 8_090;
pub(super) const LOOPBACK: IpAddress = IpAddress::Ipv4(Ipv4Address::new(127, 0, 0, 1));

/// A `hostPort` of pod b, at that address of the node or at all of them.
pub(super) fn host_port(
    family: &Family,
    protocol: ServiceProtocol,
    address: Option<IpAddress>,
) -> ServiceConfig {
    let frontend = Frontend { kind: FrontendKind::HostPort, address, port: HOST_PORT };
    ServiceConfig {
        frontends: vec![frontend],
        ..service(family, protocol, &[backend(family.pods[1], true)])
    }
}

/// The first packet of a connection of that protocol.
fn first(
    link: build::Ip,
    protocol: ServiceProtocol,
    src_port: u16,
    dst_port: u16,
    answers: bool,
) -> Vec<u8> {
    match protocol {
        ServiceProtocol::Tcp if answers => {
            link.tcp((src_port, dst_port), SYN | ACK, 5_000, 1_001, b"")
        }
        ServiceProtocol::Tcp => link.tcp((src_port, dst_port), SYN, 1_000, 0, b""),
        ServiceProtocol::Udp => link.udp(src_port, dst_port, b"question"),
        ServiceProtocol::Sctp if answers => link.upper(132.into(), &init_ack(src_port, dst_port)),
        ServiceProtocol::Sctp => link.upper(132.into(), &init(src_port, dst_port)),
    }
}

const PROTOCOLS: [ServiceProtocol; 3] =
    [ServiceProtocol::Tcp, ServiceProtocol::Udp, ServiceProtocol::Sctp];

#[test]
fn only_who_asks_at_the_loopback_address_is_masqueraded() {
    for family in families() {
        for protocol in PROTOCOLS {
            let clients = [
                (HOST, family.outside, family.node, family.outside),
                (HOST, family.node, family.node, family.node),
                (A, family.pods[0], family.node, family.pods[0]),
                (B, family.pods[1], family.node, family.gateway),
                (HOST, LOOPBACK, LOOPBACK, family.gateway),
                (HOST, family.node, LOOPBACK, family.node),
            ];
            let of_family = |asked: IpAddress| asked.version() == family.node.version();
            for (port, src, asked, expected) in
                clients.into_iter().filter(|(_, _, asked, _)| of_family(*asked))
            {
                let mut bed = bed(vec![host_port(&family, protocol, None)]);
                let question =
                    first(ip(from(port), src, asked), protocol, 40_000, HOST_PORT, false);
                assert_eq!(bed.send(port, &question), Verdict::Forward(B), "{src} to {asked}");
                let (_, asks) = bed.left();
                assert_eq!(asks.dst, (family.pods[1], 8_080));
                assert_eq!(asks.src.0, expected, "{src} to {asked}");
                // And back, by whichever way the client is reached.
                let link = if port == A { between(3, mac(2)) } else { from(B) };
                let reply =
                    first(ip(link, asks.dst.0, asks.src.0), protocol, 8_080, asks.src.1, true);
                assert_eq!(bed.send(B, &reply), Verdict::Forward(port), "{src} to {asked}");
                let (_, back) = bed.left();
                assert_eq!(back, Seen { src: (asked, HOST_PORT), dst: (src, 40_000) });
            }
        }
    }
}

#[test]
fn the_loopback_address_is_the_nodes_alone() {
    let [family, _] = families();
    let mut bed = bed(vec![host_port(&family, ServiceProtocol::Tcp, Some(LOOPBACK))]);
    let martian = Verdict::Drop(DropReason::Martian);
    let mut ask = |port, src, dst| bed.tcp(port, (src, 40_000), dst, SYN);
    assert_eq!(ask(HOST, LOOPBACK, (LOOPBACK, HOST_PORT)), Verdict::Forward(B));
    assert_eq!(ask(HOST, family.outside, (LOOPBACK, HOST_PORT)), martian, "from outside");
    assert_eq!(ask(A, family.pods[0], (LOOPBACK, HOST_PORT)), martian, "from a pod");
    assert_eq!(ask(HOST, LOOPBACK, (LOOPBACK, HOST_PORT + 1)), martian, "another port");
    assert_eq!(ask(HOST, LOOPBACK, (family.outside, HOST_PORT)), martian, "not to it");
    let other: IpAddress = Ipv4Address::new(127, 0, 0, 2).into();
    assert_eq!(ask(HOST, LOOPBACK, (other, HOST_PORT)), martian, "another such address");
    // Bound to that address, it is not at the node's others.
    assert_eq!(ask(HOST, family.outside, (family.node, HOST_PORT)), Verdict::Forward(HOST));
    assert_eq!(bed.left().1.dst, (family.node, HOST_PORT), "given back");
    let udp = bed.udp(HOST, (LOOPBACK, 40_000), (LOOPBACK, HOST_PORT));
    assert_eq!(udp, martian, "another protocol");
}

#[test]
fn a_connection_to_the_loopback_address_ends_with_its_host_port_on_every_path() {
    let [family, _] = families();
    let host_port = host_port(&family, ServiceProtocol::Tcp, Some(LOOPBACK));
    let id = host_port.id;
    let mut bed = bed(vec![host_port]);
    let client = (LOOPBACK, 40_000);
    assert_eq!(bed.tcp(HOST, client, (LOOPBACK, HOST_PORT), SYN), Verdict::Forward(B));
    let (_, asks) = bed.left();
    let reply = ip(from(B), asks.dst.0, asks.src.0);
    let reply = reply.tcp((asks.dst.1, asks.src.1), SYN | ACK, 5_000, 1_001, b"");
    assert_eq!(bed.send(B, &reply), Verdict::Forward(HOST));
    for _ in 0..3 {
        assert_eq!(bed.tcp(HOST, client, (LOOPBACK, HOST_PORT), ACK), Verdict::Forward(B));
    }
    assert_eq!(bed.change(Change::ServiceRemoved(id)), []);
    let segment =
        ip(from(HOST), LOOPBACK, LOOPBACK).tcp((40_000, HOST_PORT), ACK, 1_001, 5_001, b"");
    let frame = Frame::from_bytes(&segment);
    let whole = bed.switch.trace_whole(bed.now, HOST, &frame);
    assert_eq!(whole.verdict, Verdict::Drop(DropReason::Martian));
    assert_eq!(bed.switch.trace(bed.now, HOST, &frame), whole);
}

#[test]
fn a_host_port_takes_nobodys_traffic_away() {
    for family in families() {
        let mut own = host_port(&family, ServiceProtocol::Tcp, None);
        own.id = ServiceId(1 << 31);
        own.frontends[0].port = NODE_PORT;
        let other = service(&family, ServiceProtocol::Tcp, &[backend(family.pods[2], true)]);
        let mut bed = bed(vec![own, other]);
        let client = (family.outside, 40_000);
        bed.tcp(HOST, client, (family.node, NODE_PORT), SYN);
        assert_eq!(bed.left().0, C, "the Service's NodePort comes first");
        bed.tcp(A, (family.pods[0], 1), (family.vip, 80), SYN);
        assert_eq!(bed.left().0, C);
        // Of all addresses that pods reach, the node's alone.
        assert_eq!(
            bed.tcp(A, (family.pods[0], 2), (family.outside, NODE_PORT), SYN),
            Verdict::Forward(HOST)
        );
        assert_eq!(bed.left().1.dst, (family.outside, NODE_PORT));
    }
}

#[test]
fn datagrams_follow_a_host_port_to_the_pod_that_has_it_next() {
    for family in families() {
        let mut bed = bed(vec![host_port(&family, ServiceProtocol::Udp, None)]);
        let (client, asked) = ((family.outside, 40_000), (family.node, HOST_PORT));
        bed.udp(HOST, client, asked);
        assert_eq!(bed.left().0, B);
        let before = host_port(&family, ServiceProtocol::Udp, None);
        let mut next = ServiceConfig { id: ServiceId(before.id.0 + 1), ..before.clone() };
        next.backends[0].address = family.pods[2];
        let changes = vec![Change::ServiceRemoved(before.id), Change::Service(next.clone())];
        assert_eq!(bed.change(Change::All(changes)), []);
        bed.udp(HOST, client, asked);
        assert_eq!(bed.left().0, C, "the very next one");
        bed.change(Change::ServiceRemoved(next.id));
        bed.udp(HOST, client, asked);
        assert_eq!(bed.left().1.dst, asked, "nobody's: given back to the node");
    }
}

#[test]
fn amid_a_connection_of_the_nodes_own_a_host_port_is_passed_by() {
    for family in families() {
        let mut bed = bed(vec![host_port(&family, ServiceProtocol::Tcp, None)]);
        // The node had asked from that port before it was a pod's.
        for flags in [SYN | ACK, ACK] {
            let verdict = bed.tcp(HOST, (family.outside, 443), (family.node, HOST_PORT), flags);
            assert_eq!(verdict, Verdict::Forward(HOST));
            assert_eq!(bed.left().1.dst, (family.node, HOST_PORT), "given back");
        }
        assert_eq!(bed.connections(), 0);
    }
}
