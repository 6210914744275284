//! Who is who on the simulated node: host 0 is the node itself, behind `hop0`; pods follow.

use smoltcp::wire::{
    EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};
use stack::config::link_local;
use stack::{Config, NodeConfig, PortConfig, PortId, PortKind, Route, RouteTarget, Switch};

/// The port of the gateway's endpoint.
pub(crate) const GATEWAY: PortId = PortId(0);
/// Bytes of an IP packet that every host takes.
pub(crate) const MTU: u16 = 1_500;

/// The MAC of host `n`.
pub(crate) fn mac(n: u8) -> EthernetAddress {
    EthernetAddress([0x02, 0x48, 10, 244, 1, if n == 0 { 250 } else { n + 1 }])
}

/// The IPv4 address of host `n`; the first of a pod is 10.244.1.2.
pub(crate) fn v4(n: u8) -> Ipv4Address {
    if n == 0 { Ipv4Address::new(192, 0, 2, 10) } else { Ipv4Address::new(10, 244, 1, n + 1) }
}

/// The IPv6 address of host `n`.
pub(crate) fn v6(n: u8) -> Ipv6Address {
    if n == 0 {
        Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)
    } else {
        Ipv6Address::new(0xfd00, 1, 0, 0, 0, 0, 0, u16::from(n) + 1)
    }
}

/// The address of host `n` in either family.
pub(crate) fn address(n: u8, six: bool) -> IpAddress {
    if six { v6(n).into() } else { v4(n).into() }
}

/// The gateway's address.
pub(crate) fn gateway(six: bool) -> IpAddress {
    if six {
        Ipv6Address::new(0xfd00, 1, 0, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Address::new(10, 244, 1, 1).into()
    }
}

/// The port of host `n` as it should be.
pub(crate) fn port(n: u8, id: PortId) -> PortConfig {
    let kind = if n == 0 { PortKind::Host } else { PortKind::Pod };
    let addresses = vec![v4(n).into(), v6(n).into()];
    PortConfig { id, kind, mac: mac(n), addresses, allowed: vec![], mtu: MTU, up: true }
}

/// The routes: pods are attached, all else lies behind the node.
pub(crate) fn routes(node: PortId) -> Vec<Route> {
    let route =
        |address: IpAddress, bits, target| Route { prefix: IpCidr::new(address, bits), target };
    let pods6 = Ipv6Address::new(0xfd00, 1, 0, 0, 0, 0, 0, 0);
    vec![
        route(Ipv4Address::UNSPECIFIED.into(), 0, RouteTarget::Port(node)),
        route(Ipv4Address::new(10, 244, 1, 0).into(), 24, RouteTarget::Connected),
        route(Ipv4Address::new(203, 0, 113, 0).into(), 24, RouteTarget::Blackhole),
        route(Ipv6Address::UNSPECIFIED.into(), 0, RouteTarget::Port(node)),
        route(pods6.into(), 64, RouteTarget::Connected),
    ]
}

/// The node as it should be.
pub(crate) fn node() -> NodeConfig {
    let (IpAddress::Ipv4(four), IpAddress::Ipv6(six)) = (gateway(false), gateway(true)) else {
        panic!("one of each family");
    };
    NodeConfig {
        gateway4: Some(Ipv4Cidr::new(four, 24)),
        gateway6: Some(Ipv6Cidr::new(six, 64)),
        addresses: vec![v4(0).into(), v6(0).into()],
        ..NodeConfig::default()
    }
}

/// The whole configuration; `ports[n]` is the port of host `n`.
pub(crate) fn config(ports: &[PortId]) -> Config {
    let hosts = ports.iter().enumerate().map(|(n, id)| port(u8::try_from(n).unwrap(), *id));
    let mut all = vec![Switch::gateway_port(&node(), GATEWAY)];
    all.extend(hosts);
    Config { node: node(), ports: all, routes: routes(ports[0]), complete: true }
}

/// The same configuration in the one order that it can be compared in.
pub(crate) fn sorted(mut config: Config) -> Config {
    config.ports.sort_by_key(|port| port.id);
    config.routes.sort_by_key(|route| (route.prefix.address(), route.prefix.prefix_len()));
    config
}

/// Every MAC and address that `hosts` hosts ever use, strangers' among them.
pub(crate) fn universe(hosts: usize) -> (Vec<EthernetAddress>, Vec<IpAddress>) {
    let hosts = u8::try_from(hosts).unwrap();
    let macs: Vec<_> = (0..=hosts).map(mac).chain([NodeConfig::GATEWAY_MAC]).collect();
    let mut addresses: Vec<IpAddress> =
        (0..=hosts).flat_map(|n| [v4(n).into(), v6(n).into()]).collect();
    addresses.extend(macs.iter().map(|mac| IpAddress::from(link_local(*mac))));
    addresses.extend([gateway(false), gateway(true)]);
    (macs, addresses)
}
