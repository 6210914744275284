//! Frames that no honest host sends: lies, mutants, garbage; and honest questions that smoltcp
//! never asks.

use smoltcp::wire::{EthernetAddress, IpAddress, Ipv4Address};
use stack::NodeConfig;
use stack::input::{Frame, Offload};
use stack::wire::build::{Link, flags};

use crate::draw::Draw;
use crate::frames::Maker;
use crate::plan::{self, Id, OUTSIDE};
use crate::services::{PORT, Service};

const GATEWAY: EthernetAddress = NodeConfig::GATEWAY_MAC;

/// A frame for the port of a host among `hosts` of its node.
pub(crate) fn frame(
    host: Id,
    hosts: u8,
    services: &[Service],
    maker: &mut Maker,
    draw: &mut Draw,
) -> Frame {
    let (bytes, offload) = match draw.below(4) {
        0 => made(host, hosts, maker, draw),
        1 => (lie(host, hosts, draw), Offload::default()),
        2 => (asked(host, services, draw), Offload::default()),
        _ => (question(host, hosts, draw), Offload::default()),
    };
    let mut frame = Frame::from_bytes(&bytes);
    frame.set_offload(offload);
    frame
}

/// A frame of the fuzzer, mostly with MACs that get it past the guard.
fn made(host: Id, hosts: u8, maker: &mut Maker, draw: &mut Draw) -> (Vec<u8>, Offload) {
    let (mut bytes, offload) = maker.next();
    let receiver = if draw.chance(500) { GATEWAY } else { anybody(host.node, hosts, draw) };
    if let Some(place) = bytes.get_mut(6..12).filter(|_| draw.chance(900)) {
        place.copy_from_slice(&plan::mac(host).0);
    }
    if let Some(place) = bytes.get_mut(..6).filter(|_| draw.chance(900)) {
        place.copy_from_slice(&receiver.0);
    }
    (bytes, offload)
}

fn anybody(node: u8, hosts: u8, draw: &mut Draw) -> EthernetAddress {
    plan::mac(plan::id(node, u8::try_from(draw.below(u64::from(hosts) + 1)).unwrap()))
}

/// A host claims to be another, in one field or the other.
fn lie(host: Id, hosts: u8, draw: &mut Draw) -> Vec<u8> {
    let victim = plan::id(host.node, (host.n + 1) % hosts);
    let own = Link { src: plan::mac(host), dst: anybody(host.node, hosts, draw) };
    let all = Link { src: plan::mac(host), dst: EthernetAddress::BROADCAST };
    let nobody = EthernetAddress::default();
    let (four, six) = (plan::v4(host), plan::v6(host));
    let theirs = (plan::v4(victim), plan::v6(victim));
    match draw.below(7) {
        0 => Link { src: plan::mac(victim), ..own }.ipv4(four, theirs.0).udp(9, 9, b"mac"),
        1 => own.ipv4(theirs.0, four).udp(9, 9, b"address"),
        2 => own.ipv6(theirs.1, six).udp(9, 9, b"address"),
        3 => all.arp(true, (plan::mac(host), theirs.0), (nobody, four)),
        4 => all.arp(false, (plan::mac(host), theirs.0), (nobody, four)),
        5 => {
            let flags = smoltcp::wire::NdiscNeighborFlags::OVERRIDE;
            own.neighbor_advert(six, theirs.1, plan::v6(victim), plan::mac(host), flags)
        }
        _ => {
            let mut tagged = own.ipv4(four, theirs.0).udp(9, 9, b"tag");
            tagged.splice(12..12, [0x81, 0, 0, 7]);
            tagged
        }
    }
}

