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
//! service-cidrs 10.96.0.0/16
//! non-masquerade 10.244.0.0/16
//! snat-ports 61000-61003
//! limit flood_burst 2
//! at 1500000
//! ```
//!
//! What follows `at` is the whole configuration from that moment on, in nanoseconds. Services have
//! lines of their own ([`service`]).

use std::fmt::{self, Write};
use std::str::FromStr;

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use stack::config::{PortRange, ServiceId};
use stack::trace::Names;
use stack::{
    Config, Duration, Instant, Limits, NodeConfig, PortConfig, PortId, PortKind, Route,
    RouteTarget, Switch,
};

#[path = "service.rs"]
mod service;

/// The gateway's endpoint.
pub(crate) const GATEWAY: PortId = PortId(0);
/// The node. Pods follow, in the order of their lines.
pub(crate) const NODE: PortId = PortId(1);

/// A configuration whose ports have names.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    /// Configurations that follow, each from its moment on.
    pub(crate) later: Vec<(Instant, Config)>,
    names: Vec<(PortId, String)>,
}

impl Topology {
    /// Reads it, and panics at a line that makes no sense.
    pub(crate) fn read(text: &str) -> Self {
        let fresh = || Config { complete: true, ..Config::default() };
        let mut topology = Self {
            config: fresh(),
            limits: Limits::default(),
            later: Vec::new(),
            names: vec![(GATEWAY, "gateway".to_owned()), (NODE, "host".to_owned())],
        };
        let mut sections = vec![Instant::ZERO];
        let mut done = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["at", time] = words[..] {
                sections.push(Instant(time.parse().unwrap()));
                done.push(std::mem::replace(&mut topology.config, fresh()));
                continue;
            }
            topology.line(&words).unwrap_or_else(|| panic!("topology: what is `{line}`?"));
        }
        done.push(std::mem::take(&mut topology.config));
        for config in &mut done {
            let gateway = Switch::gateway_port(&config.node, GATEWAY);
            config.ports.insert(0, gateway);
        }
        topology.later = sections.into_iter().zip(done).collect();
        topology.config = topology.later.remove(0).1;
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
                let name = format!("pod/{name}");
                let known = self.names.iter().find(|(_, known)| *known == name);
                let fresh = PortId(u32::try_from(self.names.len()).ok()?);
                let id = known.map_or(fresh, |(id, _)| *id);
                if id == fresh {
                    self.names.push((id, name));
                }
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
            ["service-cidrs", cidrs @ ..] => self.config.node.service_cidrs = all(cidrs)?,
            ["non-masquerade", cidrs @ ..] => self.config.node.non_masquerade = all(cidrs)?,
            ["snat-ports", range] => self.config.node.snat_ports = ports(range)?,
            ["node-ports", range] => self.config.node.node_ports = ports(range)?,
            ["vxlan-port", port] => self.config.node.vxlan_port = one(port)?,
            ["limit", name, value] => {
                let (_, place) = numbers(&mut self.limits).into_iter().find(|it| it.0 == *name)?;
                place.set(one(value)?)?;
            }
            ["incomplete"] => self.config.complete = false,
            _ => return service::line(&mut self.config.services, words),
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

/// A limit, whatever it is counted in.
enum Limit<'a> {
    Count(&'a mut u32),
    Size(&'a mut usize),
    Time(&'a mut Duration),
}

impl Limit<'_> {
    fn set(self, value: u64) -> Option<()> {
        match self {
            Self::Count(place) => *place = value.try_into().ok()?,
            Self::Size(place) => *place = value.try_into().ok()?,
            Self::Time(place) => *place = Duration(value),
        }
        Some(())
    }

    fn get(&self) -> u64 {
        match self {
            Self::Count(place) => u64::from(**place),
            Self::Size(place) => u64::try_from(**place).unwrap(),
            Self::Time(place) => place.0,
        }
    }
}

/// The limits that lines name; times are in nanoseconds.
fn numbers(limits: &mut Limits) -> [(&'static str, Limit<'_>); 9] {
    use Limit::{Count, Size, Time};
    let timeouts = &mut limits.timeouts;
    [
        ("errors_burst", Count(&mut limits.errors_burst)),
        ("flood_burst", Count(&mut limits.flood_burst)),
        ("flood_interval", Time(&mut limits.flood_interval)),
        ("connections_max", Size(&mut limits.connections_max)),
        ("pod_connections_max", Count(&mut limits.pod_connections_max)),
        ("established", Time(&mut timeouts.established)),
        ("fin_wait", Time(&mut timeouts.fin_wait)),
        ("close_wait", Time(&mut timeouts.close_wait)),
        ("time_wait", Time(&mut timeouts.time_wait)),
    ]
}

/// The limits that are none of the usual ones, as lines.
pub(crate) fn limit_lines(limits: &Limits) -> String {
    let (mut limits, mut usual) = (*limits, Limits::default());
    let pairs = numbers(&mut limits).into_iter().zip(numbers(&mut usual));
    let others = pairs.filter(|(ours, usual)| ours.1.get() != usual.1.get());
    others.map(|((name, limit), _)| format!("limit {name} {}\n", limit.get())).collect()
}

/// What a node is beside its ports, where it is not the usual.
fn node_lines(node: &NodeConfig, text: &mut String) {
    let usual = NodeConfig::default();
    let lists = [("service-cidrs", &node.service_cidrs), ("non-masquerade", &node.non_masquerade)];
    for (word, cidrs) in lists.iter().filter(|(_, cidrs)| !cidrs.is_empty()) {
        text.push_str(word);
        cidrs.iter().for_each(|cidr| write!(text, " {cidr}").unwrap());
        text.push('\n');
    }
    let ranges = [
        ("snat-ports", node.snat_ports, usual.snat_ports),
        ("node-ports", node.node_ports, usual.node_ports),
    ];
    for (word, PortRange { first, last }, _) in ranges.iter().filter(|it| it.1 != it.2) {
        writeln!(text, "{word} {first}-{last}").unwrap();
    }
    if node.vxlan_port != usual.vxlan_port {
        writeln!(text, "vxlan-port {}", node.vxlan_port).unwrap();
    }
}

/// A configuration as lines. `name` is a pod's; ports of the node and of the gateway need none.
pub(crate) fn text(config: &Config, name: &dyn Fn(PortId) -> String) -> String {
    let mut text = String::new();
    let Config { node, ports, routes, services, complete } = config;
    if node.gateway4.is_some() || node.gateway6.is_some() {
        let cidrs = [node.gateway4.map(IpCidr::Ipv4), node.gateway6.map(IpCidr::Ipv6)];
        text.push_str("gateway");
        cidrs.iter().flatten().for_each(|cidr| write!(text, " {cidr}").unwrap());
        text.push('\n');
    }
    for port in ports {
        let who = match port.kind {
            PortKind::Endpoint(_) => continue,
            PortKind::Host => "node".to_owned(),
            PortKind::Pod => format!("pod {}", name(port.id)),
        };
        let down = if port.up { "" } else { "down " };
        write!(text, "{down}{who} {} mtu {}", port.mac, port.mtu).unwrap();
        port.addresses.iter().for_each(|address| write!(text, " {address}").unwrap());
        if !port.allowed.is_empty() {
            text.push_str(" allowed");
            port.allowed.iter().for_each(|prefix| write!(text, " {prefix}").unwrap());
        }
        text.push('\n');
    }
    for Route { prefix, target } in routes {
        let target = match target {
            RouteTarget::Connected => "connected",
            RouteTarget::Blackhole => "blackhole",
            RouteTarget::Port(_) => "node",
        };
        writeln!(text, "route {prefix} {target}").unwrap();
    }
    node_lines(node, &mut text);
    services.iter().for_each(|it| service::text(it, &mut text));
    if !complete {
        text.push_str("incomplete\n");
    }
    text
}

impl Names for Topology {
    fn port(&self, port: PortId, f: &mut dyn Write) -> fmt::Result {
        let found = self.names.iter().find(|(known, _)| *known == port);
        f.write_str(found.map_or("a port that is gone", |(_, name)| name))
    }

    fn service(&self, service: ServiceId, f: &mut dyn Write) -> fmt::Result {
        let later = self.later.iter().map(|(_, config)| config);
        let all = later.chain([&self.config]).flat_map(|config| &config.services);
        let found = all.into_iter().find(|known| known.id == service);
        f.write_str(found.map_or("a service that is gone", |known| &known.name))
    }
}

fn all<T: FromStr>(words: &[&str]) -> Option<Vec<T>> {
    words.iter().map(|word| one(word)).collect()
}

/// `FIRST-LAST`
fn ports(word: &str) -> Option<PortRange> {
    let (first, last) = word.split_once('-')?;
    Some(PortRange { first: one(first)?, last: one(last)? })
}

fn one<T: FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

/// `MAC mtu N ADDRESS... [allowed PREFIX...]`
fn port(id: PortId, kind: PortKind, words: &[&str]) -> Option<PortConfig> {
    let [mac, "mtu", mtu, rest @ ..] = words else { return None };
    let mut own = rest.split(|word| *word == "allowed");
    let addresses: Option<Vec<IpAddress>> = all(own.next()?);
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

#[test]
fn what_is_written_is_read_again() {
    let lines = "gateway 10.244.1.1/24 fd00:1::1/64\n\
        node 02-48-0a-f4-01-fa mtu 1500 192.0.2.10 2001:db8::10\n\
        down pod demo/a 02-48-0a-f4-01-02 mtu 1500 10.244.1.2 allowed 10.9.0.0/16\n\
        route 10.244.1.0/24 connected\n\
        route 0.0.0.0/0 node\n\
        route 203.0.113.0/24 blackhole\n\
        service-cidrs 10.96.0.0/16 fd00:96::/112\n\
        non-masquerade 10.244.0.0/16\n\
        snat-ports 61000-61003\n\
        node-ports 30000-30007\n\
        vxlan-port 8472\n\
        service 3 demo/web tcp random\n  \
        cluster 10.96.0.10:80\n  \
        backend 10.244.1.2:8080 local\n\
        incomplete\n";
    let again = format!("{lines}at 7000\npod demo/b 02-48-0a-f4-01-03 mtu 1500\n{lines}");
    let topology = Topology::read(&again);
    let name = |port: PortId| {
        let found = topology.ports().find(|(known, _)| *known == port).unwrap().1;
        found.trim_start_matches("pod/").to_owned()
    };
    assert_eq!(text(&topology.config, &name), lines);
    let [(Instant(7_000), later)] = &topology.later[..] else { panic!("{:?}", topology.later) };
    assert!(text(later, &name).contains("pod demo/b"));
    assert_eq!(later.ports.iter().map(|port| port.id.0).collect::<Vec<_>>(), [0, 3, 1, 2]);
}

#[test]
fn limits_are_written_where_they_are_none_of_the_usual_ones() {
    assert_eq!(limit_lines(&Limits::default()), "");
    let lines = "limit flood_burst 2\nlimit connections_max 9\nlimit established 7000\n";
    let Topology { limits, .. } = Topology::read(lines);
    assert_eq!(limit_lines(&limits), lines);
    let as_read = (limits.flood_burst, limits.connections_max, limits.timeouts.established.0);
    assert_eq!(as_read, (2, 9, 7_000));
    assert_eq!(limits.errors_burst, Limits::default().errors_burst);
}
