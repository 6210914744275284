//! Where Services are put: what this node and the others have already, which no Service may take.

use std::collections::BTreeMap;
use std::net::IpAddr;

use smoltcp::wire::{IpAddress, IpCidr};
use stack::{NodeConfig, PortRange};

use super::objects::{Node, Objects};
use super::ranges;
use crate::text::address;

/// Label of a Node with the zone it is in.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What is known beside the objects: settings, and what the kernel said.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// This node's name.
    pub node_name: &'a str,
    /// This node's own addresses, where they are set.
    pub node_addresses: Option<&'a [IpAddr]>,
    /// Addresses of its uplink.
    pub uplink: &'a [IpAddress],
    /// Ranges of Services beside those of ServiceCIDRs.
    pub service_cidrs: &'a [IpCidr],
    /// Where node ports may be.
    pub node_ports: PortRange,
}

impl<'a> Known<'a> {
    /// Nothing but a name, and the defaults of settings.
    #[must_use]
    pub fn alone(node_name: &'a str) -> Self {
        Self {
            node_name,
            node_addresses: None,
            uplink: &[],
            service_cidrs: &[],
            node_ports: NodeConfig::default().node_ports,
        }
    }

    /// The node's own addresses: as set, else as its object says, else as its uplink has.
    #[must_use]
    pub fn own_addresses(&self, by_object: &[IpAddr]) -> Vec<IpAddress> {
        let given = self.node_addresses.unwrap_or(by_object);
        if given.is_empty() {
            return self.uplink.to_vec();
        }
        given.iter().copied().map(IpAddr::into).collect()
    }
}

/// What the node and its cluster are like, as far as Services care.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// This node's name.
    pub(super) node_name: String,
    /// The zone it is in, if that is known.
    pub(super) zone: Option<String>,
    /// Addresses of nodes, each with whose it is.
    pub(super) nodes: BTreeMap<IpAddress, String>,
    /// Pod ranges of nodes, each with whose it is.
    pub(super) pods: Vec<(IpCidr, String)>,
    /// Ranges of Services.
    pub(super) service_cidrs: Vec<IpCidr>,
    /// Where node ports may be.
    pub(super) node_ports: PortRange,
}

impl Place {
    /// The place of the node that is known; `by_object` are its addresses by its Node. Ranges and
    /// addresses of other nodes that are none are left out: they are those nodes' own matter.
    pub(super) fn new(objects: &Objects, known: &Known<'_>, by_object: &[IpAddr]) -> Self {
        let (mut nodes, mut pods) = (BTreeMap::new(), Vec::new());
        for (name, node) in &objects.nodes {
            let whose = format!("Node {name}");
            let ranges = ranges::of_pods(&whose, node).unwrap_or_default();
            pods.extend(ranges.into_iter().map(|range| (range, whose.clone())));
            nodes.extend(addresses(node).map(|address| (address, whose.clone())));
        }
        let own = known.own_addresses(by_object);
        for address in own.iter().chain(known.uplink) {
            nodes.insert(*address, "this node".to_owned());
        }
        let this = objects.nodes.get(known.node_name);
        let zone = this.and_then(|node| node.metadata.labels.get(ZONE));
        Self {
            node_name: known.node_name.to_owned(),
            zone: zone.filter(|zone| !zone.is_empty()).cloned(),
            nodes,
            pods,
            service_cidrs: Vec::new(),
            node_ports: known.node_ports,
        }
    }
}

/// Where a node is reached, from within the cluster and from outside.
fn addresses(node: &Node) -> impl Iterator<Item = IpAddress> + '_ {
    let reached = |kind: &str| matches!(kind, "InternalIP" | "ExternalIP");
    let listed = node.status.addresses.iter().filter(move |listed| reached(&listed.kind));
    listed.filter_map(|listed| address(&listed.address).ok())
}
