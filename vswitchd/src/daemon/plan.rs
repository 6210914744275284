//! From settings, objects and what the kernel said: what this node's switch and kernel shall be.
//! Pure.

use std::collections::BTreeSet;

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Cidr, Ipv6Cidr};
use stack::{
    Change, NodeConfig, PortConfig, PortId, PortKind, Route, RouteTarget, ServiceConfig,
    ServiceProtocol, Switch,
};

use crate::cni::host_port::{NodePorts, Protocol};
use crate::cni::ipam::{Range, RangeError};
use crate::kube::objects::Desired;
use crate::kube::place::Known;
use crate::node::uplink::Uplink;
use crate::node::{HostLink, OwnPort};
use crate::settings::{MTU_MAX, Mtu, Settings};

/// The port of the gateway's own host inside the switch.
pub const GATEWAY_PORT: PortId = PortId(0);
/// The node's own port.
pub const HOST_PORT: PortId = PortId(1);
/// The port of who answers health checks.
pub const HEALTH_PORT: PortId = PortId(2);
/// Its MAC, which nobody but the switch sees either.
pub const HEALTH_MAC: EthernetAddress = EthernetAddress([0x02, 0x48, 0x4f, 0x50, 0x00, 0x03]);
/// The node's MAC behind its own port: seen by nobody but the switch, so one will do for all nodes.
const HOST_MAC: EthernetAddress = EthernetAddress([0x02, 0x48, 0x4f, 0x50, 0x00, 0x02]);
/// MTU of a node without an uplink.
const MTU_ALONE: u16 = 1_500;

/// What shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The switch's node.
    pub node: NodeConfig,
    /// The node's port in the kernel.
    pub host: HostLink,
    /// This node's pod ranges.
    pub pod_cidrs: Vec<IpCidr>,
    /// MTU of pods.
    pub mtu: u16,
    /// Services, not numbered yet.
    pub services: Vec<ServiceConfig>,
}

/// What cannot be.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A pod range that cannot be used.
    #[error("spec.podCIDRs: {0}")]
    Range(#[from] RangeError),
    /// Pods and node would share addresses.
    #[error(
        "spec.podCIDRs: {range} holds the node's own address {address}; give pods another range"
    )]
    Overlap {
        /// The range.
        range: IpCidr,
        /// The node's address in it.
        address: IpAddress,
    },
}

/// Makes the plan.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(
    settings: &Settings,
    desired: &Desired,
    uplink: Option<&Uplink>,
) -> Result<Plan, PlanError> {
    let node_addresses = known(settings, uplink).own_addresses(&desired.node_addresses);
    for range in &desired.pod_cidrs {
        if let Some(address) = node_addresses.iter().find(|address| range.contains_addr(address)) {
            return Err(PlanError::Overlap { range: *range, address: *address });
        }
    }
    let mut node = NodeConfig {
        addresses: node_addresses.clone(),
        vxlan_port: settings.vxlan_port,
        service_cidrs: desired.service_cidrs.clone(),
        non_masquerade: non_masquerade(settings, desired),
        snat_ports: settings.snat_ports.0,
        node_ports: settings.node_port_range.0,
        health_ports: health_ports(settings, desired),
        ..NodeConfig::default()
    };
    let mut gateways = Vec::new();
    for range in Range::all(&desired.pod_cidrs)? {
        let gateway = range.gateway();
        gateways.push(gateway);
        let bits = range.network().prefix_len();
        match gateway {
            IpAddress::Ipv4(v4) => node.gateway4 = Some(Ipv4Cidr::new(v4, bits)),
            IpAddress::Ipv6(v6) => node.gateway6 = Some(Ipv6Cidr::new(v6, bits)),
        }
    }
    let mtu = match (settings.mtu, uplink) {
        (Mtu::Bytes(bytes), _) => bytes,
        (Mtu::Auto, Some(uplink)) => u16::try_from(uplink.mtu).unwrap_or(MTU_MAX).min(MTU_MAX),
        (Mtu::Auto, None) => MTU_ALONE,
    };
    let host = HostLink {
        ifname: settings.host_port.clone(),
        mac: HOST_MAC,
        mtu,
        gateway_mac: node.gateway_mac,
        gateways,
        prefixes: desired.pod_cidrs.iter().copied().chain(desired.routed()).collect(),
        node_addresses,
        diverted: vec![node.node_ports, node.snat_ports],
        own_ports: healthz(settings, &node),
    };
    let (pod_cidrs, services) = (desired.pod_cidrs.clone(), desired.services.clone());
    Ok(Plan { node, host, pod_cidrs, mtu, services })
}

