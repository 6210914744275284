//! Changes of configuration: good ones, that may stop traffic for a while, and bad ones, that are
//! refused.

use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address};
use stack::{Change, Config, NodeConfig, PortConfig, PortId};

use crate::draw::Draw;
use crate::plan::{self, Base, Id};
use crate::services;

/// The model: what a change that is accepted makes of a configuration.
pub(crate) fn apply(config: &mut Config, change: &Change) {
    match change {
        Change::Node(node) => config.node = node.clone(),
        Change::Port(port) => {
            config.ports.retain(|known| known.id != port.id);
            config.ports.push(port.clone());
        }
        Change::PortRemoved(id) => config.ports.retain(|known| known.id != *id),
        Change::PortUp(id, up) => {
            for port in config.ports.iter_mut().filter(|port| port.id == *id) {
                port.up = *up;
            }
        }
        Change::Routes(routes) => config.routes.clone_from(routes),
        Change::Service(service) => {
            config.services.retain(|known| known.id != service.id);
            config.services.push(service.clone());
        }
        Change::ServiceRemoved(id) => config.services.retain(|known| known.id != *id),
        Change::Complete(complete) => config.complete = *complete,
        Change::All(changes) => changes.iter().for_each(|change| apply(config, change)),
    }
}

/// A change that must be accepted. `ports[n]` is the port of the node's host
/// `n`, `fresh` a number never used.
pub(crate) fn good(
    base: &Base,
    config: &Config,
    ports: &mut [PortId],
    fresh: PortId,
    draw: &mut Draw,
) -> Change {
    if !base.services.is_empty() && draw.chance(500) {
        return services::churn(base, config, draw);
    }
    let node = base.number;
    let n = draw.index(ports.len());
    let host = Id { node, n: u8::try_from(n).unwrap() };
    let known = config.ports.iter().find(|port| port.id == ports[n]);
    let Some(known) = known else {
        ports[n] = fresh;
        return Change::Port(plan::port(host, fresh));
    };
    let id = known.id;
    match draw.below(8) {
        0 | 1 => Change::PortUp(id, !known.up),
        2 => Change::PortRemoved(id),
        3 => {
            let mtu = [1_280, 1_500, 9_000][draw.index(3)];
            let allowed = vec![IpCidr::new(Ipv4Address::new(10, 9, 0, 0).into(), 16)];
            Change::Port(PortConfig { mtu, allowed, ..known.clone() })
        }
        4 => {
            let mut routes = plan::routes(node, ports[0]);
            routes.retain(|_| draw.chance(750));
            Change::Routes(routes)
        }
        5 => Change::Node(another_node(&base.node, draw)),
        6 => Change::Complete(!config.complete || draw.chance(500)),
        // The same MAC and addresses at another port, in one step.
        _ => {
            ports[n] = fresh;
            let moved = plan::port(host, fresh);
            Change::All(vec![Change::PortRemoved(id), Change::Port(moved)])
        }
    }
}

/// The node with other ports, or another idea of who knows its pods.
fn another_node(node: &NodeConfig, draw: &mut Draw) -> NodeConfig {
    let mut node = node.clone();
    match draw.below(3) {
        0 => node.vxlan_port = [4_789, 8_472][draw.index(2)],
        1 => node.snat_ports = [NodeConfig::default().snat_ports, plan::FEW][draw.index(2)],
        _ => node.non_masquerade = plan::everything(),
    }
    node
}

/// A change that must be refused, given that the ports of `config` stand.
pub(crate) fn bad(node: u8, config: &Config, fresh: PortId, draw: &mut Draw) -> Change {
    let known = &config.ports[draw.index(config.ports.len())];
    let stranger = PortConfig {
        mac: EthernetAddress([0x02, 0x48, 10, 244, 1, 200]),
        ..plan::port(Id { node, n: 199 }, fresh)
    };
    if let Some(service) = config.services.first().filter(|_| draw.chance(300)) {
        return services::wrong(service, draw);
    }
    let wrong = match draw.below(6) {
        0 => Change::Port(PortConfig { addresses: known.addresses.clone(), ..stranger }),
        1 => Change::Port(PortConfig { mac: known.mac, ..stranger }),
        2 => Change::Port(PortConfig { mac: EthernetAddress([1; 6]), ..stranger }),
        3 => Change::PortRemoved(fresh),
        4 => Change::PortUp(fresh, true),
        _ => {
            let twice = plan::routes(node, fresh)[0];
            Change::Routes(vec![twice, twice])
        }
    };
    // A good change that stands beside a bad one is refused with it.
    if draw.chance(500) { Change::All(vec![Change::Complete(false), wrong]) } else { wrong }
}
