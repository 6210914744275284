//! Desired state of the switch, the changes between two such states, limits and seeds.
//!
//! A [`Change`] is validated whole and applied atomically between two frames, or refused with an
//! [`Event`] that names the object. Errors are the desired state's fault: the old state stays.
//!
//! [`Event`]: crate::input::Event

use alloc::vec::Vec;
use core::fmt;

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Cidr, Ipv6Cidr};

use crate::input::{EndpointId, PortId};
use crate::time::Duration;

mod service;
mod timeouts;

pub use service::{
    Backend, Frontend, FrontendKind, Method, ServiceConfig, ServiceId, ServiceProtocol,
};
pub use timeouts::Timeouts;

/// Seeds, recorded with everything else that goes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seeds {
    /// Lays out hash tables. No output may depend on it; tests run everything with two.
    pub table: u64,
    /// Keys the hashes that make choices.
    pub choice: u64,
}

/// Backends of one Service under whatever limits: their places are numbers of 16 bits, the highest
/// of which is none's.
const SERVICE_BACKENDS_MOST: u16 = u16::MAX - 1;

/// What the switch may hold and do at most. Allocated at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ports, endpoints and the host port included.
    pub ports_max: usize,
    /// Addresses of one port.
    pub addresses_max: usize,
    /// Allowed prefixes of one port (`hopscope.dev/allowed-addresses`).
    pub allowed_max: usize,
    /// Routes.
    pub routes_max: usize,
    /// Ports of Services, each family counted.
    pub services_max: usize,
    /// Frontends of all Services.
    pub frontends_max: usize,
    /// Backends of all Services.
    pub backends_max: usize,
    /// Frontends of one Service; it may have as many source ranges.
    pub service_frontends_max: usize,
    /// Backends of one Service.
    pub service_backends_max: usize,
    /// Clients whose backend is remembered (session affinity), of all Services.
    pub affinities_max: usize,
    /// ICMP errors a port may cause in a burst; a pod that asks for more is not answered.
    pub errors_burst: u32,
    /// Time after which one more error may be caused by a port.
    pub errors_interval: Duration,
    /// Floods a port may cause in a burst (a storm hurts every pod of the node), in tokens: one for
    /// each 64 KiB of copies, or part of it. A copy counts 4 KiB at least.
    pub flood_burst: u32,
    /// Time after which a port has one more token for floods.
    pub flood_interval: Duration,
    /// Connections of each family.
    pub connections_max: usize,
    /// Connections that one pod began.
    pub pod_connections_max: u32,
    /// How long connections are kept.
    pub timeouts: Timeouts,
    /// Datagrams in fragments that are followed.
    pub datagrams_max: usize,
    /// Those that came by one port.
    pub port_datagrams_max: u32,
    /// Bytes of fragments that are held because their first has not come; each counts at least 512.
    pub held_bytes_max: usize,
    /// Those that came by one port.
    pub port_held_bytes_max: usize,
    /// How long a datagram is followed that does not come whole, and the fragments before its first
    /// are held: 30 s as in Linux (RFC 791 section 3.2 has 15 s, RFC 8200 section 4.5 60 s).
    pub fragment_timeout: Duration,
}

impl Limits {
    /// Whether a switch can be made with these, whoever wrote them: what is allocated at start fits
    /// in a gigabyte, on 32 bits too.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let Self { ports_max, addresses_max, allowed_max, routes_max, connections_max, .. } = self;
        let addresses = addresses_max.checked_add(1).and_then(|most| most.checked_mul(*ports_max));
        *ports_max <= 65_536
            && addresses.is_some_and(|most| most <= 1 << 22)
            && *allowed_max <= 4_096
            && *routes_max <= 1 << 22
            && *connections_max <= 1 << 21
            && self.datagrams_max <= 1 << 20
            && self.held_bytes_max <= 1 << 26
            && self.services_are_possible()
    }

    fn services_are_possible(&self) -> bool {
        self.services_max <= 1 << 17
            && self.frontends_max <= 1 << 20
            && self.backends_max <= 1 << 20
            && self.service_frontends_max <= self.frontends_max
            && self.service_backends_max <= usize::from(SERVICE_BACKENDS_MOST)
            && self.affinities_max <= 1 << 20
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ports_max: 1_024,
            addresses_max: 16,
            allowed_max: 32,
            routes_max: 65_536,
            services_max: 65_536,
            frontends_max: 262_144,
            backends_max: 524_288,
            service_frontends_max: 1_000,
            service_backends_max: 10_000,
            affinities_max: 65_536,
            errors_burst: 64,
            errors_interval: Duration::from_millis(10),
            flood_burst: 256,
            flood_interval: Duration::from_millis(1),
            connections_max: 262_144,
            pod_connections_max: 65_536,
            timeouts: Timeouts::default(),
            datagrams_max: 8_192,
            port_datagrams_max: 1_024,
            held_bytes_max: 4 << 20,
            port_held_bytes_max: 512 << 10,
            fragment_timeout: Duration::from_secs(30),
        }
    }
}