/// What the objects are read with.
pub(super) fn known<'a>(settings: &'a Settings, uplink: Option<&'a Uplink>) -> Known<'a> {
    Known {
        node_name: &settings.node_name,
        node_addresses: settings.node_addresses.as_deref(),
        uplink: uplink.map_or(&[], |uplink| &uplink.addresses),
        service_cidrs: &settings.service_cidrs,
        node_ports: settings.node_port_range.0,
    }
}

/// Where health checks are answered: that of the node, and those of Services; ascending.
fn health_ports(settings: &Settings, desired: &Desired) -> Vec<u16> {
    let of_node = Some(settings.healthz_port).filter(|port| *port != 0);
    let of_services = desired.health_checks.iter().map(|check| check.port);
    let ports: BTreeSet<u16> = of_node.into_iter().chain(of_services).collect();
    ports.into_iter().collect()
}

/// What is diverted for the node's health, where all of its addresses have the port. Those of
/// Services are among the node ports.
fn healthz(settings: &Settings, node: &NodeConfig) -> Vec<OwnPort> {
    let port = settings.healthz_port;
    let protocol = ServiceProtocol::Tcp as u8;
    let own = |address: &IpAddress| OwnPort { address: (*address).into(), protocol, port };
    node.addresses.iter().filter(|_| port != 0).map(own).collect()
}

/// What a pod's `hostPort` is judged by.
pub(super) fn node_ports(settings: &Settings, plan: &Plan) -> NodePorts {
    let overlay = (Protocol::Udp, settings.vxlan_port, "the overlay");
    // Of the node and of Services.
    let health = plan.node.health_ports.iter().map(|port| (Protocol::Tcp, *port, "health checks"));
    NodePorts {
        addresses: plan.node.addresses.clone(),
        versions: plan.pod_cidrs.iter().map(|range| range.address().version()).collect(),
        taken: std::iter::once(overlay).chain(health).collect(),
    }
}

/// Pods, and what the operator names; in order, each once.
fn non_masquerade(settings: &Settings, desired: &Desired) -> Vec<IpCidr> {
    let mut ranges = desired.cluster_cidrs.clone();
    ranges.extend(&settings.non_masquerade_cidrs);
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

impl Plan {
    /// The changes that bring the switch there, Services and pods' ports apart. `complete` follows
    /// when pods are back.
    #[must_use]
    pub fn changes(&self) -> Change {
        Change::All(vec![
            Change::Node(self.node.clone()),
            Change::Port(Switch::gateway_port(&self.node, GATEWAY_PORT)),
            Change::Port(self.host_port()),
            Change::Port(Switch::health_port(HEALTH_PORT, HEALTH_MAC)),
            Change::Routes(self.routes()),
        ])
    }

    /// The node's own port, as the switch has it.
    #[must_use]
    pub fn host_port(&self) -> PortConfig {
        PortConfig {
            id: HOST_PORT,
            kind: PortKind::Host,
            mac: self.host.mac,
            addresses: self.node.addresses.clone(),
            allowed: Vec::new(),
            mtu: self.mtu,
            up: true,
        }
    }

    /// Pods are attached here; all else is behind the node.
    fn routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        for range in &self.pod_cidrs {
            routes.push(Route { prefix: *range, target: RouteTarget::Connected });
            let everything = match range {
                IpCidr::Ipv4(_) => IpCidr::new(IpAddress::v4(0, 0, 0, 0), 0),
                IpCidr::Ipv6(_) => IpCidr::new(IpAddress::v6(0, 0, 0, 0, 0, 0, 0, 0), 0),
            };
            routes.push(Route { prefix: everything, target: RouteTarget::Port(HOST_PORT) });
        }
        routes
    }
}

#[cfg(test)]
mod tests {
    use stack::{Frontend, FrontendKind, PortRange, ServiceConfig, ServiceId, ServiceProtocol};

    use super::*;
    use crate::kube::services::HealthCheck;
    use crate::settings::Given;

    fn settings() -> Settings {
        let given = Given { manifests: Some("/m".into()), ..Given::default() };
        given.resolve("n1").unwrap()
    }

    fn desired(ranges: &[&str]) -> Desired {
        let pod_cidrs = ranges.iter().map(|range| range.parse().unwrap()).collect();
        Desired { pod_cidrs, ..Desired::default() }
    }

