//! Services, masquerade and connections, as conformance.md numbers what they must do.

use alloc::collections::BTreeSet;

use super::*;
use crate::config::{Backend, Frontend, FrontendKind, ServiceConfig, ServiceId, ServiceProtocol};
use crate::pipeline::packet::{Inner, Ip, L4};
use crate::pipeline::parse;
use crate::table::conntrack::State;

mod errors;
mod fragments;
mod health;
mod host_ports;
mod lifetimes;
mod matrix;
mod rejects;
mod rfc;
mod strays;
mod translation;

const VIP4: Ipv4Address = Ipv4Address::new(10, 96, 0, 10);
const VIP6: Ipv6Address = Ipv6Address::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10);
/// A pod of another node.
const REMOTE4: Ipv4Address = Ipv4Address::new(10, 244, 2, 5);
const REMOTE6: Ipv6Address = Ipv6Address::new(0xfd00, 0x2, 0, 0, 0, 0, 0, 0x5);
const BALANCER4: Ipv4Address = Ipv4Address::new(203, 0, 114, 9);
const BALANCER6: Ipv6Address = Ipv6Address::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 9);
const NODE_PORT: u16 = 30_080;
const SYN: u8 = 2;
const ACK: u8 = 0x10;

/// The addresses of one family.
#[derive(Clone, Copy, Debug)]
struct Family {
    vip: IpAddress,
    pods: [IpAddress; 3],
    remote: IpAddress,
    node: IpAddress,
    outside: IpAddress,
    gateway: IpAddress,
    balancer: IpAddress,
}

fn families() -> [Family; 2] {
    [
        Family {
            vip: VIP4.into(),
            pods: [v4(2).into(), v4(3).into(), v4(4).into()],
            remote: REMOTE4.into(),
            node: NODE4.into(),
            outside: OUTSIDE4.into(),
            gateway: v4(1).into(),
            balancer: BALANCER4.into(),
        },
        Family {
            vip: VIP6.into(),
            pods: [v6(2).into(), v6(3).into(), v6(4).into()],
            remote: REMOTE6.into(),
            node: NODE6.into(),
            outside: OUTSIDE6.into(),
            gateway: v6(1).into(),
            balancer: BALANCER6.into(),
        },
    ]
}

/// A backend that is ready.
fn backend(address: IpAddress, local: bool) -> Backend {
    Backend { local, ..Backend::ready(address, 8_080) }
}

/// A Service of port 80 at the family's VIP, and at the node port.
fn service(family: &Family, protocol: ServiceProtocol, backends: &[Backend]) -> ServiceConfig {
    let is_ipv6 = matches!(family.vip, IpAddress::Ipv6(_));
    let mut backends = backends.to_vec();
    backends.sort_by_key(|backend| (backend.address, backend.port));
    let frontends = vec![
        Frontend { kind: FrontendKind::ClusterIp, address: Some(family.vip), port: 80 },
        Frontend { kind: FrontendKind::NodePort, address: None, port: NODE_PORT },
        Frontend { kind: FrontendKind::LoadBalancer, address: Some(family.balancer), port: 80 },
    ];
    ServiceConfig {
        frontends,
        backends,
        ..ServiceConfig::new(
            ServiceId(u32::from(is_ipv6) * 100 + protocol as u32),
            "default/web",
            protocol,
        )
    }
}

/// A bed of those limits, without Services.
fn limited(limits: Limits) -> Bed {
    let mut bed = bed(vec![]);
    bed.switch = Switch::new(bed.switch.config(), limits, seeds(1));
    bed
}

/// A bed with ranges for Services and pods of other nodes.
fn bed(services: Vec<ServiceConfig>) -> Bed {
    let mut config = config();
    let prefix = |address: IpAddress, bits| IpCidr::new(address, bits);
    config.node.service_cidrs = vec![
        prefix(Ipv4Address::new(10, 96, 0, 0).into(), 16),
        prefix(Ipv6Address::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0).into(), 64),
    ];
    config.node.non_masquerade = vec![
        prefix(Ipv4Address::new(10, 244, 0, 0).into(), 16),
        prefix(Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 0).into(), 16),
    ];
    config.services = services;
    Bed::with(config)
}

fn ip(link: Link, src: IpAddress, dst: IpAddress) -> crate::wire::build::Ip {
    link.ip(src, dst).expect("one family")
}

/// A frame of the port's owner to the gateway.
fn from(port: PortId) -> Link {
    let n = if port == HOST { 250 } else { u8::try_from(port.0).unwrap() };
    between(n, GATEWAY)
}

/// What a frame is, for comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    src: (IpAddress, u16),
    dst: (IpAddress, u16),
}

fn read(bytes: &[u8]) -> Ip {
    let packet = parse::parse(bytes, bytes.len(), &Offload::default()).unwrap();
    let Inner::Ip(ip) = packet.inner else { panic!("no IP packet") };
    ip
}

fn seen(bytes: &[u8]) -> Seen {
    let ip = read(bytes);
    let ident = if let L4::Icmp { ident, .. } = ip.l4 { ident } else { 0 };
    let (src, dst) = ip.ports().unwrap_or((ident, ident));
    Seen { src: (ip.src, src), dst: (ip.dst, dst) }
}

impl Bed {
    /// The one frame that leaves.
    fn left(&self) -> (PortId, Seen) {
        let (port, bytes) = self.only();
        (port, seen(&bytes))
    }

    fn tcp(
        &mut self,
        port: PortId,
        src: (IpAddress, u16),
        dst: (IpAddress, u16),
        flags: u8,
    ) -> Verdict {
        let numbers = if flags & ACK == 0 { (1_000, 0) } else { (1_001, 5_001) };
        let frame = ip(from(port), src.0, dst.0);
        self.send(port, &frame.tcp((src.1, dst.1), flags, numbers.0, numbers.1, b""))
    }

    fn udp(&mut self, port: PortId, src: (IpAddress, u16), dst: (IpAddress, u16)) -> Verdict {
        self.send(port, &ip(from(port), src.0, dst.0).udp(src.1, dst.1, b"question"))
    }

    fn connections(&self) -> usize {
        self.switch.tables().connections().len()
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
    }
}

/// Tests that cause every reason to drop of these stages.
pub(super) fn every_reason() {
    let tests: &[fn()] = &[
        errors::an_error_about_nothing_that_is_known_is_dropped,
        lifetimes::what_is_answered_is_never_dropped_for_another,
        rejects::without_backends_everybody_is_refused,
        rejects::none_local_under_a_local_policy_is_silent,
        rejects::an_unknown_port_of_a_known_address_is_refused,
        rejects::an_address_that_no_service_has_is_silent,
        rejects::amid_a_stream_nobody_is_led_anywhere,
        rejects::load_balancer_source_ranges_hold_before_anything_else,
        strays::what_the_node_sent_here_never_goes_back_as_it_came,
        strays::a_packet_that_has_stops_before_it_is_not_translated,
        translation::what_makes_no_sense_is_never_translated,
        translation::when_every_port_is_taken_the_next_is_refused,
    ];
    tests.iter().for_each(|test| test());
    fragments::every_reason();
}