/// What Services and the outside are asked, and what they never said.
fn asked(host: Id, services: &[Service], draw: &mut Draw) -> Vec<u8> {
    let link = Link { src: plan::mac(host), dst: GATEWAY };
    let six = draw.chance(500);
    let own = plan::address(host, six);
    let outside = plan::address(OUTSIDE, six);
    let node = plan::address(plan::id(host.node, 0), six);
    // Ports that others have as well, so that some are taken.
    let port = [40_000, 41_000, 61_000, 61_001][draw.index(4)];
    let service = services.get(draw.index(services.len().max(1)));
    let vip = service.map_or(node, |service| service.vip(six));
    let (node_port, target) = service.map_or((30_080, 9), |it| (it.node_port(), it.target()));
    let flags = [flags::SYN, flags::ACK, flags::RST, flags::FIN | flags::ACK][draw.index(4)];
    let ip = |src, dst| link.ip(src, dst).unwrap();
    // Whoever is not the node itself speaks by the node's port.
    let src = if host.n == 0 && draw.chance(700) { outside } else { own };
    let to_node = if host.n == 0 { (src, node) } else { (own, node) };
    match draw.below(10) {
        0 => ip(own, outside).echo(true, port, 1, b"are you there?"),
        1 => ip(own, outside).udp(port, 33_434, b"where are you?"),
        2 => ip(own, vip).tcp((port, PORT), flags, 1, 1, b""),
        3 => ip(own, vip).udp(port, PORT, b"query"),
        4 => ip(own, vip).udp(port, 9, b"nobody's"),
        5 => ip(to_node.0, to_node.1).tcp((port, node_port), flags, 1, 1, b""),
        6 => ip(to_node.0, to_node.1).udp(port, node_port, b"query"),
        // An answer that nobody asked for, and one that somebody may have.
        7 => ip(to_node.0, to_node.1).udp(33_434, port, b"answer"),
        8 => ip(own, outside).tcp((port, target), flags, 1, 1, b""),
        _ => error(link, to_node, (outside, port), draw),
    }
}

/// An error about a packet that may have left by the node's address.
fn error(
    link: Link,
    (src, node): (IpAddress, IpAddress),
    (to, port): (IpAddress, u16),
    draw: &mut Draw,
) -> Vec<u8> {
    let quoted = link.ip(node, to).unwrap().udp(port, 33_434, b"where are you?");
    let quoted = &quoted[14..quoted.len() - draw.index(12)];
    let kind = if matches!(node, IpAddress::Ipv4(_)) { (11, 0) } else { (3, 0) };
    link.ip(src, node).unwrap().icmp(kind.0, kind.1, [0; 4], quoted)
}

/// What is honest and yet goes nowhere, comes back, or goes to everybody.
fn question(host: Id, hosts: u8, draw: &mut Draw) -> Vec<u8> {
    let link = Link { src: plan::mac(host), dst: GATEWAY };
    let other = plan::id(host.node, u8::try_from(draw.below(u64::from(hosts))).unwrap());
    let (node, nobody) = (plan::id(host.node, 0), plan::id(host.node, 200));
    let six = draw.chance(500);
    let hops = 1 + u8::try_from(draw.below(3)).unwrap();
    let payload = vec![0x51; draw.index(1_400)];
    let ip = |to: Id| link.ip(plan::address(host, six), plan::address(to, six)).unwrap();
    let own = link.ip(plan::address(host, six), plan::gateway(host.node, six)).unwrap();
    match draw.below(9) {
        0 => own.echo(true, 1, 1, &payload),
        1 => own.tcp((9, 9), flags::SYN, 1, 0, b""),
        2 => own.udp(9, 9, &payload),
        3 => ip(other).hop_limit(hops).udp(9, 9, &payload),
        4 => ip(nobody).udp(9, 9, &payload),
        5 => ip(other).udp(9, 9, &[0x51; 2_500]),
        6 => link.ipv4(plan::v4(host), plan::v4(node)).may_fragment().udp(9, 9, &[0x51; 2_500]),
        7 => link.ipv4(plan::v4(host), Ipv4Address::new(203, 0, 113, 5)).udp(9, 9, &payload),
        _ => {
            let all = Link { dst: EthernetAddress::BROADCAST, ..link };
            all.ipv4(plan::v4(host), Ipv4Address::BROADCAST).udp(9, 9, &payload)
        }
    }
}