    fn uplink() -> Uplink {
        Uplink { ifname: "eth0".into(), mtu: 9_000, addresses: vec!["192.0.2.10".parse().unwrap()] }
    }

    #[test]
    fn the_first_address_is_the_gateway_and_the_uplink_fills_the_gaps() {
        let plan = plan(&settings(), &desired(&["10.244.1.0/24", "fd00:1::/64"]), Some(&uplink()));
        let plan = plan.unwrap();
        assert_eq!(plan.node.gateway4.unwrap().to_string(), "10.244.1.1/24");
        assert_eq!(plan.node.gateway6.unwrap().to_string(), "fd00:1::1/64");
        assert_eq!((plan.mtu, plan.node.addresses.len()), (9_000, 1));
        assert_eq!(plan.routes().len(), 4);
        assert_eq!(plan.host.diverted, [plan.node.node_ports, plan.node.snat_ports]);
    }

    #[test]
    fn health_has_ports_of_its_own() {
        let mut desired = desired(&["10.244.1.0/24"]);
        let check = |port| HealthCheck { port, ..HealthCheck::default() };
        desired.health_checks = vec![check(32_001), check(30_001)];
        let made = plan(&settings(), &desired, Some(&uplink())).unwrap();
        assert_eq!(made.node.health_ports, [10_256, 30_001, 32_001]);
        let address = "192.0.2.10".parse().unwrap();
        assert_eq!(made.host.own_ports, [OwnPort { address, protocol: 6, port: 10_256 }]);
        let given = Given { manifests: Some("/m".into()), ..Given::default() };
        let none = Given { healthz_port: Some(0), ..given }.resolve("n1").unwrap();
        let made = plan(&none, &desired, Some(&uplink())).unwrap();
        let taken = node_ports(&none, &made).taken;
        let taken: Vec<u16> = taken.into_iter().map(|(_, port, _)| port).collect();
        assert_eq!(taken, [none.vxlan_port, 30_001, 32_001]);
        assert_eq!((made.node.health_ports, made.host.own_ports), (vec![30_001, 32_001], vec![]));
    }

    #[test]
    fn services_are_routed_to_the_switch() {
        let mut desired = desired(&["10.244.1.0/24"]);
        let cidr = |text: &str| -> IpCidr { text.parse().unwrap() };
        desired.cluster_cidrs = vec![cidr("10.244.1.0/24"), cidr("10.244.2.0/24")];
        desired.service_cidrs = vec![cidr("10.96.0.0/16")];
        let address = |text: &str| Some(text.parse().unwrap());
        let frontend = |kind, address| Frontend { kind, address, port: 80 };
        desired.services = vec![ServiceConfig {
            frontends: vec![
                frontend(FrontendKind::ClusterIp, address("10.96.0.7")),
                frontend(FrontendKind::NodePort, None),
                frontend(FrontendKind::LoadBalancer, address("203.0.113.9")),
                frontend(FrontendKind::ExternalIp, address("192.0.2.77")),
            ],
            ..ServiceConfig::new(ServiceId(0), "default/web", ServiceProtocol::Tcp)
        }];
        let given = Given::parse(
            "manifests: /m\nnon-masquerade-cidrs: [10.0.0.0/8, 10.244.2.0/24]\n\
             snat-ports: 40000-40001\nnode-port-range: 20000-20001\n",
        );
        let settings = given.unwrap().resolve("n1").unwrap();
        let plan = plan(&settings, &desired, Some(&uplink())).unwrap();
        let shown = |ranges: &[IpCidr]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
        let routed = ["10.244.1.0/24", "10.96.0.0/16", "192.0.2.77/32", "203.0.113.9/32"];
        assert_eq!(shown(&plan.host.prefixes), routed);
        assert_eq!(shown(&plan.node.service_cidrs), ["10.96.0.0/16"]);
        let own = ["10.0.0.0/8", "10.244.1.0/24", "10.244.2.0/24"];
        assert_eq!(shown(&plan.node.non_masquerade), own);
        assert_eq!(plan.node.snat_ports, PortRange { first: 40_000, last: 40_001 });
        assert_eq!(plan.node.node_ports, PortRange { first: 20_000, last: 20_001 });
        assert_eq!(plan.services, desired.services);
    }

    #[test]
    fn pods_may_not_share_the_nodes_range() {
        let error = plan(&settings(), &desired(&["192.0.2.0/24"]), Some(&uplink())).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("192.0.2.0/24") && text.contains("192.0.2.10"), "{text}");
    }
}