/// What the node is, as far as the switch cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The gateway's MAC, one on every node: pods keep their neighbor entries when they restart
    /// elsewhere.
    pub gateway_mac: EthernetAddress,
    /// The gateway's IPv4 address within the pod subnet.
    pub gateway4: Option<Ipv4Cidr>,
    /// The gateway's IPv6 address within the pod subnet.
    pub gateway6: Option<Ipv6Cidr>,
    /// The node's own addresses, reached by the host port.
    pub addresses: Vec<IpAddress>,
    /// UDP port of the overlay (DESIGN 10, `vxlan-port`): pods may not send to it on this node.
    pub vxlan_port: u16,
    /// Where Services have their cluster addresses: what is asked for there and does not exist is
    /// dropped.
    pub service_cidrs: Vec<IpCidr>,
    /// Destinations that pods reach with their own addresses: the cluster's pods, and what the
    /// operator names.
    pub non_masquerade: Vec<IpCidr>,
    /// Ports of the node's addresses that masquerade uses.
    pub snat_ports: PortRange,
    /// Ports of the node's addresses that NodePort Services use.
    pub node_ports: PortRange,
    /// TCP ports of the node's addresses at which health checks are answered, ascending.
    pub health_ports: Vec<u16>,
}

/// L4 ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

impl PortRange {
    /// Whether the port is one of them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl NodeConfig {
    /// The gateway's MAC: locally administered, the letters HOP in it.
    pub const GATEWAY_MAC: EthernetAddress = EthernetAddress([0x02, 0x48, 0x4f, 0x50, 0x00, 0x01]);

    /// The gateway's link-local address, by which IPv6 hosts know a router (RFC 4861 section 4.2).
    #[must_use]
    pub fn gateway_link_local(&self) -> smoltcp::wire::Ipv6Address {
        link_local(self.gateway_mac)
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            gateway_mac: Self::GATEWAY_MAC,
            gateway4: None,
            gateway6: None,
            addresses: Vec::new(),
            vxlan_port: 4789,
            service_cidrs: Vec::new(),
            non_masquerade: Vec::new(),
            snat_ports: PortRange { first: 61_000, last: 65_534 },
            node_ports: PortRange { first: 30_000, last: 32_767 },
            health_ports: Vec::new(),
        }
    }
}

/// The EUI-64 link-local address of a MAC (RFC 4291 appendix A).
#[must_use]
pub fn link_local(mac: EthernetAddress) -> smoltcp::wire::Ipv6Address {
    let [a, b, c, d, e, f] = mac.0;
    smoltcp::wire::Ipv6Address::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 0x02,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// What stands behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A pod: nothing it sends is trusted.
    Pod,
    /// The node itself (`hop0`): the kernel routes behind it.
    Host,
    /// A host inside the switch.
    Endpoint(EndpointId),
}

/// A port as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its number, given by the daemon.
    pub id: PortId,
    /// What stands behind it.
    pub kind: PortKind,
    /// The only MAC it may use.
    pub mac: EthernetAddress,
    /// The addresses it owns: answered for by ARP and ND, routed to, and allowed as source.
    pub addresses: Vec<IpAddress>,
    /// Further source prefixes it may use (`hopscope.dev/allowed-addresses`).
    pub allowed: Vec<IpCidr>,
    /// Largest IP packet in bytes that it takes.
    pub mtu: u16,
    /// Whether frames may enter and leave.
    pub up: bool,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTarget {
    /// The pod subnet of this node: the neighbor table says which port.
    Connected,
    /// Out of this port, to its MAC.
    Port(PortId),
    /// Nowhere; answered with unreachable.
    Blackhole,
}

/// A route of the FIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destinations it covers.
    pub prefix: IpCidr,
    /// Where they are.
    pub target: RouteTarget,
}

/// The whole desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The node.
    pub node: NodeConfig,
    /// Ports, in any order.
    pub ports: Vec<PortConfig>,
    /// Routes, in any order; prefixes are unique.
    pub routes: Vec<Route>,
    /// Services, in any order.
    pub services: Vec<ServiceConfig>,
    /// False until the first whole desired state was loaded: no frame is forwarded on half of one.
    pub complete: bool,
}

