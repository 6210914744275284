//! Who is who in the simulated cluster: on each node, host 0 is the node itself, behind `hop0`;
//! pods follow. One host is outside of the cluster, beyond the nodes' kernels.

use smoltcp::wire::{
    EthernetAddress, IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr,
};
use stack::config::{PortRange, ServiceConfig, link_local};
use stack::{Config, NodeConfig, PortConfig, PortId, PortKind, Route, RouteTarget, Switch};

use crate::options::Options;

/// The port of the gateway's endpoint.
pub(crate) const GATEWAY: PortId = PortId(0);
/// Bytes of an IP packet that every host takes.
pub(crate) const MTU: u16 = 1_500;

/// Where the outside host is: on no node.
pub(crate) const OUTSIDE: Id = Id { node: 9, n: 0 };

/// A host: which node it is on, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) node: u8,
    pub(crate) n: u8,
}

/// Host `n` of a node.
pub(crate) fn id(node: u8, n: u8) -> Id {
    Id { node, n }
}

/// Its MAC: `hop0` has the same one on every node, only the switch sees it.
pub(crate) fn mac(Id { node, n }: Id) -> EthernetAddress {
    let (node, n) = if n == 0 { (1, 250) } else { (node + 1, n + 1) };
    EthernetAddress([0x02, 0x48, 10, 244, node, n])
}

/// Its IPv4 address; the first of a pod is 10.244.1.2.
pub(crate) fn v4(Id { node, n }: Id) -> Ipv4Address {
    if node == OUTSIDE.node {
        Ipv4Address::new(198, 51, 100, 7)
    } else if n == 0 {
        Ipv4Address::new(192, 0, 2, 10 + node)
    } else {
        Ipv4Address::new(10, 244, node + 1, n + 1)
    }
}

/// Its IPv6 address.
pub(crate) fn v6(Id { node, n }: Id) -> Ipv6Address {
    if node == OUTSIDE.node {
        Ipv6Address::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7)
    } else if n == 0 {
        Ipv6Address::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10 + u16::from(node))
    } else {
        Ipv6Address::new(0xfd00, 1 + u16::from(node), 0, 0, 0, 0, 0, u16::from(n) + 1)
    }
}

/// Its address in either family.
pub(crate) fn address(id: Id, six: bool) -> IpAddress {
    if six { v6(id).into() } else { v4(id).into() }
}

/// Whether an address is of the Services' ranges.
pub(crate) fn is_service(address: &IpAddress) -> bool {
    let cluster = match address {
        IpAddress::Ipv4(four) => four.octets()[..2] == [10, 96],
        IpAddress::Ipv6(six) => six.segments()[0] == 0xfd96,
    };
    cluster || is_balancer(address)
}

/// Whether an address is of the load balancers' range.
pub(crate) fn is_balancer(address: &IpAddress) -> bool {
    match address {
        IpAddress::Ipv4(four) => four.octets()[..3] == [203, 0, 114],
        IpAddress::Ipv6(six) => six.segments()[..3] == [0x2001, 0xdb8, 0xb],
    }
}

/// The node by which a load balancer's address is reached from outside.
pub(crate) fn entry(balancer: &IpAddress, nodes: u8) -> u8 {
    let last = match balancer {
        IpAddress::Ipv4(four) => four.octets()[3],
        IpAddress::Ipv6(six) => six.octets()[15],
    };
    last % nodes
}

/// The gateway's address on a node.
pub(crate) fn gateway(node: u8, six: bool) -> IpAddress {
    if six {
        Ipv6Address::new(0xfd00, 1 + u16::from(node), 0, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Address::new(10, 244, node + 1, 1).into()
    }
}

/// The pod subnets of a node.
pub(crate) fn subnets(node: u8) -> [IpCidr; 2] {
    let four = Ipv4Address::new(10, 244, node + 1, 0);
    let six = Ipv6Address::new(0xfd00, 1 + u16::from(node), 0, 0, 0, 0, 0, 0);
    [IpCidr::new(four.into(), 24), IpCidr::new(six.into(), 64)]
}

/// The port of a host as it should be.
pub(crate) fn port(host: Id, id: PortId) -> PortConfig {
    let kind = if host.n == 0 { PortKind::Host } else { PortKind::Pod };
    let addresses = vec![v4(host).into(), v6(host).into()];
    PortConfig { id, kind, mac: mac(host), addresses, allowed: vec![], mtu: MTU, up: true }
}

/// A node's routes: its pods are attached, all else lies behind the node, other nodes' pods too.
pub(crate) fn routes(node: u8, hop0: PortId) -> Vec<Route> {
    let route =
        |address: IpAddress, bits, target| Route { prefix: IpCidr::new(address, bits), target };
    let [four, six] = subnets(node).map(|prefix| Route { prefix, target: RouteTarget::Connected });
    vec![
        route(Ipv4Address::UNSPECIFIED.into(), 0, RouteTarget::Port(hop0)),
        four,
        route(Ipv4Address::new(203, 0, 113, 0).into(), 24, RouteTarget::Blackhole),
        route(Ipv6Address::UNSPECIFIED.into(), 0, RouteTarget::Port(hop0)),
        six,
    ]
}

/// What a node should be beside its ports and routes, which every node has alike.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    pub(crate) number: u8,
    pub(crate) node: NodeConfig,
    pub(crate) services: Vec<ServiceConfig>,
}

