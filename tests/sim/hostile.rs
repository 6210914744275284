//! Frames that no honest host sends: lies, mutants, garbage; and honest questions that smoltcp
//! never asks.

use smoltcp::wire::{EthernetAddress, Ipv4Address};
use stack::NodeConfig;
use stack::input::{Frame, Offload};
use stack::wire::build::Link;

use crate::draw::Draw;
use crate::frames::Maker;
use crate::plan::{self, Id};

const GATEWAY: EthernetAddress = NodeConfig::GATEWAY_MAC;

/// A frame for the port of a host among `hosts` of its node.
pub(crate) fn frame(host: Id, hosts: u8, maker: &mut Maker, draw: &mut Draw) -> Frame {
    let (bytes, offload) = match draw.below(3) {
        0 => made(host, hosts, maker, draw),
        1 => (lie(host, hosts, draw), Offload::default()),
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
        1 => own.tcp((9, 9), stack::wire::build::flags::SYN, 1, 0, b""),
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