/// One step from a state to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Replaces the node's description.
    Node(NodeConfig),
    /// Adds a port, or replaces the one of that number.
    Port(PortConfig),
    /// Removes a port; frames for it are dropped from here on.
    PortRemoved(PortId),
    /// The port's carrier or driver came up or went down.
    PortUp(PortId, bool),
    /// Replaces all routes.
    Routes(Vec<Route>),
    /// Adds a Service's port, or replaces the one of that number.
    Service(ServiceConfig),
    /// Removes a Service's port. Its UDP connections end with it.
    ServiceRemoved(ServiceId),
    /// Whether desired state has been loaded whole.
    Complete(bool),
    /// Several changes that hold together or not at all.
    All(Vec<Self>),
}

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// An address belongs to another port already.
    AddressTaken {
        /// The port that wanted it.
        port: PortId,
        /// The address.
        address: IpAddress,
        /// Its owner.
        owner: PortId,
    },
    /// A MAC belongs to another port already, or to the gateway.
    MacTaken {
        /// The port that wanted it.
        port: PortId,
        /// The MAC.
        mac: EthernetAddress,
    },
    /// A MAC that no host may have: multicast, or all zeros.
    MacInvalid {
        /// The port.
        port: PortId,
        /// The MAC.
        mac: EthernetAddress,
    },
    /// No such port.
    PortUnknown(PortId),
    /// Two routes for one prefix.
    RouteTwice(IpCidr),
    /// A frontend belongs to another Service already.
    FrontendTaken {
        /// The Service that wanted it.
        service: ServiceId,
        /// The frontend.
        frontend: Frontend,
        /// Its owner.
        owner: ServiceId,
    },
    /// A Service that cannot be meant so.
    ServiceInvalid {
        /// The Service.
        service: ServiceId,
        /// What is wrong.
        why: &'static str,
    },
    /// No such Service.
    ServiceUnknown(ServiceId),
    /// A limit would be exceeded.
    OverLimit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressTaken { port, address, owner } => {
                write!(f, "port {}: address {address} belongs to port {}", port.0, owner.0)
            }
            Self::MacTaken { port, mac } => write!(f, "port {}: MAC {mac} is taken", port.0),
            Self::MacInvalid { port, mac } => write!(f, "port {}: MAC {mac} is no host's", port.0),
            Self::PortUnknown(port) => write!(f, "port {} does not exist", port.0),
            Self::RouteTwice(prefix) => write!(f, "two routes for {prefix}"),
            Self::OverLimit { what, max } => write!(f, "more than {max} {what}"),
            Self::FrontendTaken { service, frontend, owner } => {
                write!(f, "service {}: ", service.0)?;
                match frontend.address {
                    Some(address) => write!(f, "{address}")?,
                    None => f.write_str("the node's")?,
                }
                write!(f, " port {} belongs to service {}", frontend.port, owner.0)
            }
            Self::ServiceInvalid { service, why } => write!(f, "service {}: {why}", service.0),
            Self::ServiceUnknown(service) => write!(f, "service {} does not exist", service.0),
        }
    }
}

impl core::error::Error for ConfigError {}

/// The changes that lead from `old` to `new`, in an order in which each is valid.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    let find = |config: &Config, id: PortId| config.ports.iter().find(|p| p.id == id).cloned();
    for port in &old.ports {
        if find(new, port.id).is_none() {
            changes.push(Change::PortRemoved(port.id));
        }
    }
    if old.node != new.node {
        changes.push(Change::Node(new.node.clone()));
    }
    for port in &new.ports {
        if find(old, port.id).as_ref() != Some(port) {
            changes.push(Change::Port(port.clone()));
        }
    }
    if old.routes != new.routes {
        changes.push(Change::Routes(new.routes.clone()));
    }
    changes.extend(service_changes(&old.services, &new.services));
    if old.complete != new.complete {
        changes.push(Change::Complete(new.complete));
    }
    changes
}

/// Removals first: a frontend may go from one Service to another. There may be tens of thousands,
/// so they are compared by sorting.
fn service_changes(old: &[ServiceConfig], new: &[ServiceConfig]) -> Vec<Change> {
    let sorted = |services: &[ServiceConfig]| -> Vec<usize> {
        let mut order: Vec<usize> = (0..services.len()).collect();
        order.sort_by_key(|at| services.get(*at).map(|service| service.id));
        order
    };
    let find = |services: &[ServiceConfig], order: &[usize], id: ServiceId| -> Option<usize> {
        let id_at = |at: &usize| services.get(*at).map(|service| service.id);
        let place = order.binary_search_by_key(&Some(id), id_at).ok()?;
        order.get(place).copied()
    };
    let (old_order, new_order) = (sorted(old), sorted(new));
    let mut changes: Vec<Change> = old
        .iter()
        .filter(|service| find(new, &new_order, service.id).is_none())
        .map(|service| Change::ServiceRemoved(service.id))
        .collect();
    for service in new {
        let before = find(old, &old_order, service.id).and_then(|at| old.get(at));
        if before != Some(service) {
            changes.push(Change::Service(service.clone()));
        }
    }
    changes
}