/// Ports that stand in for others where they are scarce.
pub(crate) const FEW: PortRange = PortRange { first: 61_000, last: 61_003 };

impl Base {
    /// A node of a cluster with those Services.
    pub(crate) fn new(number: u8, options: &Options, services: Vec<ServiceConfig>) -> Self {
        let mut node = node(number);
        if !options.masquerade {
            node.non_masquerade = everything();
        }
        if options.scarce {
            node.snat_ports = FEW;
        }
        Self { number, node, services }
    }
}

/// All addresses of both families.
pub(crate) fn everything() -> Vec<IpCidr> {
    let (four, six) = (Ipv4Address::UNSPECIFIED, Ipv6Address::UNSPECIFIED);
    vec![IpCidr::new(four.into(), 0), IpCidr::new(six.into(), 0)]
}

/// A node where pods' addresses are known within the cluster.
fn node(node: u8) -> NodeConfig {
    let (IpAddress::Ipv4(four), IpAddress::Ipv6(six)) = (gateway(node, false), gateway(node, true))
    else {
        panic!("one of each family");
    };
    let four_or_six = |four: Ipv4Address, bits4, six: Ipv6Address, bits6| {
        vec![IpCidr::new(four.into(), bits4), IpCidr::new(six.into(), bits6)]
    };
    NodeConfig {
        gateway4: Some(Ipv4Cidr::new(four, 24)),
        gateway6: Some(Ipv6Cidr::new(six, 64)),
        addresses: vec![v4(id(node, 0)).into(), v6(id(node, 0)).into()],
        service_cidrs: four_or_six(
            Ipv4Address::new(10, 96, 0, 0),
            16,
            Ipv6Address::new(0xfd96, 0, 0, 0, 0, 0, 0, 0),
            112,
        ),
        non_masquerade: four_or_six(
            Ipv4Address::new(10, 244, 0, 0),
            16,
            Ipv6Address::new(0xfd00, 0, 0, 0, 0, 0, 0, 0),
            16,
        ),
        ..NodeConfig::default()
    }
}

/// A node's whole configuration; `ports[n]` is the port of its host `n`.
pub(crate) fn config(base: &Base, ports: &[PortId]) -> Config {
    let Base { number, node, services } = base;
    let hosts = (0_u8..).zip(ports).map(|(n, port_id)| port(id(*number, n), *port_id));
    let mut all = vec![Switch::gateway_port(node, GATEWAY)];
    all.extend(hosts);
    let routes = routes(*number, ports[0]);
    Config { node: node.clone(), ports: all, routes, services: services.clone(), complete: true }
}

/// The same configuration in the one order that it can be compared in.
pub(crate) fn sorted(mut config: Config) -> Config {
    config.ports.sort_by_key(|port| port.id);
    config.routes.sort_by_key(|route| (route.prefix.address(), route.prefix.prefix_len()));
    config.services.sort_by_key(|service| service.id);
    config
}

/// Every MAC and address that a node's `hosts` hosts ever use, strangers' among them.
pub(crate) fn universe(node: u8, hosts: usize) -> (Vec<EthernetAddress>, Vec<IpAddress>) {
    let hosts = u8::try_from(hosts).unwrap();
    let all = || (0..=hosts).map(|n| id(node, n));
    let macs: Vec<_> = all().map(mac).chain([NodeConfig::GATEWAY_MAC]).collect();
    let mut addresses: Vec<IpAddress> =
        all().flat_map(|host| [v4(host).into(), v6(host).into()]).collect();
    addresses.extend(macs.iter().map(|mac| IpAddress::from(link_local(*mac))));
    addresses.extend([gateway(node, false), gateway(node, true)]);
    (macs, addresses)
}
