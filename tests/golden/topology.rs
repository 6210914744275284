//! What a switch is configured with, as text: one object a line.
//!
//! ```text
//! # a comment
//! gateway 10.244.1.1/24 fd00:1::1/64
//! node 02:48:0a:f4:01:fa mtu 1500 192.0.2.10 2001:db8::10
//! pod demo/a 02:48:0a:f4:01:02 mtu 1500 10.244.1.2 fd00:1::2 allowed 10.9.0.0/16
//! down pod demo/b 02:48:0a:f4:01:03 mtu 1500 10.244.1.3
//! route 0.0.0.0/0 node
//! route 10.244.1.0/24 connected
//! route 203.0.113.0/24 blackhole
//! limit flood_burst 2
//! ```

use std::fmt;
use std::str::FromStr;

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use stack::trace::Names;
use stack::{Config, Limits, NodeConfig, PortConfig, PortId, PortKind, Route, RouteTarget, Switch};

/// The gateway's endpoint.
pub(crate) const GATEWAY: PortId = PortId(0);
/// The node. Pods follow, in the order of their lines.
pub(crate) const NODE: PortId = PortId(1);

/// A configuration whose ports have names.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    names: Vec<(PortId, String)>,
}

impl Topology {
    /// Reads it, and panics at a line that makes no sense.
    pub(crate) fn read(text: &str) -> Self {
        let mut topology = Self {
            config: Config { complete: true, ..Config::default() },
            limits: Limits::default(),
            names: vec![(GATEWAY, "gateway".to_owned()), (NODE, "host".to_owned())],
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            topology.line(&words).unwrap_or_else(|| panic!("topology: what is `{line}`?"));
        }
        let gateway = Switch::gateway_port(&topology.config.node, GATEWAY);
        topology.config.ports.insert(0, gateway);
        topology
    }

    fn line(&mut self, words: &[&str]) -> Option<()> {
        match words {
            [] => {}
            ["gateway", cidrs @ ..] => {
                for cidr in cidrs {
                    match one(cidr)? {
                        IpCidr::Ipv4(cidr) => self.config.node.gateway4 = Some(cidr),
                        IpCidr::Ipv6(cidr) => self.config.node.gateway6 = Some(cidr),
                    }
                }
            }
            ["node", rest @ ..] => {
                let port = port(NODE, PortKind::Host, rest)?;
                self.config.node.addresses.clone_from(&port.addresses);
                self.config.ports.push(port);
            }
            ["down", rest @ ..] => {
                self.line(rest)?;
                self.config.ports.last_mut()?.up = false;
            }
            ["pod", name, rest @ ..] => {
                let id = PortId(u32::try_from(self.names.len()).ok()?);
                self.names.push((id, format!("pod/{name}")));
                self.config.ports.push(port(id, PortKind::Pod, rest)?);
            }
            ["route", prefix, target] => {
                let target = match *target {
                    "connected" => RouteTarget::Connected,
                    "blackhole" => RouteTarget::Blackhole,
                    "node" => RouteTarget::Port(NODE),
                    _ => return None,
                };
                self.config.routes.push(Route { prefix: one(prefix)?, target });
            }
            ["limit", "flood_burst", burst] => self.limits.flood_burst = one(burst)?,
            ["limit", "errors_burst", burst] => self.limits.errors_burst = one(burst)?,
            _ => return None,
        }
        Some(())
    }

    /// The port of a name; one that no port has means a port that is gone.
    pub(crate) fn port(&self, name: &str) -> PortId {
        let found = self.names.iter().find(|(_, known)| known == name);
        found.map_or(PortId(u32::MAX), |(port, _)| *port)
    }

    /// All ports by number, with their names.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (PortId, &str)> {
        self.names.iter().map(|(port, name)| (*port, name.as_str()))
    }
}

impl Names for Topology {
    fn port(&self, port: PortId, f: &mut dyn fmt::Write) -> fmt::Result {
        let found = self.names.iter().find(|(known, _)| *known == port);
        f.write_str(found.map_or("a port that is gone", |(_, name)| name))
    }
}

fn one<T: FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

/// `MAC mtu N ADDRESS... [allowed PREFIX...]`
fn port(id: PortId, kind: PortKind, words: &[&str]) -> Option<PortConfig> {
    let [mac, "mtu", mtu, rest @ ..] = words else { return None };
    let mut own = rest.split(|word| *word == "allowed");
    let addresses: Option<Vec<IpAddress>> = own.next()?.iter().map(|word| one(word)).collect();
    let allowed: Option<Vec<IpCidr>> = own.flatten().map(|word| one(word)).collect();
    Some(PortConfig {
        id,
        kind,
        mac: one::<EthernetAddress>(mac)?,
        addresses: addresses?,
        allowed: allowed?,
        mtu: one(mtu)?,
        up: true,
    })
}

/// The gateway's MAC, the same everywhere.
pub(crate) const GATEWAY_MAC: EthernetAddress = NodeConfig::GATEWAY_MAC;
